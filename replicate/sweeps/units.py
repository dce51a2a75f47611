"""Converts accuracies to percent, whatever the file's unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from replicate.sweeps.columns import Metric
from replicate.sweeps.rows import Run
from replicate.sweeps.table import counted
from replicate.sweeps.vocabulary import ACCURACY
from replicate.text import UsageError


def in_unit(name: str, runs: Sequence[Run], metric: Metric, notes: list[str]) -> tuple[list[Run], float]:
    """`runs` with accuracies in percent, other scores unchanged, and the factor by which scores were multiplied.

    Raises UsageError if accuracies are out of range or in different units; conversions are added to `notes`.
    """
    _signs(name, runs, metric)
    return _in_percent(name, list(runs), metric, notes) if metric.kind == ACCURACY else (list(runs), 1.0)


def _signs(name: str, runs: Sequence[Run], metric: Metric) -> None:
    """Raises UsageError if some scores have a % sign and others, of another size, have none."""
    signed = [run for run in runs if run.percent and run.score is not None]
    plain = [run for run in runs if not run.percent and run.score is not None]
    if not signed or not plain:
        return
    usual = median(run.score for run in signed if run.score is not None)
    other = next((run for run in plain if run.score is not None and abs(run.score) < 0.1 * abs(usual)), None)
    if other is not None:
        raise UsageError(
            f"{name}, row {other.line}: expected scores in one unit, got {other.score:g} beside others with a % sign "
            f"in column {metric.column}; write all of them in percent"
        )


def _in_percent(name: str, runs: list[Run], metric: Metric, notes: list[str]) -> tuple[list[Run], float]:
    for run in runs:
        if run.score is not None and not 0 <= run.score <= 100:
            raise UsageError(
                f"{name}, row {run.line}: expected an accuracy from 0 to 100 (percent) or 0 to 1, got {run.score:g}; "
                f"for a loss, use --metric loss; for any other score, --metric {metric.column}:max"
            )
    largest = max((run.score for run in runs if run.score is not None), default=None)
    if largest is None or "%" in metric.column or all(run.percent for run in runs if run.score is not None):
        return runs, 1.0
    if largest > 1:
        _one_unit(name, runs, largest, notes)
        return runs, 1.0
    notes.append(f"the largest accuracy is {largest:g}: taken as fractions and converted to percent")
    return [
        replace(
            run,
            score=None if run.score is None else 100 * run.score,
            spread=None if run.spread is None else 100 * run.spread,
        )
        for run in runs
    ], 100.0


def _one_unit(name: str, runs: list[Run], largest: float, notes: list[str]) -> None:
    """Raises UsageError if some accuracies seem to be fractions among percentages.

    A number of at most 1 may be a percentage: guessing among a hundred classes gives 1 %. But if a hundred times the
    number lies among the accuracies of other runs, it is more likely a fraction.
    """
    low = [run for run in runs if run.score is not None and 0 < run.score <= 1]
    usual = median(run.score for run in runs if run.score is not None and run.score > 1)
    fraction = next(
        (run for run in low if run.score is not None and usual / 2 <= 100 * run.score <= 1.1 * largest), None
    )
    if fraction is not None:
        raise UsageError(
            f"{name}, row {fraction.line}: expected accuracies in one unit, got {fraction.score:g} in a column that "
            f"goes up to {largest:g}: is it a fraction among percentages? Write all of them in percent, or leave it "
            "empty if the run diverged"
        )
    if low:
        notes.append(
            f"{counted(len(low), 'accuracy', 'accuracies')} of at most 1 (row {low[0].line}: {low[0].score:g}) beside "
            f"others up to {largest:g}: taken as percent"
        )
