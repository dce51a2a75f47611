"""`replicate runs export`: runs or landscape points as a table, CSV or Parquet, on standard output or in a file."""

from __future__ import annotations

import csv
import importlib.util
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from replicate.store import atomic
from replicate.text import UsageError


def export(fields: Sequence[str], rows: Iterable[dict[str, Any]], form: str, out: str | None) -> None:
    """Write `rows`; `form` is `csv` or `parquet`."""
    if form == "parquet":
        if importlib.util.find_spec("pyarrow") is None:
            raise UsageError("--format parquet: expected pyarrow, which is not installed; pip install pyarrow")
        if out is None and sys.stdout.isatty():
            raise UsageError("--format parquet: expected a file, got a terminal; say --out FILE.parquet")
    blob = _parquet(fields, rows) if form == "parquet" else _csv(fields, rows).encode()
    if out is not None:
        _write(Path(out), blob)
    elif form == "parquet":
        sys.stdout.buffer.write(blob)
    else:
        sys.stdout.write(blob.decode())


def _csv(fields: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _parquet(fields: Sequence[str], rows: Iterable[dict[str, Any]]) -> bytes:
    import pandas as pd  # half a second, and not needed for CSV

    frame = pd.DataFrame(list(rows), columns=list(fields))
    for field in ("accuracy", "best_accuracy", "seconds"):
        if field in frame:
            frame[field] = frame[field].astype("float64")  # also where every run diverged
    blob = io.BytesIO()
    frame.to_parquet(blob, index=False, engine="pyarrow")
    return blob.getvalue()


def _write(path: Path, blob: bytes) -> None:
    """Whole or not at all."""
    try:
        atomic.write(path, blob)
    except OSError as error:
        raise UsageError(f"--out {path}: expected a file that can be written, got: {error.strerror}") from None
