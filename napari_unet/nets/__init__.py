"""Torch modules only; a network knows its own stride and halo."""
