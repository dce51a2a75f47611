"""The picture of a cell's landscape, its scores over lr and wd: shades, best weight decays, the three laws as lines."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from replicate.estimate import fits, surface
from replicate.estimate.line_fit import CLOSED_DEVIANCE, LineFit
from replicate.landscape.landscape import Landscape, Slice
from replicate.paper.protocol import RHO, WEIGHT_DECAYS
from replicate.report.figures import search
from replicate.report.figures.canvas import COLOURS, canvas, log_ticks, note, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 366, 350
STEPS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Edges of the shades: percentage points below the best mean accuracy at the same learning rate."""
LOSS_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
LABEL_HEIGHT = 16
ZERO_ROW = 0.75
"""Height of the row for weight decay 0, in decades."""


_Box = tuple[float, float, float, float]
"""Left, right, bottom, top."""


@dataclass(frozen=True)
class _Frame:
    """Positions in the picture, as base-10 logarithms."""

    lrs: tuple[float, ...]
    edges: tuple[float, ...]
    """Edges of the columns, half-way between learning rates: one more than there are learning rates."""
    low: float
    high: float
    has_zero: bool

    @property
    def zero(self) -> float:
        """Centre of the row for weight decay 0."""
        return self.low - 0.35 - ZERO_ROW / 2

    @property
    def bottom(self) -> float:
        return self.low - 0.45 - ZERO_ROW if self.has_zero else self.low


def landscape(found: Landscape, rho: float = RHO) -> str:
    """The picture of `found` as SVG. `rho`: the claimed ratio."""
    if surface.is_search(found):
        return search.search(found, rho)
    slices = found.slices()
    fit = fits.line(found)
    frame = _frame(slices, rho)
    with canvas(WIDTH, HEIGHT, alternative(found, fit, rho)) as drawn:
        ax = drawn.axes(50, 10, 44, 44)
        ax.set_xlim(frame.edges[0], frame.edges[-1])
        ax.set_ylim(frame.bottom, frame.high)
        _shades(ax, slices, frame, STEPS if found.metric == "accuracy" else LOSS_STEPS)
        _grid_points(ax, slices, frame)
        _lines(ax, frame, rho, fit)
        if fit is not None:
            _optima(ax, fit, frame)
        log_ticks(ax, "y", frame.low, frame.high)
        if frame.has_zero:
            ax.set_yticks([*ax.get_yticks(), frame.zero], [*(t.get_text() for t in ax.get_yticklabels()), "0"])
        ax.set_xticks(frame.lrs, [number(10**x) for x in frame.lrs])
        if len(frame.lrs) > 7:
            log_ticks(ax, "x", frame.lrs[0], frame.lrs[-1])
        ax.tick_params(length=3)
        ax.set_xlabel("learning rate η", labelpad=3)
        ax.set_ylabel("weight decay λ", labelpad=2)
    return drawn.svg


def alternative(found: Landscape, fit: LineFit | None, rho: float = RHO) -> str:
    """The text alternative: the best weight decay at each learning rate."""
    from replicate.report.figures.canvas import label

    name = f"{label(found.arch)} on {label(found.dataset)}"
    if fit is None:
        return f"Landscape of {name}: too few weight decays to locate a best one at any learning rate."
    parts = []
    for curve in fit.curves:
        low, high = (float(np.exp(end)) for end in curve.interval(CLOSED_DEVIANCE))
        if low == 0 and np.isinf(high):
            words = "anywhere"
        elif low == 0:
            words = f"below {high:.2g}"
        elif np.isinf(high):
            words = f"above {low:.2g}"
        else:
            words = f"{low:.2g} to {high:.2g}"
        parts.append(f"{words} at learning rate {curve.lr:.2g} (claimed {rho * curve.lr:.2g})")
    return f"Landscape of {name}. The best weight decay lies: {'; '.join(parts)}."


def _frame(slices: list[Slice], rho: float) -> _Frame:
    lrs = tuple(float(np.log10(cut.lr)) for cut in slices)
    middle = [(a + b) / 2 for a, b in pairwise(lrs)]
    first, last = (lrs[1] - lrs[0], lrs[-1] - lrs[-2]) if len(lrs) > 1 else (0.5, 0.5)
    edges = (lrs[0] - first / 2, *middle, lrs[-1] + last / 2)
    positive = np.concatenate([cut.wds[cut.wds > 0] for cut in slices])
    ends = [rho * slices[0].lr, rho * slices[-1].lr, *positive]
    low, high = float(np.log10(min(ends))), float(np.log10(max(ends)))
    return _Frame(lrs, edges, low - 0.3, high + 0.3, any((cut.wds == 0).any() for cut in slices))


def _shades(ax: Axes, slices: list[Slice], frame: _Frame, steps: tuple[float, ...]) -> None:
    """Draw one rectangle per learning rate and weight decay; hatched if most seeds diverged."""
    boxes: dict[int, list[_Box]] = {}
    lost_boxes: list[_Box] = []
    for left, right, cut in zip(frame.edges[:-1], frame.edges[1:], slices, strict=True):
        finite = np.isfinite(cut.scores)
        means = np.array([row[ok].mean() if ok.any() else np.nan for row, ok in zip(cut.scores, finite, strict=True)])
        lost = cut.diverged.sum(axis=1) > finite.sum(axis=1)
        best = np.nanmax(means) if np.isfinite(means).any() else np.nan
        for bottom, top, mean, diverged in zip(*_bounds(cut, frame), means, lost, strict=True):
            box = (left, right, bottom, top)
            if diverged or not np.isfinite(mean):
                lost_boxes.append(box)
            else:
                boxes.setdefault(int(np.searchsorted(steps, best - mean, side="right")), []).append(box)
    for shade, of_shade in sorted(boxes.items()):
        _fill(ax, of_shade, facecolor=COLOURS[f"heat-{shade}"], edgecolor=COLOURS["paper"], lw=0.5)
    if lost_boxes:
        _fill(ax, lost_boxes, facecolor="none", edgecolor=COLOURS["muted"], hatch="////", lw=0)


