"""Checks every file of a store, lists problems and their reasons, and can move such files to the folder `quarantine/`.

Records are checked as at every read by `Store`. All other files in a store can be made again, so damaged or unused
ones may be moved too.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from replicate.store import begun, marker, model_file
from replicate.store.layout import OWN_NAMES, Layout
from replicate.store.locks import HEARTBEAT
from replicate.store.record import Corrupt, NewerFormat, key_of_stack, parse
from replicate.store.store import STALE_SECONDS, TRAINING, Store, StoreError, open_store
from replicate.store.strict import Malformed, decode

_RECORD = re.compile(r"[0-9a-f]{24}\.json")
_MODEL = re.compile(rf"[0-9a-f]{{24}}{re.escape(model_file.SUFFIX)}")
_LOCK = re.compile(rf"[0-9a-f]{{24}}\.(lock|{HEARTBEAT})")
_CHUNK = 1 << 20
_DIGEST = 64


@dataclass(frozen=True)
class Problem:
    """A file or folder that is damaged, unused or in the wrong place."""

    kind: str
    """What the file is: `record`, `model`, `marker` (store.json), `temporary`, `checkpoint`, `lock`, `log`, `stray`."""
    path: Path
    why: str


@dataclass(frozen=True)
class Check:
    """The result of `check`."""

    records: int
    """The number of valid records."""
    problems: tuple[Problem, ...]
    quarantined: tuple[Path, ...]
    """Files in `quarantine/`, moved there earlier: safe to delete."""


def check(store: Store, now: float | None = None) -> Check:
    """Check every file of `store`, changing none. Files that some process is using or writing are not problems.

    `now`: the time by the file system's clock; None to read that clock.
    """
    now = store.clock() if now is None else now
    good: set[str] = set()
    problems = [
        *_marker(store),
        *_records(store, good, now),
        *_models(store, good),
        *_top(store, now),
        *_checkpoints(store, good, now),
        *_locks(store, good, now),
        *_log(store),
    ]
    aside = tuple(sorted(store.layout.quarantine.iterdir())) if store.layout.quarantine.is_dir() else ()
    return Check(len(good), tuple(problems), aside)


def repair(store: Store, problems: tuple[Problem, ...]) -> list[Problem]:
    """Move bad files to quarantine/, delete unused lock files, restore store.json; returns problems in files in use."""
    left = []
    for problem in problems:
        if problem.kind == "lock":
            with _held(store, problem.path.stem) as ours:
                if ours:
                    problem.path.unlink(missing_ok=True)
                else:
                    left.append(problem)
        else:
            target = store.layout.set_aside(problem.path)
            try:
                target.parent.mkdir(exist_ok=True)
                problem.path.replace(target)
            except FileNotFoundError:
                pass  # another process has moved it
            except OSError as error:
                raise StoreError(f"cannot move {problem.path} to {target}: {error.strerror}") from error
    store.layout.runs.mkdir(exist_ok=True)
    open_store(store.path)  # writes the marker if there is none
    return left


def _marker(store: Store) -> Iterator[Problem]:
    path = store.layout.marker
    try:
        blob = path.read_bytes()
        found = decode(blob, marker.Marker)
        if marker.text(found.locks, found.software) != blob:
            raise Malformed("got a text that replicate does not write")
    except FileNotFoundError:
        yield Problem("marker", path, "missing")
    except (OSError, Malformed) as error:
        yield Problem("marker", path, f"expected the marker of a store: {error}")


def _records(store: Store, good: set[str], now: float) -> Iterator[Problem]:
    """The files under `runs/` that are not valid records; the keys of the valid ones are added to `good`."""
    for shard in _entries(store.layout.runs):
        if not shard.is_dir():
            yield Problem("stray", shard, "expected a folder of records, got a file")
            continue
        for path in _entries(shard):
            if Layout.is_temporary(path.name):
                yield from _temporary(path, now)
            elif _MODEL.fullmatch(path.name) and path == store.layout.model(path.stem):
                continue
            elif not _RECORD.fullmatch(path.name) or path != store.layout.record(path.stem):
                yield Problem("stray", path, "expected a record, KEY.json in the folder KEY[:2], got another file")
            else:
                try:
                    parse(path.read_bytes(), path.stem)
                    good.add(path.stem)
                except FileNotFoundError:
                    continue
                except (Corrupt, NewerFormat) as why:
                    yield Problem("record", path, str(why))
                except OSError as error:
                    yield Problem("record", path, f"cannot be read: {error.strerror}")


def _models(store: Store, good: set[str]) -> Iterator[Problem]:
    """Kept models that are damaged, or whose run has no record and is not in training."""
    for path in sorted(store.layout.runs.glob(f"*/*{model_file.SUFFIX}")):
        key = path.stem
        if not _MODEL.fullmatch(path.name) or path != store.layout.model(key):
            continue  # reported by `_records`
        stored = store.read(key) if key in good else None
        if stored is None:
            if not store.is_run_held(key):
                yield Problem("model", path, "orphaned: its run has no valid record")
            continue
        try:
            model_file.check(path.read_bytes(), key, stored.content)
        except FileNotFoundError:
            continue
        except Corrupt as why:
            yield Problem("model", path, str(why))
        except OSError as error:
            yield Problem("model", path, f"cannot be read: {error.strerror}")


def _top(store: Store, now: float) -> Iterator[Problem]:
    """Files and folders at the top of the store's directory that are not a store's own."""
    for path in _entries(store.path):
        if Layout.is_temporary(path.name):
            yield from _temporary(path, now)
        elif path.name not in OWN_NAMES:
            yield Problem("stray", path, "it does not belong to a store")


def _temporary(path: Path, now: float) -> Iterator[Problem]:
    try:
        age = now - path.stat().st_mtime
    except FileNotFoundError:
        return
    if age > STALE_SECONDS:
        yield Problem("temporary", path, f"abandoned: untouched for {age / 3600:.0f} hours")


def _checkpoints(store: Store, good: set[str], now: float) -> Iterator[Problem]:
    """Folders of stacks (runs trained together) that are unreadable, finished or abandoned, and damaged checkpoints."""
    for folder in _entries(store.layout.checkpoints):
        try:
            keys = begun.keys_of(folder)
            if folder.name != key_of_stack(keys):
                raise Malformed("got keys whose hash is not the folder's name")
        except FileNotFoundError:
            if folder.exists() and now - folder.stat().st_mtime > STALE_SECONDS:
                yield Problem("checkpoint", folder, f"orphaned: it has no {begun.RUNS} that names its runs")
            continue
        except (OSError, Malformed) as error:
            yield Problem("checkpoint", folder, f"expected the keys of its runs in {begun.RUNS}: {error}")
            continue
        if good.issuperset(keys):
            yield Problem("checkpoint", folder, "orphaned: all its runs are stored")
        elif (age := begun.age_seconds(folder, now)) > begun.STALE_SECONDS:
            yield Problem("checkpoint", folder, f"orphaned: untouched for {age / 86400:.0f} days")
        for path in folder.glob("*.checkpoint"):
            if why := _broken(path):
                yield Problem("checkpoint", path, why)


def _broken(path: Path) -> str:
    """Why a trainer would reject the checkpoint at `path`; empty if it would accept it, or if the file is gone."""
    digest, named = hashlib.sha256(), False
    identity, tail = path.name.partition(".")[0].encode(), b""
    try:
        with path.open("rb") as file:
            head = file.read(_DIGEST + 1)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                named = named or identity in tail + chunk
                tail = chunk[-len(identity) :]
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if head != digest.hexdigest().encode() + b"\n":
        return f"expected SHA-256 {digest.hexdigest()[:12]}… in its first line: cut off or altered"
    return "" if named else "expected a checkpoint of the training in the file's name, got that of another training"


def _locks(store: Store, good: set[str], now: float) -> Iterator[Problem]:
    """Lock files of stored runs, unless a process holds them. Lock files of other runs will be used again."""
    for path in _entries(store.layout.locks):
        if Layout.is_temporary(path.name):
            yield from _temporary(path, now)
        elif not _LOCK.fullmatch(path.name):
            yield Problem("stray", path, "expected the lock file of a run, got another file")
        elif path.stem in good:
            with _held(store, path.stem) as ours:
                if ours:
                    yield Problem("lock", path, "orphaned: its run is stored and no process holds it")


@contextlib.contextmanager
def _held(store: Store, key: str) -> Iterator[bool]:
    """Hold the lock on the run `key` inside the block; yields False if another process holds it."""
    if store.kind == HEARTBEAT:  # taking over a heartbeat lock takes a minute, and a stored run needs no lock
        yield not store.is_run_held(key)
        return
    lock = store.lock_of(key)
    try:
        ours = store.take(lock)
    except StoreError:
        ours = False
    try:
        yield ours
    finally:
        lock.release()


def _log(store: Store) -> Iterator[Problem]:
    """Lines of a wrong form in the log of trainings; estimates of training times, made from the log, ignore them."""
    try:
        lines = store.layout.trainings.read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        yield Problem("log", store.layout.trainings, f"cannot be read: {error.strerror}")
        return
    bad = [i for i, line in enumerate(lines, 1) if not TRAINING.fullmatch(line)]
    if bad:
        why = f"{len(bad)} lines do not name a training (the first is line {bad[0]}); they are ignored"
        yield Problem("log", store.layout.trainings, why)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"cannot list {folder}: {error.strerror}; make it readable") from error
