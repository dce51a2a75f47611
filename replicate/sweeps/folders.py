"""Reads a folder of runs: Ray Tune, Hydra, Lightning, timm, W&B's own files, MLflow's store, or one file per run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from replicate.sweeps import records
from replicate.sweeps.source import from_text, read_table
from replicate.sweeps.table import Table, from_records, listed
from replicate.text import UsageError

MOST_FILES, MOST_BYTES, DEEPEST = 50_000, 512 << 20, 8
CONFIGS = (
    *("params.json", "config.json", "args.json", "hparams.json", "hyperparameters.json", "config.yaml", "config.yml"),
    *("args.yaml", "hparams.yaml", "params.yaml", ".hydra/config.yaml", ".hydra/overrides.yaml", "overrides.yaml"),
)
"""Files with the settings of a run; later ones override earlier ones."""
RESULTS = (
    *("result", "results", "progress", "metrics", "summary", "wandb-summary", "eval_results", "test_results"),
    *("all_results", "history", "log", "train_log", "scores", "score", "output"),
)
"""Names of files with the results of a run, in order of preference."""
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".yaml", ".yml", ".md")
NO_RESULTS = re.compile(r"multirun|hydra|requirements|readme|wandb-metadata|pbt_|basic-variant|experiment_state|\.log$")
MLFLOW_STATES = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


def read(path: str) -> Table:
    """The runs below the folder `path`, without following links; raises UsageError if there are none."""
    files = _files(path)
    by_folder: dict[str, list[str]] = {}
    for file in files:
        by_folder.setdefault(str(Path(file).parent), []).append(Path(file).name)
    if runs := [
        folder for folder, names in by_folder.items() if "meta.yaml" in names and _is_mlflow(by_folder, folder)
    ]:
        return _mlflow(path, runs, by_folder)
    configs = _configs(by_folder)
    return _folders(path, configs, by_folder) if configs else _one_a_run(path, files)


def _files(path: str) -> list[str]:
    """The files below `path`, relative to it, without links, which may point outside."""
    found = []
    for folder, folders, names in os.walk(path, followlinks=False):
        below = Path(folder).relative_to(path)
        if len(below.parts) >= DEEPEST:
            folders.clear()
        folders[:] = sorted(
            f for f in folders if f in (".hydra", "metrics", "params", "tags") or not f.startswith((".", "__"))
        )
        for name in sorted(names):
            if not name.startswith((".", "_")) and not (Path(folder) / name).is_symlink():
                found.append(str(below / name))
        if len(found) > MOST_FILES:
            raise UsageError(
                f"{path}: expected at most {MOST_FILES:,} files below the folder, got more; name the folder of the runs"
            )
    return found


def _text(path: str, file: str) -> str:
    place = Path(path) / file
    try:
        if not place.is_file() or place.stat().st_size > MOST_BYTES // 8:
            return ""
        return place.read_bytes().decode("utf-8-sig", "replace").replace("\0", "\ufffd")
    except OSError as error:
        raise UsageError(f"{place}: expected a file that can be read, got: {error.strerror}") from None


def _configs(by_folder: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Folder of a run → paths of the files with its settings."""
    found: dict[str, list[str]] = {}
    for config in CONFIGS:
        inside, name = str(Path(config).parent), Path(config).name
        for folder, names in by_folder.items():
            if name in names and (inside == "." or Path(folder).name == inside):
                run = folder if inside == "." else str(Path(folder).parent)
                if Path(run).name != ".hydra":
                    found.setdefault(run, []).append(str(Path(folder) / name))
    return found


def _folders(path: str, configs: Mapping[str, Sequence[str]], by_folder: Mapping[str, Sequence[str]]) -> Table:
    """One run per folder with settings; a run without results is kept, with an empty score."""
    rows: list[Mapping[str, str]] = []
    lacking = 0
    for run in sorted(configs):
        settings: dict[str, str] = {}
        for file in configs[run]:
            settings |= _settings(path, file)
        held = {Path(file).name for file in configs[run]}
        results = _results(path, run, [name for name in by_folder.get(run, ()) if name not in held])
        lacking += not results
        config = {name if name.startswith("config/") else f"config/{name}": value for name, value in settings.items()}
        shared = {name.rsplit("/", 1)[-1] for name in config}
        missing = {"state": "no results"} if not results else {}
        for row in results or [{}]:
            kept = {key: value for key, value in row.items() if key not in config and key not in shared}
            rows.append({"run": run, **config, **kept, **missing})
    if len(rows) == lacking:
        raise UsageError(
            f"{path}: expected results beside the settings of each run, e.g. result.json, progress.csv or "
            f"metrics.json, got {lacking} folders with only settings; write the scores into them"
        )
    table = from_records(path, rows)
    return table.saying(f"{len(configs)} runs in folders" + (f", {lacking} of them without results" if lacking else ""))


