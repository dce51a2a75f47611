"""Turns a snapshot of a training into one line of text, or into a block of lines that fits a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replicate.text import duration

BAR_WIDTH = 20
SMALLEST_BAR = 8
SMALLEST_BLOCK = 40
"""Fewest columns for a block; narrower terminals get one line."""


@dataclass(frozen=True)
class CellProgress:
    """The progress of one cell: one architecture on one data set."""

    label: str
    done: int
    total: int
    diverged: int
    seconds: float
    """Sum of the training times of the cell's stored runs."""


@dataclass(frozen=True)
class Snapshot:
    """The progress of a training."""

    done: int
    total: int
    trained: int
    """How many runs were stored since the monitor first saw that a run was missing."""
    trained_diverged: int
    """How many of `trained` diverged."""
    runs_per_second: float | None
    """Recent rate; None before the first run has ended."""
    seconds_left: float | None
    cell: str
    """Label of the cell that is being trained."""
    seconds: float
    """Time since the monitor first saw that a run was missing."""
    cells: tuple[CellProgress, ...]

    @property
    def cells_done(self) -> int:
        return sum(cell.done == cell.total for cell in self.cells)

    @property
    def diverged(self) -> int:
        """How many of all stored runs diverged, whenever they were trained."""
        return sum(cell.diverged for cell in self.cells)

    @property
    def device_seconds(self) -> float:
        """Sum of the training times of all stored runs, each of which used one device."""
        return sum(cell.seconds for cell in self.cells)


def line(snapshot: Snapshot, width: int | None = None) -> str:
    """The snapshot in one line of at most `width` characters, the most important figures first."""
    fields = [f"training {snapshot.done}/{snapshot.total} runs", _left(snapshot)]
    if snapshot.runs_per_second is not None:
        fields.append(rate(snapshot.runs_per_second))
    at_work = next((cell for cell in snapshot.cells if cell.label == snapshot.cell), None)
    if at_work is not None:
        fields.append(f"{at_work.label} {at_work.done}/{at_work.total}")
    fields.append(f"{snapshot.cells_done}/{len(snapshot.cells)} cells")
    if snapshot.diverged:
        fields.append(f"{snapshot.diverged} diverged")
    fields.append(f"cost {duration(snapshot.device_seconds)}")
    return cut(", ".join(fields), width)


def block(snapshot: Snapshot, width: int, height: int, below: Sequence[str] = ()) -> list[str]:
    """The snapshot in at most `height` lines of at most `width` characters: totals, a line per cell, then `below`.

    If there is too little room, the lines of finished cells are left out first, then the last lines.
    """
    if width < SMALLEST_BLOCK or height < 4:
        return [line(snapshot, width)]
    head = [
        f"{snapshot.done} of {snapshot.total} runs, {snapshot.cells_done} of {len(snapshot.cells)} cells done, "
        + _left(snapshot),
        ", ".join(
            [
                *([rate(snapshot.runs_per_second)] if snapshot.runs_per_second is not None else []),
                f"cost so far {duration(snapshot.device_seconds)} of one device",
                f"{snapshot.diverged} diverged",
            ]
        ),
    ]
    cells = list(snapshot.cells)
    room = height - len(head)
    while cells and len(cells) + len(below) > room:
        finished = next((cell for cell in cells if cell.done == cell.total), None)
        if finished is None:
            break
        cells.remove(finished)
    lines = [*head, *_cell_lines(cells, width), *below]
    if len(lines) > height:
        lines = [*lines[: height - 1], f"... and {len(lines) - height + 1} lines more; make the terminal higher"]
    return [cut(text, width) for text in lines]


def _cell_lines(cells: Sequence[CellProgress], width: int) -> list[str]:
    if not cells:
        return []
    name = max(len(cell.label) for cell in cells)
    digits = max(len(str(cell.total)) for cell in cells)
    names = [f"  {c.label.ljust(name)}  {c.done:>{digits}}/{c.total:<{digits}}" for c in cells]
    notes = [f", {c.diverged} diverged" if c.diverged else "" for c in cells]
    ends = [
        f"{int(100 * c.done / c.total):>3} %  {duration(c.seconds)}{note}" for c, note in zip(cells, notes, strict=True)
    ]
    room = width - max(len(a) + len(b) for a, b in zip(names, ends, strict=True)) - len("  ") - len(" ")
    size = min(BAR_WIDTH, room)
    if size < SMALLEST_BAR:
        return [f"{text}  {end}" for text, end in zip(names, ends, strict=True)]
    # Rounded down like the percentage, so that a full bar means done.
    bars = [("#" * (size * c.done // c.total)).ljust(size, ".") for c in cells]
    return [f"{text}  {bar} {end}" for text, bar, end in zip(names, bars, ends, strict=True)]


def summary(snapshot: Snapshot) -> str:
    """The line that is shown when training ends: runs, time, rate, and how many diverged or are missing."""
    text = f"trained {snapshot.trained} runs in {duration(snapshot.seconds)}"
    if snapshot.seconds > 0:
        text += f" ({rate(snapshot.trained / snapshot.seconds)})"
    if snapshot.trained_diverged:
        text += f", {snapshot.trained_diverged} diverged"
    if snapshot.done < snapshot.total:
        text += f"; {snapshot.total - snapshot.done} of {snapshot.total} are missing"
    return text


def cut(text: str, width: int | None) -> str:
    """`text` in at most `width` characters."""
    if width is None or len(text) <= width:
        return text
    return f"{text[: max(0, width - 3)]}..."[: max(0, width)]


def rate(runs_per_second: float) -> str:
    """The rate in the unit that suits it: `2.3 runs/s`, `7.2 runs/min` or `3.6 runs/h`."""
    if runs_per_second >= 1:
        return f"{runs_per_second:.1f} runs/s"
    if 60 * runs_per_second >= 1:
        return f"{60 * runs_per_second:.1f} runs/min"
    return f"{3600 * runs_per_second:.1f} runs/h"


def _left(snapshot: Snapshot) -> str:
    if snapshot.done == snapshot.total:
        return "done"
    return "time left unknown yet" if snapshot.seconds_left is None else f"{duration(snapshot.seconds_left)} left"
