"""The plan of a scale: the runs that the claims need, which of these are stored, and what training the others costs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from replicate.paper.claim import Claim, Part
from replicate.runs import rounds, scales
from replicate.runs.needed import parts_at, split
from replicate.runs.run import Point, Run
from replicate.runs.scales import Scale
from replicate.store.store import Store
from replicate.train.engine import devices
from replicate.train.plan import costs

GRIDS = ("paper", "unit", "ratio", "bracket")
"""Grids (of learning rate and weight decay) in the order in which the plan lists them."""
SAMPLES = 5
"""How many stored runs of an architecture are read to estimate how long a run takes."""


@dataclass(frozen=True)
class Rates:
    """How long runs of each architecture take."""

    seconds: Mapping[str, float]
    """Architecture → device-seconds of a run of the scale's main variant on its first data set."""
    source: str
    """How the times were found, in words for the user."""
    device: str
    """`core` or `GPU`."""

    def cost(self, runs: Iterable[Run], scale: Scale) -> float | None:
        """Device-seconds of `runs`; None if it is not known how long one of them takes."""
        total = 0.0
        for run in runs:
            if run.arch not in self.seconds:
                return None
            total += self.seconds[run.arch] * scales.relative_cost(scale, run)
        return total


@dataclass(frozen=True)
class _Needs:
    """Points (learning rate, weight decay, seed) to measure, and the runs for them; of adaptive grids, those so far."""

    points: int
    runs: tuple[Run, ...]
    inert: int
    """Number of points that use the run with weight decay 0, because their own decay is too small to have an effect."""
    missing: tuple[Run, ...]
    seconds_to_train: float | None
    """Device-seconds of the `missing` runs; None if it is not known how long one of them takes."""
    most: int
    """The most runs that may be needed in total if adaptive grids (brackets) add points; else the number of `runs`."""

    @property
    def to_train(self) -> int:
        return len(self.missing)

    @property
    def stored(self) -> int:
        return len(self.runs) - self.to_train


@dataclass(frozen=True)
class PartPlan(_Needs):
    """What one part (a grid on one architecture and data set) needs, and the claims that need this part."""

    part: Part
    claims: tuple[str, ...]


@dataclass(frozen=True)
class Plan(_Needs):
    """What all parts of a scale need together; a run that several parts need counts once."""

    scale: Scale
    seconds: float | None
    """Device-seconds for all runs."""
    most_seconds_to_train: float | None
    """Device-seconds of the missing runs if every adaptive grid (bracket) adds as many points as it may."""
    rates: Rates
    parts: tuple[PartPlan, ...]
    trained: tuple[str, ...]
    """Claims that the scale can answer; a claim on two data sets counts even if the scale has only one of them."""
    left_out: Mapping[str, str]
    """Claim → why the scale cannot answer it."""

    def to_json(self) -> dict[str, Any]:
        """The plan in JSON types; unknown hours are null."""
        return {
            "scale": self.scale.name,
            "summary": self.scale.summary,
            "probe": self.scale.probe,
            "why_untrainable": self.scale.why_untrainable or None,
            "points": {"needed": self.points, "inert_decay": self.inert},
            "runs": {
                "needed": len(self.runs),
                "needed_at_most": self.most,
                "stored": self.stored,
                "to_train": self.to_train,
            },
            "device_hours": {
                "needed": _hours(self.seconds),
                "to_train": _hours(self.seconds_to_train),
                "to_train_at_most": _hours(self.most_seconds_to_train),
                "device": self.rates.device,
                "rates": self.rates.source,
            },
            "parts": [
                {
                    "cell": p.part.cell.id,
                    "variant": p.part.variant,
                    "grid": p.part.grid,
                    "points": p.points,
                    "inert_decay": p.inert,
                    "runs": len(p.runs),
                    "runs_at_most": p.most,
                    "stored": p.stored,
                    "to_train": p.to_train,
                    "device_hours_to_train": _hours(p.seconds_to_train),
                    "claims": list(p.claims),
                }
                for p in self.parts
            ],
            "claims": {"trained": list(self.trained), "not_trained": dict(self.left_out)},
        }


