"""Anybody's sweep: a CSV of runs (learning rate, weight decay, accuracy or loss) → landscapes.

Known without being told: plain columns `lr`, `wd`, `accuracy` or `loss`, `seed`, `arch`, `dataset` and their usual
other names; Weights & Biases exports (`config.lr`, `config/optimizer.lr`, `State`); Optuna's `trials_dataframe`
(`params_lr`, `value`, `state`). Where two columns could be meant, the reader asks instead of choosing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from replicate.landscape import Landscape
from replicate.table import Table

FIELDS = ("lr", "wd", "accuracy", "loss", "seed", "arch", "dataset")
METRICS = ("accuracy", "loss")
UNNAMED = "unnamed"
"""Architecture or data set of a sweep that does not say."""

ALIASES = {
    "lr": ("lr", "learning_rate", "learningrate", "base_lr", "peak_lr", "max_lr", "init_lr", "eta"),
    "wd": ("wd", "weight_decay", "weightdecay", "lambda"),
    "accuracy": (
        *("accuracy", "acc", "top1", "acc1", "accuracy_pp"),
        *(
            f"{split}_{name}"
            for split in ("test", "val", "valid", "validation", "eval")
            for name in ("accuracy", "acc")
        ),
    ),
    "loss": ("loss", *(f"{split}_loss" for split in ("test", "val", "valid", "validation", "eval"))),
    "seed": ("seed", "random_seed", "rng_seed", "random_state"),
    "arch": ("arch", "architecture", "model", "model_name", "backbone"),
    "dataset": ("dataset", "data_set", "dataset_name", "data"),
}
PREFIXES = ("config", "params", "parameters", "hparams", "hyperparameters", "summary")
UNTOLD_METRIC = "value"
"""Optuna's name of the objective, which does not tell an accuracy from a loss."""

NO_SCORE = {"", "nan", "none", "null", "na", "n/a", "inf", "-inf", "+inf", "infinity", "-infinity"}
"""What stands in the place of the score of a diverged run."""
LEAST = 1e-30
"""The smallest learning rate or weight decay that makes any difference to anything, by far."""
FINISHED = {"", "complete", "completed", "finished", "success", "done"}
"""States of a run whose score is final."""


class SweepError(ValueError):
    """A sweep that cannot be read; the message is one line."""


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
    metric = _metric_given(metric, columns)
    notes: list[str] = []
    found, metric = _find_columns(table, metric, columns, notes)
    table = _finished(table, notes)
    rows = [_row(table, i, found, metric) for i in range(len(table.rows))]
    if not rows:
        raise SweepError(f"{table.name}: expected one row a run, got a header and no finished run below it")
    if metric == "accuracy":
        rows = _in_percent(table.name, rows, notes)
    rows = _told_apart(table.name, rows, "seed" in found, notes)
    cells = tuple(dict.fromkeys(row.cell for row in rows))
    return Sweep(tuple(_landscape(cell, rows, metric) for cell in cells), metric, tuple(notes))


def parse_columns(arguments: Sequence[str]) -> dict[str, str]:
    """Field → column from arguments such as `lr=config.lr,wd=params_wd`."""
    columns: dict[str, str] = {}
    for pair in (pair for argument in arguments for pair in argument.split(",")):
        field, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or field not in FIELDS or not column:
            raise SweepError(f"--columns: expected FIELD=COLUMN with a field of {', '.join(FIELDS)}; got {pair!r}")
        if field in columns:
            raise SweepError(f"--columns: expected each field once, got {field}={columns[field]} and {pair}")
        columns[field] = column
    return columns


def _metric_given(metric: str | None, columns: Mapping[str, str]) -> str | None:
    """The metric that the caller asks for, by `metric` or by naming its column; None where it is left open."""
    if metric is not None and metric not in METRICS:
        raise SweepError(f"--metric: expected accuracy or loss, got {metric!r}")
    named = [m for m in METRICS if m in columns]
    if metric is None and len(named) == 2:
        raise SweepError("--columns: expected accuracy or loss, got both; name one, or say --metric")
    if metric is not None and named and metric not in named:
        raise SweepError(f"--columns: expected {metric}=… as --metric {metric} says, got {named[0]}=…")
    return metric or (named[0] if named else None)


def _find_columns(
    table: Table, metric: str | None, columns: Mapping[str, str], notes: list[str]
) -> tuple[dict[str, str], str]:
    """Field → column, for every field that the table has, and the metric."""
    found = {}
    for field in FIELDS:
        if field in METRICS and metric not in (None, field):
            continue
        column = columns[field] if field in columns else _guess(table, field)
        if field in columns and column not in table.header:
            raise SweepError(f"{table.name}: --columns {field}={column}: no such column; there are {table.columns}")
        if column is not None:
            found[field] = column
    chosen = next((m for m in METRICS if m in found), None)
    if chosen is None and UNTOLD_METRIC in table.header:
        if metric is None:
            raise SweepError(
                f"{table.name}: column {UNTOLD_METRIC} may be an accuracy or a loss; say --metric accuracy or "
                "--metric loss"
            )
        found[metric] = UNTOLD_METRIC
        chosen = metric
    missing = [field for field in ("lr", "wd") if field not in found]
    if chosen is None:
        missing.append(metric or "accuracy or loss")
    if chosen is None or missing:
        raise SweepError(
            f"{table.name}: expected columns lr, wd and accuracy or loss; found none for {', '.join(missing)} among "
            f"{table.columns}; name them with --columns, e.g. --columns {missing[0].split()[0]}=NAME"
        )
    if chosen == "accuracy" and "loss" in found:
        notes.append(f"judging accuracy ({found['accuracy']}); --metric loss judges {found['loss']}")
        del found["loss"]
    renamed = [f"{field}={column}" for field, column in found.items() if field != column and field not in columns]
    if renamed:
        notes.append(f"taking {', '.join(renamed)}")
    return found, chosen


