"""Engines, which train the missing runs: on this machine (`local`) or on a Ray cluster (`ray`)."""
