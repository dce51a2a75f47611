"""A folder of findings: a JSON file each, written whole as soon as something is known, so that a later call goes on."""

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
    """What has been found so far in `folder`. Several processes may write, each other names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> Found | None:
        """What was found under `name`, an error included; None where nothing was, or the file cannot be read."""
        try:
            found = json.loads(self._path(name).read_bytes())  # with nan, which a device may well compute
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def good(self, name: str) -> Found | None:
        """What was found under `name`, unless that is an error."""
        found = self.get(name)
        return None if found is None or "error" in found else found

    def put(self, name: str, **found: Any) -> None:
        """Write down what was found under `name`, in place of what was there."""
        atomic.write_text(self._path(name), json.dumps(found, indent=1) + "\n")

    def fail(self, name: str, error: object) -> None:
        """Write down why nothing was found under `name`; the next call tries again."""
        self.put(name, error=one_line(error) or type(error).__name__)

    def timing(self) -> AbstractContextManager[Any]:
        """While inside, this process alone has the device: nothing else is timed or trained on it by `ci/gpu`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / "timing.lock")

    def _path(self, name: str) -> Path:
        return self.folder / "findings" / f"{name}.json"
