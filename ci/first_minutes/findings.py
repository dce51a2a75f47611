"""A folder of findings, one JSON file each, written as soon as it is known, so that a later call can continue."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock

from replicate.store import atomic
from replicate.text import one_line

Found = dict[str, Any]


class Findings:
    """The findings in `folder`. Several processes may write at once, each under names of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> Found | None:
        """The finding `name`, which may be an error; None if there is none or its file cannot be read."""
        try:
            found = json.loads(self._path(name).read_bytes())  # NaN is allowed: a device may compute it
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def good(self, name: str) -> Found | None:
        """The finding `name`; None if there is none or it is an error."""
        found = self.get(name)
        return None if found is None or "error" in found else found

    def put(self, name: str, **found: Any) -> None:
        """Write the finding `name`, replacing an earlier one."""
        atomic.write_text(self._path(name), json.dumps(found, indent=1) + "\n")

    def fail(self, name: str, error: object) -> None:
        """Write `error` as the finding `name`; the next call tries again."""
        self.put(name, error=one_line(error) or type(error).__name__)

    def timing(self) -> AbstractContextManager[Any]:
        """A lock: inside it, no other process of `ci/gpu` times or trains anything on the device."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / "timing.lock")

    def _path(self, name: str) -> Path:
        return self.folder / "findings" / f"{name}.json"
