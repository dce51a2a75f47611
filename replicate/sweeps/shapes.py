"""Converts to one row per run: pivot tables (learning rate × weight decay), and tables with settings in runs' names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from replicate.sweeps import names
from replicate.sweeps.numbers import is_dash, is_diverged, is_nothing, number
from replicate.sweeps.table import NOT_RUN, Table, counted
from replicate.sweeps.vocabulary import UNKNOWN

LEAST_CELLS = 2
NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
BEFORE = r"(?:^|(?<=[^A-Za-z]))"
KEYS = {
    "lr": r"(?:base_|peak_|max_|init_)?lr|learning[_-]?rate|lrate|eta|η",
    "wd": r"wd|weight[_-]?decay|wdecay|lambda|λ|l2",
    "seed": r"seed|sd|s|rs",
}
IN_NAME = {
    field: re.compile(rf"{BEFORE}(?:{keys})\s*[=:_~-]?\s*({NUMBER})(?![\d.])", re.IGNORECASE)
    for field, keys in KEYS.items()
}
"""Field → pattern of its setting within a run's name: `lr0.001`, `lr=1e-3`, `lr_1e-3`."""
SEEDED = re.compile(r"(?P<stem>.*?)[ _/.-]*(?:seed|run|rep|repeat|trial|fold)[ _=#-]*(?P<seed>\d{1,6})", re.IGNORECASE)
"""Pattern of the name of a column with one seed's scores, such as `acc_seed1`."""
HEADING = re.compile(r"(?P<name>[^\W\d][\w .-]*?)\s*[=:_]?\s*(?P<value>[-+]?\.?\d.*)")
"""Pattern of the heading of a pivot table's column: `wd=0.1`, `λ 0.1`, `wd 1e-4`."""


def one_row_a_run(table: Table, given: Sequence[str] = ()) -> Table:
    """`table` with one row per run. `given`: fields whose columns the caller names, so that they need not be found."""
    table = _seeds_down(table)
    has = {field for field in ("lr", "wd") if any(names.tier(column, field) is not None for column in table.header)}
    if {"lr", "wd"} <= has | set(given):
        return table
    return _pivoted(table, has) or _from_names(table, has | set(given)) or table


def _seeds_down(table: Table) -> Table:
    """`table` with one row per seed, if seeds have columns of their own, such as `acc_seed1` and `acc_seed2`."""
    found = {i: match for i, column in enumerate(table.header) if (match := SEEDED.fullmatch(column.strip()))}
    stems = {match["stem"].strip(" _-/.").lower() for match in found.values()}
    if len(found) < LEAST_CELLS or len(stems) != 1 or any(names.tier(c, "seed") == 0 for c in table.header):
        return table
    if not all(
        number(row[i]) is not None or scores_in([row[i]]) or is_dash(row[i]) for row in table.rows for i in found
    ):
        return table
    rest = [
        i
        for i, column in enumerate(table.header)
        if i not in found
        and not ((one := names.measure(column)) is not None and (one.spread or names.averages(column)))
    ]
    stem = next(iter(found.values()))["stem"].strip(" _-/.")
    rows, lines = [], []
    for row, line in zip(table.rows, table.lines, strict=True):
        for i, match in found.items():
            rows.append((*(row[k] for k in rest), match["seed"], NOT_RUN if is_nothing(row[i]) else row[i]))
            lines.append(line)
    header = (*(table.header[i] for i in rest), "seed", stem or "value")
    made = replace(table, header=header, rows=tuple(rows), lines=tuple(lines))
    return made.saying(f"{len(found)} columns taken as seeds: {', '.join(table.header[i] for i in list(found)[:3])}, …")


