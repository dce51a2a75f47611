"""The locks of a store, on devices and on runs, so that each run is trained once. store.json names their kind."""

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
"""Options of an NFS mount that make a machine's locks invisible to other machines."""


class StoreError(UsageError):
    """The store cannot be used as requested; the message is one line that says what to do."""


def unwritable(path: Path, error: OSError) -> StoreError:
    """The error to raise when `path` could not be written because of `error`."""
    return StoreError(
        f"cannot write {path}: {error.strerror or error}; make room or make it writable, or name another directory "
        "with --store (finished runs are kept)"
    )


class Locking:
    """Base class of `Store`: the locks by which processes divide the runs and devices among themselves."""

    layout: Layout
    kind: str = locks.KERNEL
    """`kernel` for the operating system's locks, or `heartbeat` for the locks of `replicate.store.locks`."""
    read_only: bool
    note: Callable[[str], None]

    def lock(self, run: Run) -> Lock:
        """The lock to hold while training `run`; free once its holder dies (a heartbeat lock, a minute later)."""
        return self.lock_of(run.key)

    def lock_of(self, key: str) -> Lock:
        """As `lock`, for the run with this `key`."""
        return self._lock_at(self._place(self.layout.run_lock(key)))

    def lease(self, slot: str) -> Lock:
        """The lock on `slot`: a device, or a part of a device, that one training at a time may use."""
        return self._lock_at(self._place(self.layout.lease(slot)))

    def take(self, lock: Lock) -> bool:
        """Take `lock` without waiting; False if another process holds it. Raises `StoreError` if locking fails."""
        from filelock import Timeout  # slow to import, and readers do not need it

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
        """Whether some process holds the lock on the run `key`; None if this system cannot tell."""
        return self._is_held(self._place(self.layout.run_lock(key)))

    def held_slots(self) -> list[str]:
        """The names of the slots that processes on any machine hold, sorted."""
        leases = self._place(self.layout.lease("x"))
        return sorted(path.stem for path in leases.parent.glob(f"*{leases.suffix}") if self._is_held(path))

    def drop_lock_file(self, key: str) -> None:
        """Delete the lock file of the run `key`, which is stored by now; the caller must hold the lock.

        Another process that has the deleted file open may still lock it. That process then finds the run stored,
        because every process looks for the run after taking the lock.
        """
        if self.kind == locks.KERNEL:  # a heartbeat lock deletes its own file when it is released
            with contextlib.suppress(PermissionError):  # Windows deletes no open file
                self.layout.run_lock(key).unlink(missing_ok=True)

    def clock(self) -> float:
        """The time by the clock of the store's file system; if the store is read-only, by this machine's clock."""
        return time.time() if self.read_only else atomic.clock(self.layout.root)

    def sign(self, path: Path) -> None:
        """Write this process's host and id into the file `path`, for `locks.holder` to read. Never raises OSError."""
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            atomic.write(path, json.dumps(locks.this_process()), durable=False)

    def _place(self, path: Path) -> Path:
        """`path` for a kernel lock; a heartbeat lock gets another suffix, as both kinds must not share a file."""
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
    """Whether `folder` is on NFS mounted so that no other machine sees its locks (`nolock`, `local_lock`)."""
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
    """The operating system's lock at `path`, not yet taken; it is released when its holder dies.

    Taking the lock raises OSError or NotImplementedError if the file system has no locks. Newer releases of filelock
    would then use a plain file as the lock; this is switched off, because the file stays when its holder dies.
    """
    from filelock import FileLock  # slow to import, and readers do not need it

    options: dict[str, Any] = {"thread_local": False}
    if "fallback_to_soft" in signature(FileLock.__init__).parameters:
        options["fallback_to_soft"] = False
    return FileLock(path, **options)


def has_kernel_locks(folder: Path) -> bool:
    """Whether the file system of `folder` has locks. Whether other machines see these locks cannot be tested."""
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
    """Whether the file at `path` is locked, tested by taking a shared lock for a moment; None if that is impossible."""
    try:
        import fcntl
    except ImportError:  # Windows
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
