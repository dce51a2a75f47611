"""Landscapes: accuracy over learning rate, weight decay and seed, from the store or made up."""
