"""The audit: what a paper's own figures, design and theory say about it, recomputed without training anything."""
