"""Landscapes that were trained: their grids, how they are recorded, what is drawn of them, and training them on."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicate.calibration import recording, trained, trained_rates, trained_studies, training
from replicate.calibration.trained import COLLAPSE, FACTOR, FINER, IDLE, LANDSCAPES, LEAST, Trained
from replicate.calibration.trained_studies import LAWS, Curve, oracle
from replicate.cli import main
from replicate.paper.registry import CLAIMS
from replicate.runs.run import weight_decay_is_inert
from replicate.runs.schedule import factors
from replicate.store.store import open_store
from replicate.text import UsageError

MLP = LANDSCAPES["mlp-digits-adamw"]


@pytest.mark.parametrize("landscape", LANDSCAPES.values(), ids=LANDSCAPES)
def test_weight_decays_are_even_in_what_they_shrink(landscape: Trained) -> None:
    """At every learning rate from none over such that does nothing to such that leaves nothing to learn with."""
    for lr, most in zip(landscape.lrs, COLLAPSE[landscape.optimizer], strict=True):
        wds = landscape.weight_decays(lr)
        exponents = [landscape.exponent(lr, wd) for wd in wds]
        assert exponents[: len(IDLE)] == pytest.approx(IDLE, rel=1e-3)
        dense = exponents[len(IDLE) :]
        assert dense[0] == pytest.approx(LEAST, rel=1e-3)
        assert np.diff(np.log(dense)) == pytest.approx(math.log(FACTOR), rel=1e-2)
        assert most <= dense[-1] * 1.001 and dense[-2] < most
        assert not any(weight_decay_is_inert(lr, wd) for wd in wds[1:]) or landscape.optimizer == "sgd"


def test_the_exponent_is_that_of_the_steps() -> None:
    """Without momentum, and with 0.9, which sums the gradient over ten steps."""
    run = MLP.runs(0)[0]
    summed = sum(factors("cosine", 300, 24))
    assert (run.epochs * 12, run.warmup_epochs * 12) == (300, 24)
    assert MLP.exponent(0.01, 2.0) == pytest.approx(0.02 * summed)
    assert LANDSCAPES["mlp-digits-sgd"].exponent(0.01, 2.0) == pytest.approx(0.2 * summed)


def test_runs_are_distinct_and_every_family_is_there() -> None:
    keys = [run.key for landscape in LANDSCAPES.values() for seed in (0, 1) for run in landscape.runs(seed)]
    assert len(set(keys)) == len(keys)
    families = {landscape.family for landscape in LANDSCAPES.values()}
    assert families == {"resnet50", "vit_s16", "convnext_t", "mixer_s16", "swin_t", "mlp"}
    assert sum(landscape.optimizer == "sgd" for landscape in LANDSCAPES.values()) == 2


SMALL = dataclasses.replace(MLP, family="tiny")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The name of a landscape of twelve short runs a seed, which is recorded nowhere."""
    monkeypatch.setattr(trained, "EPOCHS", 3)
    monkeypatch.setattr(trained, "ADAMW_LRS", (1e-3, 1e-2))
    monkeypatch.setitem(COLLAPSE, "adamw", (LEAST, LEAST * FACTOR))
    for module in (trained, recording):
        monkeypatch.setattr(module, "LANDSCAPES", {SMALL.name: SMALL})
    monkeypatch.setattr(trained_studies, "LANDSCAPES", {SMALL.name: SMALL})
    monkeypatch.setattr(recording, "path_of", lambda name: tmp_path / "recorded" / f"{name}.csv.gz")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for kept in (trained_studies.curves, trained_studies.truths):
        kept.cache_clear()
    return SMALL.name


