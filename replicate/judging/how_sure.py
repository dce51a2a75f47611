"""How robust a verdict is: its outcome without one seed or one learning rate, at another confidence level and so on.

A verdict's runs or its level are changed in one respect, and it is judged again by the same rule. Only the new outcome
is reported; it never changes the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from replicate.judging import claim_verdicts
from replicate.judging.processes import in_processes
from replicate.judging.ratios import LEVEL
from replicate.judging.select import Landscapes
from replicate.judging.verdict import CONTRADICTED, REPLICATED, Altered, Evidence, HowSure, Outcome, Trial, Verdict
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim

LEVELS = (0.90, 0.99)
HALVES = ("the even ones", "the odd ones")
"""Which half of each learning rate's weight decays is left out; the smallest one above 0 counts as number 0."""
ON_GRID = {
    "drop_pp", "hurts_pp", "zone_pp", "growth_exponent", "asymmetry_pp", "gap_pp", "mean_gap_pp", "max_gap_pp",
    "gap_minus_seed_sd_pp",
}  # fmt: skip
"""Quantities that compare weight decays named by the claim; they need all of these, so every second is not left out."""


@dataclass(frozen=True)
class Alteration:
    """One change to a verdict's runs, or to its confidence level, under which it is judged again."""

    kind: Altered
    which: float | int | str = ""
    """The seed, learning rate or half of the weight decays that is left out, or the new confidence level."""

    @property
    def level(self) -> float:
        return float(self.which) if self.kind is Altered.LEVEL else LEVEL

    def of(self, landscape: Landscape) -> Landscape:
        """`landscape` after this change; it may have no runs left."""
        frame = landscape.frame
        if self.kind is Altered.SEED:
            frame = frame[frame["seed"] != self.which]
        elif self.kind is Altered.LR:
            frame = frame[frame["lr"] != self.which]
        elif self.kind is Altered.WDS:
            frame = frame[_kept(frame, HALVES.index(str(self.which)))]
        elif self.kind is Altered.BEST_EPOCH:
            frame = frame.assign(score=frame["best"].where(~frame["diverged"]))
        return replace(landscape, frame=frame.reset_index(drop=True))


def _kept(frame: pd.DataFrame, half: int) -> pd.Series[bool]:
    """Mask of the rows kept: each learning rate loses every second weight decay above 0, from index `half` on."""
    place = frame[frame["wd"] > 0].groupby("lr")["wd"].rank(method="dense").astype(int) - 1
    return ~(place.reindex(frame.index, fill_value=-1) % 2 == half) | (frame["wd"] == 0)


def alterations(claim: Claim, landscapes: Landscapes) -> tuple[Alteration, ...]:
    """The alterations that apply to `claim` and its landscapes; none for a claim that is not estimated from runs."""
    frames = [landscape.frame for landscape in landscapes.values()]
    if not frames:
        return ()
    seeds, lrs = (sorted(set().union(*(frame[name].unique().tolist() for frame in frames))) for name in ("seed", "lr"))
    found = [Alteration(Altered.SEED, seed) for seed in seeds if len(seeds) > 1]
    found += [Alteration(Altered.LR, lr) for lr in lrs if len(lrs) > 1]
    if claim.quantity not in ON_GRID:
        found += [Alteration(Altered.WDS, half) for half in HALVES]
    if all("best" in frame.columns and bool(np.isfinite(frame["best"]).all()) for frame in frames):
        found.append(Alteration(Altered.BEST_EPOCH))
    return (*found, *(Alteration(Altered.LEVEL, level) for level in LEVELS))


@dataclass(frozen=True)
class Judged:
    """A verdict with its claim and the landscapes (scores of runs) that it rests on."""

    claim: Claim
    landscapes: Landscapes
    verdict: Verdict


@dataclass(frozen=True)
class _Task:
    """All claims to judge under one alteration; together, because claims about the same cell share its fit."""

    alteration: Alteration
    judged: tuple[tuple[Claim, Landscapes, Evidence], ...]


def of_verdicts(judged: Sequence[Judged], processes: int) -> list[HowSure | None]:
    """How robust each verdict is, in order; None for a verdict that is not decisive, or if nothing can be altered."""
    tasks: dict[Alteration, list[int]] = {}
    for i, one in enumerate(judged):
        if one.verdict.outcome in (REPLICATED, CONTRADICTED):
            for alteration in alterations(one.claim, one.landscapes):
                tasks.setdefault(alteration, []).append(i)
    work = [
        _Task(alteration, tuple((judged[i].claim, judged[i].landscapes, judged[i].verdict.evidence) for i in wanted))
        for alteration, wanted in tasks.items()
    ]
    trials: list[list[Trial]] = [[] for _ in judged]
    found = in_processes(_outcomes, work, max(1, min(processes, len(work))))
    for (alteration, wanted), outcomes in zip(tasks.items(), found, strict=True):
        for i, outcome in zip(wanted, outcomes, strict=True):
            if outcome is not None:
                trials[i].append(Trial(alteration.kind, _named(alteration), outcome))
    return [HowSure(tuple(sorted(of_one, key=_in_order))) if of_one else None for of_one in trials]


def _in_order(trial: Trial) -> int:
    """Sort key: the kind of alteration, in the order of `Altered`; trials of one kind stay in order (stable sort)."""
    return list(Altered).index(trial.altered)


def _named(alteration: Alteration) -> str:
    which = alteration.which
    return f"{which:g}" if isinstance(which, float) else str(which)


def _outcomes(task: _Task) -> list[Outcome | None]:
    return [outcome(claim, landscapes, evidence, task.alteration) for claim, landscapes, evidence in task.judged]


def outcome(claim: Claim, landscapes: Landscapes, evidence: Evidence, alteration: Alteration) -> Outcome | None:
    """The verdict's outcome under `alteration`; None if the alteration leaves one of `landscapes` without runs."""
    altered = {place: alteration.of(landscape) for place, landscape in landscapes.items()}
    if any(landscape.frame.empty for landscape in altered.values()):
        return None
    return claim_verdicts.decide(claim, altered, evidence, alteration.level).outcome
