"""The picture of the calibration: for each true value in simulated runs, how often the rules give each outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from replicate.report.figures.canvas import COLOURS, canvas, note, number

if TYPE_CHECKING:
    from replicate.calibration.measured import CellRow

WIDTH = 480
ROW = 22
OUTCOMES = ("replicated", "inconclusive", "contradicted")
Shares = dict[float, dict[str, float]]
"""True value → outcome → share of the simulations with that outcome, 0 to 1."""


def shares(rates: Sequence[CellRow], quantity: str) -> Shares:
    """The shares of outcomes over all studies of `quantity`, weighted by each study's number of simulations.

    Left out are studies without a known true value, and studies of a ratio that varies with the learning rate.
    """
    sums: dict[float, dict[str, float]] = {}
    for rate in rates:
        if rate.quantity == quantity and rate.truth is not None and (quantity != "rho" or rate.slope == 1):
            of_truth = sums.setdefault(float(f"{rate.truth:.2g}"), dict.fromkeys((*OUTCOMES, "n"), 0.0))
            for outcome in OUTCOMES:
                of_truth[outcome] += getattr(rate, outcome) * rate.landscapes
            of_truth["n"] += rate.landscapes
    return {t: {o: s[o] / s["n"] for o in OUTCOMES} for t, s in sorted(sums.items()) if s["n"]}


def calibration(found: Shares, quantity: str, margin: tuple[float, float]) -> str:
    """The picture of one quantity as SVG: a bar of shares for each true value; those inside `margin` are marked."""
    height = 8 + 42 + ROW * len(found)
    with canvas(WIDTH, height, _alternative(found, quantity)) as drawn:
        ax = drawn.axes(100, 8, 28, 42)
        for y, (truth, share) in enumerate(found.items()):
            left = 0.0
            for outcome in OUTCOMES:
                ax.barh(y, share[outcome], 0.82, left, color=COLOURS[outcome], edgecolor=COLOURS["paper"], lw=0.8)
                if share[outcome] >= 0.06:
                    # Black is legible on all three hues, in light and dark mode.
                    style: dict[str, Any] = {"color": "black", "fontsize": 10, "fontweight": "bold"}
                    ax.text(left + share[outcome] / 2, y, outcome[0].upper(), ha="center", va="center", **style)
                left += share[outcome]
            if margin[0] <= truth <= margin[1]:
                note(ax, "▸", (0, y), (-8, 0), ha="center", color=COLOURS["claimed"], annotation_clip=False)
        ax.set_yticks(range(len(found)), [number(t) for t in found])
        ax.set_ylim(len(found) - 0.4, -0.6)
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
        ax.tick_params(axis="y", length=0, pad=14)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel("share of made-up landscapes", labelpad=3)
        ax.set_ylabel(f"true {quantity}", labelpad=4)
    return drawn.svg


def _alternative(found: Shares, quantity: str) -> str:
    parts = [f"truth {t:g}: " + ", ".join(f"{o} {100 * s[o]:.0f} percent" for o in OUTCOMES) for t, s in found.items()]
    return f"How often the rule on the {quantity} gives each outcome, on made-up landscapes. {'; '.join(parts)}."
