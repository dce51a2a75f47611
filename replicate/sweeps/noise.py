"""The noise between seeds where a file or its owner knows it: `--noise`, columns of mean, std and n, or a `±`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replicate.sweeps.columns import Metric
from replicate.sweeps.numbers import number
from replicate.sweeps.rows import Run
from replicate.sweeps.table import Table
from replicate.text import UsageError

MOST = 1e30
"""No score varies by more."""
FEWEST = 8
"""Degrees of freedom of a standard deviation that is taken as known."""


@dataclass(frozen=True)
class Noise:
    """What the standard deviation of one row's score between seeds is, in the unit of the landscape."""

    sd: float | None
    notes: tuple[str, ...] = ()


def parse(text: str | float | None) -> float | None:
    """The number that `--noise` has."""
    if text is None:
        return None
    found = number(str(text).strip())
    if found is None or found.percent or not 0 < found.value < MOST:
        raise UsageError(
            f"--noise: expected a standard deviation above 0 in the unit of the score, got {str(text)[:40]!r}"
        )
    return found.value


def of(
    table: Table, found: Mapping[str, str], metric: Metric, runs: Sequence[Run], factor: float, given: float | None
) -> Noise:
    """The noise of `runs`. `factor`: by what the file's scores were multiplied; `given`: `--noise`, in its unit."""
    if given is not None:
        return Noise(given * factor, (f"noise between seeds: SD {given:g}, as --noise says",))
    scored = [run for run in runs if run.score is not None]
    repeated = any(n > 1 for n in Counter((run.cell, run.lr, run.wd) for run in scored).values())
    if metric.spread:
        return _columns(table, found, metric, scored, factor, repeated)
    spreads = [run.spread for run in scored if run.spread and run.spread < MOST]
    if not spreads or not scored:
        return Noise(None)
    if repeated:
        return Noise(None, ("what stands behind ± is not used: the repeats of (lr, wd) show the noise",))
    if len(spreads) < len(scored) / 2:
        return Noise(None, (f"± at {len(spreads)} of {len(scored)} scores: too few to be used",))
    sd = _mean_square(spreads)
    return Noise(sd, (f"what stands behind ± is taken as the standard error of its score: {sd:.3g} on the whole",))


def _columns(
    table: Table, found: Mapping[str, str], metric: Metric, runs: Sequence[Run], factor: float, repeated: bool
) -> Noise:
    """From a column of standard deviations, or errors, and one of the numbers of runs."""
    column = metric.spread
    if repeated:
        return Noise(None, (f"column {column} is not used: the repeats of (lr, wd) show the noise",))
    spreads, counts = table.values(column), table.values(found["n"]) if "n" in found else []
    squares, freedom = [], 0.0
    for run in runs:
        sd = number(spreads[run.row], table.decimal_comma)
        n = number(counts[run.row]) if counts else None
        many = n.value if n is not None and math.isfinite(n.value) and n.value >= 1 else None
        if sd is None or not 0 <= sd.value < MOST or many == 1:
            continue
        times = 1.0 if metric.standard_error or many is None else 1 / many
        squares.append((sd.value * factor) ** 2 * times)
        freedom += 1.0 if many is None else many - 1
    if not squares or max(squares) == 0:
        return Noise(None, (f"column {column} has no spread above 0: not used",))
    sd_of_mean = math.sqrt(sum(squares) / len(squares))
    if freedom < FEWEST:
        return Noise(
            None, (f"column {column} is not used: it rests on {freedom:g} degrees of freedom, fewer than {FEWEST}",)
        )
    what = "standard error" if metric.standard_error else "standard deviation"
    if counts:
        means = f"{column} taken as the {what} of n={found['n']} runs"
    else:
        means = f"{column} taken as the standard error of each score, for no column says of how many runs"
    return Noise(sd_of_mean, (f"{means}: a score is a mean with standard error {sd_of_mean:.3g} on the whole",))


def _mean_square(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
