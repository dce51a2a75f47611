"""Which claims the grid's points can support at all, and where on the grid weight decay changes a float32 weight."""

from __future__ import annotations

import numpy as np

from replicate.audit.finding import Check, Finding, from_checks
from replicate.audit.reachability import assignment, enumerate_fits
from replicate.audit.reported import Reported, need
from replicate.runs.run import weight_decay_is_inert

CLOSE = 5e-3
"""Two weight decays with a smaller relative difference count as equal."""


def wds_at(paper: Reported, lr: float) -> tuple[float, ...]:
    """The grid's weight decays at one of its learning rates."""
    return next(wds for rate, wds in paper.grid if rate == lr)


def on_grid(paper: Reported, lr: float, wd: float) -> bool:
    """Whether the grid has a run at this learning rate and weight decay."""
    return bool(np.isclose(wd, wds_at(paper, lr), rtol=CLOSE, atol=0).any())


def rates_on_line(paper: Reported, rho: float) -> list[float]:
    """The learning rates at which rho times the learning rate is a weight decay of the grid."""
    return [lr for lr, _ in paper.grid if on_grid(paper, lr, rho * lr)]


def pairs_on_grid(paper: Reported) -> list[tuple[float, float]]:
    """The pairs (lr, kappa), kappa 1 included, for which the weight decay kappa * rho * lr is on the grid."""
    kappas = sorted({*paper.kappas, 1.0})
    return [(lr, k) for lr, _ in paper.grid for k in kappas if on_grid(paper, lr, k * paper.rho * lr)]


def _line_on_grid(paper: Reported, rho: str, line: list[float], source: str) -> Check:
    what, found = f"learning rates at which {rho} x lr is on the grid", f"{len(line)} of {len(paper.grid)}"
    return Check(what, "a line through all of them", found, holds=len(line) >= 2, source=source, decides=True)


def line_and_drops(paper: Reported) -> Finding:
    """`audit/on-grid`: whether the claimed line, and its multiples kappa in the table of drops, are on the grid."""
    need(paper.drops, "a table of accuracy drops")
    line, pairs, total = rates_on_line(paper, paper.rho), pairs_on_grid(paper), len(paper.grid)
    checks = [_line_on_grid(paper, f"{paper.rho:g}", line, "sections 3.1 and 3.4")]
    for kappa in paper.kappas:
        at, what = [lr for lr in line if (lr, kappa) in pairs], f"learning rates with kappa {kappa:g} and its reference"
        found, source = f"{len(at)} of {total}", next(r.source for r in paper.drops if r.kappa == kappa)
        checks.append(Check(what, "a measured drop", found, holds=bool(at), source=source, decides=True))
    missing = [f"{k:g}" for k, c in zip(paper.kappas, checks[1:], strict=True) if not c.holds]
    where = f"only at lr {', '.join(f'{lr:g}' for lr in line)}" if line else "at no learning rate"
    evidence = (
        f"{paper.rho:g} x lr is a weight decay of the grid {where}; of {total * (len(paper.kappas) + 1)} pairs (lr, "
        f"kappa) {len(pairs)} are on the grid"
    )
    if missing:
        evidence += f", and the drops at kappa {', '.join(missing)} cannot be formed from the grid at any learning rate"
    elif len(line) == total:
        evidence = f"{paper.rho:g} x lr and every kappa that the table of drops needs are on the grid"
    return from_checks(
        checks,
        source="section 3.1, section 3.4, table of drops",
        claimed=f"drops at kappa {', '.join(f'{k:g}' for k in paper.kappas)}; a search along {paper.rho:g} x lr",
        evidence=evidence + ".",
        assumes="a drop is a difference between two runs of the grid, and a line needs at least two points",
        consistent_if="there were further runs off the grid, which the paper neither describes nor counts",
        details={"pairs on the grid": [[lr, k] for lr, k in pairs], "on the line": line},
    )


