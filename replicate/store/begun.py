"""Stacks (runs trained together) in progress: a folder in the store for each, to resume it after an interruption.

A checkpoint belongs to a stack, not to a run: resuming a stack takes the same runs in the same order. The folder of a
stack lists its runs and holds its checkpoints.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from replicate.runs.run import Run
from replicate.store import atomic, locks
from replicate.store.locks import Holder
from replicate.store.record import is_key, key_of_stack
from replicate.store.store import Store, StoreError
from replicate.store.strict import Malformed, decode

RUNS = "runs.json"
STALE_SECONDS = 30 * 24 * 3600.0
"""A stack whose folder has not been written to for this long is abandoned."""


def begin(store: Store, runs: Sequence[Run]) -> Path:
    """The folder in which to train `runs` as a stack: of an interrupted stack that has them all, else a new one."""
    keys = [run.key for run in runs]
    for folder, begun in _begun(store):
        if set(keys) <= set(begun):
            store.sign(store.layout.holder(folder.name))
            if keys != begun and any(folder.glob("*.checkpoint")):
                store.note(
                    f"the training of {len(begun)} runs together was interrupted; {len(keys)} of them are trained "
                    "now, and may start from the beginning instead of a checkpoint"
                )
            return folder
    folder = store.layout.checkpoints / key_of_stack(keys)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write(folder / RUNS, json.dumps(keys), durable=False)
    except OSError as error:
        raise StoreError(
            f"cannot write {folder}: {error.strerror}; make room or make it writable, or name another directory "
            "with --store (finished runs are kept)"
        ) from error
    store.sign(store.layout.holder(folder.name))
    return folder


def holder(store: Store, key: str) -> Holder | None:
    """The process that last began a stack with the run `key`; None if that is not known."""
    signed = [locks.holder(store.layout.holder(folder.name)) for folder, keys in _begun(store) if key in keys]
    return signed[-1] if signed else None


def regroup(store: Store, missing: Sequence[Run]) -> tuple[list[list[Run]], list[Run]]:
    """Split `missing` into one list for each interrupted stack, oldest first, and a list of the runs of no stack."""
    left = {run.key: run for run in missing}
    stacks = []
    for _, keys in _begun(store):
        if stack := [left.pop(key) for key in keys if key in left]:
            stacks.append(stack)
    return stacks, list(left.values())


def prune(store: Store) -> None:
    """Delete the folders of stacks that are finished, or abandoned: no file written for a month and no run locked."""
    for folder, keys in _begun(store):
        if all(store.has(key) for key in keys):
            _forget(store, folder)
    now: float | None = None
    for path in store.layout.checkpoints.glob("*"):
        now = store.clock() if now is None else now
        if age_seconds(path, now) > STALE_SECONDS and not any(store.is_run_held(key) for key in _keys_or_none(path)):
            _forget(store, path)


def keys_of(folder: Path) -> list[str]:
    """The keys of the runs of the stack in `folder`; raises OSError or `Malformed` if its list cannot be read."""
    found = decode((folder / RUNS).read_bytes(), list[str])
    # Keys become file names: a text of another form could lead outside the store.
    if not found or not all(map(is_key, found)):
        raise Malformed("got something other than a list of keys")
    return found


def _begun(store: Store) -> list[tuple[Path, list[str]]]:
    """Folder and keys of every stack in progress or interrupted, oldest first."""
    found = []
    for path in store.layout.checkpoints.glob(f"*/{RUNS}"):
        try:
            keys = keys_of(path.parent)
            found.append((path.stat().st_mtime_ns, path.parent, keys))
        except FileNotFoundError:
            continue
        except (OSError, Malformed):
            _forget(store, path.parent)  # its runs are unknown
    return [(folder, keys) for _, folder, keys in sorted(found)]


def _keys_or_none(folder: Path) -> list[str]:
    try:
        return keys_of(folder)
    except (OSError, Malformed):
        return []


def _forget(store: Store, folder: Path) -> None:
    with contextlib.suppress(OSError):
        store.layout.holder(folder.name).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def age_seconds(path: Path, now: float) -> float:
    """Seconds at `now` since the file `path`, or any file in the folder `path`, was last written; 0 if it is gone."""
    try:
        inner = list(path.iterdir()) if path.is_dir() else []
        newest = max(found.stat().st_mtime for found in [path, *inner])
    except OSError:
        return 0.0
    return now - newest
