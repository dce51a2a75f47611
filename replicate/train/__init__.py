"""Training: stacks of runs in lock-step (`stacked`), one run alone (`solo`), and what engines call (`fast`)."""
