"""Runs that a sweep needs before anything can be estimated, and the seeds for further runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replicate.estimate.line_fit import LineFit
from replicate.landscape.landscape import Landscape, Slice

SAME = 1e-6
"""Values with a relative difference up to this count as equal."""
LEAST_WDS = 3
"""Smallest number of weight decays at a learning rate for which an optimum is estimated."""
LEAST_LRS = 3
"""Smallest number of learning rates for which a line is estimated."""
MOST_NEW = 10_000
"""Limit on the number of new seeds."""
NEAR = 1.25
"""A run is expected to diverge if its learning rate times weight decay is at least a diverged run's divided by this."""


@dataclass(frozen=True)
class NextRun:
    """A suggested run."""

    lr: float
    wd: float
    seed: Any


class Divergence:
    """The region of (learning rate, weight decay) where training diverges, from all runs of a landscape.

    It begins at points at which most runs diverged and beyond which no run finished: a point is in it if neither its
    learning rate nor its learning rate times weight decay is below that of such a point.
    """

    def __init__(self, landscape: Landscape) -> None:
        runs = landscape.frame.groupby(["lr", "wd"], as_index=False)["diverged"].mean()
        lr, lost = runs["lr"].to_numpy(dtype=np.float64), runs["diverged"].to_numpy(dtype=np.float64) >= 0.5
        decay = lr * runs["wd"].to_numpy(dtype=np.float64)
        beyond = [
            not ((lr[~lost] >= one * (1 - SAME)) & (decay[~lost] >= other * (1 - SAME))).any()
            for one, other in zip(lr[lost], decay[lost], strict=True)
        ]
        first = np.array(beyond, dtype=bool)
        self._lr, self._decay = lr[lost][first], decay[lost][first]

    def at(self, lr: float, wd: float) -> bool:
        """Whether a run at `lr` and `wd` can be expected to diverge."""
        return bool(((self._lr <= lr * (1 + SAME)) & (self._decay <= lr * wd * NEAR)).any())


def missing(landscape: Landscape, fit: LineFit | None) -> Iterator[tuple[float, float]]:
    """(lr, wd) of runs needed before anything can be estimated: more weight decays, learning rates, or second seeds."""
    diverges = Divergence(landscape)
    yield from (run for run in _missing(landscape, fit, diverges) if not diverges.at(*run))


def _missing(landscape: Landscape, fit: LineFit | None, diverges: Divergence) -> Iterator[tuple[float, float]]:
    slices = landscape.slices()
    known = {} if fit is None else {curve.lr: curve.fitted.points for curve in fit.curves if curve.fitted}
    for cut in slices:
        if cut.lr not in known and not cut.diverged.all() and not cut.equal:
            yield from ((cut.lr, wd) for wd in _around(cut))
    if slices and len(slices) < LEAST_LRS:
        best = max(slices, key=lambda cut: float(np.nanmax(np.where(np.isfinite(cut.scores), cut.scores, -np.inf))))
        others = [cut.lr for cut in slices]
        new = [best.lr * factor for factor in (3, 1 / 3, 9, 1 / 9) if not _near(best.lr * factor, others)]
        around = _around(best, all_of_them=True)
        new = [lr for lr in new if not all(diverges.at(lr, wd) for wd in around)]
        for lr in new[: LEAST_LRS - len(slices)]:
            yield from ((float(f"{lr:.2g}"), wd) for wd in around)
    elif fit is not None and not fit.curves[0].noise_known:
        yield from _repeats(fit)


def _repeats(fit: LineFit) -> Iterator[tuple[float, float]]:
    """A second seed of each learning rate's best run, then of the neighbouring runs, to measure the seed noise."""
    for step in (0, -1, 1):
        for curve in fit.curves:
            assert curve.fitted is not None
            x, low = curve.fitted.points.x, curve.fitted.points.low
            at = int(curve.fitted.points.noise.mean.argmax()) + step
            if 0 <= at < len(x) and x[at] >= low:
                yield curve.lr, float(np.exp(x[at]))


def _near(lr: float, others: Sequence[float]) -> bool:
    return any(abs(np.log(lr / other)) < np.log(1.5) for other in others)


def _around(cut: Slice, *, all_of_them: bool = False) -> list[float]:
    """Weight decays a factor 3 apart around the best run of `cut`: those not yet run or, with `all_of_them`, all."""
    finite = np.isfinite(cut.scores)
    means = np.array([row[ok].mean() if ok.any() else -np.inf for row, ok in zip(cut.scores, finite, strict=True)])
    positive = cut.wds > 0
    if not positive.any():
        return []
    centre = float(cut.wds[positive][int(means[positive].argmax())])
    wanted = [float(f"{centre * 3.0**k:.2g}") for k in ((0,) if all_of_them else ()) + (-1, 1, -2, 2)]
    have = [] if all_of_them else [float(wd) for wd in cut.wds[positive]]
    return [wd for wd in wanted if not _near(wd, have)][: max(LEAST_WDS + 1 - len(have), 1) if have else None]


def numbered(landscape: Landscape, chosen: Sequence[tuple[float, float]]) -> Iterator[NextRun]:
    """The runs `chosen` with rounded weight decays, each with a seed not yet run at that point."""
    seeds = [seed.item() if isinstance(seed, np.generic) else seed for seed in landscape.seeds]
    taken: dict[tuple[float, float], set[Any]] = {}
    for run in landscape.frame[["lr", "wd", "seed"]].to_dict("records"):
        taken.setdefault((run["lr"], run["wd"]), set()).add(run["seed"])
    for exact_lr, exact_wd in chosen:
        lr = next((known for known, _ in taken if abs(known / exact_lr - 1) < SAME), exact_lr)
        same = [wd for known, wd in taken if known == lr and abs(wd / exact_wd - 1) < SAME]
        wd = same[0] if same else float(f"{exact_wd:.3g}")
        used = taken.setdefault((lr, wd), set())
        seed = next(s for s in [*seeds, *_more_seeds(seeds)] if s not in used)
        used.add(seed)
        yield NextRun(lr, wd, seed)


def _more_seeds(seeds: Sequence[Any]) -> Iterator[Any]:
    """New seeds: the next integers, or names if `seeds` are not all integers."""
    if all(isinstance(seed, int) for seed in seeds):
        return iter(range(max(seeds, default=-1) + 1, max(seeds, default=-1) + 1 + MOST_NEW))
    return (f"new {i + 1}" for i in range(MOST_NEW))
