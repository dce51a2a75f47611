"""Kept models: what a training ended with, in the model's own layout, gives the accuracy that was recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors import torch as safetensors
from torch import Tensor

from replicate.cli import main
from replicate.runs import scales
from replicate.runs.needed import runs_at
from replicate.runs.run import Run
from replicate.store import model_file
from replicate.store.model_file import Keep
from replicate.store.record import StoredRun, key_of, seal_stored
from replicate.store.store import StoreError, open_store
from replicate.train import fast, kept_models, models, solo
from replicate.train.contract import Trained, Workspace
from replicate.train.engine import local
from replicate.train.stacked import How, train_stack
from tests.support.faketrainer import fake_result
from tests.support.stacked import float64, make  # noqa: F401

TRAINERS = {"stacked": fast.train, "solo": fast.one_by_one}


def keep(store_path: Path, done: Trained) -> None:
    store = open_store(store_path)
    if done.model is not None:
        store.put_model(done.run.key, done.model)
    store.put(done.run, done.result, {})


def states(runs: Sequence[Run], how: How) -> dict[int, dict[str, Tensor]]:
    found: dict[int, dict[str, Tensor]] = {}
    train_stack(runs, how=how, keep=found.__setitem__)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "arch"),
    [
        *[("stacked", arch) for arch in ("resnet50", "vit_s16", "convnext_t")],
        ("solo", "resnet50"),
        ("solo", "mixer_s16"),
    ],
)
def test_a_kept_model_gives_the_accuracy_in_its_record(arch: str, trainer: str, tmp_path: Path) -> None:
    runs = [make(arch), make(arch, lr=3e-3, weight_decay=3.0), make(arch, lr=1e200)]
    for done in TRAINERS[trainer](runs, "cpu", Workspace(tmp_path, keep_models=True)):
        keep(tmp_path / "store", done)
    store = kept_models.open_store(tmp_path / "store")
    for run in runs[:2]:
        stored = store.get(run)
        assert stored is not None
        model = store.model(stored)
        assert type(model) is type(models.of_run(run)) and not model.training
        assert kept_models.accuracy_pp(run, model, trainer, "cpu") == stored.result.accuracy_pp
        assert all(bool(p.isfinite().all()) for p in model.state_dict().values())
    assert sum(p.numel() * p.element_size() for p in store.model(runs[0]).state_dict().values()) == (
        kept_models.bytes_of(runs[:1])
    )
    with pytest.raises(StoreError, match=r"expected its model in .*, got none: it diverged"):
        store.model(runs[2])


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("arch", "optimizer"), [("resnet50", "adamw"), ("resnet50", "sgd"), ("swin_t", "adamw")])
def test_the_layout_of_a_gpu_is_undone(arch: str, optimizer: str) -> None:
    """In float64 all three ways agree, also on the weights that are in no lane since nothing depends on them."""
    run = make(arch, optimizer=optimizer, lr=1e-2 if optimizer == "adamw" else 0.1)
    expected: list[dict[str, Tensor]] = []
    solo.train(run, keep=expected.append)
    for products in (False, True):
        (found,) = states([run], How(products=products)).values()
        assert found.keys() == expected[0].keys()
        for name, tensor in expected[0].items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-9, check_stride=False, msg=name)


@pytest.mark.slow
def test_lanes_that_fill_up_are_not_kept_and_training_is_as_without() -> None:
    runs = [make(), make(lr=3e-3)]
    found: dict[int, dict[str, Tensor]] = {}
    kept = train_stack(runs, keep=found.__setitem__)
    assert [r.history for r in kept] == [r.history for r in train_stack(runs)]
    assert list(found) == [0, 1]
    assert list(states([make()], How())) == [0]


@pytest.mark.slow
def test_the_engine_keeps_models_and_trains_again_only_where_told(tmp_path: Path) -> None:
    runs = [make(), make(lr=3e-3)]
    local.ensure(open_store(tmp_path), runs[:1])
    store = open_store(tmp_path, keep=Keep.NEW)
    local.ensure(store, runs)
    assert [store.layout.model(run.key).is_file() for run in runs] == [False, True]
    with pytest.raises(StoreError, match="it was trained without --keep-models"):
        kept_models.open_store(tmp_path).model(runs[0])
    store = open_store(tmp_path, keep=Keep.ALL)
    assert not store.has(runs[0].key) and store.keys() == {runs[1].key} and store.get(runs[0]) is None
    local.ensure(store, runs)
    assert store.keys() == {run.key for run in runs} and len(store.trainings()) == 3
    read = kept_models.open_store(tmp_path)
    for run in runs:
        assert kept_models.accuracy_pp(run, read.model(run), "stacked", "cpu") == read.get(run).result.accuracy_pp


@pytest.mark.slow
def test_verify_evaluates_them_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make(), make(lr=3e-3)]
    local.ensure(open_store(tmp_path, keep=Keep.NEW), runs)
    verify = ["runs", "verify", "--weights", "--store", str(tmp_path), "--json"]
    assert main(verify) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["key"] for row in rows} == {run.key for run in runs}
    assert all(row["same machine"] and row["recorded"] == row["again"] for row in rows)
    path = open_store(tmp_path).layout.model(runs[0].key)
    path.write_bytes(path.read_bytes()[:-1])
    assert main([*verify, runs[0].key]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"][0]["agrees"] is False and "cut off or altered" in err


@pytest.mark.slow
def test_plan_says_the_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--scale", "smoke", "--store", str(tmp_path / "none"), "--keep-models", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    runs = runs_at(scales.get("smoke"))
    assert told["model_bytes"] == dict.fromkeys(("needed", "to_train"), kept_models.bytes_of(runs))
    assert told["model_bytes"]["needed"] > 4 * len(runs)


@pytest.mark.fast
def test_retrain_is_for_models_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--scale", "smoke", "--store", str(tmp_path), "--retrain"]) == 2
    assert "--retrain: expected --keep-models beside it" in capsys.readouterr().err


@pytest.mark.fast
def test_a_run_of_another_version_is_one_line(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    record = make().record() | {"result_version": 1}
    result = fake_result(make())
    stored = StoredRun(key_of(record), record, result, {}, False)
    store.layout.record(stored.key).parent.mkdir(parents=True)
    store.layout.record(stored.key).write_bytes(seal_stored(stored))
    blob = safetensors.save({"a": torch.ones(2)}, model_file.labels(stored.key, stored.content))
    store.put_model(stored.key, model_file.seal(blob))
    with pytest.raises(StoreError, match="got 1; read its model with the version that trained it"):
        kept_models.load(store, stored.key)
