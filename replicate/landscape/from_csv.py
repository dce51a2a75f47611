"""Anybody's sweep: a CSV of runs (learning rate, weight decay, accuracy or loss) → landscapes.

Known without being told: plain columns `lr`, `wd`, `accuracy` or `loss`, `seed`, `arch`, `dataset` and their usual
other names; Weights & Biases exports (`config.lr`, `config/optimizer.lr`, `State`); Optuna's `trials_dataframe`
(`params_lr`, `value`, `state`). Where two columns could be meant, the reader asks instead of choosing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

import pandas as pd

from replicate.landscape.columns import UNNAMED, find_columns, metric_given, one_optimizer
from replicate.landscape.landscape import Landscape
from replicate.landscape.table import Table
from replicate.text import UsageError

NO_SCORE = {"", "nan", "none", "null", "na", "n/a", "inf", "-inf", "+inf", "infinity", "-infinity"}
"""What stands in the place of the score of a diverged run."""
LEAST = 1e-30
"""The smallest learning rate or weight decay that makes any difference to anything, by far."""
MOST_CELLS, MOST_LRS, MOST_WDS = 1000, 200, 1000
"""In one file; learning rates in a cell; weight decays at a learning rate: beyond, judging would take minutes."""
MOST_POINTS = 1_000_000
"""(lr, wd) times seeds in a cell."""
FINISHED = {"", "complete", "completed", "finished", "success", "done"}
"""States of a run whose score is final."""


@dataclass(frozen=True)
class Sweep:
    """The landscapes of a file, and what the reader decided on its own."""

    landscapes: tuple[Landscape, ...]
    metric: str
    notes: tuple[str, ...]
    """One line each, fit for standard error."""


@dataclass(frozen=True)
class _Row:
    line: int
    cell: tuple[str, str]
    lr: float
    wd: float
    seed: str
    score: float | None
    """None where the run diverged."""


def read_sweep(table: Table, metric: str | None = None, columns: Mapping[str, str] | None = None) -> Sweep:
    """The landscapes of `table`, one for each (architecture, data set).

    metric: `accuracy` or `loss`; None takes whichever the table has, accuracy first. columns: field → column, for the
    fields whose column is not to be guessed.
    """
    columns = dict(columns or {})
    metric = metric_given(metric, columns)
    notes: list[str] = []
    found, metric = find_columns(table, metric, columns, notes)
    table = _finished(table, notes)
    one_optimizer(table, found)
    rows = [_row(table, i, found, metric) for i in range(len(table.rows))]
    if not rows:
        raise UsageError(f"{table.name}: expected one row a run, got a header and no finished run below it")
    if metric == "accuracy":
        rows = _in_percent(table.name, rows, notes)
    rows = _told_apart(table.name, rows, "seed" in found, notes)
    cells: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        cells.setdefault(row.cell, []).append(row)
    _check_size(table.name, cells, found)
    return Sweep(tuple(_landscape(cell, of_cell, metric) for cell, of_cell in cells.items()), metric, tuple(notes))


def _finished(table: Table, notes: list[str]) -> Table:
    """`table` without the runs that a `state` column calls unfinished."""
    column = next((c for c in table.header if c.strip().lower() == "state"), None)
    if column is None:
        return table
    states = [value.strip().lower() for value in table.values(column)]
    left_out = Counter(state for state in states if state not in FINISHED)
    if left_out:
        counted = ", ".join(f"{n} {state}" for state, n in sorted(left_out.items()))
        notes.append(f"left out the runs that {column} does not call finished: {counted}")
    return table.keep([state in FINISHED for state in states])


def _row(table: Table, i: int, found: Mapping[str, str], metric: str) -> _Row:
    """Row `i` of `table`, checked."""
    where = f"{table.name}, row {table.lines[i]}"

    def text(field: str) -> str:
        return table.value(i, found[field]) if field in found else ""

    def number(field: str) -> float:
        value = _number(text(field), table.decimal_comma)
        if value is None or not math.isfinite(value):
            got = repr(text(field)[:40]) if text(field) else "nothing"
            hint = "; write 0 for a run without weight decay" if field == "wd" and not text(field) else ""
            raise UsageError(f"{where}: expected a number in column {found[field]}, got {got}{hint}")
        return float(f"{value:.6g}")  # 0.1 * 3 and 0.3, or a float32, are one learning rate

    lr, wd = number("lr"), number("wd")
    for field, value in (("lr", lr), ("wd", wd)):
        if value != 0 and not LEAST < abs(value) < 1 / LEAST:
            raise UsageError(
                f"{where}: expected a number of a size that can be trained with, {LEAST:g} to {1 / LEAST:g}, in column "
                f"{found[field]}, got {value:g}"
            )
    if lr <= 0:
        raise UsageError(f"{where}: expected a learning rate above 0 in column {found['lr']}, got {lr:g}")
    if wd < 0:
        raise UsageError(f"{where}: expected a weight decay of at least 0 in column {found['wd']}, got {wd:g}")
    if "seed" in found and not text("seed"):
        raise UsageError(f"{where}: expected a seed in column {found['seed']}, got nothing")
    cell, seed = (text("arch") or UNNAMED, text("dataset") or UNNAMED), text("seed")
    score = _score(where, found[metric], text(metric), table.decimal_comma)
    return _Row(table.lines[i], cell, lr=lr, wd=wd, seed=seed, score=score)


def _score(where: str, column: str, text: str, decimal_comma: bool) -> float | None:
    """The score as it stands in the file; None where the run diverged."""
    if text.lower() in NO_SCORE:
        return None
    value = _number(text.removesuffix("%"), decimal_comma)
    if value is None:
        raise UsageError(
            f"{where}: expected a number in column {column}, or nothing or nan for a diverged run; got {text[:40]!r}"
        )
    return value if math.isfinite(value) else None


def _number(text: str, decimal_comma: bool) -> float | None:
    if "_" in text:  # Python reads 1_000; nobody's export means that
        return None
    try:
        return float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        return None


def _in_percent(name: str, rows: list[_Row], notes: list[str]) -> list[_Row]:
    """`rows` with accuracies in percent."""
    for row in rows:
        if row.score is not None and not 0 <= row.score <= 100:
            raise UsageError(
                f"{name}, row {row.line}: expected an accuracy from 0 to 100 (percent) or 0 to 1, got {row.score:g}; "
                "if the column is a loss, say --metric loss"
            )
    largest = max((row.score for row in rows if row.score is not None), default=None)
    if largest is None:
        return rows
    if largest > 1:
        _one_unit(name, rows, largest, notes)
        return rows
    notes.append(f"the largest accuracy is {largest:g}: taken as fractions and converted to percent")
    return [replace(row, score=None if row.score is None else 100 * row.score) for row in rows]


def _one_unit(name: str, rows: list[_Row], largest: float, notes: list[str]) -> None:
    """Raises UsageError where some accuracies are fractions beside percentages.

    A percentage below 1 is that of a run that has learnt nothing, on a hundred classes or more. A hundred times it
    falls among the others by accident only, and then the unit has to be asked for.
    """
    low = [row for row in rows if row.score is not None and 0 < row.score <= 1]
    usual = median(row.score for row in rows if row.score is not None and row.score > 1)
    fraction = next(
        (row for row in low if row.score is not None and usual / 2 <= 100 * row.score <= 1.1 * largest), None
    )
    if fraction is not None:
        raise UsageError(
            f"{name}, row {fraction.line}: expected accuracies in one unit, got {fraction.score:g} in a column that "
            f"goes up to {largest:g}: a fraction among percentages? write all in per cent, or leave it empty if the "
            "run diverged"
        )
    if low:
        counted = "1 accuracy" if len(low) == 1 else f"{len(low)} accuracies"
        notes.append(
            f"{counted} of at most 1 (row {low[0].line}: {low[0].score:g}) beside "
            f"others up to {largest:g}: taken as per cent"
        )


def _check_size(name: str, cells: Mapping[tuple[str, str], list[_Row]], found: Mapping[str, str]) -> None:
    """Raises UsageError where a column holds so many values that it is no axis of a grid."""
    sizes = [("arch and dataset", len(cells), MOST_CELLS)]
    for rows in cells.values():
        pairs = {(row.lr, row.wd) for row in rows}
        seeds = len({row.seed for row in rows})
        sizes.append((found["lr"], len({lr for lr, _ in pairs}), MOST_LRS))
        sizes.append((found["wd"], max(Counter(lr for lr, _ in pairs).values()), MOST_WDS))
        sizes.append((found.get("seed", "seed"), seeds, max(1, MOST_POINTS // len(pairs))))
    for column, got, most in sizes:
        if got > most:
            raise UsageError(
                f"{name}: expected at most {most} values of {column} in a grid of runs, got {got}; is it the column "
                "that is meant (--columns)? A random search cannot be judged: take a grid"
            )


def _told_apart(name: str, rows: list[_Row], seeds_given: bool, notes: list[str]) -> list[_Row]:
    """`rows`, each (cell, lr, wd, seed) once; without a seed column, repeats are numbered in the file's order."""
    first: dict[tuple[object, ...], list[_Row]] = {}
    kept = []
    repeated = 0
    twins: list[tuple[int, int]] = []
    for row in rows:
        same = first.setdefault((row.cell, row.lr, row.wd, row.seed), [])
        twin = next((other for other in same if other.score == row.score), None)
        if same and seeds_given:
            if twin is None:
                raise UsageError(
                    f"{name}, row {row.line}: expected each run once, got lr={row.lr:g} wd={row.wd:g} seed={row.seed} "
                    f"in row {same[0].line} already with another score; drop one, or name the column that tells them "
                    "apart, e.g. --columns arch=NAME"
                )
            twins.append((row.line, twin.line))
            continue
        if twin is not None and row.score is not None:
            raise UsageError(
                f"{name}, row {row.line}: expected each run once, got lr={row.lr:g} wd={row.wd:g} and the same score "
                f"in row {twin.line}; drop one, or name the column that tells them apart, e.g. --columns seed=NAME"
            )
        if not seeds_given:
            repeated += bool(same)
            row = replace(row, seed=str(len(same)))
        same.append(row)
        kept.append(row)
    if twins:
        example = "row {} repeats row {}".format(*twins[0])
        notes.append(
            f"{example}: left out"
            if len(twins) == 1
            else f"{len(twins)} rows left out that repeat others: {example}, …"
        )
    if repeated:
        notes.append(f"no column of seeds: {repeated} repeated (lr, wd) taken as further seeds, in the file's order")
    return kept


def _landscape(cell: tuple[str, str], rows: list[_Row], metric: str) -> Landscape:
    sign = -1.0 if metric == "loss" else 1.0
    frame = pd.DataFrame(
        {
            "lr": [row.lr for row in rows],
            "wd": [row.wd for row in rows],
            "seed": _seeds([row.seed for row in rows]),
            "score": [math.nan if row.score is None else sign * row.score for row in rows],
            "diverged": [row.score is None for row in rows],
        }
    )
    return Landscape(cell[0], cell[1], frame, metric)


def _seeds(texts: list[str]) -> list[int] | list[str]:
    """Whole numbers where all of them are (`3`, `3.0`), else texts."""
    numbers = [_number(text, False) for text in texts]
    whole = [int(n) for n in numbers if n is not None and math.isfinite(n) and n == int(n)]
    return whole if len(whole) == len(texts) else texts
