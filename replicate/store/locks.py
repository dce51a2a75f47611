"""Locks by heartbeat, for file systems whose own locks cannot be relied on.

A lock is a file that names its holder, and the holder touches the file every few seconds. Another process may take the
lock over once it has seen the file untouched for a minute by its own monotonic clock. Clocks of two machines are never
compared, so a clock that jumps cannot take a lock away. A holder that hangs for over a minute loses its lock, and when
it resumes, two processes do the same work: these locks suit only work that may be done twice without harm.

filelock's own lease is not used: a machine that dies just after taking a lease leaves an empty file, which filelock
regards as held for ever.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Protocol

from msgspec import Meta

from replicate.store import atomic
from replicate.store.strict import Malformed, decode

KERNEL, HEARTBEAT = "kernel", "heartbeat"
KINDS = (KERNEL, HEARTBEAT)
VARIABLE = "REPLICATE_LOCKS"
"""The environment variable that names the kind of locks of a new store."""

BEAT_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""Seconds without a heartbeat after which a lock is taken over. Chosen longer than network file systems cache the
attributes of an open file, and longer than a healthy holder ever hangs."""
POLL_SECONDS = 0.05

NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

Seen = tuple[int, bytes]
"""A lock file's modification time, in nanoseconds by the file system's clock, and its content."""


class Lock(Protocol):
    """The interface of all locks."""

    def acquire(self, timeout: float | None = None, *, blocking: bool | None = None) -> Any:
        """Take the lock, waiting up to `timeout` seconds (None: for ever; not at all if `blocking` is False), or raise
        `filelock.Timeout`."""

    def release(self) -> None:
        """Release the lock; does nothing if it is not held."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: Any) -> None: ...


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock, as named in the lock's file."""

    host: str
    pid: Annotated[int, Meta(gt=0, lt=2**31)]
    since: str
    """When the process took the lock, in UTC by its own clock."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


@dataclass(frozen=True)
class _LockHolder(Holder):
    """The fields of a lock's file that identify its holder; the random token in the file is not read."""

    space: str
    """The boot and container in which `pid` is unique, as `_process_space` names them."""


def this_process() -> dict[str, Any]:
    """This process's host and id and the time, as `holder` reads them."""
    since = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {"host": platform.node(), "pid": os.getpid(), "since": since}


def holder(path: Path) -> Holder | None:
    """The process that the file at `path` names; None if there is no such file or it cannot be read."""
    try:
        return decode(path.read_bytes(), Holder)
    except (OSError, Malformed):
        return None


class HeartbeatLock:
    """A heartbeat lock in the file `path`, whose folder must exist; not reentrant. OSError if `path` is unwritable."""

    def __init__(self, path: Path, say: Callable[[str], None] = lambda _: None) -> None:
        """`say`, called in any thread, gets a line when this lock is taken over from another process or lost to one."""
        self.path = path
        self._say = say
        self._token = ""
        self._missed = False

    @property
    def is_locked(self) -> bool:
        """Whether this object took the lock and has not released it; another process may have taken it over since."""
        return bool(self._token)

    def acquire(
        self, timeout: float | None = None, *, blocking: bool | None = None
    ) -> AbstractContextManager[HeartbeatLock]:
        """As `Lock.acquire`; returns a context manager that releases the lock."""
        from filelock import Timeout  # slow to import

        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        while not self._try():
            if blocking is False or (deadline is not None and time.monotonic() >= deadline):
                raise Timeout(str(self.path))
            time.sleep(POLL_SECONDS)
        return _releasing(self)

    def release(self) -> None:
        """Release the lock; if another process has taken it over, that process keeps it."""
        if not self._token:
            return
        _heartbeats.forget(self)
        if self._is_ours(_look(self.path)):
            self.path.unlink(missing_ok=True)
        self._token = ""

    def __enter__(self) -> HeartbeatLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def beat(self) -> bool:
        """Touch the file: the holder lives. If another process took the lock over, report that and return False."""
        try:
            seen = _look(self.path)
            if self._is_ours(seen):
                os.utime(self.path)
                self._missed = False
            elif self._missed:  # a single miss may be another process that moves the file aside to look at it
                self._say(
                    f"lock {self.path.name}: taken over by another process, since this process was silent for "
                    f"{SILENT_SECONDS:g} s; work that both have begun is done twice, with equal results"
                )
                return False
            else:
                self._missed = True
        except OSError:
            pass  # the file server does not answer; if that takes long, a later beat finds the lock taken over
        return True

    def _is_ours(self, seen: Seen | None) -> bool:
        return seen is not None and f'"token": "{self._token}"'.encode() in seen[1]

    def _try(self) -> bool:
        if self._token:
            raise RuntimeError(f"{self.path}: this object already holds the lock")
        seen = _look(self.path)
        gone = seen is not None and _is_gone(seen)
        if seen is not None and not gone and _silent_seconds(self.path, seen) < SILENT_SECONDS:
            return False
        if seen is not None and not _removed(self.path, seen):
            return False
        _watched.pop(self.path, None)
        token = secrets.token_hex(8)
        if not _created(self.path, json.dumps({**this_process(), "space": _process_space(), "token": token}).encode()):
            return False
        self._token, self._missed = token, False
        _heartbeats.remember(self)
        if seen is not None and not gone:
            self._say(f"lock {self.path.name}: taken over because its holder was silent for {SILENT_SECONDS:g} s")
        return True


