"""Corrections become training tiles, training tiles become a new model, and the model gets its scores."""
