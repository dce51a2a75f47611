"""Reduces the history of each run, with one row per step, to one row: the last or the best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from replicate.sweeps.columns import Metric
from replicate.sweeps.numbers import is_diverged, is_nothing, number
from replicate.sweeps.table import Table, counted
from replicate.text import UsageError

LAST, BEST = "last", "best"
TAKES = (LAST, BEST)
SHORTER = 0.5
"""If more than this share of the runs reach the last step, runs that end earlier are left out as incomplete."""


@dataclass(frozen=True)
class Runs:
    """A table with one row per run."""

    table: Table
    is_history: bool
    """Whether the table was reduced from histories."""


def one_row(
    table: Table, found: Mapping[str, str], metric: Metric, by: Sequence[str], take: str, notes: list[str]
) -> Runs:
    """`table` with one row per run: from the steps of a run, the last or the best row is kept (`take`: `last`, `best`).

    `found`: field → column; `by`: further columns that tell runs apart; what was done is added to `notes`. Raises
    UsageError if `take` is neither word, or if rows of one step may belong to several runs.
    """
    if take not in TAKES:
        raise UsageError(f"--take: expected last or best, got {take!r}")
    if "step" not in found or len(table.rows) < 2:
        return Runs(table, False)
    step = found["step"]
    steps = [one.value if (one := number(text)) is not None else None for text in table.values(step)]
    groups = _groups(table, found, by)
    many = [rows for rows in groups.values() if len({steps[i] for i in rows}) > 1]
    if len(many) * 2 < len(groups) or not ({"run", "seed"} & found.keys() or _in_order(many, steps)):
        return Runs(table, False)
    scores = table.values(metric.column)
    wanted: list[int] = []
    ends: dict[int, float] = {}
    scored = {steps[i] for i in range(len(scores)) if not is_nothing(scores[i])}
    for rows in groups.values():
        _one_run(table, rows, steps, step, found)
        ordered = sorted((i for i in rows if steps[i] in scored), key=lambda i: steps[i] or 0.0)
        if not ordered:
            wanted.append(rows[-1])
            continue
        final = steps[ordered[-1]]
        chosen = _chosen(ordered, scores, metric, take, table.decimal_comma)
        wanted.append(chosen)
        ends[chosen] = final if final is not None else 0.0
    early = _early(ends, wanted, scores)
    last = max(ends.values(), default=0.0)
    note = f"{len(table.rows)} rows are the histories of {counted(len(groups), 'run')}: taking the {take} of each"
    if take == LAST:
        notes.append(f"{note} by {step} ({last:g}); --take best takes the best, which selects on the scores it judges")
    else:
        notes.append(f"{note}, which selects on the scores that are judged; --take last takes the last by {step}")
    keep = set(wanted)
    if early:
        notes.append(f"left out {counted(len(early), 'run')} that ended before {step} {last:g}, the end of other runs")
        keep -= set(early)
    return Runs(table.keep([i in keep for i in range(len(table.rows))]), True)


def _groups(table: Table, found: Mapping[str, str], by: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    """The rows of each run; runs are distinguished by name and settings."""
    fields = ("run", "arch", "dataset", "lr", "wd", "seed")
    columns = [table.values(column) for column in dict.fromkeys([*(found[f] for f in fields if f in found), *by])]
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, key in enumerate(zip(*columns, strict=True)):
        groups.setdefault(key, []).append(i)
    return groups


def _in_order(groups: Sequence[Sequence[int]], steps: Sequence[float | None]) -> bool:
    """Whether steps increase from row to row in each group, as they do if each group is one run."""
    return all((steps[a] or 0.0) < (steps[b] or 0.0) for rows in groups for a, b in pairwise(rows))


def _one_run(
    table: Table, rows: Sequence[int], steps: Sequence[float | None], step: str, found: Mapping[str, str]
) -> None:
    """Raises UsageError if rows of one step may belong to several runs."""
    twice = [value for value, n in Counter(steps[i] for i in rows).items() if n > 1 and value is not None]
    if twice and len({table.rows[i] for i in rows if steps[i] == twice[0]}) > 1:
        first = [table.lines[i] for i in rows if steps[i] == twice[0]]
        raise UsageError(
            f"{table.name}, row {first[1]}: expected one row per run and {step}, got {step} {twice[0]:g} again "
            f"(first in row {first[0]}); name the column that tells the runs apart, e.g. --columns "
            f"{'run' if 'seed' in found else 'seed'}=NAME"
        )


def _chosen(ordered: Sequence[int], scores: Sequence[str], metric: Metric, take: str, decimal_comma: bool) -> int:
    last = next((i for i in reversed(ordered) if not is_nothing(scores[i])), ordered[-1])
    if take == LAST or is_diverged(scores[last]):
        # No score at the last step: the run diverged, or its end is missing.
        return ordered[-1] if is_nothing(scores[ordered[-1]]) else last
    values = {
        i: one.value
        for i in ordered
        if (one := number(scores[i], decimal_comma)) is not None and one.value == one.value
    }
    return max(values, key=lambda i: metric.sign * values[i], default=last)


def _early(ends: Mapping[int, float], wanted: Sequence[int], scores: Sequence[str]) -> list[int]:
    """Runs that ended before the last step without having diverged; none unless most runs reached the last step."""
    if not ends:
        return []
    last = max(ends.values())
    shorter = [i for i in wanted if i in ends and ends[i] < last]
    if len(ends) - len(shorter) <= SHORTER * len(ends):
        return []
    return [i for i in shorter if not is_diverged(scores[i])]
