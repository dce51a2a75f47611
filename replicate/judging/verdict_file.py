"""verdicts.json, the file of all verdicts: written atomically, read with one clear error message.

The classes here define the file, format 2. docs/verdicts.md explains their fields; docs/verdicts.schema.json is made
from them (`python -m replicate.judging.verdict_file`). Format 1, whose keys were phrases, is still read, except for
estimates' details and secondary results.

In an interval or margin, null at `low` is minus infinity, and null at `high` is plus infinity.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from replicate.estimate.estimate import Estimate
from replicate.judging.practice import InPractice
from replicate.judging.verdict import NOT_RUN, OUTCOMES, Evidence, HowSure, Outcome, Provisional, Secondary, Verdict
from replicate.paper.claim import Claim, Figure, Margin
from replicate.store import atomic, strict
from replicate.store.strict import High, Low
from replicate.text import UsageError

FORMAT = 2
_MAKE_ONE = "`pytest claims/ --report DIR` writes one as DIR/verdicts.json"


class VerdictFileError(UsageError):
    """A file that is not a readable verdict file; the message is one line."""


@dataclass(frozen=True)
class Claimed:
    """The claim, and whether it was selected in this pytest session."""

    id: str
    family: str
    statement: str
    source: str
    unit: str
    rule: str
    figure: Figure | None
    selected: bool
    crashed: str | None


@dataclass(frozen=True)
class Entry(Claimed):
    """A claim with its verdict."""

    verdict: Verdict


@dataclass(frozen=True)
class VerdictFile:
    """The contents of a verdicts.json."""

    registry_hash: str
    scale: str
    why: str
    summary: str
    probe: bool
    synthetic: bool
    trained: tuple[str, ...]
    created: str
    versions: dict[str, str]
    devices: tuple[str, ...]
    store_hash: str
    store_runs: int
    entries: tuple[Entry, ...] = ()
    seconds: float = 0.0
    """Training time of the runs, summed over devices; 0 if unknown."""
    trained_with: tuple[str, ...] = ()
    """Software, trainer and precision of the runs, most runs first; empty if unknown."""
    practice: tuple[InPractice, ...] = ()
    """Practical results of each cell that was trained; empty if unknown."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of claims for each of the four outcomes."""
        return {o.value: sum(e.verdict.outcome == o for e in self.entries) for o in OUTCOMES}

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """Outcome by claim id."""
        return {e.id: e.verdict.outcome for e in self.entries}

    def to_json(self) -> dict[str, Any]:
        """The file as JSON types."""
        stored = StoredFile(
            format=2,
            registry=StoredRegistry(self.registry_hash, len(self.entries)),
            scale=StoredScale(self.scale, self.why, self.summary),
            probe=self.probe,
            synthetic=self.synthetic,
            trained=self.trained,
            created=self.created,
            versions=self.versions,
            devices=self.devices,
            trained_with=self.trained_with,
            store=StoredStore(self.store_hash, self.store_runs, round(self.seconds, 1)),
            counts=self.counts,
            claims=tuple(_stored_claim(e) for e in self.entries),
            practice=self.practice,
        )
        return dict(strict.plain(stored))


@dataclass(frozen=True)
class StoredVerdict:
    """A `Verdict` in a file."""

    id: str
    outcome: Outcome
    reason: str
    margin: tuple[Low, High]
    estimate: Estimate | None
    evidence: Evidence
    settle: str
    secondary: Secondary
    how_sure: HowSure | None = None
    provisional: Provisional | None = None

    def verdict(self) -> Verdict:
        """The verdict; raises ValueError if the ends of an interval or margin are impossible."""
        return Verdict(
            claim_id=self.id,
            outcome=self.outcome,
            reason=self.reason,
            margin=Margin(*self.margin),
            evidence=self.evidence,
            estimate=self.estimate,
            settle=self.settle,
            secondary=self.secondary,
            how_sure=self.how_sure,
            provisional=self.provisional,
        )


@dataclass(frozen=True)
class StoredClaim(StoredVerdict, Claimed):
    """A claim and its verdict in a file: first the fields of `Claimed`."""


@dataclass(frozen=True)
class StoredRegistry:
    hash: str
    claims: int


@dataclass(frozen=True)
class StoredScale:
    name: str
    why: str
    summary: str


@dataclass(frozen=True)
class StoredStore:
    hash: str
    runs: int
    seconds: float


@dataclass(frozen=True)
class StoredFile:
    """The whole file."""

    format: Literal[2]
    registry: StoredRegistry
    scale: StoredScale
    probe: bool
    synthetic: bool
    trained: tuple[str, ...]
    created: str
    versions: dict[str, str]
    devices: tuple[str, ...]
    trained_with: tuple[str, ...]
    store: StoredStore
    counts: dict[str, int]
    claims: tuple[StoredClaim, ...]
    practice: tuple[InPractice, ...] = ()


def entry(claim: Claim, verdict: Verdict, selected: bool = True, crashed: str | None = None) -> Entry:
    """The entry of `claim`. `selected`: whether pytest selected it; `crashed`: the error that prevented a verdict."""
    of_claim = (claim.id, claim.family, claim.statement, claim.source, claim.unit, claim.rule, claim.figure)
    return Entry(*of_claim, selected, crashed, verdict)


