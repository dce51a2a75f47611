"""Names of columns as the ecosystems write them, and which measure is judged in which direction."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicate.sweeps.names import measure, tier
from replicate.text import UsageError
from tests.support.sweeps import EXPECTED, RUNS, csv_text, of_text, only, scores


def renamed(**names: str) -> str:
    return csv_text([{names.get(key, key): value for key, value in run.items()} for run in RUNS])


LRS = "lrate,LR,learningRate,config/optimizer/lr,hparam/lr,lr (peak),params.lr,params_learning_rate,adamw_lr,eta0"
MORE_LRS = "learning_rate_init,optimizer.lr,config.optim.base_lr,param_learning_rate_init"
WDS = "wdecay,l2,alpha,Weight Decay,wd (AdamW),lambda_wd,weight_decay_rate,optim/weight_decay,λ"


@pytest.mark.parametrize("lr", [*LRS.split(","), *MORE_LRS.split(",")])
def test_learning_rates(lr: str, tmp_path: Path) -> None:
    assert scores(of_text(tmp_path, renamed(lr=lr))) == EXPECTED


@pytest.mark.parametrize("wd", WDS.split(","))
def test_weight_decays(wd: str, tmp_path: Path) -> None:
    assert scores(of_text(tmp_path, renamed(wd=wd))) == EXPECTED


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("eval_top1", "accuracy"),
        ("Acc@1", "accuracy"),
        ("mean_accuracy", "accuracy"),
        ("best_val_acc", "accuracy"),
        ("val acc (%)", "accuracy"),
        ("summary/val/acc", "accuracy"),
        ("metrics.val_acc", "accuracy"),
        ("f1", "accuracy"),
        ("f1_macro", "accuracy"),
        ("val_bpb", "loss"),
        ("ppl", "loss"),
        ("val_nll", "loss"),
        ("mse", "loss"),
        ("test_error", "loss"),
        ("final_val_loss", "loss"),
        ("Validation Loss", "loss"),
        ("r2", "score"),
        ("neg_log_loss", "score"),
        ("mean_test_score", "score"),
    ],
)
def test_measures(name: str, kind: str, tmp_path: Path) -> None:
    found = of_text(tmp_path, renamed(acc=name))
    sign = -1 if kind == "loss" else 1
    assert (found.metric, found.column, only(found).metric) == (kind, name, kind)
    assert sorted((lr, wd, sign * score) for lr, wd, score in scores(found)) == EXPECTED


@pytest.mark.parametrize("name", ["train_loss", "train/acc", "runtime", "model_size", "training accuracy", "epoch"])
def test_what_measures_nothing(name: str) -> None:
    assert measure(name) is None


def test_the_rate_that_a_run_logged_is_not_the_one_it_was_set_to() -> None:
    assert tier("train/learning_rate", "lr") is None
    assert tier("config/train/lr", "lr") == 0


def test_a_sure_name_goes_before_an_unsure_one(tmp_path: Path) -> None:
    runs = [{**run, "alpha": i, "l2": -i} for i, run in enumerate(RUNS)]
    assert scores(of_text(tmp_path, csv_text(runs), ignore="alpha,l2")) == EXPECTED


class TestMetric:
    def test_a_column_and_a_direction(self, tmp_path: Path) -> None:
        text = renamed(acc="hp_metric")
        found = of_text(tmp_path, text, "hp_metric:max")
        assert (found.metric, scores(found)) == ("score", EXPECTED)
        assert scores(of_text(tmp_path, text, "hp_metric:min"))[0][2] == -70.5
        assert of_text(tmp_path, text, "accuracy").metric == "accuracy"

    def test_the_direction_is_asked_for(self, tmp_path: Path) -> None:
        with pytest.raises(
            UsageError, match=r"hp_metric may be an accuracy or a loss; say --metric accuracy .*hp_metric:max"
        ):
            of_text(tmp_path, renamed(acc="hp_metric"))
        with pytest.raises(
            UsageError, match=r"--metric speed: the name does not say whether higher or lower is better; .*speed:max or"
        ):
            of_text(tmp_path, renamed(acc="speed"), "speed")

    @pytest.mark.parametrize(
        ("word", "kind"), [("maximize", "score"), ("StudyDirection.MINIMIZE", "loss"), ("max", "score")]
    )
    def test_a_column_of_directions(self, word: str, kind: str, tmp_path: Path) -> None:
        runs = [{**run, "direction": word} for run in RUNS]
        assert of_text(tmp_path, csv_text(runs).replace("acc", "value", 1)).metric == kind

    def test_a_guess_is_said(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, renamed(acc="score"))
        assert "score: higher is taken as better; if lower is better, use --metric score:min" in found.notes
        text = csv_text([{**run, "acc": f"{run['acc']}%"} for run in RUNS]).replace("acc", "Test", 1)
        assert (
            "Test: percentages, taken as an accuracy; if lower is better, use --metric Test:min"
            in of_text(tmp_path, text).notes[0]
        )

    def test_another_column_than_the_one_that_would_be_taken(self, tmp_path: Path) -> None:
        runs = [{**run, "f1": 1 - run["seed"] / 10, "mse": 3} for run in RUNS]
        found = of_text(tmp_path, csv_text(runs))
        assert "judging acc; --metric NAME judges another: f1, mse" in found.notes
        assert of_text(tmp_path, csv_text(runs), "mse").metric == "loss"
        assert of_text(tmp_path, csv_text(runs), "f1").column == "f1"

    def test_one_metric_of_two_of_a_kind(self, tmp_path: Path) -> None:
        runs = [{**run, "val_acc": run["acc"] - 1} for run in RUNS]
        with pytest.raises(UsageError, match="accuracy may be any of the columns acc, val_acc; say which"):
            of_text(tmp_path, csv_text(runs))
        assert of_text(tmp_path, csv_text(runs), "val_acc").column == "val_acc"

    def test_a_text_is_no_error_rate(self, tmp_path: Path) -> None:
        runs = [{key: value for key, value in run.items() if key != "acc"} | {"error": "none found"} for run in RUNS]
        with pytest.raises(UsageError, match="found none for accuracy or loss among lr, wd, seed, error"):
            of_text(tmp_path, csv_text(runs))

    def test_the_last_goes_before_the_best(self, tmp_path: Path) -> None:
        runs = [{"best_acc": run["acc"] + 1, **run} for run in RUNS]
        assert scores(of_text(tmp_path, csv_text(runs))) == EXPECTED

    def test_settings_of_such_names_are_no_measures(self, tmp_path: Path) -> None:
        runs = [{"config.loss": 3, "loss": "mse", "precision": 16, **run} for run in RUNS]
        text = csv_text(runs).replace(",acc", ",val_loss", 1)
        found = of_text(tmp_path, text)
        assert (found.metric, found.column) == ("loss", "val_loss")
