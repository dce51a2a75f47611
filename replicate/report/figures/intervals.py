"""A forest plot: in each cell's row its name, below it our interval, below that the paper's; a band for the margin.

The plot is as wide as a phone's screen, because scaling it down would shrink its text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replicate.report.figures.canvas import COLOURS, canvas, label, log_ticks, note

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 366
ROW = 42
TOP, BOTTOM, LEFT, RIGHT = 26, 40, 10, 26
NAME, OURS, PAPER = -0.28, 0.06, 0.34
"""Vertical positions of name, our and the paper's interval in a row of height 1 with its centre at 0."""
LETTERS = {"replicated": "R", "contradicted": "C", "inconclusive": "I", "not run": "N", "crashed": "E"}
"""Outcome → letter, as on the terminal."""


@dataclass(frozen=True)
class Row:
    """One row of a forest plot; infinite ends are open."""

    name: str
    value: float | None
    low: float
    high: float
    outcome: str
    paper: tuple[float, float, float] | None = None
    """The paper's value and interval."""


@dataclass(frozen=True)
class Scale:
    """The axis of a forest plot, with the margin and the lines marked on the axis."""

    quantity: str
    """The label of the axis."""
    band: tuple[float, float]
    """The margin; infinite ends are open."""
    log: bool = False
    marks: tuple[tuple[float, str, str], ...] = ()
    """Vertical lines: value, label, name of the colour."""
    furthest: tuple[float, float] = (-math.inf, math.inf)
    """Limits that the axis never exceeds."""


def intervals(rows: Sequence[Row], scale: Scale, title: str) -> str:
    """The picture as SVG. `title`: the beginning of its text alternative."""
    height = TOP + BOTTOM + ROW * len(rows)
    with canvas(WIDTH, height, alternative(rows, scale, title)) as drawn:
        ax = drawn.axes(LEFT, TOP, RIGHT, BOTTOM)
        low, high = _ends(rows, scale)
        ax.set_xlim(low, high)
        ax.set_ylim(len(rows) - 0.45, -0.6)
        band = [_at(x, scale, low, high) for x in scale.band]
        ax.axvspan(*band, facecolor=COLOURS["band"], edgecolor="none", lw=0)
        for value, words, colour in scale.marks:
            x = _at(value, scale, low, high)
            if low < x < high:
                ax.axvline(x, color=COLOURS[colour], lw=1.2, ls=(0, (4, 2)))
                above: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
                note(ax, words, (x, 1), (0, 5), color=COLOURS[colour], fontsize=10, **above)
        for y, row in enumerate(rows):
            _row(ax, y, row, scale, (low, high))
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        if scale.log:
            log_ticks(ax, "x", low, high)
        ax.set_xlabel(scale.quantity, labelpad=3)
    return drawn.svg


def alternative(rows: Sequence[Row], scale: Scale, title: str) -> str:
    """The text alternative: the picture in words."""
    ends = [f"{x:g}" if math.isfinite(x) else "open" for x in scale.band]
    parts = []
    for row in rows:
        low, high = (f"{x:.3g}" if math.isfinite(x) else "open" for x in (row.low, row.high))
        value = "no single value" if row.value is None else f"{row.value:.3g}"
        parts.append(f"{label(row.name)}: {value}, interval {low} to {high}, {row.outcome}")
    return f"{title} Margin {ends[0]} to {ends[1]}. {'; '.join(parts)}."


def _at(x: float, scale: Scale, low: float, high: float) -> float:
    """The position of the value `x` on the axis, limited to its ends."""
    if scale.log:
        x = math.log10(x) if 0 < x < math.inf else -math.inf if x <= 0 else math.inf
    return min(max(x, low), high)


def _ends(rows: Sequence[Row], scale: Scale) -> tuple[float, float]:
    """The ends of the axis: they enclose all finite ends, the band and the marks, with some room."""
    values = [x for row in rows for x in (row.low, row.high, *([] if row.value is None else [row.value]))]
    values += [x for row in rows if row.paper for x in row.paper] + [*scale.band] + [m[0] for m in scale.marks]
    shown = [min(max(x, scale.furthest[0]), scale.furthest[1]) for x in values if math.isfinite(x)]
    if scale.log:
        shown = [math.log10(x) for x in shown if x > 0]
    low, high = min(shown), max(shown)
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def _row(ax: Axes, y: int, row: Row, scale: Scale, ends: tuple[float, float]) -> None:
    if row.paper is not None:
        value, low, high = (_at(x, scale, *ends) for x in row.paper)
        ax.plot([low, high], [y + PAPER] * 2, color=COLOURS["claimed"], lw=1.2)
        ax.plot([value], [y + PAPER], "D", markersize=4.2, color=COLOURS["paper"], markeredgecolor=COLOURS["claimed"])
    style: dict[str, Any] = {"color": COLOURS["ours"]}
    known = math.isfinite(row.low) or math.isfinite(row.high)
    low, high = _at(row.low, scale, *ends), _at(row.high, scale, *ends)
    at = y + OURS
    ax.plot([low, high], [at] * 2, lw=2.4 if known else 1.2, ls="-" if known else (0, (1, 2)), **style)
    if low <= ends[0]:
        ax.plot([low], [at], "<", markersize=7, clip_on=False, **style)
    if high >= ends[1]:
        ax.plot([high], [at], ">", markersize=7, clip_on=False, **style)
    if row.value is not None:
        ax.plot([_at(row.value, scale, *ends)], [at], "o", markersize=7, markeredgecolor=COLOURS["paper"], **style)
    note(ax, label(row.name), (0, y + NAME), (4, 0), xycoords=("axes fraction", "data"), color=COLOURS["ink"])
    bold: dict[str, Any] = {"ha": "center", "fontweight": "bold", "color": COLOURS["ink"]}
    note(ax, LETTERS.get(row.outcome, "?"), (1, at), (12, 0), xycoords=("axes fraction", "data"), **bold)
