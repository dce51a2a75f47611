"""Opens the store that a command reads, together with recorded runs, and finds a run in it by its key."""

from __future__ import annotations

from collections.abc import Set

from replicate.runs import scales
from replicate.runs.needed import possible_runs
from replicate.runs.scales import Scale
from replicate.store import recorded
from replicate.store.store import Store, StoredRun, open_store
from replicate.text import UsageError


def to_read(path: str, scale: Scale | None = None) -> Store:
    """The store at `path`, read-only; StoreError if it does not exist and the source tree has no runs of `scale`."""
    below = recorded.of_scale(scale.name) if scale else None
    return open_store(path, create=False, read_only=True, below=below)


def fullest(keys: Set[str]) -> tuple[Scale, int]:
    """The scale that needs most of the runs with the keys `keys`, and how many of them it needs."""
    held = {name: sum(run.key in keys for run in possible_runs(scale)) for name, scale in scales.SCALES.items()}
    name = max(held, key=lambda n: held[n])
    return scales.get(name), held[name]


def one_run(store: Store, prefix: str) -> StoredRun:
    """The run whose key begins with `prefix`; `UsageError` if there is none or several, or its record is damaged."""
    keys = store.find(prefix)
    if len(keys) != 1:
        got = f"{len(keys)} that begin with it: {', '.join(keys[:4])}, …" if keys else "none"
        raise UsageError(f"{prefix}: expected the key of one run in {store.path}, got {got}; see `replicate runs list`")
    stored = store.read(keys[0])
    if stored is None:
        raise UsageError(f"{keys[0]}: expected a valid record, got a damaged one; train the run again")
    return stored