def _fill(ax: Axes, boxes: list[_Box], **style: Any) -> None:
    """Draw the rectangles as one path: hundreds of patches would take matplotlib a second."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = [
        ((left, bottom), (right, bottom), (right, top), (left, top), (left, bottom))
        for left, right, bottom, top in boxes
    ]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(boxes)
    ax.add_patch(PathPatch(Path(np.array(corners).reshape(-1, 2), codes), **style))


def _bounds(cut: Slice, frame: _Frame) -> tuple[list[float], list[float]]:
    logs = np.log10(cut.wds[cut.wds > 0])
    middle = (logs[1:] + logs[:-1]) / 2
    bottoms: list[float] = [*(logs[:1] - 0.15), *middle]
    tops: list[float] = [*middle, *(logs[-1:] + 0.15)]
    if (cut.wds == 0).any():
        bottoms.insert(0, frame.zero - ZERO_ROW / 2)
        tops.insert(0, frame.zero + ZERO_ROW / 2)
    return bottoms, tops


def _grid_points(ax: Axes, slices: list[Slice], frame: _Frame) -> None:
    """Mark the weight decays of the paper's grid that this landscape has."""
    points = [
        (0.8 * left + 0.2 * x, np.log10(wd) if wd > 0 else frame.zero)
        for left, x, cut in zip(frame.edges[:-1], frame.lrs, slices, strict=True)
        for wd in cut.wds
        if np.isclose(wd, WEIGHT_DECAYS, rtol=6e-3, atol=0).any()
    ]
    if points:
        xs, ys = zip(*points, strict=True)
        style: dict[str, Any] = {"markerfacecolor": COLOURS["paper"], "markeredgecolor": COLOURS["ink"]}
        ax.plot(xs, ys, "s", markersize=3.2, markeredgewidth=0.7, **style)


def _lines(ax: Axes, frame: _Frame, rho: float, fit: LineFit | None) -> None:
    ends = np.array([frame.edges[0], frame.edges[-1]])
    drawn: list[tuple[Any, str, Any, float, str]] = [(np.log10(rho) + ends, "claimed", "-", 2.2, f"{rho:g}η")]
    level = None if fit is None else _level(fit)
    if level is not None and fit is not None:
        centre = fit.center / np.log(10)
        drawn.append((np.array([level, level]), "constant", (0, (5, 2)), 1.5, "const."))
        drawn.append((level - (ends - centre), "inverse", (0, (1.5, 1.5)), 1.8, "∝ 1/η"))
    for ys, colour, dashes, width, _ in drawn:
        ax.plot(ends, ys, color=COLOURS["paper"], lw=width + 2.2, solid_capstyle="butt")
        ax.plot(ends, ys, color=COLOURS[colour], lw=width, ls=dashes)
    gap = LABEL_HEIGHT * (frame.high - frame.bottom) / HEIGHT
    at = _apart([float(np.clip(ys[-1], frame.bottom, frame.high)) for ys, *_ in drawn], gap)
    for y, (_, colour, _, _, words) in zip(at, drawn, strict=True):
        note(ax, words, (ends[-1], y), (4, 0), color=COLOURS[colour], fontsize=10, annotation_clip=False)


def _apart(at: list[float], gap: float) -> list[float]:
    """The positions `at`, moved up where needed so that all are at least `gap` apart."""
    out = list(at)
    order = sorted(range(len(at)), key=lambda i: at[i])
    for lower, upper in pairwise(order):
        out[upper] = max(out[upper], out[lower] + gap)
    return out


def _level(fit: LineFit) -> float | None:
    """log10 of the best weight decay, averaged over the learning rates where it is bounded; None if it is nowhere."""
    values = [c.middle(CLOSED_DEVIANCE) for c, closed in zip(fit.curves, fit.informative, strict=True) if closed]
    if not values:
        return None
    return float(np.mean(values)) / float(np.log(10))


def _optima(ax: Axes, fit: LineFit, frame: _Frame) -> None:
    """Draw the interval of the best weight decay at each learning rate, with arrows at open ends."""
    at = dict(zip(np.round(frame.lrs, 9), frame.lrs, strict=True))
    for curve in fit.curves:
        x = at[np.round(np.log10(curve.lr), 9)]
        low, high = (end / np.log(10) for end in curve.interval(CLOSED_DEVIANCE))
        bottom, top = max(low, frame.bottom + 0.1), min(high, frame.high - 0.1)
        for colour, width in (("paper", 4.6), ("ink", 2.0)):
            ax.plot([x, x], [bottom, top], color=COLOURS[colour], lw=width, solid_capstyle="butt")
        style: dict[str, Any] = {"color": COLOURS["ink"], "markeredgecolor": COLOURS["paper"], "markersize": 7.5}
        if low < bottom:
            ax.plot([x], [bottom], "v", **style)
        if high > top:
            ax.plot([x], [top], "^", **style)
        if bottom == low and top == high and curve.single is not None:
            best = float(np.clip(curve.single / np.log(10), low, high))
            ax.plot([x], [best], "o", ms=7, mew=1.7, color=COLOURS["paper"], mec=COLOURS["ink"])
