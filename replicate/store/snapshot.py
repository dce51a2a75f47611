"""A view of a store that stays the same while other processes write to the store."""

from __future__ import annotations

from replicate.runs.result import Result
from replicate.runs.run import Run
from replicate.store.store import Store, StoredRun


class Snapshot:
    """Remembers the answer to the first request for each run, so a run that is stored later stays missing.

    A grid around an optimum (bracket) is extended when results arrive: which runs it needs depends on the runs stored.
    If another process stored runs between listing the needed runs and reading them, an unfinished bracket would look
    finished, as all listed runs are there.
    """

    def __init__(self, store: Store | Snapshot) -> None:
        self._store = store
        self._seen: dict[str, StoredRun | None] = {}

    def get(self, run: Run) -> StoredRun | None:
        """The record of `run` or None, as from `Store.get` at the first request."""
        if run.key not in self._seen:
            self._seen[run.key] = self._store.get(run)
        return self._seen[run.key]

    def result(self, run: Run) -> Result | None:
        """The result of `run` or None, as from `Store.result` at the first request."""
        stored = self.get(run)
        return None if stored is None else stored.result
