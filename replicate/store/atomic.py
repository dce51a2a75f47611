"""Files that are written whole or not at all: a temporary file beside the target, fsync, rename."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

SUFFIX = ".tmp"


def temporary_of(target: Path) -> Path:
    """A random name for a hidden temporary file in the folder of `target`, which no other writer chooses."""
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}{SUFFIX}")


@contextlib.contextmanager
def written(target: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file to write to, which replaces `target` at the end of the block; after an error `target` stays as it was.

    The folder must exist. With `durable` False the file is not synced to disk: for files that can be made again.
    """
    temporary = temporary_of(target)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync_folder(target.parent)


def write(target: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write `content` (text as UTF-8) to `target`, whole or not at all; with `durable`, wait until it is on disk."""
    with written(target, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def clock(folder: Path) -> float:
    """The time by the clock of the file system of `folder`, which may differ from this machine's clock.

    It is read from a file that is made in `folder` and deleted; if none can be made, this is this machine's time.
    """
    probe = temporary_of(folder / "clock")
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, on systems that can sync folders."""
    if os.name == "posix":
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all, making its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, text)
