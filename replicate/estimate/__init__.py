"""Statistics of landscapes, one per module, with NumPy and SciPy only and without input or output."""
