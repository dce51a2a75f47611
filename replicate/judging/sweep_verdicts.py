"""Verdicts on any sweep, cell by cell, by the same rules as for the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from replicate.estimate import fits, gap, power_law, surface
from replicate.estimate.estimate import Estimate, unknown
from replicate.estimate.flags import Flag
from replicate.estimate.power_law import Rivals
from replicate.estimate.published import Published
from replicate.judging import answer, quantities, ratios, secondary
from replicate.judging.answer import NOTHING_ELSE, Answer, Asked
from replicate.judging.ratios import LEVEL
from replicate.judging.rule import decide
from replicate.judging.verdict import Evidence, Outcome, Verdict, not_run
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim
from replicate.paper.protocol import RHO
from replicate.paper.registry import CLAIMS
from replicate.store import strict

QUANTITY_OF = {"rho": "rho", "slope": "slope", "intercept": "intercept_share", "r2": "r2", "one-dim/gap": "gap_pp"}
"""Name of a verdict on a sweep → its quantity; the paper's claim about this quantity gives margin and decision rule."""
GAP = "one-dim/gap"
NEEDS_GRID = "the claim is judged on a grid, and this is a random search"
MOST_NAMED = 4
"""Up to this many learning rates are named in a message; further ones are only counted."""


@dataclass(frozen=True)
class JudgedCell:
    """One cell of a sweep, judged like the paper's claims; fields that are mappings have the keys of `QUANTITY_OF`."""

    arch: str
    dataset: str
    measured: Mapping[str, Estimate]
    verdicts: Mapping[str, Verdict]
    rivals: Rivals | None
    published: Published | None
    """Results of the paper's own method; not compared with the paper's numbers, which are of other models and data."""
    answer: Answer
    metric: str
    """`accuracy` (percent), `loss`, or `score` (any other score; higher is better)."""
    settings: tuple[tuple[str, str], ...] = ()
    """Columns with the same value for all runs of the cell: (column, value)."""

    @property
    def exponent(self) -> int | None:
        """b of the law best wd ∝ lr^b that the data support, among -1, 0 and 1; None if they support none of these."""
        return self.rivals.exponent if self.rivals is not None else None

    @property
    def outcomes(self) -> dict[str, Outcome]:
        return {name: verdict.outcome for name, verdict in self.verdicts.items()}

    @property
    def flags(self) -> list[Flag]:
        return sorted({flag for found in self.measured.values() for flag in found.flags})

    @property
    def disagreements(self) -> dict[str, str]:
        """Name → what the paper's own method would say, for verdicts on which it differs."""
        if self.published is None:
            return {}
        found = {name: (verdict, verdict.estimate) for name, verdict in self.verdicts.items()}
        words = {n: secondary.disagreement(v, e, self.published) for n, (v, e) in found.items() if e is not None}
        return {name: word for name, word in words.items() if word}

    def settle(self, name: str) -> str:
        """Which further data would make the verdict `name` decisive, or narrow its estimate."""
        return self.verdicts[name].settle or self.measured[name].settle

    def to_json(self) -> dict[str, Any]:
        """The JSON that `replicate judge --json` prints."""
        estimates = {name: {**found.to_json(), "settle": self.settle(name)} for name, found in self.measured.items()}
        beside: dict[str, Any] = {}
        if self.published is not None:
            direction = secondary.direction_of_slope(self.measured["slope"])
            beside = {"published": self.published, "direction": direction, "disagreements": self.disagreements}
        out = {
            "arch": self.arch,
            "dataset": self.dataset,
            "metric": self.metric,
            "settings": dict(self.settings),
            "answer": self.answer,
            "exponent": self.exponent,
            "rivals": self.rivals,
            **estimates,
            "beside": beside,
            "verdicts": self.outcomes,
            "reasons": {name: verdict.reason for name, verdict in self.verdicts.items()},
            "flags": self.flags,
        }
        return dict(strict.plain(out))


def judge_sweep(landscapes: Sequence[Landscape], asked: Asked = NOTHING_ELSE) -> tuple[JudgedCell, ...]:
    """The verdicts on the paper's claims, and the results `asked` for, of each of `landscapes`, in the same order."""
    by_quantity: dict[str, Claim] = {}
    for claim in CLAIMS:
        by_quantity.setdefault(claim.quantity, claim)
    claims = {name: by_quantity[quantity] for name, quantity in QUANTITY_OF.items()}
    return tuple(_cell(landscape, claims, asked) for landscape in landscapes)


