"""Layout: every name in a store's directory."""

from __future__ import annotations

import secrets
from pathlib import Path

from replicate.store import model_file
from replicate.store.atomic import SUFFIX, temporary_of

OWN_NAMES = {"store.json", "runs", "locks", "leases", "quarantine", "trainings.log", "checkpoints", "rates"}


class Layout:
    """Every name on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.marker = root / "store.json"
        """What makes a directory a store: its format."""
        self.runs = root / "runs"
        self.locks = root / "locks"
        self.leases = root / "leases"
        self.quarantine = root / "quarantine"
        self.trainings = root / "trainings.log"
        """One line a training: key, process id, seconds."""
        self.checkpoints = root / "checkpoints"
        """A folder for each stack that was begun and is not done."""
        self.rates = root / "rates"
        """What was measured of the devices that trained into this store."""

    def price(self, scale: str) -> Path:
        """What a run of `scale` was measured to cost."""
        return self.rates / f"price-{scale}.json"

    def record(self, key: str) -> Path:
        return self.runs / key[:2] / f"{key}.json"

    def model(self, key: str) -> Path:
        """The weights that a run ended with, where they were kept."""
        return self.record(key).with_suffix(model_file.SUFFIX)

    def run_lock(self, key: str) -> Path:
        return self.locks / f"{key}.lock"

    def lease(self, slot: str) -> Path:
        return self.leases / f"{slot}.lock"

    def holder(self, name: str) -> Path:
        """Which process took the lease on a slot, or began a stack, of this name last."""
        return self.leases / f"{name}.holder"

    def set_aside(self, path: Path) -> Path:
        return self.quarantine / f"{path.name}.{secrets.token_hex(4)}"

    def temporary(self, target: Path) -> Path:
        return temporary_of(target)

    @staticmethod
    def is_temporary(name: str) -> bool:
        return name.startswith(".") and name.endswith(SUFFIX)
