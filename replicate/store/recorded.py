"""Recorded evidence: finished runs kept with the source, in one compact file a scale, read as a layer under a store.

`fixtures/recorded/<scale>/runs.jsonl.gz` holds a line a run: the very bytes of its record in a store, by key. So a row
carries its own provenance and checksum, and is believed as a store's record is: whole or not at all.
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
"""A few kilobytes can unpack to gigabytes: after so much that is no record, nothing more is read."""
KEPT = "fixtures/recorded"
FOLDER = kept.path(KEPT)
SCALES = ("embedded-deep", "probe")
"""Those with recorded runs: the package alone could not tell that it lacks them."""

log = logging.getLogger(__name__)


def path_of(scale: str, folder: Path = FOLDER) -> Path:
    """Where the runs of `scale` are recorded, whether or not they are."""
    return folder / scale / FILE


def of_scale(scale: str) -> Mapping[str, StoredRun]:
    """The runs recorded for `scale` by key; none where none are. A warning where this installation lacks them."""
    if scale in SCALES:
        kept.look_for(f"{KEPT}/{scale}/{FILE}", f"recorded runs of scale {scale}")
    return read(path_of(scale))


def read(path: Path) -> Mapping[str, StoredRun]:
    """The runs recorded in `path` by key; none where there is no file. Rows that cannot be believed are left out."""
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
                log.warning("%s: more than %d MB are no records; the rest is not read", path, lost_bytes // 10**6)
                break
    if lost:
        log.warning("%s: %d recorded runs cannot be believed and count as missing; get the file anew", path, lost)
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """The lines that can be unpacked, one too long in pieces; a damaged file gives those before the damage."""
    try:
        with gzip.open(path, "rb") as file:
            while line := file.readline(LONGEST_LINE):
                yield line
    except (OSError, EOFError, zlib.error) as error:
        log.warning("%s: expected a whole gzip file, got %s: %s; get the file anew", path, type(error).__name__, error)


def _key(line: bytes) -> str:
    """The key that a line says it is of; `parse` checks it."""
    _, found, rest = line.partition(b'"key":"')
    return rest[:24].decode("ascii", errors="replace") if found else ""


def write(path: Path, records: Iterable[StoredRun]) -> int:
    """Record runs in `path`, whole or not at all; equal runs give equal bytes. How many there are."""
    by_key = {stored.key: seal_stored(stored) for stored in records}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.written(path) as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:  # without name and time
        packed.writelines(by_key[key] for key in sorted(by_key))
    return len(by_key)
