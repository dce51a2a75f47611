"""Made-up verdicts and verdict files for the tests of the reports and of the pytest plugin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from replicate.estimate.estimate import Estimate
from replicate.estimate.flags import Flag
from replicate.judging.answer import Answer
from replicate.judging.rule import rule
from replicate.judging.sweep_verdicts import JudgedCell
from replicate.judging.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    REPLICATED,
    Evidence,
    Outcome,
    Secondary,
    Verdict,
    not_run,
)
from replicate.judging.verdict_file import VerdictFile, entry
from replicate.paper.claim import Margin
from replicate.paper.registry import CLAIMS, REGISTRY_HASH, claim
from replicate.report import files

EVIDENCE = Evidence("smoke", probe=True, cells=("resnet50 on digits",), runs=12, seeds=3)


def made_verdict(claim_id: str, outcome: str, evidence: Evidence = EVIDENCE) -> Verdict:
    """The verdict of a claim with finite margin by the real rule, from an estimate made to give `outcome`."""
    c = claim(claim_id)
    if outcome == NOT_RUN:
        return not_run(c, "this scale leaves it out", evidence)
    low, high = c.margin.low, c.margin.high
    width = high - low
    low, high = {
        REPLICATED: (low + width / 4, high - width / 4),
        CONTRADICTED: (high + width, high + 2 * width),
        INCONCLUSIVE: (low, float("inf")),
    }[outcome]
    value = (low + high) / 2 if high < float("inf") else None
    made = Estimate(c.quantity, c.unit, value, low, high, 0.95, 6, "made up", (), "about 4 more seeds")
    return replace(rule(c, made, evidence), secondary=Secondary(direction="as claimed: rises"))


def made_cell(**outcomes: Outcome) -> JudgedCell:
    """A cell of a sweep with these outcomes, each from the same estimate."""
    found = Estimate("rho", "", 0.1, 0.08, math.inf, 0.95, 6, "made up", (Flag.EDGE_HIGH,), "more")
    margin, evidence = Margin(0.05, 0.2), Evidence("sweep", probe=True)
    verdicts = {name: Verdict(name, outcome, "made up", margin, evidence, found) for name, outcome in outcomes.items()}
    of_cell = Answer((), None, (), "made up", None, None)
    return JudgedCell("a", "b", {"rho": found, "slope": found}, verdicts, None, None, of_cell, "accuracy")


def made_file(outcomes: Mapping[str, str], scale: str = "smoke", probe: bool = True, **changes: object) -> VerdictFile:
    """A file of all claims: those in `outcomes` judged so, the others not selected."""
    entries = []
    for c in CLAIMS:
        if c.id in outcomes:
            entries.append(entry(c, made_verdict(c.id, outcomes[c.id], Evidence(scale, probe))))
        else:
            entries.append(entry(c, not_run(c, "not selected in this session", Evidence(scale, probe)), False))
    fields: dict[str, object] = {
        "registry_hash": REGISTRY_HASH,
        "scale": scale,
        "why": "--scale",
        "summary": "made up",
        "probe": probe,
        "synthetic": False,
        "trained": ("resnet50 on digits", "vit_s16 on digits"),
        "created": "2026-01-02T03:04:05+00:00",
        "versions": {"python": "3.11.0", "torch": "2.9.0"},
        "devices": ("a processor",),
        "store_hash": "0123456789abcdef",
        "store_runs": 12,
        "entries": tuple(entries),
    }
    return VerdictFile(**{**fields, **changes})  # type: ignore[arg-type]


def quick_page(out: Path, *arguments: object) -> Path:
    """Stands in for the report's page, which takes a second to draw and has tests of its own."""
    (out / files.PAGE).write_text("a page", encoding="utf-8")
    return out / files.PAGE
