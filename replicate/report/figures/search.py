"""The picture of a random search: its trials, and the best weight decay according to a surface fitted to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from replicate.estimate import fits
from replicate.landscape.landscape import Landscape
from replicate.report.figures.canvas import COLOURS, canvas, label, log_ticks, note

WIDTH, HEIGHT = 366, 350
SHARES = (0.05, 0.1, 0.2, 0.4, 0.7)
"""Edges of the shades: distance from the best score, as a share of the largest such distance."""
MARGIN = 0.2


def search(found: Landscape, rho: float) -> str:
    """The picture of `found` as SVG. `rho`: the claimed ratio."""
    trials = found.frame[found.frame["wd"] > 0]
    x, y = (np.log10(trials[name].to_numpy(dtype=np.float64)) for name in ("lr", "wd"))
    score, lost = trials["score"].to_numpy(dtype=np.float64) / found.unit, trials["diverged"].to_numpy(dtype=bool)
    if not len(trials):
        x = y = score = np.zeros(1)
        lost = np.ones(1, dtype=bool)
    ridge = fits.ridge(found)
    with canvas(WIDTH, HEIGHT, alternative(found, ridge is not None)) as drawn:
        ax = drawn.axes(50, 10, 44, 44)
        left, right = float(x.min()) - MARGIN, float(x.max()) + MARGIN
        low, high = float(y.min()) - MARGIN, float(y.max()) + MARGIN
        loss = np.nanmax(score) - score if np.isfinite(score).any() else score
        shade = np.searchsorted(np.array(SHARES) * max(float(np.nanmax(loss, initial=0.0)), 1e-12), loss)
        for k in range(len(SHARES) + 1):
            ok = (shade == k) & np.isfinite(score)
            style: dict[str, Any] = {"color": COLOURS[f"heat-{k}"], "mec": COLOURS["muted"], "mew": 0.6, "ms": 6.5}
            ax.plot(x[ok], y[ok], "o", **style)
        ax.plot(x[lost], y[lost], "x", color=COLOURS["muted"], ms=6)
        ends = np.array([left, right])
        ax.plot(ends, np.log10(rho) + ends, color=COLOURS["claimed"], lw=2.2)
        note(ax, f"{rho:g}η", (right, np.clip(np.log10(rho) + right, low, high)), (4, 0), color=COLOURS["claimed"])
        if ridge is not None:
            of_ridge = np.log10(ridge.lrs)
            for at, *interval in zip(of_ridge, *ridge.at(ridge.lrs.tolist()), strict=True):
                bottom, top = np.clip(np.array(interval) / np.log(10), low + 0.05, high - 0.05)
                for colour, width in (("paper", 4.6), ("ink", 2.0)):
                    ax.plot([at, at], [bottom, top], color=COLOURS[colour], lw=width, solid_capstyle="butt")
        ax.set_xlim(left, right)
        ax.set_ylim(low, high)
        log_ticks(ax, "x", left, right)
        log_ticks(ax, "y", low, high)
        ax.set_xlabel("learning rate η")
        ax.set_ylabel("weight decay λ")
    return drawn.svg


def alternative(found: Landscape, fitted: bool) -> str:
    """The text alternative of the picture."""
    named = f"{label(found.arch)} on {label(found.dataset)}"
    what = "with the best weight decay by a smooth surface fitted to them" if fitted else "too few to fit a surface"
    return f"{named}: {len(found.frame)} trials of a random search over learning rate and weight decay, {what}"
