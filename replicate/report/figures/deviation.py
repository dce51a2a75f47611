"""The deviation curve: accuracy lost at multiples of the claimed weight decay, here and in the paper's Table 2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from replicate.estimate.estimate import Estimate
from replicate.paper.claim import Margin
from replicate.paper.tables import TABLE_2
from replicate.report.figures.canvas import COLOURS, canvas, label, number

WIDTH, HEIGHT = 366, 300


def deviation(dataset: str, found: Mapping[float, tuple[Estimate, Margin]], title: str) -> str:
    """The picture of `dataset` as SVG. `found`: kappa → estimate and margin of its claim, in pp."""
    table = {row.kappa: row.drop(dataset) for row in TABLE_2}
    with canvas(WIDTH, HEIGHT, _alternative(found, title)) as drawn:
        ax = drawn.axes(48, 12, 14, 44)
        x = {kappa: math.log10(kappa) for kappa in (*table, 1.0)}
        ax.axhline(0, color=COLOURS["faint"], lw=1)
        for kappa, (_, margin) in sorted(found.items()):
            low, high = margin.low, margin.high
            ax.add_patch(_rectangle(x[kappa] - 0.1, low, 0.2, high - low))
        whole: dict[float, float] = {**{k: f.value for k, f in table.items()}, 1.0: 0.0}
        paper = dict(sorted(whole.items()))
        ax.plot([x[k] for k in paper], list(paper.values()), color=COLOURS["claimed"], lw=1.4)
        for kappa, figure in table.items():
            if figure.low is not None and figure.high is not None:
                ax.plot([x[kappa]] * 2, [figure.low, figure.high], color=COLOURS["claimed"], lw=1.2)
            ax.plot([x[kappa]], [figure.value], "D", ms=5, color=COLOURS["paper"], mec=COLOURS["claimed"])
        style: dict[str, Any] = {"color": COLOURS["ours"]}
        shown = {**{k: e.value for k, (e, _) in found.items() if e.value is not None}, 1.0: 0.0}
        ax.plot([x[k] + 0.03 for k in sorted(shown)], [shown[k] for k in sorted(shown)], lw=2, **style)
        for kappa, (estimate, _) in found.items():
            if math.isfinite(estimate.low) and math.isfinite(estimate.high):
                ax.plot([x[kappa] + 0.03] * 2, [estimate.low, estimate.high], lw=2, **style)
        for kappa, value in shown.items():
            ax.plot([x[kappa] + 0.03], [value], "o", markersize=6.5, markeredgecolor=COLOURS["paper"], **style)
        ax.set_xlim(-1.2, 1.2)
        ax.invert_yaxis()
        ax.set_xticks([x[k] for k in sorted(x)], [number(k) for k in sorted(x)])
        ax.set_xlabel("κ: weight decay as a multiple of 0.1η", labelpad=3)
        ax.set_ylabel("accuracy lost, pp (down is worse)", labelpad=3)
    return drawn.svg


def _rectangle(left: float, bottom: float, width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, bottom), width, height, facecolor=COLOURS["band"], edgecolor="none", lw=0)


def _alternative(found: Mapping[float, tuple[Estimate, Margin]], title: str) -> str:
    parts = []
    for kappa, (estimate, margin) in sorted(found.items()):
        value = "no value" if estimate.value is None else f"{estimate.value:.2g} pp"
        low, high = (f"{end:.2g}" if math.isfinite(end) else "open" for end in (estimate.low, estimate.high))
        parts.append(f"kappa {kappa:g}: {value} ({low} to {high}), margin {margin.low:g} to {margin.high:g}")
    return f"{label(title, 200)} Accuracy lost by multiples of the claimed weight decay. {'; '.join(parts)}."
