"""Reads a file of any supported format, or a folder, to a table; the format is detected from the content."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zipfile
import zlib
from pathlib import Path

from replicate.sweeps import delimited, packages, records, studies
from replicate.sweeps.table import Table
from replicate.text import UsageError

MOST_BYTES = 256 << 20
"""Size limit of a file, also after decompression."""
WHAT = "a table of runs (CSV, JSON, Markdown, Parquet, xlsx, an Optuna or MLflow database, or a folder of runs)"
ZIP, GZIP, BZ2, XZ = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b", b"BZh", b"\xfd7zXZ"
PARQUET, SQLITE = b"PAR1", b"SQLite format 3\0"
OLD_EXCEL = b"\xd0\xcf\x11\xe0"
DEEPEST = 3
"""Largest depth of nested archives."""


def read_table(path: str) -> Table:
    """The table in the file or folder `path`, or on standard input for `-`; raises UsageError if there is none."""
    name = "standard input" if path == "-" else path
    if path != "-" and Path(path).is_dir():
        from replicate.sweeps import folders

        return folders.read(path)
    return from_bytes(name, _bytes(path, name), path)


def read_csv(path: str) -> Table:
    """The table in the CSV file `path`; raises UsageError if any row is unreadable."""
    return delimited.read_whole(path, _text(path, _bytes(path, path, "a CSV file"))[0])


def from_bytes(name: str, raw: bytes, path: str = "-", depth: int = 0) -> Table:
    """The table in a file's bytes; raises UsageError if there is none.

    `path`: the file, from which databases are read (`-`: none); `depth`: number of archives that contained `raw`.
    """
    if raw.startswith(SQLITE):
        return studies.read(name, path if depth == 0 else "-")
    if raw.startswith(PARQUET):
        return packages.parquet(name, raw)
    if raw.startswith((GZIP, BZ2, XZ)):
        return _inside(name, _unpacked(name, raw), depth)
    if raw.startswith(ZIP):
        held = _zip(name, raw)
        return packages.excel(name, raw) if held is None else _inside(*held, depth)
    if raw.startswith(OLD_EXCEL):
        raise UsageError(f"{name}: expected {WHAT}, got an old .xls file; save it as .xlsx or CSV")
    text, note = _text(name, raw)
    if not text.strip():
        raise UsageError(f"{name}: expected a table with columns lr, wd and a score, got an empty file")
    table = from_text(name, text)
    return table.saying(note) if note else table


def from_text(name: str, text: str) -> Table:
    """The table in `text`, which is JSON or lines of values."""
    table = records.read(name, text) if text.lstrip()[:1] in ("{", "[") else None
    return table or delimited.read(name, text)


def _inside(name: str, raw: bytes, depth: int) -> Table:
    if depth >= DEEPEST:
        raise UsageError(f"{name}: expected a table, got more than {DEEPEST} archives in each other; unpack them first")
    return from_bytes(name, raw, depth=depth + 1)


def _bytes(path: str, name: str, what: str = "a table of runs") -> bytes:
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{name}: expected {what}, found no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{name}: expected {what}, got a folder") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "a name that no file can have"
        raise UsageError(f"{name}: expected {what} that can be read, got: {why}") from None
    if len(raw) > MOST_BYTES:
        raise UsageError(f"{name}: expected at most {MOST_BYTES >> 20} MB, got more; keep the columns that matter")
    return raw


def _text(name: str, raw: bytes) -> tuple[str, str]:
    """The text, and a note on its encoding if it is not UTF-8."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            text = raw.decode("utf-16")
        except UnicodeDecodeError:
            raise UsageError(
                f"{name}: expected a text in UTF-8 or UTF-16, got a damaged one; export it again"
            ) from None
        _check_text(name, "\0" in text)
        return text, ""
    _check_text(name, b"\0" in raw)
    try:
        return raw.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace"), "the text is not UTF-8: read as Windows-1252 (Latin-1)"


def _check_text(name: str, has_zeros: bool) -> None:
    """Raises UsageError if characters of value 0 show that a file is binary."""
    if has_zeros:
        raise UsageError(f"{name}: expected {WHAT}, got a binary file of another kind; export the runs as CSV")


def _check_unpacked(name: str, size: int, advice: str = "keep what matters") -> None:
    """Raises UsageError, with `advice`, if an archive is too large after decompression."""
    if size > MOST_BYTES:
        raise UsageError(f"{name}: expected at most {MOST_BYTES >> 20} MB once unpacked, got more; {advice}")


def _unpacked(name: str, raw: bytes) -> bytes:
    held = io.BytesIO(raw)
    try:
        with (
            gzip.open(held)
            if raw.startswith(GZIP)
            else bz2.open(held)
            if raw.startswith(BZ2)
            else lzma.open(held) as file
        ):
            found = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise UsageError(f"{name}: expected a compressed table, got a damaged file ({error}); pack it again") from None
    _check_unpacked(name, len(found))
    return found


def _zip(name: str, raw: bytes) -> tuple[str, bytes] | None:
    """Name and content of the only file in a zip file; None if the zip file is an Excel workbook."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir() and _is_data(entry.filename)]
            if any(entry.filename == "xl/workbook.xml" for entry in entries):
                _check_unpacked(name, sum(entry.file_size for entry in entries), "save as CSV")
                return None
            if len(entries) != 1:
                shown = ", ".join(entry.filename[:60] for entry in entries[:3])
                raise UsageError(
                    f"{name}: expected one table in the zip file, got {len(entries)} files"
                    f"{f' ({shown}, …)' if shown else ''}; unpack it and name the file or the folder"
                )
            _check_unpacked(name, entries[0].file_size)
            with archive.open(entries[0]) as file:
                found = file.read(MOST_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"{name}: expected a zip file of one table, got one that cannot be unpacked ({error}); pack it again"
        ) from None
    return f"{name} ({entries[0].filename})", found[:MOST_BYTES]


def _is_data(filename: str) -> bool:
    return not filename.startswith("__MACOSX/") and not filename.rsplit("/", 1)[-1].startswith(".")
