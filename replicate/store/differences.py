"""Differences between stored runs: of two runs field by field, and of two stores run by run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from replicate.runs.run import Run
from replicate.store.record import StoredRun
from replicate.store.strict import text_of

_DEFAULTS = json.loads(
    json.dumps({f.name: f.default for f in dataclasses.fields(Run) if f.default is not dataclasses.MISSING})
)
"""Defaults of the fields of `Run`: a record written before a field was added leaves it out and means the default."""


@dataclass(frozen=True)
class Field:
    """One thing that two runs do not have in common; None where one of them lacks it."""

    name: str
    """The part of the record and the field in it: `run.lr`, `result.accuracy_pp`, `provenance.device`."""
    before: Any
    after: Any


@dataclass(frozen=True)
class Pair:
    """The same run in two stores."""

    before: StoredRun
    after: StoredRun

    @property
    def equal(self) -> bool:
        """Whether the same was measured, to the last digit; the time it took does not count."""
        return self.before.measured == self.after.measured

    @property
    def difference_pp(self) -> float:
        """By how much the accuracy is higher in the second store; that of a diverged run is that of guessing."""
        return self.after.result.accuracy_pp - self.before.result.accuracy_pp


@dataclass(frozen=True)
class Stores:
    """What two stores have in common."""

    pairs: tuple[Pair, ...]
    only_before: int
    only_after: int

    @property
    def differing(self) -> list[Pair]:
        """The largest difference first."""
        found = [pair for pair in self.pairs if not pair.equal]
        return sorted(found, key=lambda pair: (-abs(pair.difference_pp), pair.before.key))


def of_stores(before: Iterable[StoredRun], after: Iterable[StoredRun]) -> Stores:
    """Pairs of the runs that are described alike, also where they are of different result versions, and so keys."""
    first = {_identity(stored): stored for stored in before}
    second = {_identity(stored): stored for stored in after}
    shared = [name for name in first if name in second]
    pairs = tuple(Pair(first[name], second[name]) for name in shared)
    return Stores(pairs, len(first) - len(shared), len(second) - len(shared))


def of_runs(before: StoredRun, after: StoredRun) -> list[Field]:
    """Every field in which two runs differ: what was asked for, what was measured, where it comes from."""
    found = []
    for part in ("run", "result", "provenance"):
        old, new = (dict(_flat(_part(stored, part), part)) for stored in (before, after))
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                found.append(Field(name, old.get(name), new.get(name)))
    return found


def _part(stored: StoredRun, name: str) -> dict[str, Any]:
    if name == "result":
        return stored.result.to_json()
    part: dict[str, Any] = getattr(stored, name)
    return part


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for field, inner in value.items():
            yield from _flat(inner, f"{name}.{field}")
    else:
        yield name, value


def _identity(stored: StoredRun) -> str:
    return text_of({**_DEFAULTS, **{k: v for k, v in stored.run.items() if k != "result_version"}})