def make_plan(
    claims: Iterable[Claim], scale: Scale, store: Store | None, measured: Mapping[str, float] | None = None
) -> Plan:
    """The plan of `scale` for `claims`, given the runs in `store`; None: no run is stored.

    `measured`: architecture → device-seconds of a run as just measured here, by default as kept in the store
    (`costs`); these times take precedence over the times of stored runs.
    """
    trained, left_out = split(claims, scale)
    needed_by: dict[Part, list[str]] = {}
    for claim in trained:
        for part in parts_at(claim, scale):
            needed_by.setdefault(part, []).append(claim.id)
    variants = list(dict.fromkeys(part.variant for part in needed_by))
    cells = list(dict.fromkeys(part.cell for part in needed_by))
    ordered = sorted(needed_by, key=lambda p: (variants.index(p.variant), cells.index(p.cell), GRIDS.index(p.grid)))
    known = store.result if store else rounds.nothing
    points = {part: rounds.points(scale, part, known) for part in ordered}
    possible = {part: rounds.possible(scale, part, known) for part in ordered}
    distinct = {_where(part, p): p for part, of_part in points.items() for p in of_part}
    runs = {p.run.key: p.run for p in distinct.values()}
    most = {p.run.key: p.run for of_part in possible.values() for p in of_part}
    there = store.keys() if store else set()
    stored = there & runs.keys()
    rates = measured_rates(scale, store, [runs[key] for key in sorted(stored)], runs.values())
    if measured or (measured := costs.kept(store.layout, scale.name) if store else {}):
        rates = Rates({**rates.seconds, **measured}, "measured on this device for a few seconds", rates.device)

    def needs(
        some: Collection[Point], all_of_them: Iterable[Point]
    ) -> tuple[int, tuple[Run, ...], int, tuple[Run, ...], float | None, int]:
        of_runs = {p.run.key: p.run for p in some}
        inert = sum(p.run.weight_decay != p.weight_decay for p in some)
        missing = tuple(run for key, run in of_runs.items() if key not in stored)
        most = len({p.run.key for p in all_of_them})
        return len(some), tuple(of_runs.values()), inert, missing, rates.cost(missing, scale), most

    return Plan(
        *needs(distinct.values(), [p for of_part in possible.values() for p in of_part]),
        scale=scale,
        seconds=rates.cost(runs.values(), scale),
        most_seconds_to_train=rates.cost((run for key, run in most.items() if key not in there), scale),
        rates=rates,
        parts=tuple(
            PartPlan(*needs(of_part, possible[part]), part=part, claims=tuple(needed_by[part]))
            for part, of_part in points.items()
        ),
        trained=tuple(claim.id for claim in trained),
        left_out=left_out,
    )


def measured_rates(scale: Scale, store: Store | None, stored: Iterable[Run], needed: Iterable[Run]) -> Rates:
    """Rates from the `stored` runs of `scale` and, for other architectures, from `scale.seconds_per_run`."""
    seen: dict[str, list[float]] = {}
    for run in stored:
        of_arch = seen.setdefault(run.arch, [])
        found = store.read(run.key) if store is not None and len(of_arch) < SAMPLES else None
        if found is not None and not found.result.diverged:  # a diverged run ends early
            of_arch.append(found.result.seconds / scales.relative_cost(scale, run))
    here = {arch: sum(taken) / len(taken) for arch, taken in seen.items() if taken}
    known = dict(scale.seconds_per_run or ())
    if not here and not known:
        source = "not known: no run of this scale has been measured"
    elif not {run.arch for run in needed} <= {**known, **here}.keys():
        source = "not known: no run of some architectures has been measured"
    elif known.keys() <= here.keys():
        source = "measured on the stored runs"
    elif here:
        source = "measured on the stored runs and, for the other architectures, when the scale was set up"
    else:
        source = "measured when the scale was set up, on another machine"
    return Rates({**known, **here}, source, "GPU" if devices.cuda_devices() else "core")


def _where(part: Part, point: Point) -> tuple[object, ...]:
    """A value that is equal for points, even of different parts, with equal cell, variant, rate, decay and seed."""
    return part.cell, part.variant, point.lr, point.weight_decay, point.seed


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 3600, 4)
