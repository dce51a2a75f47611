"""A sweep of one's own: from a table to verdicts in a notebook, and from a CSV to a page."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import replicate
from replicate.cli import main
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import Truth, bracket_grid, draw
from replicate.notebook import as_keywords
from replicate.text import UsageError
from tests.support.pages import HOSTILE, read


def made(arch: str = "a", seed: int = 0) -> Landscape:
    truth = Truth(rho=3.0, slope=-1.0)
    return draw(
        truth, bracket_grid(truth), np.random.default_rng(seed), lrs=(1e-4, 1e-3, 1e-2), seeds=(0, 1), arch=arch
    )


def table(landscape: Landscape, **columns: object) -> pd.DataFrame:
    frame = landscape.frame.rename(columns={"score": "accuracy"}).drop(columns="diverged")
    return frame.assign(**columns)


def test_a_table_gives_the_verdicts_of_its_landscape() -> None:
    found = replicate.judge(table(made()))
    assert found.found["cells"][0]["exponent"] == -1
    verdicts = found.verdicts.set_index("claim")
    assert verdicts.loc["slope", "verdict"] == "contradicted"
    assert verdicts.loc["rho", "low"] > 0.2
    assert "slope contradicted" in repr(found)
    again = replicate.judge(made())
    assert again.found["cells"][0]["slope"] == found.found["cells"][0]["slope"]
    assert replicate.judge([made()]).verdicts["verdict"].tolist() == found.verdicts["verdict"].tolist()


def test_names_fractions_and_diverged_runs_are_read_as_from_a_file() -> None:
    frame = table(made(), model="m").rename(columns={"lr": "learning_rate", "wd": "l2"})
    frame["accuracy"] /= 100
    frame.loc[frame.index[-1], "accuracy"] = np.nan
    found = replicate.judge(frame, columns={"wd": "l2"})
    assert any("fractions" in note for note in found.notes)
    assert found.landscapes[0].arch == "m"
    assert found.landscapes[0].frame["diverged"].sum() == 1
    with pytest.raises(UsageError, match="the table"):
        replicate.judge(frame.drop(columns="accuracy"), columns={"wd": "l2"})


def test_options_and_files(tmp_path: Path) -> None:
    frame = pd.concat([table(made(seed=i), epochs=i) for i in (0, 1)])
    with pytest.raises(UsageError, match=r'differ in epochs \(0, 1\); use by=\["epochs"\]'):
        replicate.judge(frame)
    assert [cell.arch for cell in replicate.judge(frame, by=["epochs"]).cells] == ["epochs=0", "epochs=1"]
    frame.to_json(tmp_path / "runs.json", orient="records")
    found = replicate.judge(tmp_path / "runs.json", where={"epochs": 1}, noise=0.3)
    assert found.landscapes[0].noise_sd == 0.3 and len(found.landscapes[0].frame) == len(frame) / 2
    assert len(found.by_lr) == frame["lr"].nunique()
    assert found.next_runs.empty
    assert len(replicate.judge(tmp_path / "runs.json", where={"epochs": 1}, next_runs=5).next_runs) == 5


def test_the_notebook_shows_a_table_and_a_picture() -> None:
    shown = replicate.judge(made("<script>"))._repr_html_()
    found = read(shown)
    assert {"table", "svg"} <= set(found.tags)
    assert "C · contradicted" in found.text
    assert "<script> on synthetic" in found.text


def test_a_page_is_written(tmp_path: Path) -> None:
    written = replicate.judge(made()).to_html(tmp_path / "page.html")
    assert "a table in memory" in read(written.read_text(encoding="utf-8")).text


def test_from_hostile_csv_to_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in HOSTILE if "\x00" not in name]
    frames = [table(made(seed=i), arch=name, dataset=name) for i, name in enumerate(names)]
    pd.concat(frames).to_csv(tmp_path / "sweep.csv", index=False)
    (tmp_path / "out").mkdir()
    assert main(["judge", str(tmp_path / "sweep.csv"), "--html", str(tmp_path / "out" / "sweep.html")]) == 1
    assert "written: " in capsys.readouterr().err
    written = (tmp_path / "out" / "sweep.html").read_text(encoding="utf-8")
    found = read(written)
    for name in names:
        shown = name if len(name) < 80 else f"{name[:80]}… (10,000 characters)"
        assert " ".join(shown.split()) in found.text
    assert found.tags.count("svg") == len(names)
    assert "SWEEP OF YOUR OWN" in found.text
    assert len(written) < 400_000


def test_a_sweep_without_names_and_a_page_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(made()).to_csv(tmp_path / "sweep.csv", index=False)
    assert main(["judge", str(tmp_path / "sweep.csv"), "--out", str(tmp_path / "sweep.html")]) == 1
    text = read((tmp_path / "sweep.html").read_text(encoding="utf-8")).text
    assert "unnamed" not in text
    assert "The paper’s claims on this sweep" in text
    assert main(["judge", str(tmp_path / "sweep.csv"), "--html", str(tmp_path / "sweep.csv" / "x.html")]) == 2
    assert "expected a file in an existing folder, but there is no " in capsys.readouterr().err
    assert main(["judge", str(tmp_path / "sweep.csv"), "--html", str(tmp_path)]) == 2
    assert "expected a file that can be written, got: " in capsys.readouterr().err
    assert main(["judge", str(tmp_path / "sweep.csv"), "--html", str(tmp_path / "new" / "x.html")]) == 2
    assert not (tmp_path / "new").exists()


def test_importing_the_package_loads_nothing() -> None:
    code = (
        "import sys, replicate; assert not {'numpy', 'pandas', 'torch', 'matplotlib'} & set(sys.modules); "
        "replicate.judge; replicate.Landscape; assert 'pandas' in sys.modules; "
        "assert not {'torch', 'matplotlib', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"judge", "Landscape"} <= set(dir(replicate))
    with pytest.raises(AttributeError, match="has no attribute 'x'"):
        replicate.x  # noqa: B018


def test_a_path_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    path.write_text("lr,wd,accuracy\n" + "\n".join(f"0.001,{wd},{70 + i}" for i, wd in enumerate((0.1, 0.2, 0.3))))
    assert replicate.judge(path).found == replicate.judge(str(path)).found
    assert len(replicate.judge(path).landscapes) == 1


@pytest.mark.parametrize("what", [None, 3, {"lr": 1}, [1, 2], []])
def test_what_cannot_be_judged_gets_a_line(what: object) -> None:
    with pytest.raises(
        TypeError, match=r"^judge: expected a pandas table, the path of a file or folder, or landscapes, got"
    ):
        replicate.judge(what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("say --metric acc:max or --metric loss", 'say metric="acc:max" or metric="loss"'),
        ("--columns lr=a: no such column", 'columns={"lr": "a"}: no such column'),
        ("name them with --columns, e.g. --columns lr=NAME", 'name them with columns, e.g. columns={"lr": "NAME"}'),
        (
            "--by a,b to judge each value, --where a=1 to keep one value",
            'by=["a", "b"] to judge each value, where={"a": "1"} to keep one value',
        ),
        ("SD 3, as --noise says; --noise SD; --noise 0.2", "SD 3, as noise says; noise=SD; noise=0.2"),
        ("--take best takes the best (--json has its figures)", 'take="best" takes the best (.found has its figures)'),
    ],
)
def test_advice_is_in_the_words_of_the_caller(text: str, expected: str) -> None:
    assert as_keywords(text) == expected


def test_no_message_of_the_reader_has_an_option_of_the_command_line() -> None:
    frame = table(made())
    cases: list[tuple[pd.DataFrame, dict[str, Any]]] = [
        (frame.rename(columns={"accuracy": "value"}), {}),
        (frame.rename(columns={"lr": "speed"}), {}),
        (frame, {"columns": {"lr": "x"}}),
        (frame, {"where": {"lr": 7}}),
        (frame, {"by": ["x"]}),
        (frame, {"noise": -1}),
        (frame, {"take": "x"}),
        (frame, {"metric": "x"}),
        (pd.concat([frame, frame.assign(accuracy=0.5)]), {}),
        (frame, {"at": -1.0}),
        (frame, {"next_runs": 1000}),
    ]
    for runs, options in cases:
        with pytest.raises(UsageError) as error:
            replicate.judge(runs, **options)
        assert "--" not in str(error.value)
    one_seed = frame[frame["seed"] == 0]
    assert "noise=SD" in repr(replicate.judge(one_seed[["lr", "wd", "accuracy"]].iloc[::2]))


def test_numbers_that_do_not_exist_are_nan_everywhere() -> None:
    found = replicate.judge(table(made()).query("lr < 0.0005"))
    for shown, names in ((found.verdicts, ("value", "low", "high")), (found.by_lr, ("best_score", "by_rule_loses"))):
        assert all(shown[name].dtype == np.float64 for name in names)
    assert found.verdicts["value"].isna().any()


def test_runs_to_do_next_are_in_order_of_learning_rate_and_their_index_says_which_tell_most() -> None:
    found = replicate.judge(made(), next_runs=6)
    shown = found.next_runs
    assert shown[["lr", "wd"]].to_numpy().tolist() == sorted(shown[["lr", "wd"]].to_numpy().tolist())
    plan = found.cells[0].answer.plan
    assert plan is not None
    assert [(run.lr, run.wd) for run in plan.runs] == list(map(tuple, shown.sort_index()[["lr", "wd"]].to_numpy()))


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(scale=st.integers(-290, 300), offset=st.integers(-1000, 1000))
@pytest.mark.parametrize("search", [False, True])
def test_a_loss_of_any_size_gets_the_same_verdicts(search: bool, scale: int, offset: int) -> None:
    frame, loss = losses(search)
    found = replicate.judge(frame.assign(loss=(loss + offset) * 10.0**scale))
    slope = found.verdicts.set_index("claim").loc["slope"]
    assert slope["verdict"] == ("inconclusive" if search else "replicated")
    assert 0.7 < slope["low"] < 1 < slope["high"] < 1.5
    best = found.by_lr["tenfold_loses"].dropna()
    assert search or np.allclose(best / 10.0**scale, 0.2 * math.log(10) ** 2, rtol=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("search", [False, True])
def test_the_largest_and_the_smallest_losses_are_told_whole(search: bool) -> None:
    frame, loss = losses(search)
    for scale in (1e300, 1e-300):
        found = replicate.judge(frame.assign(loss=loss * scale), next_runs=2)
        assert len(found.next_runs) == 2
        assert "To set" in found._repr_html_()


def losses(search: bool) -> tuple[pd.DataFrame, Any]:
    """A grid or a random search, and losses that are least where weight decay is a tenth of the learning rate."""
    rng = np.random.default_rng(0)
    points = [(lr, lr * 3.0**k) for lr in (1e-4, 1e-3, 1e-2) for k in range(-6, 2)]
    if search:
        points = list(zip(*(10 ** rng.uniform(low, low + 2, 16) for low in (-4, -5)), strict=True))
    rows = [(lr, wd, seed) for lr, wd in points for seed in ((0,) if search else (0, 1))]
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed"])
    away = np.log(frame["wd"] / frame["lr"] / 0.1)
    return frame, 0.2 * away**2 + 0.02 * rng.standard_normal(len(frame))
