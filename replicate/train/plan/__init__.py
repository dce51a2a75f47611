"""Plans: what a scale trains, what that costs, and in which order."""
