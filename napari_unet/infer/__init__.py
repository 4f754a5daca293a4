"""Image to tiles to maps to labels."""
