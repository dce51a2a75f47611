"""Finds the files of a store that will not be read again, and deletes them on request.

Never listed for deletion: runs that a current scale needs, files that a newer version has written, checkpoints of
ongoing training, and files younger than an hour, which a process may still be writing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from replicate.runs import scales
from replicate.runs.needed import possible_runs
from replicate.runs.run import RESULT_VERSION
from replicate.store import begun, model_file
from replicate.store.layout import Layout
from replicate.store.record import FORMAT, is_key
from replicate.store.store import STALE_SECONDS, Store
from replicate.store.strict import Malformed, decode, format_of

OLD = "runs of an older result version"
UNNAMED = "runs that no scale needs"
UNREADABLE = "unreadable records of runs that no scale needs"
MODELS = "kept models without a record"
QUARANTINE = "damaged files that were set aside"
CHECKPOINTS = "checkpoints of stacks that are finished, abandoned or needed by no scale"
TEMPORARY = "temporary files of processes that have ended"
REASONS = (OLD, UNNAMED, UNREADABLE, MODELS, QUARANTINE, CHECKPOINTS, TEMPORARY)


@dataclass(frozen=True)
class _RunVersion:
    result_version: int


@dataclass(frozen=True)
class _Record:
    """The one field of a record that can be read whatever version wrote the record."""

    run: _RunVersion


@dataclass(frozen=True)
class Item:
    """A file, or a folder of checkpoints, that may be deleted."""

    path: Path
    reason: str
    size_bytes: int


def find(store: Store, now: float | None = None) -> list[Item]:
    """Every file that may be deleted, in the order of `REASONS` and, for one reason, of path; deletes none."""
    now = store.clock() if now is None else now
    named = _named()
    records = list(_records(store, named))
    found = [
        *records,
        *_models(store, records, now),
        *_quarantine(store),
        *_stacks(store, named, now),
        *_temporary(store, now),
    ]
    return sorted(found, key=lambda item: (REASONS.index(item.reason), item.path))


def delete(items: Iterable[Item]) -> list[Item]:
    """Delete `items`; returns those deleted, without items that were gone already or could not be deleted."""
    gone = []
    for item in items:
        try:
            if item.path.is_dir():
                shutil.rmtree(item.path)
            else:
                item.path.unlink()
        except OSError:
            continue
        gone.append(item)
    return gone


def _named() -> set[str]:
    """The keys of all runs that the current scales may ever need."""
    return {run.key for scale in scales.SCALES.values() for run in possible_runs(scale)}


def _records(store: Store, named: set[str]) -> Iterator[Item]:
    for key in store.keys() - store.below.keys() - named:
        path = store.layout.record(key)
        try:
            blob = path.read_bytes()
        except OSError:
            continue
        reason = _why(blob)
        if reason is not None:
            yield Item(path, reason, len(blob))


def _models(store: Store, records: Iterable[Item], now: float) -> Iterator[Item]:
    """Models whose record is in `records`, with that record's reason, and models without record or ongoing training."""
    reasons = {item.path.stem: item.reason for item in records}
    for path in store.layout.runs.glob(f"*/*{model_file.SUFFIX}"):
        if path.stem in reasons:
            yield Item(path, reasons[path.stem], _size(path))
        elif is_key(path.stem) and not store.has(path.stem) and not store.is_run_held(path.stem):
            age = begun.age_seconds(path, now)  # the trainer of a new model may be about to write the run's record
            yield from [Item(path, MODELS, _size(path))] if age > STALE_SECONDS else []


def _why(blob: bytes) -> str | None:
    """Why the record `blob`, of a run that no scale needs, may be deleted; None if not: a newer version wrote it."""
    try:
        if format_of(blob) > FORMAT:
            return None
        version = decode(blob, _Record).run.result_version
    except Malformed:
        return UNREADABLE
    if version > RESULT_VERSION:
        return None
    return OLD if version < RESULT_VERSION else UNNAMED


def _quarantine(store: Store) -> Iterator[Item]:
    for path in _entries(store.layout.quarantine):
        if not Layout.is_temporary(path.name):
            yield Item(path, QUARANTINE, _size(path))


def _stacks(store: Store, named: set[str], now: float) -> Iterator[Item]:
    for folder in _entries(store.layout.checkpoints):
        if not folder.is_dir():
            continue
        try:
            keys = set(begun.keys_of(folder))
        except (OSError, Malformed):
            if begun.age_seconds(folder, now) > STALE_SECONDS:  # a trainer may still be writing a newer folder
                yield Item(folder, CHECKPOINTS, _size(folder))
            continue
        left = {key for key in keys if not store.has(key)}
        if any(store.is_run_held(key) for key in keys):
            continue
        # After a month the engine, too, would start the stack afresh.
        if not left & named or begun.age_seconds(folder, now) > begun.STALE_SECONDS:
            yield Item(folder, CHECKPOINTS, _size(folder))


def _temporary(store: Store, now: float) -> Iterator[Item]:
    for top, _, names in os.walk(store.path):
        for name in names:
            path = Path(top, name)
            if Layout.is_temporary(name) and begun.age_seconds(path, now) > STALE_SECONDS:
                yield Item(path, TEMPORARY, _size(path))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        if path.is_dir():
            return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
        return path.stat().st_size
    except OSError:
        return 0
