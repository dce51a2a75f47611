"""Which column of a table is the learning rate, the weight decay, the score: by name, or as the caller says.

Known without being told: plain columns and their usual other names; Weights & Biases exports (`config.lr`,
`config/optimizer.lr`); Optuna's `trials_dataframe` (`params_lr`, `value`). Where two could be meant, it asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from replicate.landscape.table import Table
from replicate.text import UsageError

FIELDS = ("lr", "wd", "accuracy", "loss", "seed", "arch", "dataset")
METRICS = ("accuracy", "loss")
UNNAMED = "unnamed"
"""Architecture or data set of a sweep that does not say."""

TESTED_ON = ("test", "val", "valid", "validation", "eval")
ALIASES = {
    "lr": ("lr", "learning_rate", "learningrate", "base_lr", "peak_lr", "max_lr", "init_lr", "eta"),
    "wd": ("wd", "weight_decay", "weightdecay", "lambda"),
    "accuracy": (
        *("accuracy", "acc", "top1", "acc1", "accuracy_pp"),
        *(f"{split}_{name}" for split in TESTED_ON for name in ("accuracy", "acc")),
    ),
    "loss": ("loss", *(f"{split}_loss" for split in TESTED_ON)),
    "seed": ("seed", "random_seed", "rng_seed", "random_state"),
    "arch": ("arch", "architecture", "model", "model_name", "backbone"),
    "dataset": ("dataset", "data_set", "dataset_name", "data"),
}
PREFIXES = ("config", "params", "parameters", "hparams", "hyperparameters", "summary")
OPTIMIZER = ("optimizer", "optimiser", "optim", "opt", "optimizer_name", "optimizer_type")
"""Names of a column that must hold one value."""
UNTOLD_METRIC = "value"
"""Optuna's name of the objective, which does not tell an accuracy from a loss."""


def parse_columns(arguments: Sequence[str]) -> dict[str, str]:
    """Field → column from arguments such as `lr=config.lr,wd=params_wd`."""
    columns: dict[str, str] = {}
    for pair in (pair for argument in arguments for pair in argument.split(",")):
        field, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or field not in FIELDS or not column:
            raise UsageError(f"--columns: expected FIELD=COLUMN with a field of {', '.join(FIELDS)}; got {pair!r}")
        if field in columns:
            raise UsageError(f"--columns: expected each field once, got {field}={columns[field]} and {pair}")
        columns[field] = column
    return columns


def metric_given(metric: str | None, columns: Mapping[str, str]) -> str | None:
    """The metric that the caller asks for, by `metric` or by naming its column; None where it is left open."""
    if metric is not None and metric not in METRICS:
        raise UsageError(f"--metric: expected accuracy or loss, got {metric!r}")
    named = [m for m in METRICS if m in columns]
    if metric is None and len(named) == 2:
        raise UsageError("--columns: expected accuracy or loss, got both; name one, or say --metric")
    if metric is not None and named and metric not in named:
        raise UsageError(f"--columns: expected {metric}=… as --metric {metric} says, got {named[0]}=…")
    return metric or (named[0] if named else None)


def find_columns(
    table: Table, metric: str | None, columns: Mapping[str, str], notes: list[str]
) -> tuple[dict[str, str], str]:
    """Field → column, for every field that the table has, and the metric."""
    found = {}
    for field in FIELDS:
        if field in METRICS and metric not in (None, field):
            continue
        column = columns[field] if field in columns else _guess(table, field)
        if field in columns and column not in table.header:
            raise UsageError(f"{table.name}: --columns {field}={column}: no such column; there are {table.columns}")
        if column is not None:
            found[field] = column
    chosen = next((m for m in METRICS if m in found), None)
    if chosen is None and UNTOLD_METRIC in table.header:
        if metric is None:
            raise UsageError(
                f"{table.name}: column {UNTOLD_METRIC} may be an accuracy or a loss; say --metric accuracy or "
                "--metric loss"
            )
        found[metric] = UNTOLD_METRIC
        chosen = metric
    missing = [field for field in ("lr", "wd") if field not in found]
    if chosen is None:
        missing.append(metric or "accuracy or loss")
    if chosen is None or missing:
        raise UsageError(
            f"{table.name}: expected columns lr, wd and accuracy or loss; found none for {', '.join(missing)} among "
            f"{table.columns}; name them with --columns, e.g. --columns {missing[0].split()[0]}=NAME"
        )
    if chosen == "accuracy" and "loss" in found:
        notes.append(f"judging accuracy ({found['accuracy']}); --metric loss judges {found['loss']}")
        del found["loss"]
    renamed = [f"{field}={column}" for field, column in found.items() if field != column and field not in columns]
    if renamed:
        notes.append(f"taking {', '.join(renamed)}")
    return found, chosen


def _guess(table: Table, field: str) -> str | None:
    """The column that holds `field`; raises UsageError where two with different contents could."""
    candidates = [column for column in table.header if _plain_name(column) in ALIASES[field]]
    if len({tuple(table.values(column)) for column in candidates}) > 1:
        examples = f"--columns {field}={candidates[0]}"
        raise UsageError(
            f"{table.name}: {field} may be any of the columns {', '.join(candidates)}; say which, e.g. {examples}"
        )
    return candidates[0] if candidates else None


def _plain_name(column: str) -> str:
    """`config/optimizer.lr`, `params_lr`, `Learning Rate` → `lr`, `lr`, `learning_rate`; `train/…` stays whole."""
    name = column.strip().lower().replace(" ", "_").replace("-", "_").replace("λ", "lambda").replace("η", "eta")
    parts = name.replace("/", ".").split(".")
    last = parts[-1]
    if "train" in parts or "training" in parts:
        return name  # the accuracy or loss on the training images is not what is asked for
    for prefix in PREFIXES:
        last = last.removeprefix(prefix + "_")
    return last


def one_optimizer(table: Table, found: Mapping[str, str]) -> None:
    """Raises UsageError where runs of several optimisers would be judged as one cell."""
    for column in table.header:
        if _plain_name(column) not in OPTIMIZER or column in found.values():
            continue
        values = sorted({value.lower() for value in table.values(column)})
        if len(values) > 1:
            shown = ", ".join(repr(value[:40]) for value in values[:4])
            raise UsageError(
                f"{table.name}: expected the runs of one optimizer, got {len(values)} values "
                f"({shown}) in column {column}; keep the rows of one, or make a cell of each: --columns arch={column}"
            )
