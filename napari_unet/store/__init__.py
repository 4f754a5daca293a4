"""The project on disk: what was done to labels, and in which order."""
