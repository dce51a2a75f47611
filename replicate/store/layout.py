"""The names of all files in a store's directory."""

from __future__ import annotations

import secrets
from pathlib import Path

from replicate.store import model_file
from replicate.store.atomic import SUFFIX, temporary_of

OWN_NAMES = {"store.json", "runs", "locks", "leases", "quarantine", "trainings.log", "checkpoints", "rates"}


class Layout:
    """The paths in the store at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.marker = root / "store.json"
        """The file that makes the directory a store; names its format and kind of locks."""
        self.runs = root / "runs"
        self.locks = root / "locks"
        self.leases = root / "leases"
        self.quarantine = root / "quarantine"
        self.trainings = root / "trainings.log"
        """One line per training: key, process id, seconds."""
        self.checkpoints = root / "checkpoints"
        """One folder for each stack that is in progress or was interrupted."""
        self.rates = root / "rates"
        """Measured speeds of devices."""

    def price(self, scale: str) -> Path:
        """The file with the seconds that a run of `scale` takes, as measured by `replicate plan --measure`."""
        return self.rates / f"price-{scale}.json"

    def record(self, key: str) -> Path:
        return self.runs / key[:2] / f"{key}.json"

    def model(self, key: str) -> Path:
        """The file with the final weights of a run; missing if they are not kept."""
        return self.record(key).with_suffix(model_file.SUFFIX)

    def run_lock(self, key: str) -> Path:
        return self.locks / f"{key}.lock"

    def lease(self, slot: str) -> Path:
        return self.leases / f"{slot}.lock"

    def holder(self, name: str) -> Path:
        """The file that says which process last locked the device slot, or began the stack of runs, with this name."""
        return self.leases / f"{name}.holder"

    def set_aside(self, path: Path) -> Path:
        return self.quarantine / f"{path.name}.{secrets.token_hex(4)}"

    def temporary(self, target: Path) -> Path:
        return temporary_of(target)

    @staticmethod
    def is_temporary(name: str) -> bool:
        return name.startswith(".") and name.endswith(SUFFIX)
