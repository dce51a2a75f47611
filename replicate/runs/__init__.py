"""Runs: a training described by a frozen record, what each scale trains, and which runs a claim needs."""
