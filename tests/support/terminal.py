"""A terminal in memory."""

from __future__ import annotations

import io


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and what a person would see on it."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        lines = []
        for text in self.getvalue().split("\n"):
            shown: list[str] = []
            for piece in text.split("\r"):
                shown[: len(piece)] = piece
            lines.append("".join(shown).rstrip())
        return lines
