"""`--data` of the commands that read images: whatever process trains finds the folder by the variable."""

from __future__ import annotations

import os

from replicate.data.source import DATA_VARIABLE, expanded
from replicate.text import UsageError


def use(folder: str | None) -> None:
    """Have images read from `folder`; None: from where they are by default."""
    if folder is None:
        return
    if not folder:
        raise UsageError("--data: expected a folder, got an empty name; leave the option out for the usual one")
    os.environ[DATA_VARIABLE] = str(expanded(folder).absolute())
