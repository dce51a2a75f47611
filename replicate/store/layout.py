"""Layout: every name in a store's directory."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from replicate.store.atomic import SUFFIX, temporary_of

OWN_NAMES = {"store.json", "runs", "locks", "leases", "quarantine", "trainings.log", "checkpoints", "rates"}


@dataclass(frozen=True)
class Layout:
    """Every name on disk."""

    root: Path

    @property
    def marker(self) -> Path:
        """What makes a directory a store: its format."""
        return self.root / "store.json"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def trainings(self) -> Path:
        """One line a training: key, process id, seconds."""
        return self.root / "trainings.log"

    @property
    def checkpoints(self) -> Path:
        """A folder for each stack that was begun and is not done."""
        return self.root / "checkpoints"

    @property
    def rates(self) -> Path:
        """What was measured of the devices that trained into this store."""
        return self.root / "rates"

    def price(self, scale: str) -> Path:
        """What a run of `scale` was measured to cost."""
        return self.rates / f"price-{scale}.json"

    def record(self, key: str) -> Path:
        return self.runs / key[:2] / f"{key}.json"

    def run_lock(self, key: str) -> Path:
        return self.root / "locks" / f"{key}.lock"

    def lease(self, slot: str) -> Path:
        return self.root / "leases" / f"{slot}.lock"

    def holder(self, name: str) -> Path:
        """Which process took the lease on a slot, or began a stack, of this name last."""
        return self.root / "leases" / f"{name}.holder"

    def set_aside(self, path: Path) -> Path:
        return self.quarantine / f"{path.name}.{secrets.token_hex(4)}"

    def temporary(self, target: Path) -> Path:
        return temporary_of(target)

    @staticmethod
    def is_temporary(name: str) -> bool:
        return name.startswith(".") and name.endswith(SUFFIX)
