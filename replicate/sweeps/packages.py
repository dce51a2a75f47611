"""Readers of Parquet and xlsx files by optional packages; if one is missing, the error says what to install."""

from __future__ import annotations

import importlib
import io
import math
import warnings
from collections.abc import Sequence
from typing import Any

from replicate.sweeps import delimited
from replicate.sweeps.table import MOST_COLUMNS, MOST_VALUES, Table, from_records, text_of
from replicate.text import UsageError


def parquet(name: str, raw: bytes) -> Table:
    """The table in a Parquet file; raises UsageError if it is damaged or too large, or pyarrow is missing."""
    pyarrow = _package(name, "a Parquet file", "pyarrow")
    try:
        reader = importlib.import_module("pyarrow.parquet")
        file = reader.ParquetFile(pyarrow.BufferReader(raw))
        rows, columns = file.metadata.num_rows, file.metadata.num_columns
        if columns > MOST_COLUMNS or rows * columns > MOST_VALUES:
            raise UsageError(
                f"{name}: expected at most {MOST_COLUMNS} columns and {MOST_VALUES:,} values, got {columns} columns "
                f"in {rows} rows; keep the columns that matter"
            )
        found = file.read().to_pylist()
    except UsageError:
        raise
    except Exception as error:  # the library has no exception of its own for every kind of damage
        raise UsageError(f"{name}: expected a Parquet file, got one that pyarrow cannot read ({error})") from None
    from replicate.sweeps import records

    return from_records(name, [records.flat(row) for row in found], first_line=1)


def excel(name: str, raw: bytes) -> Table:
    """The only table of runs in an Excel workbook; UsageError if it cannot be read, or if several sheets have one."""
    openpyxl = _package(name, "an Excel workbook", "openpyxl")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions, which do not matter here
            book = openpyxl.load_workbook(io.BytesIO(raw), read_only=True, data_only=True)
            sheets = [_sheet(name, sheet) for sheet in book.worksheets]
    except UsageError:
        raise
    except Exception as error:  # as above
        raise UsageError(f"{name}: expected an Excel workbook, got one that openpyxl cannot read ({error})") from None
    filled = [table for table in sheets if table.rows]
    return delimited.the_one(name, filled, "sheets with rows")


def _sheet(name: str, sheet: Any) -> Table:
    rows: list[Sequence[str]] = []
    values = 0
    for row in sheet.iter_rows(values_only=True):
        values += len(row)
        if values > MOST_VALUES:
            raise UsageError(f"{name}: expected at most {MOST_VALUES:,} cells in a sheet, got more; save it as CSV")
        rows.append([_cell(value) for value in row])
    return delimited.from_rows(name, rows)


def _cell(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return text_of(value)


def _package(name: str, what: str, package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UsageError(
            f"{name}: reading {what} needs {package}, which is not installed; pip install {package}, or export the "
            "runs as CSV"
        ) from None
