"""Training: several runs at once (`stacked`), one run alone (`solo`), and the functions that call these (`fast`)."""
