"""Scratch: this user's folders on this machine, for what need not outlive it and what its sessions share."""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from pathlib import Path

SCRATCH_VARIABLE = "REPLICATE_SCRATCH"
"""Names the folder; default: one among the temporary files."""
COMMON = Path("/tmp")
"""Where all sessions of a machine look, also one that was given another folder for its temporary files."""


def scratch() -> Path:
    """For what can be made again. Raises OSError where it cannot be had."""
    return _own(Path(tempfile.gettempdir()))


def common() -> Path:
    """For what all sessions must find: the same folder for each that has the same `REPLICATE_SCRATCH`, or none."""
    return _own(COMMON if os.access(COMMON, os.W_OK | os.X_OK) else Path(tempfile.gettempdir()))


def _own(top: Path) -> Path:
    """This user's folder: the one that is named, else one in `top`, where others could have put theirs first."""
    named = os.environ.get(SCRATCH_VARIABLE)
    folder = Path(named) if named else top / f"replicate-{os.getuid() if hasattr(os, 'getuid') else getpass.getuser()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "getuid"):
        return folder
    found = folder.stat() if named else folder.lstat()  # a link among the temporary files may be somebody else's
    only_its_owner = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022
    if found.st_uid != os.getuid() or not (named or only_its_owner):
        raise PermissionError(
            f"{folder} is no folder that only its owner may write to, or is somebody else's; "
            f"name another one by {SCRATCH_VARIABLE}"
        )
    return folder
