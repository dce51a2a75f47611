"""The options of `replicate` and of the pytest plugin, each declared once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from replicate.data.source import DATA_FOLDER, DATA_VARIABLE, expanded
from replicate.text import UsageError
from replicate.train.contract import STACKED, TRAINERS
from replicate.train.engine.choice import ENGINES, LOCAL

STORE_VARIABLE = "REPLICATE_STORE"
STORE = ".replicate/store"
"""The default store, relative to the current folder; overridden by `--store` and by the environment variable."""
REPORT = ".replicate/report"
REPORT_FILES = "report.html, verdicts.json, verdicts.md and summary.md"

SCALES = (
    "smoke, embedded, probe, fashion, fashion-short, cifar100, cifar100-script, cifar100-stem32, "
    "imagenet, imagenet-script, synthetic"
)
"""The names in `replicate.runs.scales`, copied because that module is slow to import."""

Option = dict[str, Any]
"""Keyword arguments of `add_argument`, for argparse and pytest."""


def positive(text: str) -> int:
    """argparse type: an integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def _flag(text: str) -> Option:
    return {"action": "store_true", "help": text}


def _value(metavar: str, text: str, default: object = None) -> Option:
    return {"metavar": metavar, "default": default, "help": text}


def _counts(text: str, default: int | None = None) -> Option:
    return {"metavar": "N", "type": positive, "default": default, "help": text}


def _one_of(choices: Sequence[str], text: str, default: str | None = None) -> Option:
    return {"choices": list(choices), "default": default, "help": text}


OPTIONS: dict[str, Option] = {
    "--address": _value("HOST:PORT", "with --engine ray: address of the cluster (default: Ray's own)"),
    "--at": {**_value("LR,…", "recommend a weight decay at these learning rates, e.g. 3e-4", []), "action": "append"},
    "--by": {
        **_value("COLUMN,…", "judge the runs of each combination of values of these columns separately", []),
        "action": "append",
    },
    "--budget": _value("TIME", "train for at most this long, e.g. 6h or 90m, cheapest claims first"),
    "--columns": {
        **_value("FIELD=COLUMN,…", "which columns to use, e.g. lr=config.opt.lr,wd=l2,accuracy=final_top1", []),
        "action": "append",
    },
    "--data": _value("DIR", f"folder of the image data sets (default: ${DATA_VARIABLE} or {DATA_FOLDER})"),
    "--delete": _flag("delete these files (default: only list them)"),
    "--dry-run": _flag("only list the files that --delete would delete, with their sizes (default)"),
    "--engine": _one_of(
        ENGINES,
        "where to train: local (default), on this machine's GPUs, or else its cores; ray, on a Ray cluster",
        LOCAL,
    ),
    "--expect": _value("FILE", "a saved verdicts.json: fail if and only if a verdict differs from it"),
    "--format": _one_of(["csv", "parquet"], "format of the table (default: csv); parquet needs pyarrow", "csv"),
    "--how-sure": _flag(
        "judge each decisive verdict again with one seed or one learning rate left out at a time, with every second "
        "weight decay, by the best epoch's accuracy, and at levels 90 and 99 %% (takes about twenty times as long)"
    ),
    "--ignore": {
        **_value("COLUMN,…", "ignore these columns: runs that differ only in them are repeats", []),
        "action": "append",
    },
    "--json": _flag("print only JSON on standard output"),
    "--keep-models": _flag("keep the final weights of every run that is trained, in the store beside its record"),
    "--landscape": _value("NAME", "a trained landscape of `replicate calibrate --part trained`, e.g. mlp-digits-adamw"),
    "--landscapes": _counts("how many landscapes to make up per study (default: 400)", 400),
    "--markdown": _flag("print the whole audit as a Markdown document"),
    "--measure": _flag("train a few steps of each architecture on this device to measure the cost of a run"),
    "--metric": _value(
        "NAME",
        "the score: accuracy, loss or a column; if its name does not tell, add :max if higher is better, else :min",
    ),
    "--next": _counts("suggest the N runs that would narrow the answer most"),
    "--next-csv": _value("FILE.csv", "with --next: also write the suggested runs to this file"),
    "--noise": _value("SD", "the standard deviation of the score between seeds, in the score's unit, if known"),
    "--offline": _flag("train nothing: judge from the stored runs"),
    "--once": _flag("print the progress once and exit"),
    "--other": _value("DIR", "a second store: show which of the runs in both differ, and by how much"),
    "--outcomes": _counts("outcomes to simulate per experiment (default: 100)", 100),
    "--part": {
        **_one_of(["trained", "cells", "experiments"], "measure only this part; other parts in the file of --out stay"),
        "action": "append",
    },
    "--picture": _value("FILE.svg", "also write the pictures of the landscapes to this file"),
    "--processes": _counts("stacks to train at once (default: one per GPU, or else per physical core)"),
    "--repair": _flag("move damaged and leftover files to quarantine/"),
    "--report": _value("DIR", f"folder for {REPORT_FILES} (default: {REPORT})"),
    "--retrain": _flag("with --keep-models: train runs that are stored without a model again, to save it"),
    "--sample": _counts("how many runs to verify if no keys are given (default: 10)", 10),
    "--scale": _value("SCALE", f"size of the experiment, by name: {SCALES}"),
    "--store": _value("DIR", f"folder of the stored runs (default: ${STORE_VARIABLE} or {STORE})"),
    "--studies": _counts("run only about N of the studies (default: all)"),
    "--take": _one_of(["last", "best"], "which score counts if a run has a row per epoch (default: last)", "last"),
    "--train": _counts("with --part trained: first train those of N seeds of each landscape that are not recorded yet"),
    "--trainer": _one_of(
        list(TRAINERS),
        "how to train: stacked (default), many runs in lock-step, or solo, one after another in a plain loop",
        STACKED,
    ),
    "--until": _one_of(
        ["settled"],
        "judge a claim first on two seeds at level 99 %%, and if that is inconclusive, on all seeds at 96 %%",
    ),
    "--variant": _value("VARIANT", "which variant of the training: main (default), sgd, batch-256, …", "main"),
    "--verbose": _flag("also show what each finding assumes and what would make it consistent"),
    "--where": {**_value("COLUMN=VALUE,…", "judge only these runs, e.g. epochs=8", []), "action": "append"},
    "--weights": _flag("evaluate the models kept in the store again, and compare with their records"),
    "--world": _value(
        "WORLD",
        "law of the made-up runs: paper (its claims hold), timescale (best decay ∝ 1 / lr) or noise (nothing matters)",
    ),
}


def add(to: Callable[..., Any], *names: str, more: str = "", **other: Any) -> None:
    """Declare the options `names` by calling `to`: argparse's `add_argument` or pytest's `addoption`.

    `more` is appended to their help texts; `other`: keyword arguments for `to` that override those of `OPTIONS`.
    """
    for name in names:
        option = {**OPTIONS[name], **other}
        to(name, **{**option, "help": option["help"] + more})


def store_named() -> str | None:
    """The store named by the environment variable; None if it is unset or empty."""
    return os.environ.get(STORE_VARIABLE) or None


def use_images(folder: str | None, here: Path | None = None) -> None:
    """Set the environment variable `DATA_VARIABLE`, also for child processes, to `folder`, taken relative to `here`."""
    if folder is None:
        return
    if not folder:
        raise UsageError("--data: expected a folder, got an empty name; leave the option out for the default")
    os.environ[DATA_VARIABLE] = str((here or Path.cwd()) / expanded(folder))
