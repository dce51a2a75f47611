"""Locks by heartbeat, for file systems whose own cannot be relied on: from a path to who may work, without any clock.

A lock is a file that names its holder, which touches it every few seconds. A process that has seen it untouched for
long, by its own monotonic clock, may take it over. No two clocks are ever compared: neither a machine's nor
a file server's that jumps can take a lock away. A holder that hung and wakes up works on beside its successor, so this
is for work that costs time when done twice and harms nothing.

The lease of filelock is not used: of a machine that is lost in the moment after taking one an empty file is left, which
filelock takes for held for ever.
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
"""Names the kind of locks of a store that is made."""

BEAT_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""Without a heartbeat, after which a lock is taken over. It must be more than a file system keeps old attributes of an
opened file, and more than a holder may hang that is to keep it."""
POLL_SECONDS = 0.05

NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

Seen = tuple[int, bytes]
"""When a lock's file was touched, by the file system's clock in nanoseconds, and what it says."""


class Lock(Protocol):
    """What locks of all kinds can do; `filelock.Timeout` is raised where one is another's."""

    def acquire(self, timeout: float | None = None, *, blocking: bool | None = None) -> Any:
        """Take the lock, waiting `timeout` seconds, for ever by default, or not at all if not `blocking`."""

    def release(self) -> None:
        """Give it back; nothing where it isn't held."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: Any) -> None: ...


@dataclass(frozen=True)
class Holder:
    """A process that holds something, as it has written down itself."""

    host: str
    pid: Annotated[int, Meta(gt=0, lt=2**31)]
    since: str
    """By its own clock, in UTC."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


@dataclass(frozen=True)
class _LockHolder(Holder):
    """What the file of a lock says, beside its token."""

    space: str
    """See `_process_space`."""


def this_process() -> dict[str, Any]:
    """What `holder` reads."""
    since = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {"host": platform.node(), "pid": os.getpid(), "since": since}


def holder(path: Path) -> Holder | None:
    """Who has signed the file at `path`; None where nobody, or nobody that can be made out."""
    try:
        return decode(path.read_bytes(), Holder)
    except (OSError, Malformed):
        return None


class HeartbeatLock:
    """The lock at `path`, whose folder must be there; one object may hold it once. Raises OSError as writing does."""

    def __init__(self, path: Path, say: Callable[[str], None] = lambda _: None) -> None:
        """`say` takes a line where a silent holder's lock is taken over, or this one lost, also from another thread."""
        self.path = path
        self._say = say
        self._token = ""
        self._missed = False

    @property
    def is_locked(self) -> bool:
        """Whether this object took the lock and has not given it back; another may have taken it over."""
        return bool(self._token)

    def acquire(
        self, timeout: float | None = None, *, blocking: bool | None = None
    ) -> AbstractContextManager[HeartbeatLock]:
        """As `Lock.acquire`; what is returned gives the lock back at the end of a `with` block."""
        from filelock import Timeout  # slow to import

        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        while not self._try():
            if blocking is False or (deadline is not None and time.monotonic() >= deadline):
                raise Timeout(str(self.path))
            time.sleep(POLL_SECONDS)
        return _releasing(self)

    def release(self) -> None:
        """Give the lock back; one that was taken over stays its new holder's."""
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
        """Touch the file; False once the lock is lost, of which `say` is told."""
        try:
            seen = _look(self.path)
            if self._is_ours(seen):
                os.utime(self.path)
                self._missed = False
            elif self._missed:  # once may be a successor who looks whom it has got
                self._say(
                    f"{self.path.name}: was silent for {SILENT_SECONDS:g} s and is taken over; what both have begun "
                    "is done twice, with equal results"
                )
                return False
            else:
                self._missed = True
        except OSError:
            pass  # of a file server that is away for a moment; if for long, the lock is found lost
        return True

    def _is_ours(self, seen: Seen | None) -> bool:
        return seen is not None and f'"token": "{self._token}"'.encode() in seen[1]

    def _try(self) -> bool:
        if self._token:
            raise RuntimeError(f"{self.path}: held by this object already")
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
            self._say(f"{self.path.name}: taken over; nothing was heard of its holder for {SILENT_SECONDS:g} s")
        return True


@contextlib.contextmanager
def _releasing(lock: HeartbeatLock) -> Iterator[HeartbeatLock]:
    try:
        yield lock
    finally:
        lock.release()


def is_held(path: Path, now: float) -> bool:
    """Whether the lock at `path` was touched lately; `now`: the time by the file system's clock (`atomic.clock`).

    For who looks once: taking a lock over asks for more.
    """
    seen = _look(path)
    return seen is not None and not _is_gone(seen) and now - seen[0] / 1e9 < SILENT_SECONDS


_watched: dict[Path, tuple[Seen, float]] = {}
"""Lock that this process wants → how it was seen last, and since when, by the monotonic clock, it has been so."""


def _silent_seconds(path: Path, seen: Seen) -> float:
    """For how long this process has seen the file as it is."""
    now = time.monotonic()
    before, since = _watched.get(path, (None, now))
    if before != seen:
        _watched[path] = (seen, now)
        return 0.0
    return now - since


@lru_cache(maxsize=1)
def _process_space() -> str:
    """Where process ids mean what they mean here: this start of the machine, this container; empty: unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_gone(seen: Seen) -> bool:
    """Whether the holder was a process of this machine that has ended: then there is no need to wait."""
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
    """The file at `path`, opened: a network file system answers for a file that is not from what it remembers."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns, file.read(4096)
    except FileNotFoundError:
        return None


def _removed(path: Path, seen: Seen) -> bool:
    """Remove the file that was `seen` at `path`; False where it is another by now, which stays."""
    aside = atomic.temporary_of(path)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True
    try:
        if _look(aside) == seen:
            return True
        with contextlib.suppress(OSError):  # its holder then notices
            os.link(aside, path)
        return False
    finally:
        aside.unlink(missing_ok=True)


def _created(path: Path, content: bytes) -> bool:
    """Make the file at `path`, with its content from the start where there are hard links; False if there is one."""
    temporary = atomic.temporary_of(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)  # and not synced: what a power cut leaves of it is taken over as any other
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
    """One thread that touches the files of all locks this process holds."""

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
    """In a fork: its parent's locks, and the thread that beats for them, are not its own."""
    global _heartbeats
    _heartbeats = _Heartbeats()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_without_parent)
