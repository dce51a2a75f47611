"""Columns of settings: which of them differ among repeats of (lr, wd), and the caller's selection of runs by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from replicate.sweeps import names
from replicate.sweeps.numbers import number
from replicate.sweeps.table import Table, listed
from replicate.sweeps.vocabulary import OUTCOMES, SETTINGS, TRAINED_ON
from replicate.text import UsageError

STEPS = ("steps", "max_steps", "num_steps", "n_steps", "total_steps", "train_steps", "num_train_steps", "max_iters")
MOST_KEPT = 40
LONGEST = 80


@dataclass(frozen=True)
class Parted:
    """The caller's choice: which runs to keep, which to judge separately, and which differences to ignore."""

    where: tuple[tuple[str, str], ...] = ()
    """(column, value) that runs must have; several values of a column are alternatives."""
    by: tuple[str, ...] = ()
    """Columns whose values make separate cells."""
    ignore: tuple[str, ...] = ()
    """Columns in which repeats of (lr, wd) may differ."""


def parse_where(arguments: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(column, value) pairs from arguments such as `epochs=8,arch=vit`; raises UsageError for other arguments."""
    pairs = []
    for pair in (pair for argument in arguments for pair in argument.split(",")):
        column, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not column:
            raise UsageError(f"--where: expected COLUMN=VALUE, e.g. epochs=8, got {pair!r}")
        pairs.append((column, value))
    return tuple(pairs)


def parse_names(arguments: Iterable[str]) -> tuple[str, ...]:
    """Names of columns from arguments such as `model_size,batch_size`."""
    return tuple(dict.fromkeys(n.strip() for argument in arguments for n in argument.split(",") if n.strip()))


def resolved(table: Table, asked: Parted) -> Parted:
    """`asked` with the table's own names of columns; raises UsageError for a column that is missing or ambiguous."""
    where = tuple((_column(table, column, "--where"), value) for column, value in asked.where)
    by = tuple(dict.fromkeys(_column(table, column, "--by") for column in asked.by))
    return Parted(where, by, tuple(_column(table, column, "--ignore") for column in asked.ignore))


def _column(table: Table, name: str, option: str) -> str:
    if name in table.header:
        return name
    same = [c for c in table.header if name.lower() in (c.lower(), names.plain(c))]
    if len(same) == 1:
        return same[0]
    what = f"several such columns ({listed(same, 4)})" if same else "no such column"
    raise UsageError(f"{table.name}: {option} {name}: {what}; the table has {table.columns}")


def kept(table: Table, where: Sequence[tuple[str, str]], notes: list[str]) -> Table:
    """The rows that have the values in `where`; several values of a column are alternatives. Adds a note. Raises
    UsageError if there are no such rows."""
    wanted: dict[str, list[str]] = {}
    for column, value in where:
        wanted.setdefault(column, []).append(value)
    before = len(table.rows)
    for column, values in wanted.items():
        found = table.values(column)
        keep = [any(_same(one, value) for value in values) for one in found]
        if not any(keep):
            there = sorted(set(found), key=_order)
            raise UsageError(
                f"{table.name}: --where {column}={values[0]}: no row with that value; the column has {listed(there, 8)}"
            )
        table = table.keep(keep)
    if wanted:
        notes.append(f"{len(table.rows)} of {before} rows have {', '.join(f'{c}={v}' for c, v in where)}")
    return table


def _same(one: str, other: str) -> bool:
    if one.strip().lower() == other.strip().lower():
        return True
    left, right = number(one), number(other)
    return left is not None and right is not None and left.value == right.value


def _order(text: str) -> tuple[int, float, str]:
    found = number(text)
    return (1, 0.0, text) if found is None or found.value != found.value else (0, found.value, text)


def columns_of_settings(table: Table, taken: Iterable[str]) -> list[str]:
    """The columns, except those in `taken`, with settings of a run, recognised by names or by recurring values."""
    used = set(taken)
    out = []
    for column in table.header:
        if column in used or names.measure(column) is not None:
            continue
        words = {word for part in names.parts(column) for word in part}
        plain = names.plain(column)
        if plain not in SETTINGS and (
            words & OUTCOMES or words & TRAINED_ON or plain.startswith("best_") or "loss" in words
        ):
            continue
        if plain in SETTINGS or _recurs(table.values(column)):
            out.append(column)
    return out


def _recurs(values: Sequence[str]) -> bool:
    """Whether few values recur, unlike those of a measurement or of a name that is different for each run."""
    distinct = len(set(values))
    return distinct == 1 or (distinct * 2 <= len(values) and distinct <= 50)


def varying(
    table: Table, settings: Sequence[str], keys: Sequence[tuple[object, ...]], seeds: Sequence[str]
) -> dict[str, list[str]]:
    """Column → its values, for settings that differ among rows of the same (cell, lr, wd), given as `keys`."""
    repeated = {key for key, n in Counter(keys).items() if n > 1}
    out: dict[str, list[str]] = {}
    for column in settings:
        values = table.values(column)
        first: dict[tuple[object, ...], str] = {}
        differs = False
        for key, value in zip(keys, values, strict=True):
            if key in repeated and first.setdefault(key, value) != value:
                differs = True
                break
        if differs and not (any(seeds) and one_to_one(values, seeds)):
            out[column] = sorted(set(values), key=_order)
    return out


def one_to_one(values: Sequence[str], seeds: Sequence[str]) -> bool:
    """Whether the values of a column and the seeds correspond one to one."""
    pairs = set(zip(values, seeds, strict=True))
    return len(pairs) == len({value for value, _ in pairs}) == len({seed for _, seed in pairs})


def refuse(name: str, found: Mapping[str, Sequence[str]], seeds_given: bool) -> UsageError:
    """The error for repeats of (lr, wd) that differ in the settings `found` (column → values), not only in the seed."""
    columns = list(found)
    shown = "; ".join(f"{c[:40]} ({listed([v or 'nothing' for v in found[c]], 5, 20)})" for c in columns[:6])
    more = f" and {len(columns) - 6} more" if len(columns) > 6 else ""
    first = columns[0]
    seed = (
        "" if seeds_given or names.plain(first) in SETTINGS else f", or --columns seed={first} if {first} is the seed"
    )
    return UsageError(
        f"{name}: expected runs of one (lr, wd) to differ only in the seed, got some that differ in {shown}{more}; "
        f"use --by {','.join(columns[:6])} to judge each value, --where {first}={found[first][-1]} to keep one value, "
        f"--ignore {first} if it makes no difference{seed}"
    )


def constants(table: Table, settings: Sequence[str], rows: Sequence[int]) -> tuple[tuple[str, str], ...]:
    """(column, value) of the settings that have a single value in `rows`; they describe the cell."""
    out = []
    for column in settings[:MOST_KEPT]:
        i = table.header.index(column)
        values = {table.rows[row][i] for row in rows}
        if len(values) == 1 and (value := values.pop()) and len(value) <= LONGEST:
            out.append((column, value))
    return tuple(out)


def training_steps(settings: Iterable[tuple[str, str]]) -> float | None:
    """Number of training steps of a cell's runs, from its settings; None if no setting has it."""
    for column, value in settings:
        if names.plain(column) in STEPS and (found := number(value)) is not None and found.value > 0:
            return found.value
    return None
