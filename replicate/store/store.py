"""The store: finished runs, one sealed JSON record each, in a directory that many processes share.

The record is all that the store knows of a run; there is no index that could disagree with it. A record is written
whole or not at all, and is valid only if no byte has changed. A damaged record is moved to `quarantine/`, a notice
reports it, and its run counts as missing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from replicate.runs.result import Result
from replicate.runs.run import Run
from replicate.store import atomic, marker, model_file
from replicate.store.layout import Layout
from replicate.store.locking import Locking, StoreError, unwritable
from replicate.store.model_file import Keep
from replicate.store.record import FORMAT, Corrupt, NewerFormat, StoredRun, is_key, key_of, parse, seal_run

__all__ = ["FORMAT", "Layout", "Store", "StoreError", "StoredRun", "key_of", "open_store"]

STALE_SECONDS = 3600.0
"""A temporary file older than this, by the file system's clock, is abandoned: a write takes milliseconds."""

WRITE_ATTEMPTS = 3

TRAINING = re.compile(r"([0-9a-f]{24}) ([0-9]{1,18}) ([0-9]{1,18}\.[0-9]{3})")
"""A line of the log of trainings: key, process id, seconds. Lines of any other form are ignored."""

_RECORD_NAME = re.compile(r"([0-9a-f]{24})\.json")

log = logging.getLogger(__name__)


