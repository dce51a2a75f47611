"""Tables in text files: CSV in the usual dialects, columns separated by blanks, and Markdown."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from replicate.sweeps.numbers import is_dash, is_diverged, is_nothing, number
from replicate.sweeps.table import Table, from_records
from replicate.text import UsageError

DELIMITERS = (",", ";", "\t", "|")
RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*")
"""Pattern of the line of dashes below the header of a Markdown table."""
LOOKED_AT = 50
"""Number of rows from which the dialect is detected."""
CSV_FIELD = 1 << 20
MOST_UNREADABLE = 1000


def read(name: str, text: str) -> Table:
    """The table in `text`; lines that do not fit go to `Table.unreadable`. Raises UsageError if `text` is no table."""
    lines = text.splitlines(keepends=True)
    if (found := _markdown_rules(lines)) and not _csv_before(lines, found[0]):
        return markdown(name, lines, found)
    return _delimited(name, lines)


def read_whole(name: str, text: str) -> Table:
    """As `read`, but raises UsageError for a line that does not fit."""
    table = read(name, text)
    if table.unreadable:
        line, why = table.unreadable[0]
        raise UsageError(f"{name}, row {line}: {why}")
    return table


def _delimited(name: str, lines: Sequence[str]) -> Table:
    skipped, header_line = _comments(lines)
    body = lines[skipped:]
    head = header_line if header_line is not None else next((line for line in body if line.strip()), "")
    delimiter = max(DELIMITERS, key=lambda d: _fields(head, d))
    if _fields(head, delimiter) < 2 and (parted := _by_blanks(body, header_line)):
        body, delimiter, header_line = parted, "\t", None
    if header_line is not None:
        body, skipped = [header_line.rstrip("\r\n") + "\n", *body], skipped - 1
    rows, numbers = _rows(name, body, delimiter, skipped)
    if not rows:
        return Table(name, (), (), ())
    rows, numbers = _titled(rows, numbers)
    header, rows, numbers = rows[0], rows[1:], numbers[1:]
    if delimiter == "\t" and header and len(header) + 1 == _usual(rows):
        header = ("", *header)  # the index column of pandas has no name
    rows, bad = _fitting(len(header), rows, numbers)
    repeated = next((column for column in header if column and header.count(column) > 1), None)
    if repeated is not None:
        raise UsageError(f"{name}: expected each column once, got {repeated!r} twice in the header; rename one")
    lost = {line for line, _ in bad}
    good = [(row, line) for row, line in zip(rows, numbers, strict=True) if line not in lost and row != header]
    bad += [(line, "the header again") for row, line in zip(rows, numbers, strict=True) if row == header]
    table = Table(
        name,
        header,
        tuple(row for row, _ in good),
        tuple(line for _, line in good),
        decimal_comma=delimiter != ",",
        unreadable=tuple(sorted(bad)),
    )
    nameless = [column for column in header if not column]
    return table.without_columns(nameless) if nameless and len(header) > 1 else table


def _rows(name: str, lines: Sequence[str], delimiter: str, before: int) -> tuple[list[tuple[str, ...]], list[int]]:
    """The rows that are not empty, and the file's line at which each ends; `before`: number of lines before `lines`."""
    csv.field_size_limit(CSV_FIELD)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    rows, numbers = [], []
    try:
        for fields in reader:
            values = tuple(field.strip() for field in fields)
            if any(values):
                rows.append(values)
                numbers.append(reader.line_num + before)
    except csv.Error as e:
        raise UsageError(f"{name}, row {reader.line_num + before}: expected CSV that can be read, got: {e}") from None
    return rows, numbers


def _fitting(
    width: int, rows: list[tuple[str, ...]], numbers: list[int]
) -> tuple[list[tuple[str, ...]], list[tuple[int, str]]]:
    """The rows without trailing empty values beyond `width`, and which lines still have another number of values."""
    out, bad = [], []
    for row, line in zip(rows, numbers, strict=True):
        short = row
        while len(short) > width and not short[-1]:
            short = short[:-1]
        if len(short) != width:
            bad.append((line, f"expected {width} values as in the header, got {len(short)}"))
        out.append(short)
    return out, bad


def _titled(rows: list[tuple[str, ...]], numbers: list[int]) -> tuple[list[tuple[str, ...]], list[int]]:
    """The rows; a line above a pivot table's header that names its columns' variable is moved into the corner cell."""
    title = [value for value in rows[0] if value]
    if len(rows) < 3 or len(title) != 1 or len(rows[1]) < 3 or number(title[0]) is not None:
        return rows, numbers
    corner, *heads = rows[1]
    if number(corner) is not None or not all(number(head) is not None for head in heads if head):
        return rows, numbers
    return [(f"{corner} \\ {title[0]}", *heads), *rows[2:]], numbers[1:]


def _usual(rows: Sequence[Sequence[str]]) -> int:
    """The most frequent number of values in a row."""
    return Counter(len(row) for row in rows[:LOOKED_AT]).most_common(1)[0][0] if rows else 0


def _fields(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), ()))
    except csv.Error:
        return 0


def _comments(lines: Sequence[str]) -> tuple[int, str | None]:
    """Number of lines before the table, and the header if it is in a comment, as NumPy writes it."""
    skipped = 0
    while skipped < len(lines) and (
        not lines[skipped].strip() or lines[skipped].lstrip("\ufeff").startswith(("#", "%", "//"))
    ):
        skipped += 1
    if skipped < len(lines) and lines[skipped].lower().startswith("sep="):  # written by spreadsheets
        return skipped + 1, None
    comments = [line for line in lines[:skipped] if line.strip()]
    if skipped == len(lines) or not comments:
        return skipped if skipped < len(lines) else 0, None
    first = lines[skipped]
    parts = re.split(r"[,;\t|\s]+", first.strip())
    if all(number(part) is not None or is_diverged(part) for part in parts):
        last = comments[-1].lstrip("#%/ ")
        if len(re.split(r"[,;\t|\s]+", last.strip())) == len(parts):
            return skipped, last
    return skipped, None


