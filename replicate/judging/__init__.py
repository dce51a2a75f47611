"""Judging: from a claim and the scores of its runs to a verdict, and the file that verdicts are written to."""
