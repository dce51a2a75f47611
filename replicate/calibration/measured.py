"""What a calibration measured, as a JSON file: written by one command, read by the tables and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from replicate.calibration.experiments import FamilyRate
from replicate.calibration.rates import Rate
from replicate.estimate.result import finite
from replicate.paper.registry import REGISTRY_HASH
from replicate.store import atomic, strict
from replicate.text import UsageError

FORMAT = 1

Row = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """Both parts of a calibration; a part that was not measured has no rows."""

    cells: tuple[Row, ...] = ()
    """One row a study and quantity: `cell_rows`."""
    experiments: tuple[Row, ...] = ()
    """One row an experiment, number of seeds and quantity: `experiment_rows`."""
    registry: str = field(default=REGISTRY_HASH)
    """Hash of the registry whose rules were tried."""

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "format": FORMAT,
            "registry": self.registry,
            "worst_wrong": worst(self),
            "cells": list(self.cells),
            "experiments": list(self.experiments),
        }


def error(rate: Rate) -> float:
    """Share of wrong decisive verdicts: every decisive one where the truth has no value."""
    return rate.decisive if math.isnan(rate.wrong) else rate.wrong


def worst(measured: Measured) -> float:
    """The largest share of wrong decisive verdicts."""
    return max((row["wrong"] for row in (*measured.cells, *measured.experiments)), default=0.0)


def cell_rows(found: Sequence[Rate]) -> tuple[Row, ...]:
    """One JSON object a rate; NaN and infinity become null. Shares, not percent; widths of a ratio in ln."""
    return tuple(
        {
            "group": r.study.group, "study": r.study.label, "slope": r.study.truth.slope, "factor": r.study.factor,
            "seeds": r.study.seeds, "quantity": r.quantity, "truth": finite(r.truth), "landscapes": r.n,
            "replicated": r.replicated, "contradicted": r.contradicted, "inconclusive": r.inconclusive,
            "wrong": error(r), "coverage": finite(r.coverage), "median_width": finite(r.width),
        }
        for r in found
    )  # fmt: skip


def experiment_rows(found: Sequence[FamilyRate]) -> tuple[Row, ...]:
    """One JSON object a rate; NaN becomes null."""
    return tuple(
        {name: finite(value) if isinstance(value, float) else value for name, value in asdict(r).items()} for r in found
    )


def write(path: Path, measured: Measured) -> None:
    """Whole or not at all."""
    atomic.write(path, json.dumps(measured.to_json(), indent=1, allow_nan=False) + "\n")


_OPEN = ("truth", "coverage", "median_width", "all_covered")
"""Numbers that may be null."""


def _row(row: Any, kinds: Mapping[str, type]) -> Row:
    """`row`, if it has the fields of `kinds`."""
    if not isinstance(row, dict) or kinds.keys() - row.keys():
        raise ValueError("a row that lacks fields")
    for name, kind in kinds.items():
        value = row[name]
        if value is None and name in _OPEN:
            continue
        numeric = kind is not str and isinstance(value, int if kind is int else int | float)
        if isinstance(value, bool) or not (isinstance(value, str) if kind is str else numeric and abs(value) < 1e300):
            raise ValueError(f"{value!r:.40} as {name}")
    return row


_CELL: dict[str, type] = {
    **dict.fromkeys(("group", "study", "quantity"), str),
    **dict.fromkeys(("seeds", "landscapes"), int),
    **dict.fromkeys(("slope", "factor", "truth", "replicated", "contradicted", "inconclusive", "wrong"), float),
    **dict.fromkeys(("coverage", "median_width"), float),
}
_EXPERIMENT: dict[str, type] = {
    **dict.fromkeys(("experiment", "quantity"), str),
    **dict.fromkeys(("seeds", "claims", "outcomes"), int),
    **dict.fromkeys(("replicated", "contradicted", "inconclusive", "wrong", "any_wrong"), float),
    **dict.fromkeys(("coverage", "all_covered"), float),
}
_KINDS = {"cells": _CELL, "experiments": _EXPERIMENT}


def read(path: Path) -> Measured:
    """Inverse of `write`; raises `UsageError`."""
    try:
        data = strict.parse(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}")
        if not isinstance(data["registry"], str):
            raise ValueError("no hash of the registry")
        cells, experiments = ([_row(row, _KINDS[part]) for row in data[part]] for part in _KINDS)
        return Measured(tuple(cells), tuple(experiments), data["registry"])
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise UsageError(
            f"{path}: expected a calibration (format {FORMAT}) that `replicate calibrate --out` wrote, got "
            f"{type(problem).__name__}: {problem}; measure it again"
        ) from problem
