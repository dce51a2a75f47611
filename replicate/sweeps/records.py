"""Reads JSON: records, columns, JSON lines, lists of runs as exported by Weights & Biases, histories within runs."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from replicate.sweeps import names
from replicate.sweeps.table import MOST_VALUES, Table, from_records, text_of
from replicate.text import UsageError

MOST_FIELDS = 2_000
"""Number of fields of a record that are read; further ones are left out."""
DEEPEST = 8
LONGEST_TEXT = 20_000
UNSEEN = ("_wandb", "wandb_version", "_runtime", "system_metrics", "systemMetrics")
"""Fields that tools add to the run's own settings and results; they are not read."""
UNWRAPPED = {"value", "desc"}
"""Keys of the dictionary in which Weights & Biases wraps each setting."""
HISTORY = "history"
WIDENED = {"config", "summary", "params", "parameters", "hparams", "hyperparameters", "settings", "args", "metrics"}
WIDENED |= {"result", "results", "scores", "summary_metrics", "hyperparams", "param", "cfg", "content"}
"""Columns whose dictionaries are settings or results; others, such as a sampler's state, are not expanded."""


def read(name: str, text: str) -> Table | None:
    """The table in JSON or JSON lines; None if `text` is neither; raises UsageError for JSON that is no table."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise UsageError(f"{name}: expected JSON records, got one nested too deeply; export a flat table") from None
    except ValueError as error:
        return _lines(name, text, error)
    records = _records(name, found)
    return table(name, records, 1)


def table(name: str, records: Sequence[Mapping[str, Any]], first_line: int = 1) -> Table:
    """A table with one row for each of `records`, or for each step of a record's history.

    `first_line`: line number of the first record. Raises UsageError if there are too many values.
    """
    rows: list[dict[str, str]] = []
    values = 0
    for record in records:
        for row in _steps(record):
            rows.append(flat(row))
            values += len(rows[-1])
            if values > MOST_VALUES:
                raise UsageError(
                    f"{name}: expected at most {MOST_VALUES:,} values, got more; keep the runs that matter"
                )
    return from_records(name, rows, first_line)


def _lines(name: str, text: str, error: ValueError) -> Table | None:
    """The table in JSON lines; None if the first line is not a record."""
    rows: list[dict[str, str]] = []
    lines, bad = [], []
    for i, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            if not rows:
                break
            bad.append((i, "expected a JSON record, got something else"))
            continue
        if not isinstance(found, dict):
            bad.append((i, "expected a JSON record, got something else"))
            continue
        for row in _steps(found):
            rows.append(flat(row))
            lines.append(i)
    if not rows:
        if re.match(r"\s*(\{\s*[\"}]|\[\s*[\[{\"\d\]])", text):
            raise UsageError(f"{name}: expected JSON, got a damaged file ({error}); export it again")
        return None
    made = from_records(name, rows)
    return Table(name, made.header, made.rows, tuple(lines), unreadable=tuple(bad))


def _records(name: str, found: Any) -> list[Mapping[str, Any]]:
    """The records in a JSON value: a list of them, columns, a header with rows, or records by name."""
    if isinstance(found, list):
        if found and all(isinstance(one, dict) for one in found):
            return found
        if len(found) > 1 and all(isinstance(one, list) for one in found):  # a header, then rows
            return _from_rows(name, found[0], found[1:])
    elif isinstance(found, dict):
        for _ in range(DEEPEST):  # nested in single-key dictionaries, as in a server's response
            if len(found) == 1 and isinstance(inner := next(iter(found.values())), dict):
                found = inner
        columns, data = found.get("columns"), found.get("data")
        if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
            return _from_rows(name, columns, data)  # a table of W&B, or pandas' `split`
        lists = [key for key, one in found.items() if _is_records(one)]
        if len(lists) == 1 and lists[0] != HISTORY:
            return list(found[lists[0]])
        values = list(found.values())
        if values and all(isinstance(one, list) for one in values):  # columns
            length = len(values[0])
            if all(len(one) == length for one in values):
                return [dict(zip(found, row, strict=True)) for row in zip(*values, strict=True)]
            raise UsageError(
                f"{name}: expected columns of one length, got lists of {length} values and others; export it again"
            )
        if len(values) > 1 and all(isinstance(one, dict) and one for one in values):
            keys = values[0].keys()
            if all(one.keys() == keys for one in values) and not any(
                isinstance(v, dict | list) for one in values for v in one.values()
            ):
                if all(re.fullmatch(r"\d+", str(key)) for key in keys):  # pandas' `columns`
                    return [{column: of[key] for column, of in found.items()} for key in keys]
                return [{"name": key, **one} for key, one in found.items()]  # pandas' `index`
            return [{"name": key, **one} for key, one in found.items()] if _runs_by_name(values) else [found]
        if found:
            return [found]
    got = "an empty one" if found in ([], {}) else "another JSON value"
    raise UsageError(f"{name}: expected a list of JSON records, one per run, or columns of equal length, got {got}")


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _runs_by_name(values: Sequence[Mapping[str, Any]]) -> bool:
    """Whether dictionaries with different keys are several runs (at least three, sharing a key), not parts of one."""
    shared = set.intersection(*(set(one) for one in values))
    return len(values) > 2 and bool(shared)


def _from_rows(name: str, columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[Mapping[str, Any]]:
    header = [text_of(column) if not isinstance(column, dict | list) else "" for column in columns]
    if len(set(header)) != len(header):
        raise UsageError(f"{name}: expected each column once, got {', '.join(header)[:200]}; rename one")
    if bad := [i for i, row in enumerate(rows) if len(row) != len(header)]:
        raise UsageError(f"{name}, row {bad[0] + 1}: expected {len(header)} values, got {len(rows[bad[0]])}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _steps(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The record, or one record for each step of the history in it."""
    histories = {key: one for key, one in record.items() if _is_records(one) and str(key).lower().endswith(HISTORY)}
    if len(histories) != 1:
        series = {
            k: v for k, v in record.items() if isinstance(v, list) and len(v) > 1 and all(_is_number(x) for x in v)
        }
        lengths = {len(one) for one in series.values()}
        if len(lengths) != 1 or len(series) < 2 - any("loss" in k or "acc" in k for k in series):
            return [record]
        rest = {key: one for key, one in record.items() if key not in series}
        rows = [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]
        return [{**rest, "step": i, **row} for i, row in enumerate(rows)]
    ((key, steps),) = histories.items()
    rest = {name: one for name, one in record.items() if name not in (key, "summary", "summary_metrics")}
    return [{**rest, **step} for step in steps]


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def flat(record: Mapping[Any, Any]) -> dict[str, str]:
    """`record` with nested dictionaries flattened, their names joined by `/`, and all values as text."""
    out: dict[str, str] = {}
    pending: list[tuple[str, Any, int]] = [(str(key), value, 0) for key, value in reversed(list(record.items()))]
    while pending and len(out) < MOST_FIELDS:
        key, value, depth = pending.pop()
        if key.rsplit("/", 1)[-1] in UNSEEN:
            continue
        if isinstance(value, str) and value.lstrip()[:1] == "{" and (inner := dictionary(value)) is not None:
            value = inner
        if isinstance(value, Mapping):
            if set(value) <= UNWRAPPED and "value" in value:
                pending.append((key, value["value"], depth + 1))
            elif depth < DEEPEST:
                pending += [(f"{key}/{inner}", one, depth + 1) for inner, one in reversed(list(value.items()))]
        elif isinstance(value, list | tuple):
            if len(value) == 1 and not isinstance(value[0], list | dict):
                out[key] = text_of(value[0])
            elif len(value) <= 20 and all(not isinstance(one, list | dict) for one in value):
                out[key] = " ".join(text_of(one) for one in value)[:LONGEST_TEXT]
        else:
            out[key] = text_of(value)
    return out


def dictionary(text: str, longest: int = LONGEST_TEXT) -> dict[str, Any] | None:
    """The dictionary in a cell, written as JSON or as a Python literal; None if it is not one."""
    if len(text) > longest:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = ast.literal_eval(
                    re.sub(r"(?<![\w'\"])(nan|-?inf)(?![\w'\"])", r"'\1'", text)
                )  # literals only: executes nothing
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else None


def widened(table: Table) -> Table:
    """`table` with dictionaries in cells, as in pandas exports of W&B runs, expanded to one column per field."""
    for column in table.header:
        values = table.values(column)
        filled = [value for value in values if value]
        if (
            names.plain(column) not in WIDENED
            or not filled
            or not all(value.startswith("{") and value.endswith("}") for value in filled)
        ):
            continue
        found = [dictionary(value) if value else {} for value in values]
        if any(one is None for one in found):
            continue
        inner = from_records(table.name, [{f"{column}/{k}": v for k, v in flat(one or {}).items()} for one in found])
        known = {tuple(table.values(name)) for name in table.header}
        new = {name: inner.values(name) for name in inner.header if name not in table.header}
        new = {name: values for name, values in new.items() if tuple(values) not in known}  # duplicates
        table = table.without_columns([column]).with_columns(new)
    return table
