"""A store as it was when it was asked, while others go on writing to it."""

from __future__ import annotations

from replicate.runs.result import Result
from replicate.runs.run import Run
from replicate.store.store import Store, StoredRun


class Snapshot:
    """Looks each run up once: what others store afterwards is not seen.

    Which runs a bracket in rounds needs depends on those that are there. Asked twice, a store that is being filled
    answers with the needs of an earlier moment and the runs of a later one, and a bracket that is not done passes for
    one that is.
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
