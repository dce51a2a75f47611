"""Who may train what: the locks of a store, of the kind that its marker names, on runs and on shares of machines."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replicate.runs.run import Run
from replicate.store import atomic, locks
from replicate.store.layout import Layout
from replicate.text import UsageError

if TYPE_CHECKING:
    from filelock import FileLock

    from replicate.store.locks import Lock


LOCAL_LOCKS = {"nolock", "local_lock=all", "local_lock=flock"}
"""Options of an NFS mount with which a lock is known to this machine alone."""


class StoreError(UsageError):
    """A store that cannot be used as asked; the message is one line that says what to do."""


def unwritable(path: Path, error: OSError) -> StoreError:
    """What to raise where `path` could not be written."""
    return StoreError(
        f"cannot write {path}: {error.strerror or error}; make room or make it writable, or name another directory "
        "with --store (finished runs are kept)"
    )


class Locking:
    """The part of a store that shares out work among processes."""

    layout: Layout
    kind: str = locks.KERNEL
    """Kind of the store's locks: the operating system's, or files with a heartbeat (`replicate.store.locks`)."""
    read_only: bool
    note: Callable[[str], None]

    def lock(self, run: Run) -> Lock:
        """The lock on training `run`; the death of its holder frees it, at once or after a while without heartbeat."""
        return self.lock_of(run.key)

    def lock_of(self, key: str) -> Lock:
        """As `lock`, by key."""
        return self._lock_at(self._place(self.layout.run_lock(key)))

    def lease(self, slot: str) -> Lock:
        """The lock on `slot`, a share of this machine that one training at a time may use."""
        return self._lock_at(self._place(self.layout.lease(slot)))

    def take(self, lock: Lock) -> bool:
        """Take `lock` without waiting; False where it is another's, StoreError where it cannot be had at all."""
        from filelock import Timeout  # not needed to read, and slow to import

        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except NotImplementedError as error:
            raise self._without_locks(str(error)) from error
        except OSError as error:
            if _refuses_locks(error):
                raise self._without_locks(error.strerror or str(error)) from error
            raise unwritable(self.layout.locks, error) from error
        return True

    def is_run_held(self, key: str) -> bool | None:
        """Whether somebody holds the lock on the run under `key`; None where that cannot be found out here."""
        return self._is_held(self._place(self.layout.run_lock(key)))

    def held_slots(self) -> list[str]:
        """The shares of machines that are in use, sorted."""
        leases = self._place(self.layout.lease("x"))
        return sorted(path.stem for path in leases.parent.glob(f"*{leases.suffix}") if self._is_held(path))

    def drop_lock_file(self, run: Run) -> None:
        """Delete the file of the lock that the caller holds on `run`, once the run is stored."""
        self.drop_lock_file_of(run.key)

    def drop_lock_file_of(self, key: str) -> None:
        """As `drop_lock_file`, by key.

        Another process may hold the deleted file open and lock it after all; it then finds the run stored, which
        each process that takes the lock checks first.
        """
        if self.kind == locks.KERNEL:  # the others go when they are given back, unless they are another's by then
            with contextlib.suppress(PermissionError):  # an open file that cannot be deleted here
                self.layout.run_lock(key).unlink(missing_ok=True)

    def clock(self) -> float:
        """The time by the clock that the store's files are dated by; this machine's where the store is only read."""
        return time.time() if self.read_only else atomic.clock(self.layout.root)

    def sign(self, path: Path) -> None:
        """Write down at `path` that this process holds what it stands for, for `locks.holder`. Never raises OSError."""
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            atomic.write(path, json.dumps(locks.this_process()), durable=False)

    def _place(self, path: Path) -> Path:
        """Where the lock is: the two kinds must not take one's file for the other's."""
        return path if self.kind == locks.KERNEL else path.with_suffix(f".{locks.HEARTBEAT}")

    def _lock_at(self, path: Path) -> Lock:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
        if self.kind == locks.HEARTBEAT:
            return locks.HeartbeatLock(path, self.note)
        return kernel_lock(path)

    def _is_held(self, path: Path) -> bool | None:
        if self.kind == locks.HEARTBEAT:
            return locks.is_held(path, self.clock())
        return is_locked_by_kernel(path)

    def _without_locks(self, why: str) -> StoreError:
        return StoreError(
            f"store {self.layout.root}: expected a file system with locks, got {why!r}; make a new store with "
            f"{locks.VARIABLE}={locks.HEARTBEAT} set and copy runs/ into it"
        )


def locks_stay_here(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether `folder` is on NFS, mounted such that no other machine hears of locks (`nolock`, `local_lock`)."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return False
    best, answer = -1, False
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 6 or len(rest) < 3:
            continue
        point = Path(fields[4].replace("\\040", " "))
        if len(point.parts) > best and (point == folder or point in folder.parents):
            options = {*fields[5].split(","), *rest[2].split(",")}
            best = len(point.parts)
            answer = rest[0].startswith("nfs") and bool(options & LOCAL_LOCKS)
    return answer


def kernel_lock(path: Path) -> FileLock:
    """The operating system's lock at `path`, which the death of its holder frees; not yet taken.

    Taking it raises OSError or NotImplementedError where there is no such lock: newer releases of filelock would leave
    a file there instead, and it would stay when its holder dies.
    """
    from filelock import FileLock  # not needed to read, and slow to import

    options: dict[str, Any] = {"thread_local": False}
    if "fallback_to_soft" in signature(FileLock.__init__).parameters:
        options["fallback_to_soft"] = False
    return FileLock(path, **options)


def has_kernel_locks(folder: Path) -> bool:
    """Whether the file system of `folder` grants locks at all. That they bind other machines, nobody can tell."""
    path = atomic.temporary_of(folder / "lock")
    try:
        with kernel_lock(path):
            return True
    except NotImplementedError:
        return False
    except OSError as error:
        if _refuses_locks(error):
            return False
        raise
    finally:
        path.unlink(missing_ok=True)


def _refuses_locks(error: OSError) -> bool:
    return error.errno in {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def is_locked_by_kernel(path: Path) -> bool | None:
    """Whether the file at `path` is locked, by a shared lock, taken and given back at once; None: not to be known."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return None
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None  # a file system without locks
    else:
        return False
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
