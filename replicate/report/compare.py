"""Compares two verdict files: claims and rules, evidence, verdicts and estimates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from replicate.estimate.estimate import Estimate
from replicate.judging.verdict import Evidence
from replicate.judging.verdict_file import Entry, VerdictFile
from replicate.report.wording import estimate_text, margin_text, outcome_text

REGISTRY, EVIDENCE, VERDICT, ESTIMATE, MARGIN = "registry", "evidence", "verdict", "estimate", "margin"
KINDS = (REGISTRY, EVIDENCE, VERDICT, MARGIN, ESTIMATE)
SAME = 1e-9
"""Numbers with a smaller relative difference count as equal."""
ABSENT = "absent"


@dataclass(frozen=True)
class Change:
    """One difference between two files."""

    kind: str
    where: str
    """The claim's id, or the name of a field of the whole file."""
    before: str
    after: str


def compare(before: VerdictFile, after: VerdictFile) -> list[Change]:
    """The differences, first those in fields of the whole file; dates and versions of software are ignored."""
    found = list(_whole(before, after))
    old, new = ({e.id: e for e in file.entries} for file in (before, after))
    for claim_id in dict.fromkeys([*old, *new]):
        if claim_id not in old or claim_id not in new:
            here = [ABSENT if claim_id not in entries else outcome_text(entries[claim_id]) for entries in (old, new)]
            found.append(Change(REGISTRY, claim_id, *here))
        else:
            found += _claim(old[claim_id], new[claim_id])
    return found


def _whole(before: VerdictFile, after: VerdictFile) -> Iterator[Change]:
    pairs = (
        (REGISTRY, "hash of claims and rules", before.registry_hash, after.registry_hash),
        (EVIDENCE, "scale", before.scale, after.scale),
        (EVIDENCE, "kind", _kind(before), _kind(after)),
        (EVIDENCE, "runs", str(before.store_runs), str(after.store_runs)),
        (EVIDENCE, "hash of the runs", before.store_hash, after.store_hash),
    )
    for kind, where, was, now in pairs:
        if was != now:
            yield Change(kind, where, was, now)


def _kind(file: VerdictFile) -> str:
    return "synthetic" if file.synthetic else "probe" if file.probe else "paper protocol"


def _claim(before: Entry, after: Entry) -> Iterator[Change]:
    old, new = before.verdict, after.verdict
    if outcome_text(before) != outcome_text(after):
        yield Change(VERDICT, before.id, outcome_text(before), outcome_text(after))
    if old.margin != new.margin:
        yield Change(MARGIN, before.id, margin_text(old.margin), margin_text(new.margin))
    if not same(old.estimate, new.estimate):
        yield Change(ESTIMATE, before.id, estimate_text(old.estimate), estimate_text(new.estimate))
    if old.evidence != new.evidence:
        yield Change(EVIDENCE, before.id, _evidence(old.evidence), _evidence(new.evidence))


def same(one: Estimate | None, other: Estimate | None) -> bool:
    """Whether two estimates have the same value and interval, within `SAME`."""
    if one is None or other is None:
        return one is other
    if (one.value is None) != (other.value is None):
        return False
    numbers = ((one.value, other.value), (one.low, other.low), (one.high, other.high))
    return all(a is None or b is None or a == b or math.isclose(a, b, rel_tol=SAME, abs_tol=SAME) for a, b in numbers)


def _evidence(found: Evidence) -> str:
    missing = f", {found.runs_missing} missing" if found.runs_missing else ""
    return f"{found.label}, {found.runs} runs{missing}, {found.seeds} seeds"


def lines(changes: list[Change]) -> list[str]:
    """The changes as text, the most serious kind first, and a last line that counts them."""
    if not changes:
        return ["no differences in claims, rules, evidence, verdicts or estimates"]
    out = []
    for kind in KINDS:
        of_kind = [c for c in changes if c.kind == kind]
        out += [f"{kind}: {c.where}: {c.before} → {c.after}" for c in of_kind]
    counts = [
        f"{sum(c.kind == kind for c in changes)} of {kind}" for kind in KINDS if any(c.kind == kind for c in changes)
    ]
    return [*out, f"{len(changes)} {'difference' if len(changes) == 1 else 'differences'}: {', '.join(counts)}"]
