"""verdicts.json: every claim's verdict with all that a reader needs, written whole, read back with one clear error.

Format 1, one JSON object:

- `format`: 1. A reader refuses a higher number.
- `registry`: `hash` of the claims and rules that judged, `claims` their number.
- `scale`: `name`, `why` it was taken, `summary` of what it trains.
- `probe`: true unless the runs follow the paper's protocol; nothing in the file then speaks for the paper's own cells.
- `synthetic`: whether any of the evidence comes from made landscapes.
- `trained`: what was really trained, e.g. `resnet50 on digits`.
- `created` (UTC), `versions` of the software that judged, `devices` that trained, `store`: `hash` of the contents of
  the runs that the verdicts rest on, their number `runs`, and the `seconds` that training them took on one device.
- `counts`: number of claims by outcome.
- `claims`: one object for each claim of the registry, in its order: `id`, `family`, `statement`, `source`, `unit`,
  `rule`, `figure` (the paper's; null where it gives none), `selected`, `crashed` (null, or the error because of which
  the claim has no verdict), and the verdict: `outcome`, `reason`, `margin`, `estimate`, `evidence`, `settle`,
  `secondary`.

An open end of an interval or margin is null: null at `low` is minus infinity, at `high` plus infinity. NaN and
infinity inside `details` and `secondary` are null as well, for JSON knows neither.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replicate.estimate.result import Estimate
from replicate.judging.verdict import NOT_RUN, OUTCOMES, Evidence, Verdict
from replicate.paper.claim import Claim, Figure, Margin
from replicate.store import atomic, strict
from replicate.text import UsageError

FORMAT = 1
_MAKE_ONE = "`pytest claims/ --report DIR` writes one as DIR/verdicts.json"


class VerdictFileError(UsageError):
    """A file that is not a readable verdict file; the message is one line."""


@dataclass(frozen=True)
class Entry:
    """One claim as the file shows it, and its verdict."""

    verdict: Verdict
    family: str
    statement: str
    source: str
    unit: str
    rule: str
    figure: Figure | None
    selected: bool = True
    crashed: str | None = None

    @property
    def id(self) -> str:
        return self.verdict.claim_id


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
    entries: tuple[Entry, ...] = field(default=())
    seconds: float = 0.0
    """What training the runs took, all devices added up; 0 where it is not known."""
    trained_with: tuple[str, ...] = ()
    """Software, trainer and precision of the runs, most runs first; empty where it is not known."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of claims by outcome, all four outcomes present."""
        return {o: sum(e.verdict.outcome == o for e in self.entries) for o in OUTCOMES}

    @property
    def outcomes(self) -> dict[str, str]:
        """Outcome by claim id."""
        return {e.id: e.verdict.outcome for e in self.entries}

    def to_json(self) -> dict[str, Any]:
        """The file as JSON types."""
        return {
            "format": FORMAT,
            "registry": {"hash": self.registry_hash, "claims": len(self.entries)},
            "scale": {"name": self.scale, "why": self.why, "summary": self.summary},
            "probe": self.probe,
            "synthetic": self.synthetic,
            "trained": list(self.trained),
            "created": self.created,
            "versions": dict(self.versions),
            "devices": list(self.devices),
            "trained_with": list(self.trained_with),
            "store": {"hash": self.store_hash, "runs": self.store_runs, "seconds": round(self.seconds, 1)},
            "counts": self.counts,
            "claims": [_entry_to_json(e) for e in self.entries],
        }


def entry(claim: Claim, verdict: Verdict, selected: bool = True, crashed: str | None = None) -> Entry:
    """The entry of `claim` with its verdict."""
    return Entry(
        verdict, claim.family, claim.statement, claim.source, claim.unit, claim.rule, claim.figure, selected, crashed
    )


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """JSON types; raises TypeError where `details` or `secondary` hold something that JSON cannot."""
    estimate = verdict.estimate
    return {
        "id": verdict.claim_id,
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "margin": [_end(verdict.margin.low), _end(verdict.margin.high)],
        "estimate": None if estimate is None else _plain(estimate.to_json(), f"{verdict.claim_id}: estimate"),
        "evidence": _plain(dataclasses.asdict(verdict.evidence), f"{verdict.claim_id}: evidence"),
        "settle": verdict.settle,
        "secondary": _plain(verdict.secondary, f"{verdict.claim_id}: secondary"),
    }


