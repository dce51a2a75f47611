"""Landscapes: accuracy over learning rate, weight decay and seed, from a store or simulated."""
