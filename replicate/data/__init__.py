"""Data: the images that a run sees, and one module for each data set on disk."""
