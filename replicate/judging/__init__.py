"""Judging: from a claim and its landscapes to a verdict, and the file that verdicts are written to."""
