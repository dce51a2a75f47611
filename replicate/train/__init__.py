"""Training: one run in a plain loop (`solo`), its learning-rate schedules, and what a training returns."""
