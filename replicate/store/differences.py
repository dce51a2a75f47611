"""Compares two stored runs field by field, and two stores run by run."""

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
"""Defaults of the fields of `Run`. A record written before a field was added lacks the field and has its default."""


@dataclass(frozen=True)
class Field:
    """A field in which two runs differ: its value in the first run (`before`) and the second; None if missing."""

    name: str
    """Path in the record: `run.lr`, `result.accuracy_pp`, `provenance.device`."""
    before: Any
    after: Any


@dataclass(frozen=True)
class Pair:
    """The same run in two stores."""

    before: StoredRun
    after: StoredRun

    @property
    def equal(self) -> bool:
        """Whether the results are equal to the last digit, apart from the seconds taken."""
        return self.before.measured == self.after.measured

    @property
    def difference_pp(self) -> float:
        """Accuracy in the second store minus accuracy in the first, pp; that of a diverged run is taken as guessing."""
        return self.after.result.accuracy_pp - self.before.result.accuracy_pp


@dataclass(frozen=True)
class Stores:
    """The runs that two stores share, and the number of runs that only one of the stores has."""

    pairs: tuple[Pair, ...]
    only_before: int
    only_after: int

    @property
    def differing(self) -> list[Pair]:
        """The pairs that are not equal, the largest difference first."""
        found = [pair for pair in self.pairs if not pair.equal]
        return sorted(found, key=lambda pair: (-abs(pair.difference_pp), pair.before.key))


def of_stores(before: Iterable[StoredRun], after: Iterable[StoredRun]) -> Stores:
    """Pair the runs that have equal settings, even if another version of the training code gave them other keys."""
    first = {_identity(stored): stored for stored in before}
    second = {_identity(stored): stored for stored in after}
    shared = [name for name in first if name in second]
    pairs = tuple(Pair(first[name], second[name]) for name in shared)
    return Stores(pairs, len(first) - len(shared), len(second) - len(shared))


def of_runs(before: StoredRun, after: StoredRun) -> list[Field]:
    """Every field in which two runs differ: settings, result, provenance."""
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
