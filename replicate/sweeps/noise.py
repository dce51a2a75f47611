"""The noise between seeds, given by the user (`--noise`) or by the file (columns mean, std and n, or `mean ± std`)."""

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
"""Upper limit of a standard deviation."""
FEWEST = 8
"""A standard deviation counts as known from this many degrees of freedom on."""


@dataclass(frozen=True)
class Noise:
    """The standard deviation of one row's score between seeds, in the unit of the landscape."""

    sd: float | None
    """None if unknown."""
    notes: tuple[str, ...] = ()


def parse(text: str | float | None) -> float | None:
    """The standard deviation given by `--noise`, None if not given; raises UsageError if it is not above 0."""
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
    """The noise of `runs`. `factor`: by which scores were multiplied; `given`: `--noise`, in the file's unit."""
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
        return Noise(None, ("the numbers after ± are not used: the noise is estimated from repeats of (lr, wd)",))
    if len(spreads) < len(scored) / 2:
        return Noise(None, (f"only {len(spreads)} of {len(scored)} scores have a ±: too few to be used",))
    sd = _root_mean_square(spreads)
    return Noise(sd, (f"the number after ± is taken as the standard error of its score: {sd:.3g} overall",))


def _columns(
    table: Table, found: Mapping[str, str], metric: Metric, runs: Sequence[Run], factor: float, repeated: bool
) -> Noise:
    """The noise from columns of standard deviations (or errors) and numbers of runs; unused if runs are `repeated`."""
    column = metric.spread
    if repeated:
        return Noise(None, (f"column {column} is not used: the noise is estimated from repeats of (lr, wd)",))
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
        return Noise(None, (f"column {column} is not used: it has no value above 0",))
    sd_of_mean = math.sqrt(sum(squares) / len(squares))
    if freedom < FEWEST:
        return Noise(
            None, (f"column {column} is not used: it rests on {freedom:g} degrees of freedom, fewer than {FEWEST}",)
        )
    what = "standard error" if metric.standard_error else "standard deviation"
    if counts:
        means = f"{column} taken as the {what} of n={found['n']} runs"
    else:
        means = f"{column} taken as the standard error of each score, as no column has the number of runs"
    return Noise(sd_of_mean, (f"{means}: a score is a mean with standard error {sd_of_mean:.3g} overall",))


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
