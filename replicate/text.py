"""Texts for people: makes one safe line of any text, and writes intervals and durations in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

LONGEST = 1200
"""Most characters of a message. A longer one loses its middle, not its start (the subject) or end (what to do)."""


class UsageError(Exception):
    """A request that cannot be met: one line that says what was expected, what was given and what to do.

    Commands print it and end with exit status 2.
    """


class Word(str, Enum):
    """Base class of enumerations whose members print and serialise as plain strings."""

    def __str__(self) -> str:
        return str(self.value)


def one_line(text: object) -> str:
    """`text` on one line of at most about `LONGEST` characters, without characters that control a terminal."""
    words = " ".join(str(text).split())
    if len(words) > LONGEST:
        words = f"{words[: LONGEST // 2]} […] {words[-LONGEST // 3 :]}"
    return printable(words)


def joined(words: Sequence[str]) -> str:
    """Join words in English: `a`, `a and b`, `a, b and c`."""
    return " and ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), *words[-1:]])


def interval(low: float, high: float) -> str:
    """Write an interval with three digits; an infinite end gets a round bracket.

    >>> interval(0.05, 0.2), interval(-math.inf, 1.0)
    ('[0.05, 0.2]', '(−∞, 1]')
    """
    left = f"[{low:.3g}" if math.isfinite(low) else "(−∞"
    right = f"{high:.3g}]" if math.isfinite(high) else "∞)"
    return f"{left}, {right}"


def bounds(low: float, high: float) -> str:
    """Write an interval as `interval` does, but with one infinite end as a bound: ≤ or ≥.

    >>> bounds(0.9, math.inf)
    '≥ 0.9'
    """
    if math.isinf(low) and math.isfinite(high):
        return f"≤ {high:.3g}"
    if math.isfinite(low) and math.isinf(high):
        return f"≥ {low:.3g}"
    return interval(low, high)


def printable(text: str) -> str:
    """`text` with characters that control a terminal or reverse the writing direction replaced."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def duration(seconds: float) -> str:
    """Write a number of seconds in words.

    >>> duration(8), duration(200), duration(7500)
    ('8 s', '3 min 20 s', '2 h 05 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
