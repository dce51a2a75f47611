"""Landscapes: accuracy over learning rate, weight decay and seed, from the store, from a CSV, or made up."""
