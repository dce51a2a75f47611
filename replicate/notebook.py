"""For notebooks: judges the paper's claims on a table of your runs and shows the verdicts with a picture.

from replicate import judge
judge(frame)  # columns lr, wd, accuracy or loss; optionally seed, arch, dataset
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from replicate.judging.answer import MOST_NEXT, Asked
from replicate.judging.sweep_verdicts import JudgedCell, judge_sweep
from replicate.landscape.landscape import Landscape
from replicate.sweeps.settings import Parted
from replicate.sweeps.source import read_table
from replicate.sweeps.sweep import read_sweep
from replicate.sweeps.table import Table, text_of
from replicate.text import UsageError


@dataclass(frozen=True)
class Judged:
    """The result of `judge`: verdicts on a sweep, which a notebook shows as tables and pictures."""

    landscapes: tuple[Landscape, ...]
    cells: tuple[JudgedCell, ...]
    """What was found for each landscape, in the same order."""
    notes: tuple[str, ...] = ()
    """What the reader assumed, e.g. that accuracies were fractions."""

    @property
    def found(self) -> dict[str, Any]:
        """The same dict as the JSON that `replicate judge --json` prints."""
        return {"cells": [cell.to_json() for cell in self.cells]}

    @property
    def verdicts(self) -> pd.DataFrame:
        """One row per cell and claim: arch, dataset, claim, verdict, value, low, high, reason.

        `low` and `high` are the ends of the interval; an end or a value that the data do not determine is NaN.
        """
        ends = ("value", "low", "high")
        rows = [
            (cell.arch, cell.dataset, name, verdict.outcome.value, *(found[end] for end in ends), verdict.reason)
            for cell in self.cells
            for name, verdict in cell.verdicts.items()
            for found in [cell.measured[name].to_json()]
        ]
        return _numeric(pd.DataFrame(rows, columns=["arch", "dataset", "claim", "verdict", *ends, "reason"]), ends)

    @property
    def by_lr(self) -> pd.DataFrame:
        """One row per cell and learning rate, as in the table that `replicate judge` prints; missing numbers are NaN.

        `low` and `high` enclose the best weight decay; a side that the runs do not bound is 0 or infinite. Columns
        `…_loses`: what another weight decay loses, in percentage points of accuracy or the unit of the loss.
        """
        losses = ("least", "tenth", "tenfold", "by_rule")
        rows = []
        for cell in self.cells:
            for row in cell.answer.by_lr:
                found = {
                    name: getattr(row, name) for name in ("lr", "best_wd", "best_score", "low", "high", "runs", "seeds")
                }
                lost = {
                    f"{name}_loses": None if (loss := getattr(row, name)) is None else loss.value for name in losses
                }
                rows.append({"arch": cell.arch, "dataset": cell.dataset, "where": row.where.value, **found, **lost})
        table = pd.DataFrame(rows)
        return _numeric(table, [str(name) for name in table if name not in ("arch", "dataset", "where")])

    @property
    def next_runs(self) -> pd.DataFrame:
        """Runs suggested by `judge(…, next_runs=N)`: arch, dataset, lr, wd, seed. Index: rank in the cell;
        the run of rank 1 would narrow the answer most."""
        found = [
            (rank, cell.arch, cell.dataset, run.lr, run.wd, run.seed)
            for cell in self.cells
            for rank, run in (cell.answer.plan.ranked if cell.answer.plan else ())
        ]
        return pd.DataFrame(found, columns=["order", "arch", "dataset", "lr", "wd", "seed"]).set_index("order")

    def to_html(self, path: str | Path, source: str = "a table in memory") -> Path:
        """Write an HTML page of the verdicts and pictures, like `replicate judge --html`.

        Args:
            path: The file to write or overwrite, in an existing folder.
            source: Words in which the page says where the runs come from.

        Returns:
            `path`.
        """
        from replicate.report import sweep_page
        from replicate.store.atomic import write_text

        write_text(Path(path), sweep_page.render(self.landscapes, self.cells, source, self.notes))
        return Path(path)

    def _repr_html_(self) -> str:
        from replicate.report import sweep_page

        return sweep_page.fragment(self.landscapes, self.cells, as_keywords)

    def __repr__(self) -> str:
        from replicate.report import answer

        return "\n\n".join(
            f"{answer.title(cell)}\n{answer.headline(cell)}\n{as_keywords(answer.paragraph(cell))}\n"
            + ", ".join(f"{name} {outcome}" for name, outcome in cell.outcomes.items())
            for cell in self.cells
        )


def judge(
    runs: pd.DataFrame | str | Path | Landscape | Sequence[Landscape],
    metric: str | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    where: Mapping[str, object] | None = None,
    by: Sequence[str] = (),
    ignore: Sequence[str] = (),
    take: str = "last",
    noise: float | None = None,
    at: float | Sequence[float] = (),
    next_runs: int = 0,
) -> Judged:
    """Judge the paper's claims on a sweep of your own.

    Args:
        runs: A table with one row per run, the path of a file or folder that `replicate judge` reads, or landscapes.
            Columns are `lr`, `wd`, `accuracy` or `loss`, optionally `seed`, `arch`, `dataset`, under these or other
            common names; an empty or NaN score means that the run diverged.
        metric: The score: `accuracy`, `loss`, or a column (with `:max` or `:min`, which is better, if its name does not
            tell); by default recognised by the names of the columns.
        columns: Field → name of its column in `runs`, if not a common name, e.g. `{"lr": "step_size"}`.
        where: Column → value; only runs with these values are judged.
        by: Columns that divide the runs into cells, which are judged separately.
        ignore: Columns that make no difference: runs that differ only in these are repeats of one run.
        take: Which score counts if a run has several, one per epoch: its `last` or its `best`.
        noise: Standard deviation of the score between seeds, in the score's unit, if known.
        at: Learning rates for which to recommend a weight decay.
        next_runs: How many further runs to suggest: the runs that would narrow the answer most.

    Raises:
        replicate.text.UsageError: The runs cannot be read as a sweep; the message says what to do.
        TypeError: `runs` is not a table, a path or landscapes.

    >>> import pandas as pd
    >>> loss = [(lr, wd, 1 + (wd - 0.01) ** 2) for lr in (0.1, 0.2, 0.4) for wd in (0.0, 0.01, 0.1)]
    >>> judge(pd.DataFrame(loss, columns=["lr", "wd", "loss"])).verdicts["verdict"].tolist()[:2]
    ['inconclusive', 'inconclusive']
    """
    asked = _asked((float(at),) if isinstance(at, int | float) else tuple(at), next_runs)
    if isinstance(runs, pd.DataFrame | str | Path):
        parted = Parted(tuple((c, text_of(v)) for c, v in (where or {}).items()), tuple(by), tuple(ignore))
        try:
            table = _table(runs) if isinstance(runs, pd.DataFrame) else read_table(str(runs))
            sweep = read_sweep(table, metric, columns, parted=parted, take=take, noise_sd=noise)
        except UsageError as error:
            raise UsageError(as_keywords(str(error))) from None
        notes = tuple(as_keywords(note) for note in sweep.notes)
        return Judged(sweep.landscapes, judge_sweep(sweep.landscapes, asked), notes)
    given = (runs,) if isinstance(runs, Landscape) else tuple(runs) if isinstance(runs, Sequence) else (runs,)
    landscapes = tuple(one for one in given if isinstance(one, Landscape))
    if len(landscapes) != len(given) or not given:
        raise TypeError(
            f"judge: expected a pandas table, the path of a file or folder, or landscapes, got {type(runs).__name__}"
        )
    return Judged(landscapes, judge_sweep(landscapes, asked))


_ADVICE = re.compile(
    r"--(?:(?P<mapping>columns|where) (?P<pairs>[^\s;)=]+=[^\s;)]+)|(?P<list>by|ignore) (?P<names>[^\s;)]+)"
    r"|(?P<text>metric|take) (?P<value>[^\s;)]+)|noise (?P<noise>SD|[\d.e-]+)"
    r"|(?P<bare>columns|where|by|ignore|metric|take|noise)\b|(?P<json>json)\b)"
)
"""Finds an option of `replicate judge`, with its value, in a message."""


def as_keywords(text: str) -> str:
    """`text` with each command-line option written as an argument of `judge`: `--by epochs` as `by=["epochs"]`."""
    return _ADVICE.sub(_keyword, text)


def _keyword(found: re.Match[str]) -> str:
    given = next((value for name in ("pairs", "names", "value", "noise") if (value := found[name])), "")
    kept = given.rstrip(",:.")
    rest = given[len(kept) :]
    if found["mapping"]:
        pairs = dict(pair.partition("=")[::2] for pair in kept.split(","))
        return f"{found['mapping']}={json.dumps(pairs, ensure_ascii=False)}{rest}"
    if found["list"]:
        return f"{found['list']}={json.dumps(kept.split(','), ensure_ascii=False)}{rest}"
    if found["text"]:
        return f"{found['text']}={json.dumps(kept, ensure_ascii=False)}{rest}"
    if found["noise"]:
        return f"noise={kept}{rest}"
    return found["bare"] or ".found"


def _asked(at: Sequence[float], runs: int) -> Asked:
    if wrong := [lr for lr in at if not 0 < lr < math.inf]:
        raise UsageError(f"at: expected learning rates above 0, e.g. [3e-4, 1e-3], got {wrong[0]!r}")
    if not 0 <= runs <= MOST_NEXT:
        raise UsageError(f"next_runs: expected 0 to {MOST_NEXT} runs, got {runs}; train these first, then judge again")
    return Asked(tuple(at), runs)


def _numeric(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """`table` with `columns` as floats and None as NaN; pandas would leave a column of None as objects."""
    return table.astype({name: float for name in columns if table[name].dtype == object})


def _table(frame: pd.DataFrame) -> Table:
    """`frame` as a table of texts, as if it had been read from a CSV file."""
    texts = frame.reset_index(drop=True).astype(object).where(frame.reset_index(drop=True).notna(), "")
    rows = tuple(tuple(text_of(value) for value in row) for row in texts.itertuples(index=False))
    return Table("the table", tuple(str(name) for name in frame.columns), rows, tuple(range(2, len(rows) + 2)))
