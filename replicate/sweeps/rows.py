"""Converts rows to runs and checks every number; unreadable rows are left out if that cannot change a result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replicate.sweeps.columns import UNNAMED, Metric
from replicate.sweeps.numbers import Number, is_dash, is_nothing, number
from replicate.sweeps.states import DIVERGED, FINISHED, Fate
from replicate.sweeps.table import Table, counted
from replicate.text import UsageError

LEAST = 1e-30
"""Learning rates and weight decays below this, or above its inverse, are errors."""
MOST_UNREADABLE = 0.25
"""If a larger share of rows is unreadable, the table is rejected."""

EXACT = 2.0**53
"""Integers below this are exact as floats."""


@dataclass(frozen=True)
class Run:
    """One row with valid numbers."""

    row: int
    line: int
    cell: tuple[str, str]
    lr: float
    wd: float
    seed: str
    score: float | None
    """None if the run diverged."""
    percent: bool = False
    """Whether the score has a % sign."""
    spread: float | None = None
    """The number after ± in the score."""


@dataclass(frozen=True)
class Unreadable:
    """A row that cannot be read as a run, and why."""

    line: int
    why: str
    cell: tuple[str, str] | None = None
    lr: float | None = None
    wd: float | None = None


@dataclass(frozen=True)
class Read:
    """The runs of a table, and the learning rates of all its rows, including those that could not be read as runs."""

    runs: tuple[Run, ...]
    rates: Mapping[float, int]
    """Learning rate → number of rows in the file, including those left out."""
    notes: tuple[str, ...]


class _Bad(Exception):
    """A value is not valid; the message says why."""


def read(table: Table, found: Mapping[str, str], metric: Metric, fates: Sequence[Fate], by: Sequence[str]) -> Read:
    """The finished and the diverged runs of `table`.

    `found`: field → column; `fates`: what became of each row's run; `by`: columns whose values make separate cells.
    Raises UsageError if too many rows are unreadable, or if an unreadable row could change the result.
    """
    fields = {field: table.values(found[field]) for field in ("lr", "wd", "seed", "arch", "dataset") if field in found}
    scores, parts = table.values(metric.column), [table.values(column) for column in by]
    blank = [""] * len(table.rows)
    undecayed = _means_none(fields["wd"], table.decimal_comma)
    runs, rates, notes = [], dict[float, int](), []
    bad = [Unreadable(line, why) for line, why in table.unreadable]
    zeros = 0
    for i, (line, fate) in enumerate(zip(table.lines, fates, strict=True)):
        cell = _cell(fields.get("arch", blank)[i], fields.get("dataset", blank)[i], by, [part[i] for part in parts])
        lr = wd = None
        try:
            lr = _setting(fields["lr"][i], found["lr"], "lr", table.decimal_comma)
            rates[lr] = rates.get(lr, 0) + 1
            text = fields["wd"][i]
            if undecayed and _is_none(text):
                text, zeros = "0", zeros + 1
            wd = _setting(text, found["wd"], "wd", table.decimal_comma)
            if fate.kind not in (FINISHED, DIVERGED):
                continue
            seed = _seed(fields["seed"][i]) if "seed" in fields else ""
            if "seed" in fields and not seed:
                raise _Bad(f"expected a seed in column {found['seed']}, got nothing")
            score = _score(scores[i], metric.column, table.decimal_comma) if fate.kind == FINISHED else None
            value = None if score is None else score.value
            percent, spread = (False, None) if score is None else (score.percent, score.spread)
            runs.append(Run(i, line, cell, lr, wd, seed, value, percent, spread))
        except _Bad as error:
            bad.append(Unreadable(line, str(error), cell, lr, wd))
    if zeros:
        notes.append(f"{counted(zeros, 'row')} without a value of {found['wd']}: taken as weight decay 0")
    notes += _skipped(table.name, runs, bad, metric)
    return Read(tuple(runs), rates, tuple(notes))


def _cell(arch: str, dataset: str, by: Sequence[str], values: Sequence[str]) -> tuple[str, str]:
    named = ", ".join(f"{column}={value or 'nothing'}" for column, value in zip(by, values, strict=True))
    return (", ".join(part for part in (arch, named) if part) or UNNAMED, dataset or UNNAMED)


def _is_none(text: str) -> bool:
    return is_nothing(text) or is_dash(text) or text.lower() in ("off", "false", "no")


def _means_none(texts: Sequence[str], decimal_comma: bool) -> bool:
    """Whether a missing weight decay means 0: other rows have one, and no row has an explicit 0."""
    values = [one.value for text in texts if (one := number(text, decimal_comma)) is not None]
    return bool(values) and all(value > 0 for value in values)


def _seed(text: str) -> str:
    """The same text for equal seeds (`3`, `3.0` and `03`); integers too large for an exact float are unchanged."""
    found = number(text)
    if found is None or not abs(found.value) < EXACT or found.value != int(found.value):
        return text
    return str(int(found.value))


def is_whole(seed: str) -> bool:
    """Whether a seed, in the form of `_seed`, is an integer that is exact as a float."""
    return seed.removeprefix("-").isascii() and seed.removeprefix("-").isdigit() and abs(int(seed)) < EXACT


def _setting(text: str, column: str, field: str, decimal_comma: bool) -> float:
    found = number(text, decimal_comma)
    if found is None or found.percent or not math.isfinite(found.value):
        got = repr(text[:40]) if text else "nothing"
        hint = "; write 0 for a run without weight decay" if field == "wd" and not text else ""
        raise _Bad(f"expected a number in column {column}, got {got}{hint}")
    value = float(f"{found.value:.6g}")  # makes 0.1 * 3, 0.3 and a float32 of it equal
    if value != 0 and not LEAST < abs(value) < 1 / LEAST:
        raise _Bad(f"expected a number between {LEAST:g} and {1 / LEAST:g}, or 0, in column {column}, got {value:g}")
    if field == "lr" and value <= 0:
        raise _Bad(f"expected a learning rate above 0 in column {column}, got {value:g}")
    if field == "wd" and value < 0:
        raise _Bad(f"expected a weight decay of at least 0 in column {column}, got {value:g}")
    return value


def _score(text: str, column: str, decimal_comma: bool) -> Number | None:
    """The score as written in the file; None if the run diverged."""
    found = number(text, decimal_comma)
    if found is None:
        raise _Bad(f"expected a number in column {column}, or nothing or nan for a diverged run; got {text[:40]!r}")
    return found if math.isfinite(found.value) else None


def _skipped(name: str, runs: Sequence[Run], bad: Sequence[Unreadable], metric: Metric) -> list[str]:
    """A note on unreadable rows, which are left out; UsageError if too many, or if one could be the best of its lr."""
    if not bad:
        return []
    bad = sorted(bad, key=lambda one: one.line)
    first = f"{name}, row {bad[0].line}: {bad[0].why}"
    total = len(runs) + len(bad)
    if not runs:
        raise UsageError(first)
    if len(bad) > MOST_UNREADABLE * total:
        raise UsageError(f"{first}; {len(bad)} of {total} rows cannot be read: correct or remove them")
    for one in bad:
        if one.lr is None or one.cell is None:
            continue
        same = [run for run in runs if run.lr == one.lr and run.cell == one.cell]
        where = f"{name}, row {one.line}: {one.why}"
        if not same:
            raise UsageError(f"{where}; no other run at lr={one.lr:g} can be read: correct or remove the row")
        if one.wd is not None and _could_be_best(one.wd, same, metric):
            raise UsageError(
                f"{where}; it is next to the best run at lr={one.lr:g} and could be better: correct or remove the row"
            )
    first = f"row {bad[0].line}: {bad[0].why}"
    return [f"left out {counted(len(bad), 'row')} that cannot be read: {first}" + (", …" if len(bad) > 1 else "")]


def _could_be_best(wd: float, same: Sequence[Run], metric: Metric) -> bool:
    """Whether `wd`, of an unreadable row, has no other run and is next to the best weight decay of the runs `same`."""
    means: dict[float, list[float]] = {}
    for run in same:
        means.setdefault(run.wd, []).append(-math.inf if run.score is None else metric.sign * run.score)
    if wd in means:
        return False
    best = max(means, key=lambda one: sum(means[one]) / len(means[one]))
    levels = sorted([*means, wd])
    return abs(levels.index(wd) - levels.index(best)) == 1
