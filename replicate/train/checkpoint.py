"""Checkpoints: tensors and plain values to a file that is there whole or not at all, and back without running code.

A file is its SHA-256 in hexadecimal, a line feed, and what `torch.save` writes. A file that fails its checksum, is cut
off, or was written for other work counts as none, with a word: training starts over, and the file is overwritten.
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
from replicate.train.contract import Stopped

log = logging.getLogger(__name__)

FORMAT = 2
SAVE_SECONDS = 300.0
"""Between two checkpoints of a training."""
MOST_SHARE = 0.01
"""Share of a training that its checkpoints may take: those that take long come less often."""

_DIGEST = 64
_CHUNK = 1 << 20

Notice = Callable[[str], None]


class CheckpointError(Exception):
    """A checkpoint that cannot be written; the message is one line."""


class Checkpoint:
    """The file for one piece of work, whose parts are named by `identity`: equal work, equal file.

    One process at a time may use it: the one that holds the locks of the runs in question.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Sequence[str], notice: Notice) -> None:
        text = json.dumps([FORMAT, *identity], separators=(",", ":"))
        self.identity = hashlib.sha256(text.encode()).hexdigest()
        self.path = Path(folder, f"{self.identity[:24]}.checkpoint")
        self._notice = notice

    @classmethod
    def of_training(
        cls, folder: str | os.PathLike[str], way: str, device: str, runs: Sequence[Run], notice: Notice
    ) -> Checkpoint:
        """That of `runs` under this `way` of computing, kind of device and torch: same bits, or not gone on from."""
        return cls(folder, [way, device.partition(":")[0], torch.__version__, *(run.key for run in runs)], notice)

    def save(self, state: dict[str, Any]) -> None:
        """Write `state`: tensors, and lists and dicts of plain values."""
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
            # What cannot be written, torch may raise as an error of its own.
            cause = error if isinstance(error, OSError) else None if body is None else body.failed
            if cause is None:
                raise
            raise CheckpointError(
                f"cannot write {self.path}: {cause.strerror or cause}; make room or make it writable"
            ) from error

    def load(self, device: str) -> dict[str, Any] | None:
        """What was saved last, its tensors on `device`; None where there is nothing that can be believed."""
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
        """Delete the file: the work is done. One that stays does no harm, and goes with its folder."""
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
                raise _Unusable(f"expected that of {self.identity[:12]}…, got that of {found['identity'][:12]}…")
            state: dict[str, Any] = found["state"]
        except _Unusable:
            raise
        except Exception as error:  # torch.load fails in any way on what it was not written by
            words = next(iter(str(error).splitlines()), "no message")
            raise _Unusable(f"{type(error).__name__}: {words}") from error
        return state

    def _sweep(self) -> None:
        """Delete what writers of this file that were killed have left."""
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            left.unlink(missing_ok=True)


@dataclass
class Saver:
    """Saves a training now and then, and when it is asked to stop; into nothing where there is no checkpoint."""

    checkpoint: Checkpoint | None = None
    seconds: float = SAVE_SECONDS
    """Between two times, at least; 0: after every step, whatever it takes."""
    stopping: Callable[[], bool] = lambda: False
    """Asked after every step."""
    notice: Notice = log.warning

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.seconds

    def load(self, device: str) -> dict[str, Any] | None:
        """What was saved last, if anything was."""
        return None if self.checkpoint is None else self.checkpoint.load(device)

    def after_step(self, state: Callable[[], dict[str, Any]], where: str) -> None:
        """Save `state()` if it is time to or the training is to stop: then `Stopped` is raised, and says `where`."""
        stopping, started = self.stopping(), time.monotonic()
        if self.checkpoint is not None and (stopping or started >= self._due):
            try:
                self.checkpoint.save(state())
            except CheckpointError as error:
                self.notice(f"{error}; training goes on without")
            now = time.monotonic()
            self._due = now + (self.seconds and max(self.seconds, (now - started) / MOST_SHARE))
        if stopping:
            raise Stopped(f"asked to stop after {where}")

    def done(self) -> None:
        """The training has ended: nothing is kept of it."""
        if self.checkpoint is not None:
            self.checkpoint.discard()


def _check_stored(file: IO[bytes]) -> None:
    """Raises where `file` holds no zip archive, or one that would unpack to more than its own size."""
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > size:
            raise _Unusable("expected an archive that is stored as it is, got a compressed one")


class _Unusable(Exception):
    """A file that cannot be believed, and why."""


class _Hashed(io.RawIOBase):
    """Passes on what is written and hashes it: a checkpoint may be too large for a second copy in memory."""

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
