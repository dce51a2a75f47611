"""Estimators, one per module, that take landscapes (accuracy by learning rate, weight decay and seed), not files."""
