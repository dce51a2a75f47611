"""Recorded runs: finished runs kept in the source tree, one compressed file per scale, used as if a store held them.

`fixtures/recorded/<scale>/runs.jsonl.gz` has one line per run, sorted by key: the bytes of the run's record in a store.
So each line has its own provenance and checksum, and is checked like a record in a store.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from replicate.store import atomic, kept
from replicate.store.record import Corrupt, NewerFormat, StoredRun, parse, seal_stored

FILE = "runs.jsonl.gz"
LONGEST_LINE = 1 << 20
MOST_LOST_BYTES = 64 << 20
"""Reading stops after this many bytes of invalid lines: a damaged or malicious small file can unpack to gigabytes."""
KEPT = "fixtures/recorded"
FOLDER = kept.path(KEPT)
SCALES = ("probe",)
"""The scales that have recorded runs in a clone; if one of their files is missing, a warning says so."""

log = logging.getLogger(__name__)


def path_of(scale: str, folder: Path = FOLDER) -> Path:
    """The file for the recorded runs of `scale`, whether or not it exists."""
    return folder / scale / FILE


def of_scale(scale: str) -> Mapping[str, StoredRun]:
    """Key → recorded run of `scale`; empty if there are none. Warns if the file should exist but is missing."""
    if scale in SCALES:
        kept.look_for(f"{KEPT}/{scale}/{FILE}", f"recorded runs of scale {scale}")
    return read(path_of(scale))


def read(path: Path) -> Mapping[str, StoredRun]:
    """Key → run recorded in `path`. Damaged lines are left out with a warning; empty if there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return {}
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, time: int, size: int) -> Mapping[str, StoredRun]:
    found: dict[str, StoredRun] = {}
    lost = lost_bytes = 0
    for line in _lines(path):
        key = _key(line)
        try:
            found[key] = parse(line, key)
        except (Corrupt, NewerFormat):
            lost += 1
            lost_bytes += len(line)
            if lost_bytes > MOST_LOST_BYTES:
                log.warning("%s: stopped reading after %d MB of damaged records", path, lost_bytes // 10**6)
                break
    if lost:
        log.warning("%s: %d recorded runs are damaged and count as missing; get the file again", path, lost)
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """The lines before the first that cannot be decompressed; one of more than `LONGEST_LINE` bytes comes in pieces."""
    try:
        with gzip.open(path, "rb") as file:
            while line := file.readline(LONGEST_LINE):
                yield line
    except (OSError, EOFError, zlib.error) as error:
        log.warning("%s: expected a whole gzip file, got %s: %s; get it again", path, type(error).__name__, error)


def _key(line: bytes) -> str:
    """The text where a valid line has its key; `parse` checks the line."""
    _, found, rest = line.partition(b'"key":"')
    return rest[:24].decode("ascii", errors="replace") if found else ""


def write(path: Path, records: Iterable[StoredRun]) -> int:
    """Record runs in `path`, whole or not at all, and return how many; equal runs give equal bytes."""
    by_key = {stored.key: seal_stored(stored) for stored in records}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.written(path) as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:  # no name, no time
        packed.writelines(by_key[key] for key in sorted(by_key))
    return len(by_key)