def _results(path: str, run: str, names: Sequence[str]) -> list[dict[str, str]]:
    """The rows of the results file in a run's folder; none if there is no such file."""
    candidates = [name for name in names if name.endswith(ENDINGS) and not NO_RESULTS.search(name.lower())]
    order = {stem: i for i, stem in enumerate(RESULTS)}
    candidates.sort(key=lambda name: (order.get(Path(name).stem.lower(), len(order)), name))
    for name in candidates:
        if rows := _rows(path, str(Path(run) / name)):
            return rows
    return []


def _rows(path: str, file: str) -> list[dict[str, str]]:
    """The rows of one file; none if it is not a table."""
    text = _text(path, file)
    if not text.strip():
        return []
    name = str(Path(path) / file)
    try:
        if file.endswith((".yaml", ".yml")):
            found = _settings(path, file)
            return [found] if found else []
        table = from_text(name, text)
    except UsageError:
        return []
    if not table.rows and len(table.header) == 1:  # one number in a file
        return [{"value": table.header[0]}]
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def _settings(path: str, file: str) -> dict[str, str]:
    """The settings in a JSON or YAML file, with nested names joined by `/`; raises UsageError if it is damaged."""
    text = _text(path, file)
    value: object = records.dictionary(text, len(text)) if file.endswith(".json") else _yaml(text)
    if value is None and text.strip():
        raise UsageError(
            f"{Path(path) / file}: expected the settings of a run as JSON or YAML, got a damaged file; repair it, or "
            "move the run elsewhere"
        )
    if isinstance(value, list):  # Hydra's overrides
        pairs = (str(one).lstrip("+~").partition("=") for one in value if isinstance(one, str))
        return {key.replace(".", "/"): given for key, equals, given in pairs if equals}
    return records.flat(value) if isinstance(value, dict) else {}


def _yaml(text: str) -> object:
    """The content of a YAML text with every scalar as text; tags create no objects. None if it is not YAML."""
    import yaml  # not at the top: only folders need it

    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _is_mlflow(by_folder: Mapping[str, Sequence[str]], folder: str) -> bool:
    return str(Path(folder) / "metrics") in by_folder or str(Path(folder) / "params") in by_folder


def _mlflow(path: str, runs: Sequence[str], by_folder: Mapping[str, Sequence[str]]) -> Table:
    """The runs of MLflow's file store, one row for each step at which a metric was logged."""
    rows: list[Mapping[str, str]] = []
    parents = {str(Path(run).parent) for run in runs}
    for run in sorted(runs):
        meta = _settings(path, str(Path(run) / "meta.yaml"))
        if meta.get("lifecycle_stage") == "deleted":
            continue
        status = meta.get("status", "")
        row = {"run_id": Path(run).name, "status": MLFLOW_STATES.get(status, status)}
        if len(parents) > 1:
            row["experiment"] = str(Path(run).parent)
        for key in by_folder.get(str(Path(run) / "params"), ()):
            row[f"params.{key}"] = _text(path, str(Path(run) / "params" / key)).strip()
        steps: dict[str, dict[str, str]] = {}
        folder = str(Path(run) / "metrics")
        for metrics in [f for f in by_folder if f == folder or f.startswith(folder + os.sep)]:
            for key in by_folder[metrics]:
                name = str((Path(metrics) / key).relative_to(folder))
                for line in _text(path, str(Path(metrics) / key)).splitlines():
                    parts = line.split()
                    if len(parts) in (2, 3):
                        steps.setdefault(parts[2] if len(parts) == 3 else "0", {})[f"metrics.{name}"] = parts[1]
        rows += (
            [{**row, "step": step, **values} for step, values in steps.items()]
            if len(steps) > 1
            else [{**row, **next(iter(steps.values()), {})}]
        )
    return from_records(path, rows)


def _one_a_run(path: str, files: Sequence[str]) -> Table:
    """Reads one or more runs from each file; the file's name, which may contain settings, goes into a column `file`."""
    usable = [file for file in files if file.lower().endswith((*ENDINGS, ".gz", ".parquet", ".xlsx", ".db", ".zip"))]
    usable = [file for file in usable if not NO_RESULTS.search(Path(file).name.lower())] or usable
    if not usable:
        got = (
            f"{len(files)} files of other kinds ({listed([Path(f).name for f in files], 3)})"
            if files
            else "an empty one"
        )
        raise UsageError(
            f"{path}: expected a folder of runs, one file or folder each, got {got}; give the path of the table itself"
        )
    if len(usable) == 1:
        return read_table(str(Path(path) / usable[0]))
    rows: list[Mapping[str, str]] = []
    unread = []
    for file in usable:
        found = _rows(path, file)
        if not found:
            unread.append(file)
        rows += [{"file": file, **row} for row in found]
    if not rows:
        raise UsageError(
            f"{path}: expected files of runs, got {len(usable)} of other kinds, e.g. {unread[0][:60]}; give the path "
            "of the table itself"
        )
    table = from_records(path, rows)
    note = f"{len(usable) - len(unread)} files, each taken as a run"
    return table.saying(note + (f"; left out {len(unread)} without runs, e.g. {unread[0][:60]}" if unread else ""))