@pytest.mark.slow
@pytest.mark.long
def test_what_is_trained_is_recorded_and_gone_on_with(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is recorded is not trained again, and needs no store; and is verified by training some of it again."""
    told: list[tuple[str, int, int]] = []
    training.train([small], 2, tmp_path / "store", 1, lambda *done: told.append(done))
    assert told == [(small, 2, 2)]
    first = recording.read(small)
    assert len(first.rows) == 2 * len(SMALL.runs(0)) and len(first.origins) == 1
    assert first.origins[0]["data_checksum"].startswith("sha256:")
    store = open_store(tmp_path / "store")
    for row in first.rows[:3]:
        run = next(r for r in SMALL.runs(row.seed) if (r.lr, r.weight_decay) == (row.lr, row.weight_decay))
        assert first.accuracy_pp(row) == pytest.approx(store.read(run.key).result.accuracy_pp)
    training.train([small], 3, tmp_path / "another", 1, lambda *_: None)
    assert open_store(tmp_path / "another").keys() == {run.key for run in SMALL.runs(2)}
    assert recording.read(small).rows[: len(first.rows)] == first.rows
    found = trained_studies.curves(small)
    assert [curve.lr for curve in found] == list(SMALL.lrs)
    assert found[1].scores.shape == (2, 3) and found[1].idle.shape == (len(IDLE), 3)
    assert found[0].scores.shape == (1, 3)

    verify = ["runs", "verify", "--landscape", small, "--sample", "2", "--json"]
    assert main(verify) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["agrees"] and row["same machine"] for row in rows] == [True, True]
    recorded = recording.read(small)
    altered = tuple(dataclasses.replace(row, right=0 if row.right else 1) for row in recorded.rows)
    recording.write(recording.path_of(small), dataclasses.replace(recorded, rows=altered))
    assert main(verify) == 1
    assert not any(row["agrees"] for row in json.loads(capsys.readouterr().out)["rows"])


def test_only_recorded_landscapes_are_verified_and_by_no_key(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    for more, line in (
        (["nowhere"], f"--landscape: expected one of {small}; got 'nowhere'"),
        ([small], f"landscape {small}: expected recorded runs in"),
        ([small, "abc"], "KEY: expected none with --landscape"),
    ):
        assert main(["runs", "verify", "--landscape", *more]) == 2
        assert line in capsys.readouterr().err


def row(seed: int, right: int | None = 5, wd: float = 0.1) -> recording.Row:
    return recording.Row(1e-3, wd, seed, right, 0)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """In whatever order its rows were found; a run that diverged has no number of images."""
    path = tmp_path / "x.csv.gz"
    origins = ({"versions": {"torch": "2"}},)
    written = recording.Recorded(MLP, (row(1), row(0, None), row(0, 7, 0.2)), origins)
    recording.write(path, written)
    found = recording.read(MLP.name, path)
    assert found.rows == (row(0, None), row(0, 7, 0.2), row(1)) and found.origins == origins
    assert found.accuracy_pp(row(0, None)) is None
    again = tmp_path / "y.csv.gz"
    recording.write(again, dataclasses.replace(written, rows=found.rows))
    assert again.read_bytes() == path.read_bytes()


def test_a_record_that_cannot_be_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv.gz"
    assert recording.read(MLP.name, path).rows == ()
    recording.write(path, recording.Recorded(MLP, (row(0),), ({},)))
    whole = path.read_bytes()
    for damaged in (whole[:-20], b"nonsense", whole[:12] + b"\0" + whole[13:]):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="restore the file"):
            recording.read(MLP.name, path)
    path.write_bytes(whole)
    monkeypatch.setattr(trained, "EPOCHS", 26)
    with pytest.raises(UsageError, match="expected runs with its current settings"):
        recording.read(MLP.name, path)


@given(
    peak=st.floats(-1.2, 1.2),
    curvature=st.floats(0.5, 5),
    cubic=st.floats(-0.1, 0.1),
)
def test_the_oracle_finds_the_peak_of_a_quartic(peak: float, curvature: float, cubic: float) -> None:
    x = np.arange(-3, 3.01, 0.47)
    mean = 50 - curvature * (x - peak) ** 2 + cubic * (x - peak) ** 3 - 0.05 * (x - peak) ** 4
    assert oracle(x, mean) == pytest.approx(peak, abs=0.06)


@given(peak=st.floats(-1, 1))
def test_a_cliff_hardly_draws_the_oracle_away_from_the_peak(peak: float) -> None:
    """Ten times as steep as the other side and sharper than any that was trained: by less than a finer step."""
    step = math.log(FINER[2])
    at = np.arange(-3, 3.01, step)
    mean = 50 - np.where(at > peak, 30, 3) * np.abs(at - peak)
    assert -1.2 * step < oracle(at, mean) - peak < 0


def test_the_truth_is_that_of_the_finer_runs_where_there_are_any() -> None:
    curve = made_up(1.0, sd=0.1)
    finer = np.exp(np.array([-0.3, -0.15, 0.15, 0.3]))
    scores = 60.5 - 3 * (np.log(finer)[:, None] - 0.15) ** 2 + np.zeros((1, 40))
    shifted = dataclasses.replace(curve, finer_wds=finer, finer_scores=scores)
    assert trained_studies.truth(shifted).place > trained_studies.truth(curve).place + 0.03


def made_up(optimum: float, sd: float = 1.0, seeds: int = 40) -> Curve:
    """Parabolas of 3 pp a square, with noise, whose peak lies at c = `optimum`."""
    rng = np.random.default_rng(0)
    x = np.log(LEAST * FACTOR ** np.arange(16))
    scores = 60 - 3 * (x[:, None] - math.log(optimum)) ** 2 + rng.normal(0, sd, (16, seeds))
    nothing = np.zeros(0), np.zeros((0, seeds))
    return Curve(0.01, np.exp(x), scores, 40 + rng.normal(0, sd, (4, seeds)), *nothing)


def test_the_truth_and_its_error() -> None:
    """By many landscapes alike: the error that halves of the seeds tell is that of the truth."""
    curve = made_up(1.0)
    found = trained_studies.truth(curve)
    assert abs(found.place) < 4 * found.error < 0.2
    assert found.gain_pp == pytest.approx(20, abs=1) and found.interior
    rng = np.random.default_rng(1)
    noise = [rng.normal(0, 1.0, curve.scores.shape) for _ in range(60)]
    clean = 60 - 3 * curve.x[:, None] ** 2
    places = [oracle(curve.x, (clean + one).mean(axis=1)) for one in noise]
    assert found.error == pytest.approx(np.std(places), rel=0.6)
    nothing = dataclasses.replace(curve, idle=np.full((4, 40), 60.0))
    assert not trained_studies.truth(nothing).interior


@pytest.mark.slow
def test_a_cell_has_its_optima_on_the_law_and_keeps_its_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = tuple(dataclasses.replace(made_up(c), lr=lr) for lr, c in ((1e-3, 0.3), (1e-2, 2.0), (0.1, 5.0)))
    monkeypatch.setattr(trained_studies, "curves", lambda _: curves)
    monkeypatch.setattr(trained_studies, "truths", lambda _: tuple(map(trained_studies.truth, curves)))
    for law in list(LAWS)[::3]:
        cell = trained_studies.cell("any", law, 40, 1, 0)
        for cut, curve in zip(cell.slices(), curves, strict=True):
            assert cut.scores.shape == (16, 40)
            assert sorted(cut.scores.ravel()) == sorted(curve.scores.ravel())
            assert oracle(np.log(cut.wds), cut.scores.mean(axis=1)) == pytest.approx(
                math.log(LAWS[law](cut.lr)), abs=1e-6
            )
    few = trained_studies.cell("any", "0.1 η", 3, 2, 5)
    assert {cut.scores.shape for cut in few.slices()} == {(8, 3)}
    assert few.frame.equals(trained_studies.cell("any", "0.1 η", 3, 2, 5).frame)
    assert not few.frame.equals(trained_studies.cell("any", "0.1 η", 3, 2, 6).frame)
    assert abs(trained_studies.oracle_of("any", "0.1 η", 40, 1, 0, "slope")) < 1e-6


def test_a_learning_rate_whose_optimum_no_seeds_place_is_in_no_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = tuple(dataclasses.replace(made_up(c), lr=lr) for lr, c in ((1e-3, 0.3), (1e-2, 2.0), (0.1, 5.0)))
    truths = tuple(map(trained_studies.truth, curves))
    lost = dataclasses.replace(truths[1], error=0.3)
    monkeypatch.setattr(trained_studies, "curves", lambda _: curves)
    for other, lrs in ((lost, [1e-3, 0.1]), (dataclasses.replace(lost, gain_pp=0.0), [1e-3, 1e-2, 0.1])):
        found = (truths[0], other, truths[2])
        monkeypatch.setattr(trained_studies, "truths", lambda _, found=found: found)
        assert [cut.lr for cut in trained_studies.cell("any", "0.1 η", 3, 2, 5).slices()] == lrs


def test_a_ratio_is_outside_where_that_of_any_learning_rate_is() -> None:
    margin = next(claim.margin for claim in CLAIMS if claim.quantity == "rho")
    assert trained_rates.where("η^1.25", "rho", (1e-3, 1e-2), margin) == "inside"
    assert trained_rates.where("η^1.25", "rho", (1e-3, 1e-2, 5e-2), margin) == "outside"
    assert trained_rates.where("0.25 η", "rho", (1e-3, 5e-2), margin) == "outside"


def test_true_values_of_the_laws() -> None:
    lrs = (1e-3, 1e-2, 0.1)
    slopes = {law: round(trained_rates.true_value(law, "slope", lrs), 6) for law in LAWS}
    assert slopes == {
        **dict.fromkeys(("0.1 η", "0.25 η", "0.04 η", "1.5 η"), 1.0),
        "η^0.75": 0.75,
        "η^1.25": 1.25,
        "√η": 0.5,
        "constant": 0.0,
        "1/η": -1.0,
    }
    assert trained_rates.true_value("0.25 η", "rho", lrs) == pytest.approx(0.25)
    assert trained_rates.true_value("constant", "rho", lrs) == pytest.approx(0.01)


def test_too_few_seeds_tell_no_truth(small: str, tmp_path: Path) -> None:
    assert trained_rates.studies(small) == []


def test_the_command_needs_no_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(trained_rates, "rates", lambda *_: [])
    assert main(["calibrate", "--part", "trained"]) == 0
    assert capsys.readouterr().out.startswith("# Calibration")


def test_training_is_asked_for_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--train", "2", "--part", "cells"]) == 2
    assert "--train: expected --part trained, got cells" in capsys.readouterr().err
