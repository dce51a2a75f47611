"""Runs, each a single training: their records, the scales (sizes of the experiment), and the runs a claim needs."""
