"""Training: stacks of runs in lock-step (`stacked`), one run alone (`solo`), and both as engines call them (`fast`)."""