def _by_blanks(lines: Sequence[str], header_line: str | None) -> list[str]:
    """The header, if given, and the lines, with a tab between columns; empty if columns are not separated by blanks."""
    filled = [line for line in ([header_line] if header_line is not None else []) + list(lines) if line.strip()]
    if header_line is None and len(filled) > 2 and len(filled[1].split()) == 1 and number(filled[1]) is None:
        corner, *heads = filled[0].split()  # pandas prints the name of a pivot's rows below that of its columns
        if heads and all(number(head) is not None for head in heads):
            filled = ["  ".join([f"{filled[1].strip()}\\{corner}", *heads]), *filled[2:]]
            lines = filled
    for blank in (r"\s{2,}|\t", r"\s+"):
        parted = [re.split(blank, line.strip()) for line in filled[:LOOKED_AT]]
        if len(parted) < 2 or len(parted[0]) < 2:
            continue
        if all(len(row) in (len(parted[0]), len(parted[0]) + 1) for row in parted[1:]):
            given = lines if header_line is None else [header_line, *lines]
            return [re.sub(blank, "\t", line.strip()) + "\n" for line in given]
    return []


def _markdown_rules(lines: Sequence[str]) -> list[int]:
    """The numbers of the lines between header and rows of Markdown tables."""
    return [
        i
        for i in range(1, len(lines))
        if "-" in lines[i] and "|" in lines[i] and RULE.fullmatch(lines[i].rstrip("\r\n")) and "|" in lines[i - 1]
    ]


def _csv_before(lines: Sequence[str], rule: int) -> bool:
    """Whether the lines before the dashes at index `rule` are CSV rows separated by `|`, not a Markdown header."""
    return sum(bool(line.strip()) for line in lines[:rule]) > 1 and all("|" in line for line in lines[:rule])


def markdown(name: str, lines: Sequence[str], rules: Sequence[int]) -> Table:
    """The table of runs in a Markdown text; tables with equal headers are joined. UsageError unless one is left."""
    tables: dict[tuple[str, ...], Table] = {}
    for rule in rules:
        header = _cells(lines[rule - 1])
        rows, numbers = [], []
        bad: list[tuple[int, str]] = []
        for i in range(rule + 1, len(lines)):
            if "|" not in lines[i]:
                break
            row = _cells(lines[i])
            if len(row) == len(header):
                rows.append(row)
                numbers.append(i + 1)
            elif len(bad) < MOST_UNREADABLE:
                bad.append((i + 1, f"expected {len(header)} values as in the header, got {len(row)}"))
        found = Table(name, header, tuple(rows), tuple(numbers), False, tuple(bad))
        if header in tables:
            old = tables[header]
            found = replace(
                old,
                rows=old.rows + found.rows,
                lines=old.lines + found.lines,
                unreadable=old.unreadable + found.unreadable,
            )
        tables[header] = found
    return the_one(name, list(tables.values()), "tables")


def the_one(name: str, tables: Sequence[Table], what: str) -> Table:
    """The table of runs among several: the only one with two numeric columns or, among such, with columns lr and wd.

    Raises UsageError if there is not exactly one; `what` names the tables in the message.
    """
    if len(tables) > 1:
        tables = [table for table in tables if len(table.rows) > 1 and _numbers(table) >= 2]
    if len(tables) > 1:
        from replicate.sweeps.columns import names_both

        tables = [table for table in tables if names_both(table.header)] or tables
    if len(tables) != 1:
        shown = "; ".join(table.columns for table in tables[:3])
        raise UsageError(
            f"{name}: expected one table of runs, got {len(tables)} {what}{f' ({shown})' if shown else ''}; keep one"
        )
    table = tables[0]
    repeated = next((column for column in table.header if column and table.header.count(column) > 1), None)
    if repeated is not None:
        raise UsageError(f"{name}: expected each column once, got {repeated!r} twice in the header; rename one")
    return table


def _numbers(table: Table) -> int:
    """Number of numeric columns."""
    some = table.rows[:LOOKED_AT]
    return sum(
        any(number(row[i]) is not None for row in some)
        and all(number(row[i]) is not None or is_nothing(row[i]) or is_dash(row[i]) for row in some)
        for i in range(len(table.header))
    )


def _cells(line: str) -> tuple[str, ...]:
    text = line.strip().removeprefix("|").removesuffix("|")
    return tuple(cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", text))


def from_rows(name: str, rows: Sequence[Sequence[str]]) -> Table:
    """The table in the rows of a sheet: the header is the first row that is neither empty nor a title."""
    filled = [(tuple(row), i) for i, row in enumerate(rows, 1) if any(row)]
    # A title above the header has fewer values.
    usual = _usual([tuple(v for v in row if v) for row, _ in filled]) if filled else 0
    while len(filled) > 1 and sum(map(bool, filled[0][0])) < min(2, usual):
        filled = filled[1:]
    if not filled:
        return from_records(name, [])
    header = filled[0][0]
    used = [i for i, column in enumerate(header) if column]
    body = [(tuple(row[i] if i < len(row) else "" for i in used), line) for row, line in filled[1:]]
    kept = [(row, line) for row, line in body if any(row)]
    return Table(
        name, tuple(header[i] for i in used), tuple(row for row, _ in kept), tuple(line for _, line in kept), False
    )
