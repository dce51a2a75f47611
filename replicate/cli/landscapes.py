"""`replicate landscapes`: shows the best weight decay of a scale's stored runs at each learning rate."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from replicate.cli.output import columns, note, print_json
from replicate.cli.runs import landscape_points
from replicate.cli.stored import to_read
from replicate.estimate.best_set import best_sets
from replicate.landscape.landscape import Landscape
from replicate.runs import scales
from replicate.text import UsageError

FIELDS = ("cell", "lr", "best wd", "place", "accuracy", "at wd 0", "gain", "SD", "cannot be told from the best")


def run(options: argparse.Namespace) -> int:
    scale = scales.get(options.scale)
    store = to_read(options.store, scale)
    rows = landscape_points(store, scale, options.variant)
    frame = pd.DataFrame(rows)
    if frame.empty:
        raise UsageError(
            f"store {store.path}: expected runs of scale {options.scale}, got none; train them with `replicate train`"
        )
    frame["score"] = pd.to_numeric(frame["accuracy"])
    lines = []
    for (arch, dataset), of_cell in frame.groupby(["arch", "dataset"], sort=False):
        lines += list(_lines(Landscape(str(arch), str(dataset), of_cell.reset_index(drop=True))))
    if options.json:
        print_json({"scale": options.scale, "variant": options.variant, "rows": lines})
    else:
        print(columns(FIELDS, [[_shown(line[field]) for field in FIELDS] for line in lines]))
        cells = dict.fromkeys(line["cell"] for line in lines)
        for cell in cells:
            inside = [line["place"] == "interior" for line in lines if line["cell"] == cell]
            note(f"{cell}: best weight decay not at an edge of the grid: {sum(inside)} of {len(inside)} learning rates")
        note("last column: range of the weight decays that are statistically indistinguishable from the best one")
    return 0


def _lines(landscape: Landscape) -> Iterator[dict[str, Any]]:
    """One dict per learning rate: best weight decay, whether it is an edge of the grid, gain over weight decay 0."""
    sets = {found.lr: found for found in best_sets(landscape.slices())}
    for cut in landscape.slices():
        rows = np.nonzero(np.isfinite(cut.scores).any(axis=1))[0]
        if not len(rows):
            continue
        means = [float(np.nanmean(cut.scores[row])) for row in rows]
        # The first of equal means, within a tolerance: weight decays too small to change a weight share one run.
        best = int(np.argmax(np.round(means, 9)))
        zero = means[0] if cut.wds[rows[0]] == 0 else None
        seeds = [row for row in cut.scores[rows] if np.isfinite(row).sum() > 1]
        spread = float(np.sqrt(np.mean([np.nanvar(row, ddof=1) for row in seeds]))) if seeds else None
        cell, wd = f"{landscape.arch}-{landscape.dataset}", float(cut.wds[rows[best]])
        place = "low edge" if best == 0 else "high edge" if best == len(rows) - 1 else "interior"
        gain = None if zero is None else means[best] - zero
        alike = sets.get(cut.lr)
        span = f"{min(alike.wds):g} to {max(alike.wds):g}" if alike else "-"
        yield dict(zip(FIELDS, (cell, cut.lr, wd, place, means[best], zero, gain, spread, span), strict=True))


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
