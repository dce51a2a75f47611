"""Readers of sweeps: from files in the formats of many tools, or written by hand, to landscapes."""