def verdict_from_json(data: Mapping[str, Any]) -> Verdict:
    """Inverse of `verdict_to_json`, up to NaN and infinities inside `details` and `secondary`, which stay null."""
    low, high = data["margin"]
    evidence = {**data["evidence"], "cells": tuple(data["evidence"]["cells"])}
    return Verdict(
        claim_id=data["id"],
        outcome=data["outcome"],
        reason=data["reason"],
        margin=Margin(-math.inf if low is None else low, math.inf if high is None else high),
        evidence=Evidence(**evidence),
        estimate=None if data["estimate"] is None else Estimate.from_json(data["estimate"]),
        settle=data["settle"],
        secondary=data["secondary"],
    )


def write(path: Path, file: VerdictFile) -> None:
    """Writes `file` to `path`, whole or not at all."""
    atomic.write_text(path, json.dumps(file.to_json(), indent=1, allow_nan=False) + "\n")


def read(path: Path) -> VerdictFile:
    """The verdict file at `path`; raises VerdictFileError with one line that says what is wrong with it."""
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
        data = strict.parse(text)
    except json.JSONDecodeError as e:
        raise VerdictFileError(
            f"{path}: expected a verdict file, got text that is not JSON (line {e.lineno}: {e.msg}); {_MAKE_ONE}"
        ) from None
    except ValueError as e:
        raise VerdictFileError(f"{path}: expected a verdict file, got JSON that cannot be: {e}; {_MAKE_ONE}") from None
    return from_json(data, str(path))


def from_json(data: Any, name: str) -> VerdictFile:
    """The file whose JSON is `data`; `name` stands in the error messages."""
    if not isinstance(data, dict) or "format" not in data:
        raise VerdictFileError(f"{name}: expected a verdict file, got JSON without `format`; {_MAKE_ONE}")
    if data["format"] != FORMAT:
        raise VerdictFileError(
            f"{name}: expected verdict file format {FORMAT}, got {data['format']!r}; "
            "read it with the version of replicate that wrote it, or judge again"
        )
    try:
        entries = tuple(_entry_from_json(c) for c in data["claims"])
        file = VerdictFile(
            registry_hash=data["registry"]["hash"],
            scale=data["scale"]["name"],
            why=data["scale"]["why"],
            summary=data["scale"]["summary"],
            probe=data["probe"],
            synthetic=data["synthetic"],
            trained=tuple(data["trained"]),
            created=data["created"],
            versions=data["versions"],
            devices=tuple(data["devices"]),
            store_hash=data["store"]["hash"],
            store_runs=data["store"]["runs"],
            entries=entries,
            seconds=data["store"].get("seconds", 0.0),  # files of before these two were kept lack them
            trained_with=tuple(data.get("trained_with", ())),
        )
        strict.check(file)
    except KeyError as e:
        raise VerdictFileError(f"{name}: expected a verdict file of format {FORMAT}, field {e} is missing") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as e:
        line = " ".join(str(e).split())
        raise VerdictFileError(f"{name}: expected a verdict file of format {FORMAT}, got a bad field: {line}") from None
    return file


def changes(before: VerdictFile, now: Mapping[str, str], selected: Iterable[str]) -> list[tuple[str, str, str]]:
    """(id, outcome before, outcome now) of the `selected` claims whose outcome is not the one in `before`.

    A claim that `before` does not know was not run there.
    """
    known = before.outcomes
    pairs = ((i, known.get(i, NOT_RUN), now[i]) for i in selected)
    return [(i, was, is_) for i, was, is_ in pairs if was != is_]


def _entry_to_json(e: Entry) -> dict[str, Any]:
    verdict = verdict_to_json(e.verdict)
    return {
        "id": verdict.pop("id"),
        "family": e.family,
        "statement": e.statement,
        "source": e.source,
        "unit": e.unit,
        "rule": e.rule,
        "figure": None if e.figure is None else dataclasses.asdict(e.figure),
        "selected": e.selected,
        "crashed": e.crashed,
        **verdict,
    }


def _entry_from_json(data: Mapping[str, Any]) -> Entry:
    figure = data["figure"]
    return Entry(
        verdict=verdict_from_json(data),
        family=data["family"],
        statement=data["statement"],
        source=data["source"],
        unit=data["unit"],
        rule=data["rule"],
        figure=None if figure is None else Figure(**figure),
        selected=data["selected"],
        crashed=data["crashed"],
    )


def _end(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _plain(value: Any, where: str) -> Any:
    """`value` as JSON types: tuples and arrays as lists, NumPy scalars as numbers, NaN and infinities as null."""
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{where}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, where) for v in value]
    raise TypeError(f"{where}: expected numbers, texts, lists and mappings, got a {type(value).__name__}: {value!r}")
