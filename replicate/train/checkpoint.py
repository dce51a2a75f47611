"""Checkpoints: tensors and plain values in a file that is written atomically and read without running any code.

A file holds its SHA-256 in hexadecimal, a line feed, and the output of `torch.save`. A file that is cut off, fails its
checksum or was written for other runs is ignored with a notice: training starts over and overwrites it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch

from replicate.runs.run import Run
from replicate.store import atomic
from replicate.text import one_line
from replicate.train.contract import Stopped, Workspace

log = logging.getLogger(__name__)

FORMAT = 2
MOST_SHARE = 0.01
"""Largest share of the training time that saving checkpoints may take: if saving is slow, checkpoints are rarer."""

_DIGEST = 64
_CHUNK = 1 << 20

Notice = Callable[[str], None]


class CheckpointError(Exception):
    """A checkpoint could not be written; the message is one line."""


class Checkpoint:
    """A checkpoint file in `folder`, whose name is a hash of `identity`, the strings that tell what is trained and how.

    Only one process may use the file at a time: the process that holds the locks of the runs.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Sequence[str], notice: Notice) -> None:
        text = json.dumps([FORMAT, *identity], separators=(",", ":"))
        self.identity = hashlib.sha256(text.encode()).hexdigest()
        self.path = Path(folder, f"{self.identity[:24]}.checkpoint")
        self._notice = notice

    def save(self, state: dict[str, Any]) -> None:
        """Write `state`, made of tensors, plain values, lists and dicts. Raises CheckpointError if writing fails."""
        body: _Hashed | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.written(self.path) as file:
                file.write(b" " * _DIGEST + b"\n")
                body = _Hashed(file)
                torch.save({"identity": self.identity, "state": state}, cast("IO[bytes]", body))
                file.seek(0)
                file.write(body.digest.hexdigest().encode())
        except (OSError, RuntimeError) as error:
            # torch may turn an OSError from the file into a RuntimeError of its own.
            cause = error if isinstance(error, OSError) else None if body is None else body.failed
            if cause is None:
                raise
            raise CheckpointError(
                f"cannot write {self.path}: {cause.strerror or cause}; make room or make it writable"
            ) from error

    def load(self, device: str) -> dict[str, Any] | None:
        """The state saved last, with its tensors on `device`; None if there is no valid file."""
        try:
            self._sweep()
            with self.path.open("rb") as file:
                return self._read(file, device)
        except FileNotFoundError:
            return None
        except _Unusable as why:
            self._notice(one_line(f"checkpoint {self.path.name}: {why}; training starts over"))
        except OSError as error:
            self._notice(f"checkpoint {self.path.name}: cannot be read ({error.strerror}); training starts over")
        return None

    def discard(self) -> None:
        """Delete the checkpoint; if deleting fails, the file is deleted later with its folder."""
        with contextlib.suppress(OSError):
            self._sweep()
            self.path.unlink(missing_ok=True)

    def _read(self, file: IO[bytes], device: str) -> dict[str, Any]:
        head = file.read(_DIGEST + 1)
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        if head != digest.hexdigest().encode() + b"\n":
            given = head[:12].decode("ascii", "replace")
            raise _Unusable(f"expected SHA-256 {digest.hexdigest()[:12]}…, got {given}…: cut off or altered")
        try:
            _check_stored(file)
            file.seek(_DIGEST + 1)
            found = torch.load(file, map_location=device, weights_only=True)
            if found["identity"] != self.identity:
                raise _Unusable(
                    f"expected a checkpoint with identity {self.identity[:12]}…, got {found['identity'][:12]}…"
                )
            state: dict[str, Any] = found["state"]
        except _Unusable:
            raise
        except Exception as error:  # torch.load raises all kinds of errors on a damaged file
            words = next(iter(str(error).splitlines()), "no message")
            raise _Unusable(f"{type(error).__name__}: {words}") from error
        return state

    def _sweep(self) -> None:
        """Delete the temporary files of writers that were killed."""
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            left.unlink(missing_ok=True)


@dataclass
class Saver:
    """Saves a training at intervals, and when it is asked to stop; saves nothing if `checkpoint` is None."""

    checkpoint: Checkpoint | None = None
    seconds: float = Workspace.checkpoint_seconds
    stopping: Callable[[], bool] = lambda: False
    notice: Notice = log.warning

    @classmethod
    def of_training(cls, workspace: Workspace, way: str, device: str, runs: Sequence[Run]) -> Saver:
        """The saver for training `runs` in `workspace`; `way`: a name for the trainer and its settings.

        A checkpoint is resumed only with the same `way`, kind of device and version of torch, so that the result has
        the same bits as without the interruption.
        """
        checkpoint = None
        if workspace.checkpoints is not None:
            identity = [way, device.partition(":")[0], torch.__version__, *(run.key for run in runs)]
            checkpoint = Checkpoint(workspace.checkpoints, identity, workspace.notice)
        return cls(checkpoint, workspace.checkpoint_seconds, workspace.stopping, workspace.notice)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.seconds

    def load(self, device: str) -> dict[str, Any] | None:
        """As `Checkpoint.load`."""
        return None if self.checkpoint is None else self.checkpoint.load(device)

    def after_step(self, state: Callable[[], dict[str, Any]], where: str) -> None:
        """Save `state()` if due or if `stopping()`; if `stopping()`, raise `Stopped` with `where` in its message."""
        stopping, started = self.stopping(), time.monotonic()
        if self.checkpoint is not None and (stopping or started >= self._due):
            try:
                self.checkpoint.save(state())
            except CheckpointError as error:
                self.notice(f"{error}; training goes on without a checkpoint")
            now = time.monotonic()
            self._due = now + (self.seconds and max(self.seconds, (now - started) / MOST_SHARE))
        if stopping:
            raise Stopped(f"stopped on request after {where}")

    def done(self) -> None:
        """Delete the checkpoint: the training has ended."""
        if self.checkpoint is not None:
            self.checkpoint.discard()


def _check_stored(file: IO[bytes]) -> None:
    """Raise an error if `file` is not a zip archive, or is an archive that would unpack to more than its own size."""
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > size:
            raise _Unusable("expected an uncompressed archive, got a compressed one")


class _Unusable(Exception):
    """A file is not a valid checkpoint of these runs; the message says why."""


class _Hashed(io.RawIOBase):
    """Hashes data while writing it to a file, because a checkpoint may be too large for a second copy in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.failed: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.failed = error
            raise
        return len(data)
