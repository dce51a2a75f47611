"""The options of `replicate` and of the pytest plugin: each is declared once, and what was typed is checked once."""

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
"""Where the runs are kept unless `--store` or the variable says otherwise: in the current folder."""
REPORT = ".replicate/report"
REPORT_FILES = "report.html, verdicts.json, verdicts.md and summary.md"

SCALES = (
    "smoke, embedded, embedded-deep, probe, fashion, fashion-short, cifar100, cifar100-script, cifar100-stem32, "
    "imagenet, imagenet-script, synthetic"
)
"""As `replicate.runs.scales` has them, which takes long to load."""

Option = dict[str, Any]
"""How argparse has it, and pytest too."""


def positive(text: str) -> int:
    """A whole number of at least 1."""
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
    "--address": _value("HOST:PORT", "with --engine ray: which cluster (default: as Ray's)"),
    "--at": {**_value("LR,…", "what to set at these learning rates, e.g. 3e-4", []), "action": "append"},
    "--by": {
        **_value("COLUMN,…", "judge the runs of each value of these columns as a cell of its own", []),
        "action": "append",
    },
    "--budget": _value("TIME", "train for no longer than this, e.g. 6h or 90m, the most claims for it first"),
    "--columns": {
        **_value("FIELD=COLUMN,…", "which columns are meant, e.g. lr=config.opt.lr,wd=l2,accuracy=final_top1", []),
        "action": "append",
    },
    "--data": _value("DIR", f"folder of the image data sets (default: ${DATA_VARIABLE} or {DATA_FOLDER})"),
    "--delete": _flag("delete it"),
    "--dry-run": _flag("only say what would go, and how many bytes (default)"),
    "--engine": _one_of(
        ENGINES,
        "what trains: local (default), the GPUs of this machine, or its cores; ray, those of a Ray cluster",
        LOCAL,
    ),
    "--expect": _value("FILE", "a saved verdicts.json: fail where a verdict differs from it, and nowhere else"),
    "--format": _one_of(["csv", "parquet"], "parquet needs pyarrow", "csv"),
    "--how-sure": _flag(
        "also judge each decisive verdict again without each seed, each learning rate and every second weight decay, "
        "by the best epoch, and at 90 and 99 %% (some twenty times the judging)"
    ),
    "--ignore": {**_value("COLUMN,…", "runs that differ in these columns alone are repeats", []), "action": "append"},
    "--json": _flag("print JSON alone on standard output"),
    "--keep-models": _flag("keep the final weights of every run that is trained, beside its record in the store"),
    "--landscape": _value("NAME", "a trained landscape of `replicate calibrate --part trained`, e.g. mlp-digits-adamw"),
    "--landscapes": _counts("per study (default: 400)", 400),
    "--markdown": _flag("print the whole audit as a Markdown document"),
    "--measure": _flag("train a few steps of each architecture on this device to know what a run costs"),
    "--metric": _value(
        "NAME",
        "what to judge: accuracy, loss, or a column, with :max or :min where its name does not tell, e.g. value:max",
    ),
    "--next": _counts("say which N runs would narrow the answer most"),
    "--next-csv": _value("FILE.csv", "with --next: also write these runs as a table"),
    "--noise": _value("SD", "the standard deviation of a score between seeds, in its unit, where you know it"),
    "--offline": _flag("train nothing: judge what the store holds"),
    "--once": _flag("look once and end"),
    "--other": _value("DIR", "a second store: which of the runs in both differ, by how much"),
    "--outcomes": _counts("per whole experiment (default: 100)", 100),
    "--part": {
        **_one_of(["trained", "cells", "experiments"], "measure this part alone; --out keeps the others as they were"),
        "action": "append",
    },
    "--picture": _value("FILE.svg", "also write the landscapes' pictures alone"),
    "--processes": _counts("stacks at once (default: one a GPU, or a physical core)"),
    "--repair": _flag("move what cannot be believed, or is left over, to quarantine/"),
    "--report": _value("DIR", f"folder for {REPORT_FILES} (default: {REPORT})"),
    "--retrain": _flag("with --keep-models: train the stored runs again that have no model"),
    "--sample": _counts("else how many (default: 10)", 10),
    "--scale": _value("SCALE", f"how large a copy of the experiment: {SCALES}"),
    "--store": _value("DIR", f"folder of the stored runs (default: ${STORE_VARIABLE} or {STORE})"),
    "--studies": _counts("about N of the studies (default: all)"),
    "--take": _one_of(["last", "best"], "of a history with many rows a run (default: last)", "last"),
    "--train": _counts("with --part trained: first train N seeds of each landscape, as far as they are not recorded"),
    "--trainer": _one_of(
        list(TRAINERS),
        "how runs are trained: stacked (default), many in lock-step, or solo, one by one in a plain loop",
        STACKED,
    ),
    "--until": _one_of(
        ["settled"],
        "judge a claim at two seeds by a 99 % interval, and further, by 96 %, only where that does not settle it",
    ),
    "--variant": _value("VARIANT", "main (default), sgd, batch-256, …", "main"),
    "--verbose": _flag("with what each finding assumes and would take"),
    "--where": {**_value("COLUMN=VALUE,…", "judge these runs alone, e.g. epochs=8", []), "action": "append"},
    "--weights": _flag("evaluate the models kept in the store again, and compare with their records"),
    "--world": _value(
        "WORLD",
        "paper (its claims hold), timescale (decay times learning rate is constant) or noise (nothing matters)",
    ),
}


def add(to: Callable[..., Any], *names: str, more: str = "", **other: Any) -> None:
    """Declares options by `to`, which is argparse's `add_argument` or pytest's `addoption`.

    `more` is added to what their help says; `other` goes before what the table has.
    """
    for name in names:
        option = {**OPTIONS[name], **other}
        to(name, **{**option, "help": option["help"] + more})


def store_named() -> str | None:
    """The store that the environment names."""
    return os.environ.get(STORE_VARIABLE) or None


def use_images(folder: str | None, here: Path | None = None) -> None:
    """Have images read from `folder`, as seen from `here`: whatever process trains finds it by the variable."""
    if folder is None:
        return
    if not folder:
        raise UsageError("--data: expected a folder, got an empty name; leave the option out for the usual one")
    os.environ[DATA_VARIABLE] = str((here or Path.cwd()) / expanded(folder))
