"""A table of texts with the line numbers of its rows, from a CSV file in any of the usual dialects."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

from replicate.text import UsageError

DELIMITERS = (",", ";", "\t", "|")
SHOWN_COLUMNS = 12


@dataclass(frozen=True)
class Table:
    """Header and rows, blanks around the values removed."""

    name: str
    """For messages: the file's path."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    """Of each row the line of the file at which it ends; the header stands in line 1."""
    decimal_comma: bool = False
    """Whether `0,5` is a number: only where another character than the comma parts the columns."""

    @property
    def columns(self) -> str:
        """The header for a message, cut short."""
        shown = ", ".join(name[:40] for name in self.header[:SHOWN_COLUMNS])
        more = len(self.header) - SHOWN_COLUMNS
        return f"{shown} and {more} more" if more > 0 else shown

    def value(self, row: int, column: str) -> str:
        return self.rows[row][self.header.index(column)]

    def values(self, column: str) -> list[str]:
        i = self.header.index(column)
        return [row[i] for row in self.rows]

    def keep(self, wanted: Sequence[bool]) -> Table:
        """The rows for which `wanted` is true."""
        rows, lines = tuple(compress(self.rows, wanted)), tuple(compress(self.lines, wanted))
        return replace(self, rows=rows, lines=lines)


def read_table(path: str) -> Table:
    """The table in the CSV file `path`, or on standard input where it is `-`."""
    name = "standard input" if path == "-" else path
    text = _text(path, name)
    if not text.strip():
        raise UsageError(f"{name}: expected a CSV file with columns lr, wd and accuracy or loss, got an empty file")
    if "\0" in text:
        raise UsageError(f"{name}: expected a CSV file, got a binary file; export the runs as CSV")
    lines = text.splitlines(keepends=True)
    skipped = 0
    if lines[0].lower().startswith("sep="):  # written by spreadsheets
        skipped = 1
    delimiter = max(DELIMITERS, key=lambda d: len(next(csv.reader(lines[skipped : skipped + 1], delimiter=d), ())))
    reader = csv.reader(lines[skipped:], delimiter=delimiter, skipinitialspace=True, strict=True)
    header: tuple[str, ...] = ()
    rows, numbers = [], []
    try:
        for fields in reader:
            values = tuple(field.strip() for field in fields)
            if not any(values):
                continue
            line = reader.line_num + skipped
            if not header:
                header = values
            elif len(values) != len(header):
                raise UsageError(
                    f"{name}, row {line}: expected {len(header)} values as in the header, got {len(values)}"
                )
            else:
                rows.append(values)
                numbers.append(line)
    except csv.Error as e:
        raise UsageError(f"{name}, row {reader.line_num + skipped}: expected a CSV file, got: {e}") from None
    repeated = next((column for column in header if column and header.count(column) > 1), None)
    if repeated is not None:
        raise UsageError(f"{name}: expected each column once, got {repeated!r} twice in the header; rename one")
    return Table(name, header, tuple(rows), tuple(numbers), decimal_comma=delimiter != ",")


def _text(path: str, name: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{name}: expected a CSV file, found no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{name}: expected a CSV file, got a folder") from None
    except OSError as e:
        raise UsageError(f"{name}: expected a readable CSV file, got: {e.strerror}") from None
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise UsageError(f"{name}: expected a CSV file in UTF-8, got other bytes; export the runs as CSV") from None