@contextlib.contextmanager
def _releasing(lock: HeartbeatLock) -> Iterator[HeartbeatLock]:
    try:
        yield lock
    finally:
        lock.release()


def is_held(path: Path, now: float) -> bool:
    """Whether the lock at `path` was touched in the minute before `now` (file system's clock); for reports only."""
    seen = _look(path)
    return seen is not None and not _is_gone(seen) and now - seen[0] / 1e9 < SILENT_SECONDS


_watched: dict[Path, tuple[Seen, float]] = {}
"""Lock file that this process waits for → its state as last seen, and the monotonic time since when it is so."""


def _silent_seconds(path: Path, seen: Seen) -> float:
    """Seconds for which this process has seen the lock file `path` in the state `seen`, unchanged."""
    now = time.monotonic()
    before, since = _watched.get(path, (None, now))
    if before != seen:
        _watched[path] = (seen, now)
        return 0.0
    return now - since


@lru_cache(maxsize=1)
def _process_space() -> str:
    """An id of the machine's current boot and of the container: process ids are unique within it. Empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_gone(seen: Seen) -> bool:
    """Whether the holder was a process of this machine that has ended, so that its lock can be taken at once."""
    try:
        found = decode(seen[1], _LockHolder)
        if _process_space() and found.space == _process_space():
            os.kill(found.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, Malformed):
        pass
    return False


def _look(path: Path) -> Seen | None:
    """Time and content of the lock file `path`; opened, as network file systems cache times of closed files."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns, file.read(4096)
    except FileNotFoundError:
        return None


def _removed(path: Path, seen: Seen) -> bool:
    """Remove the lock file `path` if it is still in the state `seen`; if it has changed, keep it and return False."""
    aside = atomic.temporary_of(path)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True
    try:
        if _look(aside) == seen:
            return True
        with contextlib.suppress(OSError):  # if this fails, its holder notices
            os.link(aside, path)
        return False
    finally:
        aside.unlink(missing_ok=True)


def _created(path: Path, content: bytes) -> bool:
    """Make the file at `path`, in a single step if hard links work; returns False if the file exists already."""
    temporary = atomic.temporary_of(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)  # not synced: a lock file cut off by a power cut is taken over like any other
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            with path.open("xb") as file:
                file.write(content)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


class _Heartbeats:
    """A thread that touches the files of all locks that this process holds."""

    def __init__(self) -> None:
        self._locks: set[HeartbeatLock] = set()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def remember(self, lock: HeartbeatLock) -> None:
        with self._guard:
            self._locks.add(lock)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                self._thread.start()

    def forget(self, lock: HeartbeatLock) -> None:
        with self._guard:
            self._locks.discard(lock)

    def _run(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            with self._guard:
                locks = list(self._locks)
            for lock in locks:
                if not lock.beat():
                    self.forget(lock)


_heartbeats = _Heartbeats()


def _without_parent() -> None:
    """Forget all locks after a fork: the child has neither its parent's locks nor the thread that touches them."""
    global _heartbeats
    _heartbeats = _Heartbeats()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_without_parent)
