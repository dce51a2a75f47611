"""Data: the images that a run is trained and tested on, and one module for each data set on disk."""
