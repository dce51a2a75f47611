"""Reads the SQLite databases of Optuna and MLflow without their packages and without changing the file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from replicate.sweeps.table import Table, from_records, text_of
from replicate.text import UsageError

MOST_STEPS = 2_000
"""Limit on SQLite's work, in units of 100,000 instructions, against databases made to keep it busy."""
MOST_ROWS = 2_000_000
OPTUNA = {"studies", "trials", "trial_params", "trial_values"}
MLFLOW = {"runs", "params", "latest_metrics"}

Row = tuple[Any, ...]


def read(name: str, path: str) -> Table:
    """The trials of Optuna or runs of MLflow in the SQLite file `path`; raises UsageError if it cannot be read."""
    if path == "-":
        raise UsageError(f"{name}: expected a database in a file of its own; unpack it and name the file")
    aside = Path(f"{path}-wal")
    if aside.exists() and aside.stat().st_size:
        raise UsageError(
            f"{name}: expected a database that no process is writing to, got unmerged writes in {aside.name}; end the "
            "study first"
        )
    # Read-only and immutable, so that SQLite creates no lock, no journal and no other file.
    place = f"file:{quote(str(Path(path).absolute()))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(place, uri=True)) as database:
            database.execute("PRAGMA trusted_schema=OFF")
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            steps = iter(range(MOST_STEPS))
            database.set_progress_handler(lambda: next(steps, None) is None, 100_000)
            tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables >= OPTUNA:
                return _optuna(name, database, tables)
            if tables >= MLFLOW:
                return _mlflow(name, database)
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}: expected an SQLite database, got one that cannot be read ({error})") from None
    shown = ", ".join(sorted(map(str, tables))[:6])
    raise UsageError(
        f"{name}: expected a database of Optuna or MLflow, got one with {shown or 'no tables'}; export the runs as CSV"
    )


def _optuna(name: str, database: sqlite3.Connection, tables: set[str]) -> Table:
    """One record per trial, with columns named as in `study.trials_dataframe()`, plus the study and its direction."""
    studies: dict[Any, Any] = dict(_rows(database, "SELECT study_id, study_name FROM studies"))
    directions: dict[Any, list[str]] = {}
    if "study_directions" in tables:
        for study, direction in _rows(database, "SELECT study_id, direction FROM study_directions ORDER BY objective"):
            directions.setdefault(study, []).append(text_of(direction))
    records: dict[Any, dict[str, str]] = {}
    for trial, number, study, state in _rows(
        database, "SELECT trial_id, number, study_id, state FROM trials ORDER BY trial_id"
    ):
        records[trial] = {"number": text_of(number), "state": text_of(state)}
        if len(studies) > 1:
            records[trial]["study_name"] = text_of(studies.get(study))
        if len(directions.get(study, ())) == 1:
            records[trial]["direction"] = directions[study][0]
    for trial, param, value, distribution in _rows(
        database, "SELECT trial_id, param_name, param_value, distribution_json FROM trial_params"
    ):
        if trial in records:
            records[trial][f"params_{param}"] = _param(value, distribution)
    several = any(len(one) > 1 for one in directions.values())
    kinds = "value_type" in {row[1] for row in database.execute("PRAGMA table_info(trial_values)")}
    columns = "trial_id, objective, value" + (", value_type" if kinds else ", ''")
    for trial, objective, value, kind in _rows(database, f"SELECT {columns} FROM trial_values"):
        if trial in records:
            infinite = text_of(kind).upper().startswith("INF")
            records[trial][f"values_{objective}" if several else "value"] = "inf" if infinite else text_of(value)
    if "trial_user_attributes" in tables:
        for trial, key, value in _rows(database, "SELECT trial_id, key, value_json FROM trial_user_attributes"):
            if trial in records:
                records[trial][f"user_attrs_{key}"] = _attribute(value)
    return from_records(name, list(records.values()))


def _param(value: Any, distribution: Any) -> str:
    """A parameter's value; for a categorical parameter, the database has the index of the choice."""
    try:
        choices = json.loads(text_of(distribution))["attributes"]["choices"]
        return text_of(choices[int(value)])
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        return text_of(value)


def _attribute(value: Any) -> str:
    try:
        found = json.loads(text_of(value))
    except (ValueError, RecursionError):
        return text_of(value)
    return "" if isinstance(found, dict | list) else text_of(found)


def _mlflow(name: str, database: sqlite3.Connection) -> Table:
    """One record per run, with columns named as in `mlflow.search_runs()`."""
    records: dict[Any, dict[str, str]] = {}
    for run, experiment, status, stage in _rows(
        database, "SELECT run_uuid, experiment_id, status, lifecycle_stage FROM runs ORDER BY start_time, run_uuid"
    ):
        if text_of(stage) != "deleted":
            records[run] = {"run_id": text_of(run), "experiment_id": text_of(experiment), "status": text_of(status)}
    for run, key, value in _rows(database, "SELECT run_uuid, key, value FROM params"):
        if run in records:
            records[run][f"params.{key}"] = text_of(value)
    for run, key, value, is_nan in _rows(database, "SELECT run_uuid, key, value, is_nan FROM latest_metrics"):
        if run in records:
            records[run][f"metrics.{key}"] = "nan" if is_nan else text_of(value)
    experiments: Mapping[str, None] = dict.fromkeys(one["experiment_id"] for one in records.values())
    if len(experiments) == 1:
        for one in records.values():
            del one["experiment_id"]
    return from_records(name, list(records.values()))


def _rows(database: sqlite3.Connection, query: str) -> Iterable[Row]:
    """The rows that a query finds; raises sqlite3.DataError for more than `MOST_ROWS`."""
    for i, row in enumerate(database.execute(query)):
        if i >= MOST_ROWS:
            raise sqlite3.DataError(f"more than {MOST_ROWS:,} rows")
        yield row
