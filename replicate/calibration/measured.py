"""The results of a calibration as a JSON file, which the tables and the report read."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from replicate.calibration.experiments import FamilyRate
from replicate.calibration.rates import Rate
from replicate.calibration.trained_rates import TrainedRow
from replicate.estimate.estimate import finite
from replicate.paper.registry import REGISTRY_HASH
from replicate.store import atomic
from replicate.store.strict import Malformed, decode
from replicate.text import UsageError

FORMAT = 1

Count = Annotated[int, Meta(ge=0, lt=2**31)]


@dataclass(frozen=True)
class CellRow:
    """Rates for one study and quantity, as shares (0 to 1); widths of a ratio are in ln; None: not defined."""

    group: str
    study: str
    slope: float
    factor: float
    seeds: Count
    quantity: str
    truth: float | None
    landscapes: Count
    replicated: float
    contradicted: float
    inconclusive: float
    wrong: float
    coverage: float | None
    median_width: float | None


@dataclass(frozen=True)
class _File:
    format: int
    registry: str
    cells: tuple[CellRow, ...]
    experiments: tuple[FamilyRate, ...]
    trained: tuple[TrainedRow, ...] = ()


@dataclass(frozen=True)
class Measured:
    """The results of a calibration: on single cells, experiments and trained landscapes; empty if not measured."""

    cells: tuple[CellRow, ...] = ()
    experiments: tuple[FamilyRate, ...] = ()
    trained: tuple[TrainedRow, ...] = ()
    registry: str = field(default=REGISTRY_HASH)
    """Hash of the claims registry whose rules were calibrated."""

    def to_json(self) -> dict[str, Any]:
        """The calibration as JSON types."""
        return {
            "format": FORMAT,
            "registry": self.registry,
            "worst_wrong": worst(self),
            "cells": [asdict(row) for row in self.cells],
            "experiments": [asdict(row) for row in self.experiments],
            "trained": [asdict(row) for row in self.trained],
        }


def error(rate: Rate) -> float:
    """Share of wrong decisive verdicts; if no true value exists, every decisive verdict is wrong."""
    return rate.decisive if math.isnan(rate.wrong) else rate.wrong


def worst(measured: Measured) -> float:
    """The largest share of wrong decisive verdicts."""
    wrong = [row.wrong for row in measured.cells] + [row.wrong for row in measured.experiments]
    return max(wrong + [row.wrong for row in measured.trained], default=0.0)


def cell_rows(found: Sequence[Rate]) -> tuple[CellRow, ...]:
    """One row for each rate."""
    return tuple(
        CellRow(
            group=r.study.group,
            study=r.study.label,
            slope=r.study.truth.slope,
            factor=r.study.factor,
            seeds=r.study.seeds,
            quantity=r.quantity,
            truth=finite(r.truth),
            landscapes=r.n,
            replicated=r.replicated,
            contradicted=r.contradicted,
            inconclusive=r.inconclusive,
            wrong=error(r),
            coverage=finite(r.coverage),
            median_width=finite(r.width),
        )
        for r in found
    )


def write(path: Path, measured: Measured) -> None:
    """Writes `measured` to `path` atomically."""
    atomic.write(path, json.dumps(measured.to_json(), indent=1, allow_nan=False) + "\n")


def read(path: Path) -> Measured:
    """The calibration in the file `path`; raises `UsageError` if the file is not a calibration."""
    try:
        found = decode(path.read_bytes(), _File)
        if found.format != FORMAT:
            raise Malformed(f"format {found.format}")
    except (OSError, Malformed) as problem:
        raise UsageError(
            f"{path}: expected a calibration (format {FORMAT}) written by `replicate calibrate --out`, got "
            f"another file: {problem}; run that command again"
        ) from problem
    return Measured(found.cells, found.experiments, found.trained, found.registry)
