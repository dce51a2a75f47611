"""Watching: how a training goes on, from nothing but a look at the store."""
