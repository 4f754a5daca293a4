"""Model and label formats of other programs."""
