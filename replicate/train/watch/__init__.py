"""Watching: the progress of a training, read from the store alone."""
