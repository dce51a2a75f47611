"""Landscapes: the accuracy of every (learning rate, weight decay, seed) of a cell, from stored runs or simulated."""