def _pivoted(table: Table, has: set[str]) -> Table | None:
    """One row for each cell of a pivot table of learning rate by weight decay; None if `table` is not one."""
    headings = [_heading(column) for column in table.header]
    numbers = [i for i, found in enumerate(headings) if found is not None]
    if len(numbers) < LEAST_CELLS or len(numbers) != len({headings[i] for i in numbers}):
        return None
    rest = [i for i in range(len(table.header)) if i not in numbers]
    across = {found[0] for i in numbers if (found := headings[i]) is not None}
    corners = [i for i in rest if _fields(table.header[i])] or rest[:1]
    if len(across) != 1 or len(corners) != 1 or not table.rows:
        return None
    corner = table.header[corners[0]]
    named = _fields(corner)
    told = across.pop()
    if told in ("lr", "wd"):
        columns = told
    elif len(named) == 2:
        columns = named[1]
    elif named:
        columns = "wd" if named[0] == "lr" else "lr"
    else:
        return None
    down = "lr" if columns == "wd" else "wd"
    if len(named) == 1 and named[0] != down:
        return None
    metric = _metric(corner) or "value"
    others = [i for i in rest if i != corners[0]]
    header = (*(table.header[i] for i in others), down, columns, metric)
    rows, lines, empty = [], [], 0
    for row, line in zip(table.rows, table.lines, strict=True):
        for i in numbers:
            found = headings[i]
            assert found is not None
            empty += is_nothing(row[i])
            score = NOT_RUN if is_nothing(row[i]) else row[i]
            rows.append((*(row[k] for k in others), row[corners[0]], found[1], score))
            lines.append(line)
    note = f"a table of {down} (rows) by {columns} (columns)" + (f", {counted(empty, 'empty cell')}" if empty else "")
    made = replace(table, header=header, rows=tuple(rows), lines=tuple(lines))
    return made.saying(note)


def _heading(column: str) -> tuple[str, str] | None:
    """(field or empty, number) of a column headed by a value, such as `0.1` or `wd=0.1`; None for other columns."""
    if number(column) is not None:
        return "", column
    if (found := HEADING.fullmatch(column)) and number(found["value"]) is not None:
        field = next((f for f in ("lr", "wd") if names.tier(found["name"], f) in (0, 1)), None)
        return (field, found["value"]) if field else None
    return None


def _fields(corner: str) -> list[str]:
    """The fields in a corner cell such as `lr \\ wd`, `η/λ` or `learning rate (rows), weight decay`, in order."""
    pieces = re.split(r"[\\/|,↓→>()]+|\s+(?:vs\.?|by|x|×)\s+|\s{2,}", corner)
    pieces = [piece for piece in pieces if piece.strip()]
    found = [next((f for f in ("lr", "wd") if names.tier(piece, f) is not None), "") for piece in pieces]
    return [field for field in dict.fromkeys(found) if field]


def _metric(corner: str) -> str:
    """The measure that a corner cell names beside the two axes, as in `acc (lr \\ wd)`; empty if none."""
    for piece in re.split(r"[\\/|,↓→>():]+", corner):
        if piece.strip() and (found := names.measure(piece)) is not None and found.kind != UNKNOWN:
            return piece.strip()
    return ""


def _from_names(table: Table, has: set[str]) -> Table | None:
    """`table` with columns of the settings in its runs' names; None if no column of names contains them."""
    missing = [field for field in ("lr", "wd") if field not in has]
    for column in table.header:
        values = table.values(column)
        filled = [value for value in values if value]
        if len(set(filled)) < 2 or any(number(value) is not None or is_dash(value) for value in filled[:20]):
            continue
        found = {field: [IN_NAME[field].findall(value[-400:]) for value in values] for field in ("lr", "wd", "seed")}
        readable = [all(len(found[field][i]) >= 1 for field in missing) for i in range(len(values))]
        if sum(readable) * 2 < len(values) or not any(readable):
            continue
        new = {field: [one[-1] if one else "" for one in found[field]] for field in missing}
        seeds = any(names.tier(c, "seed") is not None for c in table.header)
        if not seeds and all(len(one) == 1 for one, good in zip(found["seed"], readable, strict=True) if good):
            new["seed"] = [one[0] if one else "" for one in found["seed"]]
        lacks = f"expected {' and '.join(missing)} in the name of the run"
        of_rows = zip(values, table.lines, readable, strict=True)
        bad = [(line, f"{lacks}, got {value[:60]!r}") for value, line, good in of_rows if not good]
        made = table.with_columns(new).keep(readable)
        note = f"{', '.join(new)} read from the names in column {column}, e.g. {filled[0][:60]}"
        return replace(made, unreadable=(*table.unreadable, *bad)).saying(note)
    return None


def scores_in(values: Sequence[str]) -> int:
    """How many of `values` are scores, or stand for a missing score."""
    return sum(number(value) is not None or is_diverged(value) or is_nothing(value) for value in values)
