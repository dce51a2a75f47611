"""This user's folders on this machine, for temporary files and for what all sessions share."""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from pathlib import Path

SCRATCH_VARIABLE = "REPLICATE_SCRATCH"
"""Environment variable with the path of the folder; by default it lies among the temporary files."""
COMMON = Path("/tmp")
"""Where all sessions of a machine look, even one whose TMPDIR is another folder."""


def scratch() -> Path:
    """The folder for temporary files. Raises OSError if it cannot be used."""
    return _own(Path(tempfile.gettempdir()))


def common() -> Path:
    """The folder that sessions with the same `REPLICATE_SCRATCH`, or without it, share. Raises OSError likewise."""
    return _own(COMMON if os.access(COMMON, os.W_OK | os.X_OK) else Path(tempfile.gettempdir()))


def _own(top: Path) -> Path:
    """This user's folder, made if missing: the one that the variable names, else one in `top` that nobody else owns."""
    named = os.environ.get(SCRATCH_VARIABLE)
    folder = Path(named) if named else top / f"replicate-{os.getuid() if hasattr(os, 'getuid') else getpass.getuser()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "getuid"):
        return folder
    found = folder.stat() if named else folder.lstat()  # a link in a shared folder may be another user's
    only_its_owner = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022
    if found.st_uid != os.getuid() or not (named or only_its_owner):
        raise PermissionError(
            f"{folder} is no folder that only its owner may write to, or is somebody else's; "
            f"name another one by {SCRATCH_VARIABLE}"
        )
    return folder
