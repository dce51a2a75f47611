"""Executable claims: a paper on AdamW's weight decay, judged from real training runs."""

__version__ = "0.1.0"
