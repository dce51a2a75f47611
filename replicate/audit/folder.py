"""Reads a paper from a folder of CSV files, so that any grid search can be audited.

- `grid.csv`: one row per grid point with `lr`, `wd` (other columns and repeated rows are ignored, so a sweep's own
  table of runs will do).
- `table-1.csv`: one row per architecture and data set with `arch`, `dataset`, `rho` (best weight decay over learning
  rate), and optionally the interval's ends `rho_low` and `rho_high`, `p` (of the claimed ratio), `slope` (of ln best
  weight decay on ln learning rate), `slope_low`, `slope_high`, `r2`.
- `table-2.csv` (optional): one row per accuracy drop with `kappa` (multiple of the claimed weight decay), `dataset`,
  `drop` (percentage points), and optionally the interval's ends `low` and `high`, `p` (`0.002` or `<0.001`).
- `figures.csv` (optional): figures stated in the text with `name`, `value`, and optionally `low`, `high`, `source`.
  The names are those of `replicate.paper.tables.STATED`; `count/seeds`, `rho` and `one-dim/seed-sd` allow most audits.

Write every number as the paper prints it: the digits say how it was rounded, so 0.10 is more precise than 0.1. For a
range without a middle value, leave `value` empty and give `low` and `high`. An audit without its data is left out, and
the report names what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from replicate.audit.reported import DropRow, Measured, Printed, RatioRow, Reported, StatedFigure
from replicate.sweeps.source import read_csv
from replicate.sweeps.table import Table
from replicate.text import UsageError

T = TypeVar("T")

GRID, RATIOS, DROPS, FIGURES = "grid.csv", "table-1.csv", "table-2.csv", "figures.csv"


def read(folder: str) -> Reported:
    """The paper in `folder`; raises `UsageError` if a required file is missing or a row is unusable."""
    path = Path(folder)
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing there"
        raise UsageError(
            f"{folder}: expected a folder with {GRID} and {RATIOS}, got {found}; give the folder that holds both files"
        )
    for name in (GRID, RATIOS):
        if not (path / name).exists():
            raise UsageError(
                f"{folder}: expected {GRID} and {RATIOS} in it, found no {name}; `replicate audit --help` says more"
            )
    ratios = tuple(_rows(path / RATIOS, ("arch", "dataset", "rho"), _ratio_row))
    drops = tuple(_rows(path / DROPS, ("kappa", "dataset", "drop"), _drop_row)) if (path / DROPS).exists() else ()
    figures = tuple(_rows(path / FIGURES, ("name", "value"), _figure)) if (path / FIGURES).exists() else ()
    grid = _grid(path / GRID)
    _once(path / RATIOS, [row.cell for row in ratios])
    _once(path / DROPS, [f"kappa {row.kappa:g} on {row.dataset}" for row in drops])
    _once(path / FIGURES, [figure.name for figure in figures])
    return Reported(path.resolve().name, grid, ratios, drops, figures)


def _once(path: Path, names: list[str]) -> None:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UsageError(f"{path}: expected each row once, got {repeated} twice; remove one")


class _Row:
    """One row of a table, its fields by column; empty fields are absent."""

    def __init__(self, table: Table, index: int) -> None:
        self._fields = dict(zip(table.header, table.rows[index], strict=True))
        self.where = f"{table.name}, row {table.lines[index]}"
        self.source = f"{Path(table.name).name}, row {table.lines[index]}"

    def text(self, column: str) -> str:
        if not self._fields.get(column):
            raise UsageError(f"{self.where}: expected a value in column {column}, got none")
        return self._fields[column]

    def optional(self, column: str) -> str:
        return self._fields.get(column, "")

    def printed(self, column: str) -> Printed | None:
        text = self._fields.get(column, "")
        if not text:
            return None
        try:
            return Printed.parse(text)
        except ValueError as error:
            raise UsageError(f"{self.where}, column {column}: {error}") from None

    def needed(self, column: str) -> Printed:
        self.text(column)
        found = self.printed(column)
        assert found is not None
        return found

    def measured(self, value: str, low: str, high: str) -> Measured:
        ends = self.printed(low), self.printed(high)
        if (ends[0] is None) != (ends[1] is None):
            raise UsageError(f"{self.where}: expected both {low} and {high} or neither, got one")
        return Measured(self.needed(value), *ends)


def _rows(path: Path, needed: Iterable[str], make: Callable[[_Row], T]) -> list[T]:
    table = read_csv(str(path))
    for column in needed:
        if column not in table.header:
            raise UsageError(f"{path}: expected a column {column}, found {table.columns}")
    if not table.rows:
        raise UsageError(f"{path}: expected at least one row, got none")
    return [make(_Row(table, i)) for i in range(len(table.rows))]


def _ratio_row(row: _Row) -> RatioRow:
    rho = row.measured("rho", "rho_low", "rho_high")
    if rho.value.value <= 0:
        raise UsageError(f"{row.where}, column rho: expected a ratio above 0, got {rho.value.text}")
    slope = row.measured("slope", "slope_low", "slope_high") if row.printed("slope") else None
    arch, dataset, p, r2 = row.text("arch"), row.text("dataset"), row.printed("p"), row.printed("r2")
    return RatioRow(arch, dataset, rho, p=p, slope=slope, r2=r2, source=row.source)


def _drop_row(row: _Row) -> DropRow:
    kappa = row.needed("kappa").value
    if kappa <= 0:
        raise UsageError(f"{row.where}, column kappa: expected a number above 0, got {row.text('kappa')}")
    dataset, drop, (p, below) = row.text("dataset"), row.measured("drop", "low", "high"), _p(row)
    return DropRow(kappa, dataset, drop, p=p, p_below=below, source=row.source)


def _p(row: _Row) -> tuple[Printed | None, bool]:
    """The printed p, and whether the paper says that p is below it."""
    text = row.optional("p")
    if not text.startswith("<"):
        return row.printed("p"), False
    try:
        return Printed.parse(text[1:]), True
    except ValueError as error:
        raise UsageError(f"{row.where}, column p: {error}") from None


def _figure(row: _Row) -> StatedFigure:
    source = row.optional("source") or row.source
    if row.printed("value") is None:
        low, high = row.needed("low"), row.needed("high")
        middle = Printed(f"{(low.value + high.value) / 2:g}")
        return StatedFigure(row.text("name"), Measured(middle, low, high), source)
    return StatedFigure(row.text("name"), row.measured("value", "low", "high"), source)


def _grid(path: Path) -> tuple[tuple[float, tuple[float, ...]], ...]:
    points: dict[float, set[float]] = {}
    for lr, wd in _rows(path, ("lr", "wd"), lambda row: (row.needed("lr").value, row.needed("wd").value)):
        if lr <= 0 or wd < 0:
            raise UsageError(
                f"{path}: expected learning rates above 0 and weight decays of at least 0, got lr {lr:g}, wd {wd:g}"
            )
        points.setdefault(lr, set()).add(wd)
    return tuple((lr, tuple(sorted(points[lr]))) for lr in sorted(points))
