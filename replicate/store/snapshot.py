"""A view of a store that stays the same while other processes write to the store."""

from __future__ import annotations

from replicate.runs.result import Result
from replicate.runs.run import Run
from replicate.store.store import Store, StoredRun


class Snapshot:
    """Looks each run up once, so runs that are stored after the first look are not seen.

    The runs that an adaptive bracket needs depend on the runs that are stored. If other processes store runs between
    listing the needed runs and reading them, all listed runs may be stored, and an unfinished bracket looks finished.
    """

    def __init__(self, store: Store | Snapshot) -> None:
        self._store = store
        self._seen: dict[str, StoredRun | None] = {}

    def get(self, run: Run) -> StoredRun | None:
        """As `Store.get`."""
        if run.key not in self._seen:
            self._seen[run.key] = self._store.get(run)
        return self._seen[run.key]

    def result(self, run: Run) -> Result | None:
        """As `Store.result`."""
        stored = self.get(run)
        return None if stored is None else stored.result
