"""Folders of runs as Ray Tune, Hydra, Lightning, timm, W&B and MLflow leave them, and one file a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicate.text import UsageError
from tests.support.sweeps import EXPECTED, RUNS, csv_text, read, scores


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def ray(folder: Path) -> None:
    for i, run in enumerate(RUNS):
        trial = folder / "train_2024" / f"train_{i:05d}_lr={run['lr']}"
        config = {"lr": run["lr"], "optim": {"weight_decay": run["wd"]}, "seed": run["seed"]}
        put(trial / "params.json", json.dumps(config))
        lines = [
            {"mean_accuracy": run["acc"] + after, "training_iteration": 2 + after, "config": config, "done": not after}
            for after in (-1, 0)
        ]
        put(trial / "result.json", "".join(json.dumps(line) + "\n" for line in lines))
        put(trial / "progress.csv", "mean_accuracy\n1\n")
    put(folder / "train_2024" / "experiment_state-2024.json", "{}")


def ray_csv(folder: Path) -> None:
    for i, run in enumerate(RUNS):
        put(folder / str(i) / "params.json", json.dumps({"lr": run["lr"], "wd": run["wd"], "seed": run["seed"]}))
        put(folder / str(i) / "progress.csv", f"mean_accuracy,training_iteration\n20,1\n{run['acc']},2\n")


def hydra(folder: Path) -> None:
    for i, run in enumerate(RUNS):
        job = folder / "multirun" / "2024-05-01" / str(i)
        put(
            job / ".hydra" / "config.yaml", f"optimizer:\n  lr: 1.0\n  weight_decay: {run['wd']}\nseed: {run['seed']}\n"
        )
        put(job / ".hydra" / "overrides.yaml", f"- optimizer.lr={run['lr']}\n- +tag=x\n")
        put(job / ".hydra" / "hydra.yaml", "hydra:\n  mode: MULTIRUN\n")
        put(job / "results.json", json.dumps({"test_acc": run["acc"]}))
        put(job / "train.log", "a line of words\n")
    put(folder / "multirun" / "2024-05-01" / "multirun.yaml", "hydra: {}\n")


def lightning(folder: Path) -> None:
    for i, run in enumerate(RUNS):
        put(folder / f"version_{i}" / "hparams.yaml", "".join(f"{key}: {run[key]}\n" for key in ("lr", "wd", "seed")))
        steps = f"epoch,step,train_loss,val_acc\n0,10,1.5,\n0,19,,20\n1,30,1.2,\n1,39,,{run['acc']}\n"
        put(folder / f"version_{i}" / "metrics.csv", steps)


def timm(folder: Path) -> None:
    for i, run in enumerate(RUNS):
        put(folder / f"run{i}" / "args.yaml", f"lr: {run['lr']}\nweight_decay: {run['wd']}\nseed: {run['seed']}\n")
        put(folder / f"run{i}" / "summary.csv", f"epoch,eval_top1,lr\n0,20,0.1\n1,{run['acc']},0.01\n")


def wandb(folder: Path) -> None:
    for i, run in enumerate(RUNS):
        config = "".join(f"{key}:\n    desc: null\n    value: {run[key]}\n" for key in ("lr", "wd", "seed"))
        put(folder / "wandb" / f"run-{i}" / "files" / "config.yaml", config)
        summary = {"val/acc": run["acc"], "_step": 10, "_wandb": {"runtime": 3}}
        put(folder / "wandb" / f"run-{i}" / "files" / "wandb-summary.json", json.dumps(summary))


def mlflow(folder: Path) -> None:
    for i, run in enumerate([*RUNS, {**RUNS[0], "acc": 3}]):
        stored = folder / "mlruns" / "0" / f"{i:032x}"
        stage, status = ("deleted", 3) if i == len(RUNS) else ("active", 3)
        put(stored / "meta.yaml", f"run_id: {i}\nstatus: {status}\nlifecycle_stage: {stage}\nartifact_uri: file:///x\n")
        for key in ("lr", "wd", "seed"):
            put(stored / "params" / key, str(run[key]))
        put(stored / "metrics" / "val" / "acc", f"17 20.0 1\n18 {run['acc']} 2\n")
        put(stored / "metrics" / "train_loss", "17 2.0 1\n17 1.0 2\n")
        put(stored / "tags" / "mlflow.runName", "glad")
    put(folder / "mlruns" / "0" / "meta.yaml", "name: x\n")


def csv_files(folder: Path) -> None:
    for i, run in enumerate(RUNS):
        put(folder / f"run{i}.csv", csv_text([run]))
    put(folder / "README.md", "Words.\n")


def json_files(folder: Path) -> None:
    for i, run in enumerate(RUNS):
        put(folder / "out" / f"{i}.json", json.dumps({"config": {"lr": run["lr"], "wd": run["wd"]}, "acc": run["acc"]}))


def named_files(folder: Path) -> None:
    for run in RUNS:
        put(folder / f"lr{run['lr']}_wd{run['wd']}_seed{run['seed']}.csv", f"step,acc\n1,20\n2,{run['acc']}\n")


def named_folders(folder: Path) -> None:
    for run in RUNS:
        put(
            folder / f"lr={run['lr']},wd={run['wd']},seed={run['seed']}" / "metrics.json",
            json.dumps({"acc": run["acc"]}),
        )


def one_file(folder: Path) -> None:
    put(folder / "sweep.csv", csv_text(RUNS))
    put(folder / "picture.png", "")


MADE = [
    *(ray, ray_csv, hydra, lightning, timm, wandb, mlflow, csv_files, json_files, named_files, named_folders, one_file)
]


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_folders(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    assert scores(read(tmp_path)) == EXPECTED


def test_a_run_without_results_was_never_run(tmp_path: Path) -> None:
    hydra(tmp_path)
    (tmp_path / "multirun" / "2024-05-01" / "3" / "results.json").unlink()
    found = read(tmp_path)
    assert scores(found) == EXPECTED[:3] + EXPECTED[4:]
    assert found.notes[0] == "18 runs in folders, 1 of them without results"


def test_states_of_mlflow(tmp_path: Path) -> None:
    mlflow(tmp_path)
    path = tmp_path / "mlruns" / "0" / f"{3:032x}" / "meta.yaml"
    path.write_text(path.read_text().replace("status: 3", "status: 5"))
    found = read(tmp_path)
    assert scores(found) == EXPECTED[:3] + EXPECTED[4:]
    assert "left out the runs that status does not call finished: 1 killed" in found.notes


def test_best_of_a_history(tmp_path: Path) -> None:
    timm(tmp_path)
    (tmp_path / "run0" / "summary.csv").write_text("epoch,eval_top1\n0,99\n1,70\n")
    assert scores(read(tmp_path, take="best"))[:2] == [(0.001, 0.0, 70.5), (0.001, 0.0, 99.0)]


def test_links_are_not_followed(tmp_path: Path) -> None:
    csv_files(tmp_path / "in")
    put(tmp_path / "out" / "other.csv", csv_text([{**RUNS[0], "seed": 9}]))
    (tmp_path / "in" / "other.csv").symlink_to(tmp_path / "out" / "other.csv")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "out")
    assert scores(read(tmp_path / "in")) == EXPECTED


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"one file or folder each, got an empty one; give the path of the table itself"),
        ({"a.png": "", "b.bin": ""}, r"got 2 files of other kinds \(a.png, b.bin\); give the path of the table itself"),
        ({"a.csv": "", "b.csv": ""}, r"got 2 of other kinds, e.g. a.csv; give the path of the table"),
        (
            {"1/params.json": '{"lr": 1}', "2/params.json": '{"lr": 2}'},
            r"expected results beside the settings of each run, .* got 2 folders with only settings; write the scores",
        ),
    ],
)
def test_refused(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        put(tmp_path / name, text)
    with pytest.raises(UsageError, match=message):
        read(tmp_path)


def test_a_yaml_that_unfolds_to_gigabytes_is_not_unfolded(tmp_path: Path) -> None:
    timm(tmp_path)
    levels = [
        f"{b}: &{b} {{{', '.join(f'k{i}: *{a}' for i in range(9))}}}"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    path = tmp_path / "run0" / "args.yaml"
    path.write_text(path.read_text() + "a: &a {k: v}\n" + "\n".join(levels) + "\n")
    with pytest.raises(UsageError, match=r"got some that differ in config/a/k \(nothing, v\)"):
        read(tmp_path)
    path.write_text(path.read_text() + "z: &z [*z]\n")
    with pytest.raises(
        UsageError, match=r"args\.yaml: expected the settings of a run as JSON or YAML, got a damaged file;"
    ):
        read(tmp_path)


def test_a_tag_of_yaml_makes_nothing(tmp_path: Path) -> None:
    timm(tmp_path)
    text = "lr: !!python/object/apply:os.system ['true']\nweight_decay: 0\nseed: 1\n"
    (tmp_path / "run0" / "args.yaml").write_text(text)
    assert scores(read(tmp_path)) == EXPECTED[1:]
