"""Data: what a run sees of an image data set, and the data sets as they lie on disk, one module each."""
