"""The registry: every trained claim of the paper with its figure, the runs it needs and the rule that judges it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from replicate.paper.cells import Cell


@dataclass(frozen=True, order=True)
class Part:
    """A named share of a cell's runs."""

    cell: Cell
    variant: str
    """`main`, `sgd`, `batch-256` … `batch-2048`, `schedule-step`, `schedule-linear`, `long`."""
    grid: str
    """`paper` (6 x 8), `unit` (weight decay 0.1 x lr; 0.005 x lr for `sgd`), `ratio` (kappa x unit) or `bracket`."""


@dataclass(frozen=True)
class Figure:
    """A number the paper reports: value, interval (None where it gives none), unit, and where it stands."""

    value: float
    low: float | None
    high: float | None
    unit: str
    source: str


@dataclass(frozen=True)
class Margin:
    """The values that count as the claim holding, ends included; an infinite end makes it one-sided."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"expected a margin with low < high, got ({self.low}, {self.high})")


@dataclass(frozen=True)
class Claim:
    """One statement of the paper and the decision rule fixed before any data."""

    id: str
    family: str
    """First part of the id with `_` for `-`: the test file is claims/test_<family>.py."""
    statement: str
    """What is claimed, in this project's words."""
    source: str
    """Where in the paper, e.g. `Table 1, row 3` or `section 4.3`."""
    quantity: str
    """Name of the estimate that decides; `replicate.judging.quantities` maps it to an estimator."""
    unit: str
    margin: Margin
    rule: str
    """The decision rule in one sentence."""
    parts: tuple[Part, ...]
    """The runs it needs; empty where the claim is counted from the plan."""
    figure: Figure | None = None
    arguments: tuple[tuple[str, Any], ...] = ()
    """Further arguments of the quantity, e.g. (("kappa", 0.1),)."""
    strict: Margin | None = None
    """A narrower band, reported beside the verdict and never deciding it."""
    direction: str = ""
    """`higher` or `lower` where the paper claims a direction; empty where it claims a value."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The paper's cells that the claim speaks of, each once, in order of appearance."""
        return tuple(dict.fromkeys(part.cell for part in self.parts))


def registry_hash(claims: tuple[Claim, ...]) -> str:
    """16 hexadecimal digits of the SHA-256 of the whole registry: any change to a claim or rule changes it."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and math.isinf(value):
            return str(value)
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return value

    text = json.dumps([plain(asdict(c)) for c in claims], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
