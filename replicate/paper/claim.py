"""The classes of the registry: a claim with the paper's figure, the runs it needs and the margin it is judged by."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from replicate.paper.cells import Cell


@dataclass(frozen=True, order=True)
class Part:
    """A set of runs: one architecture on one data set (the cell), trained in one way, on one grid of weight decays."""

    cell: Cell
    variant: str
    """How it is trained: `main` (the standard), or one thing altered: `sgd`, `batch-256` … `batch-2048`,
    `schedule-step`, `schedule-linear`, `long` (more epochs)."""
    grid: str
    """The weight decays: `paper` (the paper's), `unit` (0.1 lr; for SGD 0.005 lr), `ratio` (kappa times `unit`),
    `bracket` (around the best one)."""


@dataclass(frozen=True)
class Figure:
    """A number that the paper reports: value, interval (None if not given), unit, place in the paper."""

    value: float
    low: float | None
    high: float | None
    unit: str
    source: str


@dataclass(frozen=True)
class Margin:
    """The values for which the claim holds, ends included; an infinite end makes the margin one-sided."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"expected a margin with low < high, got ({self.low}, {self.high})")


@dataclass(frozen=True)
class Claim:
    """One statement of the paper, and the decision rule, which was fixed before any training."""

    id: str
    family: str
    """The id up to the first `/`, with `_` for `-`; the test file is claims/test_<family>.py."""
    statement: str
    """The claim in this project's words."""
    source: str
    """Place in the paper, e.g. `Table 1, row 3` or `section 4.3`."""
    quantity: str
    """Name of the quantity that decides; `replicate.judging.quantities` maps it to an estimator."""
    unit: str
    margin: Margin
    rule: str
    """The decision rule in one sentence."""
    parts: tuple[Part, ...]
    """The runs that the claim needs; empty if the claim follows from the protocol alone."""
    figure: Figure | None = None
    arguments: tuple[tuple[str, Any], ...] = ()
    """Further arguments of the estimator, e.g. (("kappa", 0.1),)."""
    strict: Margin | None = None
    """A narrower margin; its outcome is reported beside the verdict but never decides."""
    direction: str = ""
    """`higher` or `lower` if the paper claims a direction, empty if it claims a value."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The distinct cells that the claim is about, in order of appearance."""
        return tuple(dict.fromkeys(part.cell for part in self.parts))


def registry_hash(claims: tuple[Claim, ...]) -> str:
    """16 hexadecimal digits of the SHA-256 of the whole registry, which change with any claim or rule."""

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
