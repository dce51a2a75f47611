"""A table of texts with line numbers: the common result of all readers of files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

from replicate.text import UsageError

SHOWN_COLUMNS = 12
MOST_COLUMNS = 3_000
MOST_VALUES = 20_000_000
"""Limit on the number of values in a table of runs."""
NOT_RUN = "—"
"""What a reader writes for an empty cell of a pivot table: a run that was never done."""


@dataclass(frozen=True)
class Table:
    """Header and rows, without blanks around the values."""

    name: str
    """The file's path, for messages."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    """The line of the file at which each row ends; the header is line 1."""
    decimal_comma: bool = False
    """Whether `0,5` is a number: only if columns are separated by another character."""
    unreadable: tuple[tuple[int, str], ...] = ()
    """Lines that are not rows of this table, with the reason."""
    notes: tuple[str, ...] = ()
    """Decisions of the reader."""

    @property
    def columns(self) -> str:
        """The header for a message, shortened."""
        return listed(self.header, SHOWN_COLUMNS)

    def values(self, column: str) -> list[str]:
        i = self.header.index(column)
        return [row[i] for row in self.rows]

    def keep(self, wanted: Sequence[bool]) -> Table:
        """The rows for which `wanted` is true."""
        rows, lines = tuple(compress(self.rows, wanted)), tuple(compress(self.lines, wanted))
        return replace(self, rows=rows, lines=lines)

    def with_columns(self, new: Mapping[str, Sequence[str]]) -> Table:
        """The table with further columns of one value per row; a column of the same name is replaced."""
        kept = [i for i, name in enumerate(self.header) if name not in new]
        header = (*(self.header[i] for i in kept), *new)
        more = zip(*new.values(), strict=True) if new else iter(() for _ in self.rows)
        rows = tuple((*(row[i] for i in kept), *added) for row, added in zip(self.rows, more, strict=True))
        return replace(self, header=header, rows=rows)

    def without_columns(self, names: Iterable[str]) -> Table:
        gone = set(names)
        kept = [i for i, name in enumerate(self.header) if name not in gone]
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return replace(self, header=tuple(self.header[i] for i in kept), rows=rows)

    def saying(self, *notes: str) -> Table:
        return replace(self, notes=(*self.notes, *notes))


def from_records(name: str, records: Sequence[Mapping[str, str]], first_line: int = 1) -> Table:
    """The table of `records`, one per row, numbered from `first_line`; raises UsageError if it is too large."""
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(record))
    header = tuple(names)
    if len(header) > MOST_COLUMNS or len(header) * len(records) > MOST_VALUES:
        raise UsageError(
            f"{name}: expected at most {MOST_COLUMNS} columns and {MOST_VALUES:,} values, got {len(header)} columns in "
            f"{len(records)} rows; keep the columns that matter"
        )
    rows = tuple(tuple(record.get(column, "").strip() for column in header) for record in records)
    return Table(name, header, rows, tuple(range(first_line, first_line + len(rows))))


def text_of(value: object) -> str:
    """The text of a value from a file or a data frame; numbers are written exactly, None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return repr(float(value))
    return str(value).strip()


def listed(names: Sequence[str], most: int, longest: int = 40) -> str:
    """`names` for a message: at most `most`, each cut to `longest` characters."""
    shown = ", ".join(name[:longest] for name in names[:most])
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown


def counted(n: int, one: str, many: str = "") -> str:
    """A number with its noun, as in `1 row` or `2 rows`."""
    return f"{n} {one if n == 1 else many or one + 's'}"
