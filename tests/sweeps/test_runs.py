"""What became of runs: states, histories, repeats that differ, rows that cannot be read, noise that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from replicate.estimate.surface import is_search
from replicate.sweeps.settings import training_steps
from replicate.text import UsageError
from tests.support.sweeps import EXPECTED, RUNS, csv_text, of_text, only, scores


def changed(row: int, **values: Any) -> list[dict[str, Any]]:
    """The runs with other values in one of them."""
    return [{**run, **values} if i == row else run for i, run in enumerate(RUNS)]


def with_states(row: int, column: str, usual: str, state: str, acc: object) -> str:
    runs = [{**run, column: usual} for run in changed(row, acc=acc)]
    runs[row][column] = state
    return csv_text(runs)


class TestStates:
    @pytest.mark.parametrize(
        ("column", "usual", "state", "acc"),
        [
            ("State", "finished", "crashed", ""),
            ("State", "finished", "killed", "31"),
            ("State", "finished", "running", "66"),
            ("status", "FINISHED", "KILLED", "31"),
            ("status", "FINISHED", "FAILED", ""),
            ("state", "TERMINATED", "ERROR", ""),
            ("state", "COMPLETE", "PRUNED", "64"),
            ("state", "TrialState.COMPLETE", "TrialState.PRUNED", "64"),
            ("note", "", "", "OOM"),
            ("note", "", "", "killed"),
        ],
    )
    def test_left_out(self, column: str, usual: str, state: str, acc: str, tmp_path: Path) -> None:
        found = of_text(tmp_path, with_states(3, column, usual, state, acc))
        assert scores(found) == EXPECTED[:3] + EXPECTED[4:]
        word = (state or acc).lower().removeprefix("trialstate.")
        of = column if state else "the score"
        assert f"left out the runs that {of} does not call finished: 1 {word}" in found.notes

    @pytest.mark.parametrize(
        ("column", "usual", "state", "acc"),
        [
            ("State", "finished", "finished", "NaN"),
            ("State", "finished", "failed", "NaN"),
            ("State", "finished", "diverged", "12"),
            ("state", "COMPLETE", "FAIL", ""),
            ("diverged", "False", "True", "12"),
            ("note", "", "", "diverged"),
            ("note", "", "", ""),
            ("note", "", "", "-inf"),
        ],
    )
    def test_diverged(self, column: str, usual: str, state: str, acc: str, tmp_path: Path) -> None:
        frame = only(of_text(tmp_path, with_states(3, column, usual, state, acc))).frame
        assert frame["diverged"].sum() == 1 and len(frame) == 18

    @pytest.mark.parametrize(
        ("column", "usual", "state", "acc"),
        [
            ("n_runs", "1", "0", ""),
            ("is_observed", "True", "False", ""),
            ("state", "COMPLETE", "WAITING", ""),
            ("note", "", "", "—"),
            ("note", "", "", "-"),
        ],
    )
    def test_never_run(self, column: str, usual: str, state: str, acc: str, tmp_path: Path) -> None:
        found = of_text(tmp_path, with_states(3, column, usual, state, acc))
        assert scores(found) == EXPECTED[:3] + EXPECTED[4:]
        assert only(found).frame["diverged"].sum() == 0
        assert any(note.startswith("taken as never run: 1 ") for note in found.notes)

    def test_a_learning_rate_without_a_run_left_is_named(self, tmp_path: Path) -> None:
        runs = [{**run, "state": "killed" if run["lr"] == 0.01 else "finished"} for run in RUNS]
        assert "no run is left at lr 0.01 (6 rows)" in of_text(tmp_path, csv_text(runs)).notes

    def test_a_learning_rate_with_two_weight_decays_is_named(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text(RUNS[:-2]))
        assert found.notes[-1] == "lr 0.01 has 2 weight decays: too few for an optimum of its own"


class TestHistories:
    @staticmethod
    def history(**more: Any) -> list[dict[str, Any]]:
        return [
            {"run": f"r{i}", **run, "step": step, "acc": acc, **more}
            for i, run in enumerate(RUNS)
            for step, acc in ((100, 20), (200, run["acc"] + 1), (300, run["acc"]))
        ]

    def test_last(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text(self.history()))
        assert scores(found) == EXPECTED
        assert (
            "54 rows are the histories of 18 runs: taking the last of each by step (300); --take best takes the best, "
            "which selects on the scores it judges"
        ) in found.notes

    def test_best(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text(self.history()), take="best")
        assert scores(found) == [(lr, wd, acc + 1) for lr, wd, acc in EXPECTED]
        assert any(
            "taking the best of each, which selects on the scores that are judged" in note for note in found.notes
        )

    def test_without_names_of_runs(self, tmp_path: Path) -> None:
        rows = [{key: value for key, value in row.items() if key != "run"} for row in self.history()]
        assert scores(of_text(tmp_path, csv_text(rows))) == EXPECTED

    def test_steps_without_a_score_do_not_count(self, tmp_path: Path) -> None:
        rows = self.history()
        rows += [{**row, "step": 350, "acc": ""} for row in rows[2::3]]
        assert scores(of_text(tmp_path, csv_text(rows))) == EXPECTED

    def test_nothing_where_the_others_have_a_score_is_a_diverged_run(self, tmp_path: Path) -> None:
        rows = self.history()
        rows[5]["acc"] = ""
        assert only(of_text(tmp_path, csv_text(rows))).frame["diverged"].sum() == 1

    def test_a_run_that_ended_before_the_others_is_left_out(self, tmp_path: Path) -> None:
        rows = self.history()
        del rows[5]
        found = of_text(tmp_path, csv_text(rows))
        assert "left out 1 run that ended before step 300, the end of other runs" in found.notes
        assert scores(found) == [EXPECTED[0], *EXPECTED[2:]]

    def test_rows_of_one_step_are_of_several_runs(self, tmp_path: Path) -> None:
        rows = [{key: value for key, value in row.items() if key not in ("run", "seed")} for row in self.history()]
        text = csv_text(sorted(rows, key=lambda row: (row["lr"], row["wd"], row["step"])))
        with pytest.raises(
            UsageError, match=r"got some that differ in step \(100, 200, 300\); use --by step to judge each value"
        ):
            of_text(tmp_path, text)
        rows = self.history() + [{**row, "acc": 1} for row in self.history()]
        with pytest.raises(UsageError, match=r"got step 100 again \(first in row 2\); name the column that tells"):
            of_text(tmp_path, csv_text(rows))

    def test_an_epoch_of_each_run_is_no_history(self, tmp_path: Path) -> None:
        runs = [
            {key: value for key, value in {**run, "epoch": 9 - run["seed"]}.items() if key != "seed"} for run in RUNS
        ]
        assert scores(of_text(tmp_path, csv_text(runs), ignore="epoch")) == EXPECTED


class TestRepeats:
    BOTH = tuple({**run, "epochs": e, "width": e * 8, "acc": run["acc"] + e} for run in RUNS for e in (0, 2))

    def test_named(self, tmp_path: Path) -> None:
        words = (
            r"runs.csv: expected runs of one \(lr, wd\) to differ only in the seed, got some that differ in epochs "
            r"\(0, 2\); width \(0, 16\); use --by epochs,width to judge each value, "
            r"--where epochs=2 to keep one value, --ignore"
        )
        with pytest.raises(UsageError, match=words):
            of_text(tmp_path, csv_text(list(self.BOTH)))

    def test_where(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text(list(self.BOTH)), where="epochs=0.0")
        assert scores(found) == EXPECTED
        assert found.notes[0] == "18 of 36 rows have epochs=0.0"
        assert dict(only(found).settings) == {"epochs": "0", "width": "0"}

    def test_by(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text(list(self.BOTH)), by="Epochs,width")
        assert [(cell.arch, len(cell.frame)) for cell in found.landscapes] == [
            ("epochs=0, width=0", 18),
            ("epochs=2, width=16", 18),
        ]

    def test_ignored(self, tmp_path: Path) -> None:
        runs = [{**run, "seed": run["seed"] + 2 * (run["epochs"] > 0)} for run in self.BOTH]
        assert len(only(of_text(tmp_path, csv_text(runs), ignore="epochs,width")).frame) == 36

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("where", "epochs=3", "--where epochs=3: no row with that value; the column has 0, 2"),
            ("where", "size=3", "--where size: no such column; the table has lr, wd, seed, acc, epochs, width"),
            ("by", "size", "--by size: no such column; the table has"),
            ("where", "epochs", "--where: expected COLUMN=VALUE, e.g. epochs=8, got 'epochs'"),
            ("take", "first", "--take: expected last or best, got 'first'"),
            ("noise", "-1", "--noise: expected a standard deviation above 0 in the unit of the score, got '-1'"),
        ],
    )
    def test_refused(self, option: str, value: str, message: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=message):
            of_text(tmp_path, csv_text(list(self.BOTH)), **{option: value})

    def test_measurements_and_names_do_not_matter(self, tmp_path: Path) -> None:
        runs = [
            {"Name": f"glad-{i}", "Runtime": i % 3, "gpu": i % 2, "train_loss": i % 4, "x": 1.5 * i, **run}
            | {"init_seed": run["seed"] * 7}
            for i, run in enumerate(RUNS)
        ]  # fmt: skip
        assert scores(of_text(tmp_path, csv_text(runs), columns={"seed": "seed"})) == EXPECTED

    def test_a_setting_that_goes_with_the_learning_rate_is_said(self, tmp_path: Path) -> None:
        runs = [{**run, "batch_size": 64 if run["lr"] < 0.002 else 128} for run in RUNS]
        note = "runs also differ in batch_size, though never at the same lr and wd: judged together; --by batch_size"
        assert f"{note} separates them" in of_text(tmp_path, csv_text(runs)).notes

    def test_steps_of_training(self) -> None:
        assert training_steps([("config/max_steps", "5e3")]) == 5000
        assert training_steps([("epochs", "3")]) is None

    def test_equal_scores_of_runs_of_other_names(self, tmp_path: Path) -> None:
        runs = [{"id": i, "lr": run["lr"], "wd": run["wd"], "acc": 70} for i, run in enumerate(RUNS)]
        assert len(scores(of_text(tmp_path, csv_text(runs)))) == 18


class TestUnreadable:
    def test_left_out_with_a_count(self, tmp_path: Path) -> None:
        text = csv_text([*RUNS, {"lr": "mean", "wd": "", "seed": "", "acc": 71}, {**RUNS[0], "seed": 3, "acc": "good"}])
        found = of_text(tmp_path, text)
        assert scores(found) == EXPECTED
        assert (
            "left out 2 rows that cannot be read: row 20: expected a number in column lr, got 'mean', …" in found.notes
        )

    def test_too_many(self, tmp_path: Path) -> None:
        text = csv_text([*RUNS, *({**run, "lr": "fast"} for run in RUNS[:7])])
        with pytest.raises(UsageError, match=r"row 20: .* got 'fast'; 7 of 25 rows cannot be read: correct or remove"):
            of_text(tmp_path, text)

    def test_beside_the_best(self, tmp_path: Path) -> None:
        text = csv_text([*RUNS, {**RUNS[0], "wd": 0.01, "acc": "good"}])
        with pytest.raises(UsageError, match=r"got 'good'; it is next to the best run at lr=0.001 and could be better"):
            of_text(tmp_path, text)

    def test_far_from_the_best(self, tmp_path: Path) -> None:
        runs = [{**run, "acc": 100 - run["acc"]} for run in RUNS]
        text = csv_text([*runs, {**RUNS[0], "wd": 0.01, "acc": "good"}])
        assert len(scores(of_text(tmp_path, text))) == 18

    def test_the_only_run_of_a_learning_rate(self, tmp_path: Path) -> None:
        text = csv_text([*RUNS, {**RUNS[0], "lr": 1, "acc": "good"}])
        with pytest.raises(UsageError, match=r"no other run at lr=1 can be read: correct or remove the row"):
            of_text(tmp_path, text)

    def test_too_few_values(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text(RUNS) + "1,2\n")
        assert found.notes[-1].endswith("row 20: expected 4 values as in the header, got 2")

    @pytest.mark.parametrize("word", ["None", "", "—", "null", "off"])
    def test_nothing_as_weight_decay_is_none(self, word: str, tmp_path: Path) -> None:
        runs = [{**run, "wd": run["wd"] or word} for run in RUNS]
        found = of_text(tmp_path, csv_text(runs))
        assert scores(found) == EXPECTED
        assert "6 rows without a value of wd: taken as weight decay 0" in found.notes

    def test_nothing_beside_0_is_unreadable(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text([*RUNS, {**RUNS[0], "wd": ""}]))
        assert any("got nothing; write 0 for a run without weight decay" in note for note in found.notes)


class TestNoise:
    MEANS = tuple(
        {"lr": r["lr"], "wd": r["wd"], "acc_mean": r["acc"], "acc_std": 0.4, "n": 4} for r in RUNS if r["seed"] == 1
    )

    def test_given(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text(RUNS), noise="0.3")
        assert only(found).noise_sd == pytest.approx(0.3)
        assert found.notes[-1] == "noise between seeds: SD 0.3, as --noise says"
        fractions = csv_text([{**run, "acc": run["acc"] / 100} for run in RUNS])
        assert only(of_text(tmp_path, fractions, noise="0.003")).noise_sd == pytest.approx(0.3)

    def test_mean_std_and_n(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text(list(self.MEANS)))
        assert only(found).noise_sd == pytest.approx(0.2)
        assert (
            "acc_std taken as the standard deviation of n=n runs: a score is a mean with standard error 0.2"
            in found.notes[-1]
        )

    @pytest.mark.parametrize(("column", "sd"), [("acc_sem", 0.4), ("acc_stderr", 0.4), ("std", 0.2), ("std_acc", 0.2)])
    def test_names(self, column: str, sd: float, tmp_path: Path) -> None:
        assert only(of_text(tmp_path, csv_text(list(self.MEANS)).replace("acc_std", column))).noise_sd == pytest.approx(
            sd
        )

    def test_without_n(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text([{k: v for k, v in row.items() if k != "n"} for row in self.MEANS]))
        assert only(found).noise_sd == pytest.approx(0.4)
        assert "as no column has the number of runs" in found.notes[-1]

    def test_of_too_few_runs(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text([{**row, "n": 2 if i < 2 else 1} for i, row in enumerate(self.MEANS)]))
        assert only(found).noise_sd is None
        assert found.notes[-1] == "column acc_std is not used: it rests on 2 degrees of freedom, fewer than 8"

    def test_behind_the_score(self, tmp_path: Path) -> None:
        runs = [{"lr": r["lr"], "wd": r["wd"], "acc": f"{r['acc_mean']} ± 0.4"} for r in self.MEANS]
        assert only(of_text(tmp_path, csv_text(runs))).noise_sd == pytest.approx(0.4)

    def test_repeats_go_first(self, tmp_path: Path) -> None:
        found = of_text(tmp_path, csv_text([{**r, "acc": f"{r['acc']} ± 0.4"} for r in RUNS]))
        assert only(found).noise_sd is None
        assert found.notes[-1] == "the numbers after ± are not used: the noise is estimated from repeats of (lr, wd)"


def test_scores_of_two_units(tmp_path: Path) -> None:
    text = csv_text([{**run, "acc": f"{run['acc']}%" if i else 0.7} for i, run in enumerate(RUNS)])
    with pytest.raises(
        UsageError, match=r"row 2: expected scores in one unit, got 0.7 beside others with a % sign in column"
    ):
        of_text(tmp_path, text)


class TestShapes:
    PIVOT = "{corner},0,0.0001,0.001\n0.001,70.5,71.5,72.5\n0.003,73.5,74.5,\n0.01,76.5,**77.5**,78.5 ± 0.1\n"

    @pytest.mark.parametrize(
        "corner", ["lr", r"lr \ wd", "η/λ", "learning rate, down; weight decay, across", r"acc: lr \ wd"]
    )
    def test_pivots(self, corner: str, tmp_path: Path) -> None:
        text = self.PIVOT.format(corner=f'"{corner}"')
        found = of_text(tmp_path, text, None if "acc" in corner else "accuracy")
        assert len(scores(found)) == 8 and scores(found)[0] == (0.001, 0.0, 70.5)
        assert "a table of lr (rows) by wd (columns), 1 empty cell" in found.notes

    def test_turned(self, tmp_path: Path) -> None:
        text = "wd;lr=0.001;lr=0.003\n0;70,5;71\n0,1;72;73\n"
        assert scores(of_text(tmp_path, text, "accuracy"))[:2] == [(0.001, 0.0, 70.5), (0.001, 0.1, 72.0)]

    def test_in_markdown(self, tmp_path: Path) -> None:
        text = "| λ | η = 1e-3 | η = 3e-3 |\n|---|---|---|\n| 0 | 70% | **71%** |\n| 0.1 | 72% | — |\n"
        assert len(scores(of_text(tmp_path, text))) == 3

    @pytest.mark.parametrize(
        "text",
        [
            ",wd,,\nlr,0,0.0001,0.001\n0.001,70.5,71.5,72.5\n0.003,73.5,74.5,75.5\n",
            "wd     0.0000  0.0001  0.0010\nlr        \n0.001   70.5    71.5    72.5\n0.003   73.5    74.5    75.5\n",
            "|lr \\ wd| 0 |0.0001|0.001|\n|:-:|:-:|--:|-|\n|0.001|70.5|71.5|72.5|\n|0.003|73.5|74.5|75.5|\n",
        ],
    )  # fmt: skip
    def test_the_columns_named_above_them(self, text: str, tmp_path: Path) -> None:
        assert scores(of_text(tmp_path, text, "accuracy")) == [
            one for one in EXPECTED if one[2] % 1 == 0.5 and one[0] < 0.01
        ]

    @pytest.mark.parametrize("name", ["acc_seed{}", "Seed {}", "acc run_{}", "rep{}"])
    def test_seeds_in_columns(self, name: str, tmp_path: Path) -> None:
        wide: dict[tuple[float, float], dict[str, Any]] = {}
        for run in RUNS:
            row = wide.setdefault((run["lr"], run["wd"]), {"lr": run["lr"], "wd": run["wd"]})
            row[name.format(run["seed"])] = run["acc"]
        found = of_text(
            tmp_path, csv_text([{**row, "mean acc": 70, "acc_std": 1} for row in wide.values()]), "accuracy"
        )
        assert scores(found) == EXPECTED and only(found).seeds == (1, 2)

    def test_without_a_word_which_is_which(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="found none for lr, wd, accuracy or loss among model"):
            of_text(tmp_path, self.PIVOT.format(corner="model"))


def test_a_random_search_is_told_from_a_grid(tmp_path: Path) -> None:
    text = "lr,wd,acc\n" + "".join(f"{1.1**i / 1000},{1.3**i / 1e4},{70 + i % 5}\n" for i in range(20))
    assert is_search(only(of_text(tmp_path, text)))
    assert not is_search(only(of_text(tmp_path, csv_text(RUNS))))


def test_how_far_a_diverged_run_came_is_no_setting(tmp_path: Path) -> None:
    rows = [f"{lr},{wd},{seed},50,{70 + seed}" for lr in (0.1, 1) for wd in (1, 2, 3) for seed in (1, 2)]
    rows[0] = "0.1,1,1,7,nan"
    landscape = only(of_text(tmp_path, "\n".join(["lr,wd,seed,epoch,acc", *rows])))
    assert int(landscape.frame["diverged"].sum()) == 1
    with pytest.raises(UsageError, match="epoch"):
        of_text(tmp_path, "\n".join(["lr,wd,seed,epoch,acc", *rows[1:], "0.1,1,1,7,60"]))