def _guess(table: Table, field: str) -> str | None:
    """The column that holds `field`; raises SweepError where two with different contents could."""
    candidates = [column for column in table.header if _plain_name(column) in ALIASES[field]]
    if len({tuple(table.values(column)) for column in candidates}) > 1:
        examples = f"--columns {field}={candidates[0]}"
        raise SweepError(
            f"{table.name}: {field} may be any of the columns {', '.join(candidates)}; say which, e.g. {examples}"
        )
    return candidates[0] if candidates else None


def _plain_name(column: str) -> str:
    """`config/optimizer.lr`, `params_lr`, `Learning Rate` → `lr`, `lr`, `learning_rate`; `train/…` stays whole."""
    name = column.strip().lower().replace(" ", "_").replace("-", "_").replace("λ", "lambda").replace("η", "eta")
    parts = name.replace("/", ".").split(".")
    last = parts[-1]
    if "train" in parts or "training" in parts:
        return name  # the accuracy or loss on the training images is not what is asked for
    for prefix in PREFIXES:
        last = last.removeprefix(prefix + "_")
    return last


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
            raise SweepError(f"{where}: expected a number in column {found[field]}, got {got}{hint}")
        return float(f"{value:.6g}")  # 0.1 * 3 and 0.3, or a float32, are one learning rate

    lr, wd = number("lr"), number("wd")
    for field, value in (("lr", lr), ("wd", wd)):
        if value != 0 and not LEAST < abs(value) < 1 / LEAST:
            raise SweepError(
                f"{where}: expected a number of a size that can be trained with, {LEAST:g} to {1 / LEAST:g}, in column "
                f"{found[field]}, got {value:g}"
            )
    if lr <= 0:
        raise SweepError(f"{where}: expected a learning rate above 0 in column {found['lr']}, got {lr:g}")
    if wd < 0:
        raise SweepError(f"{where}: expected a weight decay of at least 0 in column {found['wd']}, got {wd:g}")
    if "seed" in found and not text("seed"):
        raise SweepError(f"{where}: expected a seed in column {found['seed']}, got nothing")
    return _Row(
        table.lines[i], (text("arch") or UNNAMED, text("dataset") or UNNAMED), lr, wd, text("seed"),
        _score(where, found[metric], text(metric), table.decimal_comma),
    )  # fmt: skip


def _score(where: str, column: str, text: str, decimal_comma: bool) -> float | None:
    """The score as it stands in the file; None where the run diverged."""
    if text.lower() in NO_SCORE:
        return None
    value = _number(text.removesuffix("%"), decimal_comma)
    if value is None:
        raise SweepError(
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
            raise SweepError(
                f"{name}, row {row.line}: expected an accuracy from 0 to 100 (percent) or 0 to 1, got {row.score:g}; "
                "if the column is a loss, say --metric loss"
            )
    largest = max((row.score for row in rows if row.score is not None), default=None)
    if largest is None or largest > 1:
        return rows
    notes.append(f"the largest accuracy is {largest:g}: taken as fractions and converted to percent")
    return [_scored(row, None if row.score is None else 100 * row.score) for row in rows]


def _told_apart(name: str, rows: list[_Row], seeds_given: bool, notes: list[str]) -> list[_Row]:
    """`rows`, each (cell, lr, wd, seed) once; without a seed column, repeats are numbered in the file's order."""
    first: dict[tuple[object, ...], list[_Row]] = {}
    kept = []
    repeated = 0
    for row in rows:
        same = first.setdefault((row.cell, row.lr, row.wd, row.seed), [])
        twin = next((other for other in same if other.score == row.score), None)
        if same and seeds_given:
            if twin is None:
                raise SweepError(
                    f"{name}, row {row.line}: expected each run once, got lr={row.lr:g} wd={row.wd:g} seed={row.seed} "
                    f"in row {same[0].line} already with another score; drop one, or name the column that tells them "
                    "apart, e.g. --columns arch=NAME"
                )
            notes.append(f"row {row.line} repeats row {twin.line}: left out")
            continue
        if twin is not None and row.score is not None:
            raise SweepError(
                f"{name}, row {row.line}: expected each run once, got lr={row.lr:g} wd={row.wd:g} and the same score "
                f"in row {twin.line}; drop one, or name the column that tells them apart, e.g. --columns seed=NAME"
            )
        if not seeds_given:
            repeated += bool(same)
            row = _Row(row.line, row.cell, row.lr, row.wd, str(len(same)), row.score)
        same.append(row)
        kept.append(row)
    if repeated:
        notes.append(f"no column of seeds: {repeated} repeated (lr, wd) taken as further seeds, in the file's order")
    return kept


def _scored(row: _Row, score: float | None) -> _Row:
    return _Row(row.line, row.cell, row.lr, row.wd, row.seed, score)


def _landscape(cell: tuple[str, str], rows: list[_Row], metric: str) -> Landscape:
    rows = [row for row in rows if row.cell == cell]
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
