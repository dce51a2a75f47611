"""Turns a table of runs (learning rate, weight decay, accuracy or loss), in any format, into landscapes.

Finds the columns, reduces histories to one row per run, leaves out runs whose state says failed or killed, converts
texts to numbers in one unit, and takes repeats as seeds or rejects them. Notes report what had to be assumed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from replicate.landscape.landscape import Landscape
from replicate.sweeps import history, noise, records, rows, settings, shapes, states, units
from replicate.sweeps.columns import Metric, find_columns, one_optimizer
from replicate.sweeps.rows import Run
from replicate.sweeps.settings import Parted
from replicate.sweeps.table import Table, counted
from replicate.text import UsageError

MOST_CELLS, MOST_LRS, MOST_WDS = 1000, 200, 1000
"""Largest numbers of cells in a file, learning rates in a cell, and weight decays at a learning rate: judging more
would take minutes."""
MOST_POINTS = 1_000_000
"""Largest product of the numbers of (lr, wd) pairs and of seeds in a cell."""
LEAST_WDS = 3
"""Smallest number of weight decays at a learning rate for which an optimum is estimated."""
MOST_NAMED = 6


@dataclass(frozen=True)
class Sweep:
    """The landscapes of a file, and notes on what the reader decided."""

    landscapes: tuple[Landscape, ...]
    metric: str
    """accuracy, loss, or score (another measure; higher is better)."""
    notes: tuple[str, ...]
    """Decisions of the reader, one line each, for standard error."""
    column: str = ""
    """The file's column of scores."""


def read_sweep(
    table: Table,
    metric: str | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    parted: Parted | None = None,
    take: str = history.LAST,
    noise_sd: str | float | None = None,
) -> Sweep:
    """The landscapes of `table`, one for each architecture, data set and combination of the columns `parted.by`.

    Args:
        table: The table of runs.
        metric: `accuracy`, `loss`, or a column, with `:max` or `:min` if its name does not say which is better; None
            takes what the table has, preferably accuracy.
        columns: Field → column, for fields whose column is not to be found by name.
        parted: Which runs to keep, and which columns separate them.
        take: Whether the `last` or the `best` row of a history counts.
        noise_sd: The standard deviation of a score between seeds, in the score's unit, if known.

    Raises:
        UsageError: The table cannot be read as a sweep, or is ambiguous; the message says what to do.
    """
    columns = dict(columns or {})
    known = noise.parse(noise_sd)
    notes = list(table.notes)
    table = shapes.one_row_a_run(records.widened(replace(table, notes=())), list(columns))
    notes += table.notes
    parted = settings.resolved(table, parted or Parted())
    table = settings.kept(table, parted.where, notes)
    found, measured = find_columns(table, metric, columns, notes)
    runs = history.one_row(table, found, measured, parted.by, take, notes)
    table = runs.table
    if not runs.is_history:  # without histories, a column of steps is an ordinary setting
        found.pop("step", None)
    fates = states.fates(table, found, measured.column)
    notes += states.notes(fates, found.get("state"))
    finished = table.keep([fate.kind in (states.FINISHED, states.DIVERGED) for fate in fates])
    one_optimizer(finished, [*found.values(), *parted.by, *parted.ignore])
    read = rows.read(table, found, measured, fates, parted.by)
    if not read.runs:
        raise UsageError(f"{table.name}: expected one row per run, got a header and no finished run below it")
    notes += read.notes
    scored, factor = units.in_unit(table.name, read.runs, measured, notes)
    told_apart = _told_apart(table, scored, found, measured, parted, notes)
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in told_apart:
        cells.setdefault(run.cell, []).append(run)
    _check_size(table.name, cells, found)
    sd = noise.of(table, found, measured, told_apart, factor, known)
    notes += sd.notes
    notes += accounted(cells, read.rates)
    kept = settings.columns_of_settings(table, [*found.values(), measured.column, *parted.by])
    landscapes = tuple(
        _landscape(cell, of_cell, measured, sd.sd, settings.constants(table, kept, [run.row for run in of_cell]))
        for cell, of_cell in cells.items()
    )
    return Sweep(landscapes, measured.kind, tuple(notes), measured.column)


