"""Statistics of landscapes: numpy and scipy only, no input or output, one statistic a module."""