def sgd_line(paper: Reported) -> Finding:
    """`audit/sgd-on-grid`: whether the ratio claimed for SGD is on the same grid."""
    figure = paper.figure("sgd/rho")
    rho = figure.value
    line = rates_on_line(paper, rho.value)
    fits = enumerate_fits(paper.grid)
    like = np.nonzero(np.abs(fits.rho - rho.value) <= rho.half * (1 + 1e-9))[0]
    zeros = [sum(w == 0 for w in assignment(paper.grid, int(k))) for k in like]
    smallest = min((w for _, wds in paper.grid for w in wds if w > 0), default=0.0)
    largest = rho.value * float(paper.lrs.max())
    evidence = (
        f"{rho.text} x lr is at most {largest:g} on the grid of learning rates, whose smallest weight decay above 0 is "
        f"{smallest:g}; {len(like)} of {len(fits.rho):,} assignments give the ratio {rho.text}"
    )
    if zeros:
        evidence += f", each with a best weight decay of 0 at {min(zeros)} or more learning rates"
    return from_checks(
        [_line_on_grid(paper, rho.text, line, figure.source)],
        claimed=f"ratio {figure.measured.text} under SGD",
        evidence=evidence + ".",
        assumes="SGD was run on the grid of section 3.1, as no other is described",
        consistent_if="SGD was run on a grid of its own that the paper does not describe",
        details={"assignments": len(like)},
    )


def inert_decay(paper: Reported) -> Finding:
    """`audit/inert-decay`: where AdamW's factor 1 - lr * wd is exactly 1 in float32, weight decay changes nothing.

    PyTorch multiplies each weight by the float32 number nearest to 1 - lr * wd. The float32 numbers just below 1 are
    2^-24 apart, so lr * wd < 2^-25 leaves every weight unchanged: the run is bit for bit the run without decay. (Where
    PyTorch subtracts lr * wd * w instead, the same holds.) Warm-up and the cosine schedule only lower lr.
    """
    need(paper.drops, "a table of accuracy drops")
    kappas = sorted({*paper.kappas, 1.0})
    inert = [(lr, k) for lr in paper.lrs for k in kappas if weight_decay_is_inert(float(lr), k * paper.rho * lr)]
    equal = [(lr, k) for lr, k in inert if k != 1 and (lr, 1.0) in inert]
    dead = [float(lr) for lr in paper.lrs if all((lr, k) in inert for k in kappas)]
    total = len(paper.lrs) * len(paper.kappas)
    checks, printed = [], f"{len(kappas) - 1} measured"
    for lr in paper.lrs:
        what, zeros = f"drops at lr {lr:g}", sum(x == lr for x, _ in equal)
        found, decides = f"{zeros} exactly 0", lr in dead
        checks.append(Check(what, printed, found, holds=not zeros, source="table of drops", decides=decides))
    first = {f"{lr:g}": 2.0**-25 / (lr * paper.rho * lr) for lr in dead}
    if not equal:
        evidence = "At every learning rate the weight decays of the table of drops change float32 weights."
    else:
        evidence = (
            f"lr x wd is below 2^-25 at {len(inert)} of {len(paper.lrs) * len(kappas)} pairs (lr, kappa), and "
            f"{len(equal)} of {total} drops are differences between two runs that are bit for bit the same"
        )
        if dead:
            acts = ", ".join(f"{k:.0f} at lr {lr}" for lr, k in first.items())
            evidence += (
                f"; at lr {', '.join(f'{lr:g}' for lr in dead)} every kappa from {kappas[0]:g} to {kappas[-1]:g} is "
                f"the run without decay, so no best weight decay can be found there (first kappa that acts: {acts})"
            )
        evidence += "."
    return from_checks(
        checks,
        source="sections 3.1 and 4.2",
        claimed="drops and a best weight decay at every learning rate",
        evidence=evidence,
        assumes="PyTorch's AdamW on float32 weights, as in the published script (mixed precision keeps them in "
        "float32)",
        consistent_if="the weights were kept in float64, or table and fit exclude these learning rates",
        details={"inert": [[float(lr), k] for lr, k in inert], "smallest kappa that acts": first},
    )
