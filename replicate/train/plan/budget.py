"""Reads a budget of time that a user has typed."""

from __future__ import annotations

import re

from replicate.text import UsageError

_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhd])\s*")


def seconds(text: str | None, option: str = "--budget") -> float | None:
    """Seconds, more than 0, in a text such as `6h`, `90m`, `1h 30m` or `0.5d`; None if `text` is None.

    Raises UsageError, which names the `option`, if the text is not such a time.
    """
    if text is None:
        return None
    parts = _PART.findall(text.strip().lower())
    whole = "".join(f"{number}{unit}" for number, unit in parts)
    found = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if whole != re.sub(r"\s", "", text.lower()) or found <= 0:
        raise UsageError(f"{option}: expected a time such as 6h, 90m, 1h30m or 45s, got {text!r}")
    return found