def _told_apart(
    table: Table, runs: Sequence[Run], found: Mapping[str, str], metric: Metric, parted: Parted, notes: list[str]
) -> list[Run]:
    """`runs` without duplicates of (cell, lr, wd, seed); without a column of seeds, repeats are numbered as seeds."""
    seeds_given = "seed" in found
    keys = [(run.cell, run.lr, run.wd) for run in runs]
    own = table.keep(_flags(len(table.rows), [run.row for run in runs]))
    taken = [*found.values(), metric.column, metric.spread, *parted.by, *parted.ignore]
    candidates = settings.columns_of_settings(own, taken)
    # Only finished runs are compared: the epoch or step at which a run diverged is not a setting.
    whole = [i for i, run in enumerate(runs) if run.score is not None]
    of_whole = table.keep(_flags(len(table.rows), [runs[i].row for i in whole]))
    if varying := settings.varying(of_whole, candidates, [keys[i] for i in whole], [runs[i].seed for i in whole]):
        raise settings.refuse(table.name, varying, seeds_given)
    _confounded(own, found, candidates, notes)
    first: dict[tuple[object, ...], list[Run]] = {}
    kept, repeated, twins = [], 0, list[tuple[int, int]]()
    for run in runs:
        same = first.setdefault((run.cell, run.lr, run.wd, run.seed), [])
        twin = next((one for one in same if table.rows[one.row] == table.rows[run.row]), None)
        if same and seeds_given:
            twin = twin or next((one for one in same if one.score == run.score), None)
            if twin is None:
                raise UsageError(
                    f"{table.name}, row {run.line}: expected each run once, got lr={run.lr:g} wd={run.wd:g} "
                    f"seed={run.seed} already in row {same[0].line} with another score; drop one, or name the column "
                    "that tells them apart, e.g. --columns arch=NAME or --by NAME"
                )
            twins.append((run.line, twin.line))
            continue
        if twin is not None and run.score is not None:
            raise UsageError(
                f"{table.name}, row {run.line}: expected each run once, got lr={run.lr:g} wd={run.wd:g} and the same "
                f"score in row {twin.line}; drop one, or name the column that tells them apart, "
                "e.g. --columns seed=NAME"
            )
        if not seeds_given:
            repeated += bool(same)
            run = replace(run, seed=str(len(same)))
        same.append(run)
        kept.append(run)
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


def _flags(n: int, chosen: Sequence[int]) -> list[bool]:
    flags = [False] * n
    for i in chosen:
        flags[i] = True
    return flags


def _confounded(table: Table, found: Mapping[str, str], candidates: Sequence[str], notes: list[str]) -> None:
    """Adds a note on settings that vary only together with lr or wd, so that their effects cannot be separated."""
    axes = [table.values(found[field]) for field in ("lr", "wd")]
    varied = [c for c in candidates if len(set(table.values(c))) > 1 and len(table.rows) > 2]
    varied = [c for c in varied if not any(settings.one_to_one(table.values(c), axis) for axis in axes)]
    if varied:
        shown = ", ".join(column[:40] for column in varied[:MOST_NAMED])
        way = f"--by {varied[0][:40]} separates them"
        notes.append(f"runs also differ in {shown}, though never at the same lr and wd: judged together; {way}")


def _check_size(name: str, cells: Mapping[tuple[str, str], Sequence[Run]], found: Mapping[str, str]) -> None:
    """Raises UsageError if there are more cells, learning rates, weight decays or seeds than can be judged."""
    sizes = [("arch and dataset", len(cells), MOST_CELLS)]
    for of_cell in cells.values():
        pairs = {(run.lr, run.wd) for run in of_cell}
        seeds = len({run.seed for run in of_cell})
        sizes.append((found["lr"], len({lr for lr, _ in pairs}), MOST_LRS))
        sizes.append((found["wd"], max(Counter(lr for lr, _ in pairs).values()), MOST_WDS))
        sizes.append((found.get("seed", "seed"), seeds, max(1, MOST_POINTS // len(pairs))))
    for column, got, most in sizes:
        if got > most:
            raise UsageError(
                f"{name}: expected at most {most} values of {column} in a grid of runs, got {got}; name another column "
                "with --columns if this is the wrong one; a random search of this size cannot be judged: use a grid"
            )


def accounted(cells: Mapping[tuple[str, str], Sequence[Run]], rates: Mapping[float, int]) -> list[str]:
    """Notes on learning rates whose rows were all left out, or that have too few weight decays to find an optimum."""
    out = []
    held = {run.lr for runs in cells.values() for run in runs}
    if lost := [lr for lr in sorted(rates) if lr not in held]:
        shown = ", ".join(f"lr {lr:g} ({counted(rates[lr], 'row')})" for lr in lost[:MOST_NAMED])
        more = f" and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
        out.append(f"no run is left at {shown}{more}")
    for cell, runs in cells.items():
        levels: dict[float, set[float]] = {}
        for run in runs:
            levels.setdefault(run.lr, set()).add(run.wd)
        thin = {lr: len(wds) for lr, wds in sorted(levels.items()) if len(wds) < LEAST_WDS}
        if not thin or len(thin) == len(levels):
            continue
        shown = ", ".join(f"lr {lr:g} has {counted(n, 'weight decay')}" for lr, n in list(thin.items())[:MOST_NAMED])
        more = f" and {len(thin) - MOST_NAMED} other learning rates" if len(thin) > MOST_NAMED else ""
        of = f"{cell[0]}: " if len(cells) > 1 else ""
        out.append(f"{of}{shown}{more}: too few for an optimum of its own")
    return out


def _landscape(
    cell: tuple[str, str], runs: Sequence[Run], metric: Metric, sd: float | None, constants: tuple[tuple[str, str], ...]
) -> Landscape:
    frame = pd.DataFrame(
        {
            "lr": [run.lr for run in runs],
            "wd": [run.wd for run in runs],
            "seed": _seeds([run.seed for run in runs]),
            "score": [math.nan if run.score is None else metric.sign * run.score for run in runs],
            "diverged": [run.score is None for run in runs],
        }
    )
    steps = settings.training_steps(constants)
    return Landscape(cell[0], cell[1], frame, metric.kind, noise_sd=sd, settings=constants, steps=steps)


def _seeds(texts: list[str]) -> list[int] | list[str]:
    """The seeds as integers if all of them are integers, else as texts."""
    return [int(text) for text in texts] if all(map(rows.is_whole, texts)) else texts
