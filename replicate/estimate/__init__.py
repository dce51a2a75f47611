"""Statistics of landscapes (accuracy by learning rate, weight decay and seed), one per module; none reads files."""