def stored_verdict(verdict: Verdict) -> StoredVerdict:
    """`verdict` as an instance of the class that defines its JSON."""
    return StoredVerdict(
        id=verdict.claim_id,
        outcome=verdict.outcome,
        reason=verdict.reason,
        margin=(verdict.margin.low, verdict.margin.high),
        estimate=verdict.estimate,
        evidence=verdict.evidence,
        settle=verdict.settle,
        secondary=verdict.secondary,
        how_sure=verdict.how_sure,
        provisional=verdict.provisional,
    )


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """`verdict` as JSON types."""
    return dict(strict.plain(stored_verdict(verdict)))


def verdict_from_json(data: Any) -> Verdict:
    """Inverse of `verdict_to_json`; raises ValueError with a message of one line if `data` is not a verdict."""
    return strict.convert(data, StoredVerdict).verdict()


def write(path: Path, file: VerdictFile) -> None:
    """Writes `file` to `path` atomically."""
    atomic.write_text(path, json.dumps(file.to_json(), indent=1, allow_nan=False) + "\n")


def read(path: Path) -> VerdictFile:
    """The verdict file at `path`; raises VerdictFileError with a message of one line if it is missing or unusable."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise VerdictFileError(f"{path}: expected a verdict file, found no such file; {_MAKE_ONE}") from None
    except IsADirectoryError:
        raise VerdictFileError(
            f"{path}: expected a verdict file, got a folder; give the verdicts.json inside it"
        ) from None
    except UnicodeDecodeError:
        raise VerdictFileError(f"{path}: expected a verdict file, got bytes that are not UTF-8; {_MAKE_ONE}") from None
    except OSError as e:
        raise VerdictFileError(f"{path}: expected a readable verdict file, got: {e.strerror}") from None
    try:
        data = strict.decode(text, object)
    except strict.Malformed as e:
        raise VerdictFileError(
            f"{path}: expected a verdict file, got text that is not JSON ({e}); {_MAKE_ONE}"
        ) from None
    return from_json(data, str(path))


def from_json(data: Any, name: str) -> VerdictFile:
    """The verdict file from its JSON `data`; raises VerdictFileError, whose message starts with `name`."""
    if not isinstance(data, dict) or "format" not in data:
        raise VerdictFileError(f"{name}: expected a verdict file, got JSON without `format`; {_MAKE_ONE}")
    if data["format"] not in (1, FORMAT):
        raise VerdictFileError(
            f"{name}: expected verdict file format 1 or {FORMAT}, got {data['format']!r}; "
            "read it with the version of replicate that wrote it, or judge again"
        )
    try:
        return _file(strict.convert(_of_format_1(data) if data["format"] == 1 else data, StoredFile))
    except ValueError as e:
        line = " ".join(str(e).split())
        raise VerdictFileError(
            f"{name}: expected a verdict file of format {data['format']}, got a bad field: {line}"
        ) from None


@dataclass(frozen=True)
class _Format1:
    claims: tuple[dict[str, Any], ...]
    store: dict[str, Any]


def _of_format_1(data: dict[str, Any]) -> dict[str, Any]:
    """Converts JSON of format 1 to format 2, without details and secondary results."""
    old = strict.convert(data, _Format1)
    claims = []
    for claim in old.claims:
        estimate = claim.get("estimate")
        if isinstance(estimate, dict):
            estimate = {**estimate, "details": None}
        claims.append({**claim, "estimate": estimate, "secondary": {}})
    # The first files had no `trained_with` and no `seconds`.
    return {"trained_with": [], **data, "format": 2, "store": {"seconds": 0.0, **old.store}, "claims": claims}


def _file(stored: StoredFile) -> VerdictFile:
    return VerdictFile(
        registry_hash=stored.registry.hash,
        scale=stored.scale.name,
        why=stored.scale.why,
        summary=stored.scale.summary,
        probe=stored.probe,
        synthetic=stored.synthetic,
        trained=stored.trained,
        created=stored.created,
        versions=stored.versions,
        devices=stored.devices,
        store_hash=stored.store.hash,
        store_runs=stored.store.runs,
        entries=tuple(_entry(claim) for claim in stored.claims),
        seconds=stored.store.seconds,
        trained_with=stored.trained_with,
        practice=stored.practice,
    )


def _stored_claim(e: Entry) -> StoredClaim:
    return StoredClaim(**{**_claimed(e), **vars(stored_verdict(e.verdict))})


def _entry(claim: StoredClaim) -> Entry:
    return Entry(**_claimed(claim), verdict=claim.verdict())


def _claimed(of: Claimed) -> dict[str, Any]:
    return {field.name: getattr(of, field.name) for field in fields(Claimed)}


def changes(before: VerdictFile, now: Mapping[str, Outcome], selected: Iterable[str]) -> list[tuple[str, str, str]]:
    """(id, outcome before, outcome now) of the `selected` claims whose outcome differs from that in `before`.

    A claim that is not in `before` counts as `not run` before.
    """
    known = before.outcomes
    pairs = ((i, known.get(i, NOT_RUN), now[i]) for i in selected)
    return [(i, was.value, is_.value) for i, was, is_ in pairs if was != is_]


if __name__ == "__main__":
    print(json.dumps(strict.schema(StoredFile, f"verdicts.json, format {FORMAT}"), indent=1))
