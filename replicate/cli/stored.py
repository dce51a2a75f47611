"""The store that a command reads, with the runs recorded for a scale below it."""

from __future__ import annotations

from replicate import recorded
from replicate.scales import Scale
from replicate.store import Store, open_store


def to_read(path: str, scale: Scale | None = None) -> Store:
    """The store at `path`, unchanged; StoreError where there is none and nothing is recorded for `scale` either."""
    below = recorded.of_scale(scale.name) if scale else None
    return open_store(path, create=False, read_only=True, below=below)
