"""This user's folders on this machine, for temporary files and for files that all sessions share."""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from pathlib import Path

SCRATCH_VARIABLE = "REPLICATE_SCRATCH"
"""Environment variable with the path of this user's folder; if unset, the folder is made among the temporary files."""
COMMON = Path("/tmp")
"""The parent of the folder that all sessions of a user share, even sessions with another TMPDIR."""


def scratch() -> Path:
    """The folder for temporary files. Raises OSError if it cannot be used."""
    return _own(Path(tempfile.gettempdir()))


def common() -> Path:
    """The folder that sessions with equal `REPLICATE_SCRATCH` share. Raises OSError if it cannot be used."""
    return _own(COMMON if os.access(COMMON, os.W_OK | os.X_OK) else Path(tempfile.gettempdir()))


def _own(top: Path) -> Path:
    """This user's folder, made if missing: the one that `REPLICATE_SCRATCH` names, else one in `top`."""
    named = os.environ.get(SCRATCH_VARIABLE)
    folder = Path(named) if named else top / f"replicate-{os.getuid() if hasattr(os, 'getuid') else getpass.getuser()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "getuid"):
        return folder
    found = folder.stat() if named else folder.lstat()  # a link in a shared folder may be another user's
    only_its_owner = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022
    if found.st_uid != os.getuid() or not (named or only_its_owner):
        raise PermissionError(
            f"{folder}: expected a folder of this user alone, got one that others own or may write to; "
            f"set {SCRATCH_VARIABLE} to another folder"
        )
    return folder
