"""One line for people from a text that may hold anything: nothing in it steers a terminal, and it has an end."""

from __future__ import annotations

LONGEST = 1200
"""Characters; a longer message loses its middle, for what it is about stands in front and what to do at the end."""


def one_line(text: object) -> str:
    """`text` without line feeds, cut to `LONGEST`, and nothing in it that steers a terminal or turns its direction."""
    words = " ".join(str(text).split())
    if len(words) > LONGEST:
        words = f"{words[: LONGEST // 2]} […] {words[-LONGEST // 3 :]}"
    return printable(words)


def printable(text: str) -> str:
    """`text` without characters that steer a terminal or turn its direction."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