def _cell(landscape: Landscape, claims: Mapping[str, Claim], asked: Asked) -> JudgedCell:
    if surface.is_search(landscape):
        return _searched(landscape, claims, asked)
    evidence = Evidence("sweep", probe=True, runs=len(landscape.frame), seeds=len(landscape.seeds))
    of_cell = quantities.of_cell(landscape)
    measured = {name: of_cell[quantity] for name, quantity in QUANTITY_OF.items() if quantity in of_cell}
    verdicts = {name: decide(claims[name], found, evidence) for name, found in measured.items()}
    measured[GAP], verdicts[GAP] = _gap(landscape, claims[GAP], evidence)
    fit = fits.line(landscape)
    rivals = None if fit is None else power_law.rivals(fit)
    found = answer.of_cell(landscape, None if rivals is None else rivals.exponent, asked)
    return _judged(landscape, measured, verdicts, rivals, secondary.published(landscape), found)


def _judged(
    landscape: Landscape,
    measured: Mapping[str, Estimate],
    verdicts: Mapping[str, Verdict],
    rivals: Rivals | None,
    published: Published | None,
    found: Answer,
) -> JudgedCell:
    names = landscape.arch, landscape.dataset
    return JudgedCell(*names, measured, verdicts, rivals, published, found, landscape.metric, landscape.settings)


def _searched(landscape: Landscape, claims: Mapping[str, Claim], asked: Asked) -> JudgedCell:
    """The cell of a random search, for which only slope and ratio can be estimated."""
    evidence = Evidence("sweep", probe=True, runs=len(landscape.frame), seeds=1)
    found = fits.ridge(landscape)
    if found is None:
        settle = (
            f"at least {surface.LEAST_TRIALS} trials with a score at {surface.LEAST_WDS} or more weight decays; 60 "
            "are usually enough"
        )
        few = (Flag.TOO_FEW_POINTS,)
        if surface.all_equal(landscape):
            settle, few = ratios.EQUAL, (Flag.EQUAL,)
        measured = {name: unknown(name, "", LEVEL, surface.METHOD, few, settle) for name in ("rho", "slope")}
    else:
        measured = {"rho": surface.ratio(found, LEVEL), "slope": surface.slope(found, LEVEL)}
    verdicts = {name: decide(claims[name], estimate, evidence) for name, estimate in measured.items()}
    for name in QUANTITY_OF:
        if name not in measured:
            claim = claims[name]
            measured[name] = unknown(claim.quantity, claim.unit, LEVEL, surface.METHOD, (), NEEDS_GRID)
            verdicts[name] = not_run(claim, NEEDS_GRID, evidence)
    slope = measured["slope"]
    rivals = power_law.rivals_within(slope.low, slope.high)
    return _judged(
        landscape, measured, verdicts, rivals, None, answer.of_search(landscape, found, rivals.exponent, asked)
    )


def _gap(landscape: Landscape, claim: Claim, evidence: Evidence) -> tuple[Estimate, Verdict]:
    """The accuracy lost by tuning only the learning rate, and its verdict; `not run` if the runs for it are missing."""
    if lacking := _gap_lacks(landscape):
        return unknown(claim.quantity, "pp", LEVEL, gap.METHOD, (), lacking), not_run(claim, lacking, evidence)
    grid = tuple(float(wd) for wd in sorted(landscape.frame["wd"].unique()))
    found = quantities.cell_gap(landscape, grid)
    verdict = decide(claim, found, evidence)
    # The paper's own grid ends at 0.3: if larger weight decays help, a wider search gains more than the paper's.
    against = f"{verdict.reason}; against all {len(grid)} weight decays of the sweep, not the paper's eight"
    return found, replace(verdict, reason=against)


def _gap_lacks(landscape: Landscape) -> str:
    """Why the cost of tuning only the learning rate cannot be judged on this sweep; empty if it can."""
    if landscape.metric != "accuracy":
        what = "losses" if landscape.metric == "loss" else "other scores"
        return f"the claim is about percentage points of accuracy, and the sweep has {what}"
    lacking = [f"{RHO * cut.lr:.3g} at lr {cut.lr:g}" for cut in landscape.slices() if not gap.on_line(cut).any()]
    if len(lacking) > MOST_NAMED:
        lacking = [*lacking[: MOST_NAMED - 1], f"{len(lacking) - MOST_NAMED + 1} more"]
    return f"no runs at weight decay 0.1 · lr, that is {', '.join(lacking)}" if lacking else ""
