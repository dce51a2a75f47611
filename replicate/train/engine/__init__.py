"""Engines: how the missing runs get trained. Every engine trains a run through `worker.train_missing`."""