class Store(Locking):
    """An open store, as returned by `open_store`. Safe to share between threads."""

    def __init__(
        self,
        path: Path,
        read_only: bool = False,
        below: Mapping[str, StoredRun] | None = None,
        keep: Keep = Keep.NONE,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.keep = keep
        """Which models training into this store keeps; with `Keep.ALL` a run without its model counts as missing."""
        self.below: Mapping[str, StoredRun] = below or {}
        """Runs kept elsewhere that count as stored (`replicate.store.recorded`); the store's own records come first."""
        self.layout = Layout(path)
        self.notices: list[str] = []
        """Events that users of this store should know about: one line each, in order, without duplicates."""
        self._read: dict[str, tuple[tuple[int, int, int], StoredRun]] = {}
        """Key → (modification time, size, inode) of the file, and its record; a changed file is read again."""
        self._matched: dict[str, StoredRun] = {}
        """Key → record that was found equal to the `Run` passed to `get`; not compared again."""

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}{', read_only=True' if self.read_only else ''})"

    def has(self, key: str) -> bool:
        """Whether there is a record for `key`, valid or not; only `get` checks the record."""
        return (key in self.below or self.layout.record(key).is_file()) and not self._lacks_model(key)

    def keys(self) -> set[str]:
        """The keys of all records, valid or not, and of the runs kept elsewhere (`below`); lists each folder once."""
        own = {match[1] for name, _ in self._files() if (match := _RECORD_NAME.fullmatch(name))}
        return {key for key in own | self.below.keys() if not self._lacks_model(key)}

    def find(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted."""
        return sorted(key for key in self.keys() if key.startswith(prefix))

    def records(self) -> Iterator[StoredRun]:
        """Every valid record, in order of key."""
        for key in sorted(self.keys()):
            if (stored := self.read(key)) is not None:
                yield stored

    def get(self, run: Run) -> StoredRun | None:
        """The record of `run`, or None if there is no valid one.

        A damaged record is moved to the quarantine and reported in `notices`. Raises `StoreError` if the file cannot be
        read or has a newer format.
        """
        stored = None if self._lacks_model(run.key) else self.read(run.key)
        if stored is None or self._matched.get(run.key) is stored:
            return stored
        if stored.run != run.record():
            self._set_aside(self.layout.record(run.key), run.key, f"expected the run {run.record()}, got {stored.run}")
            return None
        self._matched[run.key] = stored
        return stored

    def result(self, run: Run) -> Result | None:
        """The result of `run`, or None if the run is not stored."""
        stored = self.get(run)
        return None if stored is None else stored.result

    def read(self, key: str) -> StoredRun | None:
        """As `get`, for the run with the key `key`. A record in the file of another run's key counts as damaged."""
        if not is_key(key):
            raise StoreError(f"key: expected 24 hexadecimal digits, got {key!r}; see `replicate runs list`")
        path = self.layout.record(key)
        for _ in range(WRITE_ATTEMPTS):
            try:
                status = path.stat()
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
                if (known := self._read.get(key)) is not None and known[0] == seen:
                    return known[1]
                stored = parse(path.read_bytes(), key)
            except FileNotFoundError:
                return self.below.get(key)
            except IsADirectoryError:
                why = "expected a file, got a directory"
            except Corrupt as corrupt:
                why = str(corrupt)
            except NewerFormat as newer:
                raise StoreError(
                    f"{path}: {newer}; upgrade replicate or name another directory with --store"
                ) from newer
            except OSError as error:
                raise StoreError(f"cannot read {path}: {error.strerror}; make it readable or delete it") from error
            else:
                self._read[key] = (seen, stored)
                return stored
            if self._set_aside(path, key, why):
                return self.below.get(key)
        return self.below.get(key)

    def put(self, run: Run, result: Result, provenance: dict[str, Any], *, durable: bool = True) -> StoredRun:
        """Store the result of `run`, whole or not at all, and return its record. Two processes may store the same run.

        Args:
            run: The run that was trained.
            result: The result of the training.
            provenance: What the result was made with, as `replicate.store.provenance.collect` returns it: JSON types.
            durable: Wait until the record is on disk; False for results that are quickly made again.

        Raises:
            StoreError: The store is read-only or cannot be written.
        """
        blob = seal_run(run, result, provenance)
        self._write(self.layout.record(run.key), blob, durable)
        return parse(blob, run.key)

    def put_sealed(self, run: Run, blob: bytes) -> StoredRun:
        """Store the record of `run` whose bytes are `blob`, from `seal_run`; raises `Corrupt` if they are not valid."""
        stored = parse(blob, run.key)
        self._write(self.layout.record(run.key), blob)
        return stored

    def put_model(self, key: str, blob: bytes) -> None:
        """Keep `blob`, the model file of the run `key`. Call this before `put`, which marks the run as finished."""
        self._write(self.layout.model(key), blob)

    def model_file(self, key: str) -> bytes:
        """The bytes of the model kept for the run `key`, checked; raises `StoreError` if there is no valid one."""
        stored, path = self.read(key), self.layout.model(key)
        if stored is None:
            raise StoreError(f"run {key}: expected a record in {self.path}, got none; see `replicate runs list`")
        try:
            blob = path.read_bytes()
            model_file.check(blob, key, stored.content)
        except FileNotFoundError:
            why = "it diverged" if stored.result.diverged else "it was trained without --keep-models"
            raise StoreError(f"run {key}: expected its model in {path}, got none: {why}") from None
        except Corrupt as why:
            raise StoreError(f"{path} is corrupt ({why}); `replicate fsck --repair` sets it aside") from why
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}; make it readable or delete it") from error
        return blob

    def without_model(self, runs: Iterable[Run]) -> list[Run]:
        """The members of `runs` that are stored without their model, apart from diverged runs, which never have one."""
        return [run for run in runs if self._without_model(run.key)]

    @property
    def keeps_models(self) -> bool:
        """Whether training into this store keeps models."""
        return self.keep is not Keep.NONE

    def _lacks_model(self, key: str) -> bool:
        """Whether the run `key` counts as missing because its model is (with `Keep.ALL`); diverged runs need none."""
        return self.keep is Keep.ALL and self._without_model(key)

    def _without_model(self, key: str) -> bool:
        if self.layout.model(key).is_file():
            return False
        stored = self.read(key)
        return stored is not None and not stored.result.diverged and not stored.synthetic

    def log_training(self, key: str, seconds: float) -> None:
        """Append a line to the log of trainings: the run `key` took `seconds`. Several processes may append at once."""
        try:
            fd = os.open(self.layout.trainings, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(fd, f"{key} {os.getpid()} {seconds:.3f}\n".encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise unwritable(self.layout.trainings, error) from error

    def trainings(self) -> list[tuple[str, int, float]]:
        """Key, process id and seconds of every training that ended in this store, oldest first."""
        try:
            lines = self.layout.trainings.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        found = (TRAINING.fullmatch(line) for line in lines)
        return [(line[1], int(line[2]), float(line[3])) for line in found if line]

    def content_hash(self, keys: Iterable[str]) -> str:
        """A hash (16 hexadecimal digits) of the results of the runs `keys`, in any order; a missing run changes it."""
        digest = hashlib.sha256()
        for key in sorted(set(keys)):
            stored = self.read(key)
            digest.update(f"{key} {'missing' if stored is None else stored.content}\n".encode())
        return digest.hexdigest()[:16]

    def note(self, text: str) -> None:
        """Add `text` to `notices`, the lines for the user, and log it as a warning, unless it is there already."""
        if text not in self.notices:
            self.notices.append(text)
            log.warning(text)

    def clear_temporaries(self, now: float) -> int:
        """Delete abandoned temporary files and return how many; `now` is the time by the file system's clock."""
        swept = 0
        with os.scandir(self.path) as entries:
            top = [(e.name, self.path) for e in entries]
        for name, folder in [*top, *self._files()]:
            if Layout.is_temporary(name):
                path = folder / name
                try:
                    if now - path.stat().st_mtime > STALE_SECONDS:
                        path.unlink()
                        swept += 1
                except FileNotFoundError:
                    continue
        return swept

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Name and folder of every file in the subfolders of `runs/`."""
        try:
            with os.scandir(self.layout.runs) as entries:
                shards = [Path(e.path) for e in entries]
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot list {self.layout.runs}: {error.strerror}; make it readable") from error
        for shard in shards:
            try:
                with os.scandir(shard) as entries:
                    names = [e.name for e in entries]
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise StoreError(f"cannot list {shard}: {error.strerror}; make it readable") from error
            yield from ((name, shard) for name in names)

    def _set_aside(self, path: Path, key: str, why: str) -> bool:
        """Move the damaged record `path` to quarantine/; False if another process has replaced it with a valid one."""
        self._read.pop(key, None)
        name = path.relative_to(self.path).as_posix()
        if self.read_only:
            self.note(f"record {name} is corrupt ({why}): its run counts as missing; a read-only store keeps the file")
            return True
        target = self.layout.set_aside(path)
        try:
            target.parent.mkdir(exist_ok=True)
            path.replace(target)
        except FileNotFoundError:
            return False  # another process has moved it
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            parse(target.read_bytes(), key)
        except (Corrupt, OSError):
            place = target.relative_to(self.path).as_posix()
            self.note(f"record {name} is corrupt ({why}): moved to {place}; the run is trained again")
            return True
        except NewerFormat:
            pass
        target.replace(path)  # another process had just written a valid record: put it back
        return False

    def _write(self, target: Path, blob: bytes, durable: bool = True) -> None:

        if self.read_only:
            raise StoreError(f"cannot write {target}: the store was opened read-only")
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                atomic.write(target, blob, durable=durable)
                return
            except FileNotFoundError as error:  # deleted as abandoned by a process whose clock had jumped
                if attempt == WRITE_ATTEMPTS:
                    raise unwritable(target, error) from error
            except OSError as error:
                raise unwritable(target, error) from error


def open_store(
    path: str | os.PathLike[str],
    create: bool = True,
    read_only: bool = False,
    below: Mapping[str, StoredRun] | None = None,
    keep: Keep = Keep.NONE,
) -> Store:
    """Open the store at `path`.

    Unless `read_only`, a test file is written, as permissions do not show that a disk is full or a file system is
    read-only.

    Args:
        path: The store's directory.
        create: Make the directory if it does not exist.
        read_only: Write nothing; damaged records stay where they are.
        below: Key → run kept elsewhere that counts as stored. Unless `below` is empty, a missing directory that is
            opened `read_only` counts as an empty store, which `notices` reports.
        keep: Which models training into the store keeps.

    Raises:
        StoreError: The store cannot be read or, unless `read_only`, cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     len(open_store(folder).keys())
    0
    """
    if not os.fspath(path):
        raise StoreError("store: expected the name of a directory, got an empty name; name one with --store")
    root = Path(path).absolute()
    try:
        exists = _directory_exists(root)
        if not exists and read_only and below:
            found = Store(root, read_only, below, keep)
            found.note(
                f"store {path} does not exist: only the {len(below)} runs recorded with the source code are used"
            )
            return found
        if not exists and (read_only or not create):
            raise StoreError(f"store {path}: expected a directory, but there is none; train first, or check the path")
        if not exists:
            root.mkdir(parents=True, exist_ok=True)
        store = Store(root, read_only, below, keep)
        marked = marker.check(store)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(
            f"store {path}: expected a directory that can be read or made, got {reason!r}; name another with --store"
        ) from error
    if not read_only:
        try:
            store.clear_temporaries(marker.write_test(store, marked))
        except OSError as error:
            raise StoreError(
                f"store {path}: expected a directory that can be written, got {error.strerror!r}; make it writable, "
                "name another with --store, or judge the stored runs with --offline"
            ) from error
    return store


def _directory_exists(root: Path) -> bool:
    try:
        entries = os.scandir(root)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise StoreError(f"store {root}: expected a directory, got a file; name a directory with --store") from None
    entries.close()
    return True
