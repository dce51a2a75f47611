"""Reading anybody's sweep: dialects, names of columns, what is refused and in which words."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicate.landscape.landscape import Landscape
from replicate.sweeps.columns import parse_columns
from replicate.sweeps.source import read_table
from replicate.sweeps.sweep import Sweep, read_sweep
from replicate.sweeps.table import Table
from replicate.text import UsageError


def sweep(tmp_path: Path, text: str | bytes, metric: str | None = None, **columns: str) -> Sweep:
    path = tmp_path / "sweep.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_sweep(read_table(str(path)), metric, columns)


def only(found: Sweep) -> Landscape:
    assert len(found.landscapes) == 1
    return found.landscapes[0]


def rows(found: Sweep) -> list[tuple[object, ...]]:
    frame = only(found).frame
    return [tuple(row) for row in frame[["lr", "wd", "seed", "score", "diverged"]].itertuples(index=False)]


PLAIN = "lr,wd,accuracy\n1e-3,0,71.5\n1e-3,1e-4,73\n1e-2,1e-3,70\n"


def test_plain_columns(tmp_path: Path) -> None:
    found = sweep(tmp_path, PLAIN)
    assert rows(found) == [
        (1e-3, 0.0, 0, 71.5, False),
        (1e-3, 1e-4, 0, 73.0, False),
        (1e-2, 1e-3, 0, 70.0, False),
    ]
    assert found.metric == only(found).metric == "accuracy"
    assert found.notes == ()
    assert (only(found).arch, only(found).dataset) == ("unnamed", "unnamed")


def test_cells_and_seeds(tmp_path: Path) -> None:
    text = "lr,wd,seed,arch,dataset,accuracy\n.1,0,3,a,x,50\n.1,0,4.0,a,x,51\n.1,0,3,b,x,52\n.1,0,3,,y,53\n"
    found = sweep(tmp_path, text)
    assert [(c.arch, c.dataset, len(c.frame)) for c in found.landscapes] == [
        ("a", "x", 2),
        ("b", "x", 1),
        ("unnamed", "y", 1),
    ]
    assert found.landscapes[0].seeds == (3, 4)


def test_seeds_that_are_names(tmp_path: Path) -> None:
    assert only(sweep(tmp_path, "lr,wd,seed,accuracy\n1,0,s1,50\n1,0,2,51\n")).seeds == ("2", "s1")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ";").replace(".", ","),
        "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
        PLAIN.replace("\n", "\n\n"),
        PLAIN.replace(",", " , "),
        PLAIN.replace("lr,wd,accuracy", '"LR","WD","Accuracy"'),
        PLAIN.replace("71.5", "71.5%"),
    ],
    ids=["bom", "semicolons", "tabs", "decimal-commas", "sep-line", "blank-lines", "blanks", "capitals", "per-cent"],
)
def test_dialects(tmp_path: Path, text: str) -> None:
    assert rows(sweep(tmp_path, text)) == rows(sweep(tmp_path, PLAIN))


def test_utf_16(tmp_path: Path) -> None:
    assert rows(sweep(tmp_path, PLAIN.encode("utf-16"))) == rows(sweep(tmp_path, PLAIN))


@pytest.mark.parametrize(
    ("header", "notes"),
    [
        ("learning_rate,weight_decay,val_acc", "taking lr=learning_rate, wd=weight_decay, accuracy=val_acc"),
        ("config.lr,config.weight_decay,test/accuracy", "taking lr=config.lr, wd=config.weight_decay, "),
        ("config/optimizer.lr,config/optimizer.weight_decay,summary.accuracy", "taking lr=config/optimizer.lr"),
        ("params_lr,params_weight_decay,user_attrs_x.accuracy", "taking lr=params_lr, wd=params_weight_decay"),
        ("Learning Rate,Weight-Decay,Test Accuracy", "taking lr=Learning Rate, wd=Weight-Decay"),
        ("η,λ,acc", "taking lr=η, wd=λ, accuracy=acc"),
    ],
)
def test_other_names(tmp_path: Path, header: str, notes: str) -> None:
    found = sweep(tmp_path, PLAIN.replace("lr,wd,accuracy", header))
    assert rows(found) == rows(sweep(tmp_path, PLAIN))
    assert found.notes[0].startswith(notes)


def test_weights_and_biases_export(tmp_path: Path) -> None:
    text = (
        '"Name","State","config.lr","config.wd","config.seed","train/accuracy","test/accuracy"\n'
        '"glad-1","finished","0.001","0","0","0.99","0.71"\n'
        '"sad-2","crashed","0.001","0.1","0","",""\n'
        '"bad-3","finished","0.001","0.3","0","NaN","NaN"\n'
    )
    found = sweep(tmp_path, text)
    assert rows(found)[0] == (1e-3, 0.0, 0, 71.0, False)
    assert math.isnan(rows(found)[1][3])  # type: ignore[arg-type]
    assert rows(found)[1][4] is True
    assert "left out the runs that State does not call finished: 1 crashed" in found.notes
    assert "the largest accuracy is 0.71: taken as fractions and converted to percent" in found.notes


def test_optuna_trials(tmp_path: Path) -> None:
    text = (
        "number,value,datetime_start,params_lr,params_wd,state\n"
        "0,2.3,2024-01-01,0.001,0.1,COMPLETE\n1,,2024-01-01,0.001,0.2,FAIL\n2,2.9,2024-01-01,0.001,0.3,PRUNED\n"
    )
    found = sweep(tmp_path, text, "loss")
    assert [(row[1], row[4]) for row in rows(found)] == [(0.1, False), (0.2, True)]
    assert only(found).metric == "loss"
    assert "left out the runs that state does not call finished: 1 pruned" in found.notes
    assert any("failed without a value: taken as diverged" in note and note.startswith("1 of ") for note in found.notes)
    with pytest.raises(
        UsageError, match="column value may be an accuracy or a loss; say --metric accuracy or --metric"
    ):
        sweep(tmp_path, text)


def test_columns_by_name(tmp_path: Path) -> None:
    text = "a,b,c,d\n1e-3,0,50,7\n"
    assert rows(sweep(tmp_path, text, lr="a", wd="b", accuracy="c", seed="d")) == [(1e-3, 0.0, 7, 50.0, False)]
    assert only(sweep(tmp_path, text, lr="a", wd="b", loss="c")).metric == "loss"


@pytest.mark.parametrize("word", ["", "nan", "NaN", "None", "inf", "-Infinity", "1e999"])
def test_no_score_is_a_diverged_run(tmp_path: Path, word: str) -> None:
    found = rows(sweep(tmp_path, f"lr,wd,accuracy\n1,0,{word}\n1,1,50\n"))
    assert found[0][4] is True
    assert math.isnan(found[0][3])  # type: ignore[arg-type]
    assert found[1] == (1.0, 1.0, 0, 50.0, False)


def test_loss(tmp_path: Path) -> None:
    text = "lr,wd,loss\n1,0,0.5\n1,1,nan\n"
    assert rows(sweep(tmp_path, text))[0] == (1.0, 0.0, 0, -0.5, False)
    assert rows(sweep(tmp_path, text))[1][4] is True


def test_accuracy_before_loss(tmp_path: Path) -> None:
    text = "lr,wd,loss,accuracy\n1,0,0.5,80\n"
    assert sweep(tmp_path, text).notes == ("judging accuracy (accuracy); --metric loss judges loss",)
    assert rows(sweep(tmp_path, text, "loss"))[0][3] == -0.5


def test_rounding_joins_what_is_the_same_number(tmp_path: Path) -> None:
    found = sweep(tmp_path, "lr,wd,accuracy\n0.3,0,50\n0.30000000000000004,1,51\n0.30000001192092896,2,52\n")
    assert len(only(found).slices()) == 1


def test_ragged_grid(tmp_path: Path) -> None:
    found = sweep(tmp_path, "lr,wd,seed,accuracy\n1,0,0,50\n1,1,0,51\n1,1,1,52\n2,7,1,53\n")
    assert [(cut.lr, cut.wds.tolist()) for cut in only(found).slices()] == [(1.0, [0.0, 1.0]), (2.0, [7.0])]


def test_repeats_without_seeds_are_seeds(tmp_path: Path) -> None:
    found = sweep(tmp_path, "lr,wd,accuracy\n1,0,50\n1,0,51\n1,1,52\n")
    assert [row[2] for row in rows(found)] == [0, 1, 0]
    assert found.notes == ("no column of seeds: 1 repeated (lr, wd) taken as further seeds, in the file's order",)


def test_a_row_given_twice_is_left_out(tmp_path: Path) -> None:
    found = sweep(tmp_path, "lr,wd,seed,accuracy\n1,0,0,50\n1,0,0,50\n")
    assert len(rows(found)) == 1
    assert found.notes == ("row 3 repeats row 2: left out",)


HEAD = "lr,wd,seed,accuracy\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"sweep.csv: expected a table with columns lr, wd and a score, got an empty file"),
        ("\n \n", r"got an empty file"),
        (b"PK\x03\x04\x00\x00", r"expected a zip file of one table, got one that cannot be unpacked .*; pack it again"),
        (b"\x7fELF\x00\x00", r"got a binary file of another kind; export the runs as CSV"),
        (b"lr,wd,accuracy\n1,0,\xff\n", r"row 2: expected a number in column accuracy, .* got 'ÿ'"),
        (
            '{"lr": 1}',
            r"found none for wd, accuracy or loss among lr; name them with --columns, e.g. --columns wd=NAME",
        ),
        ('{"lr": 1', r"expected JSON, got a damaged file .*; export it again"),
        ("hello\nworld\n", r"found none for lr, wd, accuracy or loss among hello"),
        ("lr,accuracy\n1,50\n", r"found none for wd among lr, accuracy; name them with --columns, e.g. --columns wd=N"),
        ("lr,wd\n1,0\n", r"found none for accuracy or loss among lr, wd; .*e.g. --columns accuracy=NAME"),
        ("lr,wd,accuracy\n", r"expected one row per run, got a header and no finished run below it"),
        (HEAD + "1,0,0,50\nfast,0,0,50\n", r"sweep.csv, row 3: expected a number in column lr, got 'fast'"),
        (HEAD + "1_0,0,0,50\n", r"row 2: expected a number in column lr, got '1_0'"),
        (HEAD + "nan,0,0,50\n", r"row 2: expected a number in column lr, got 'nan'"),
        (HEAD + "-1,0,0,50\n", r"row 2: expected a learning rate above 0 in column lr, got -1"),
        (HEAD + "\n0,0,0,50\n", r"row 3: expected a learning rate above 0 in column lr, got 0"),
        (HEAD + "1,-2,0,50\n", r"row 2: expected a weight decay of at least 0 in column wd, got -2"),
        (HEAD + "1,,0,50\n", r"row 2: expected a number in column wd, got nothing; write 0 for a run without weight"),
        (HEAD + "1,0,,50\n", r"row 2: expected a seed in column seed, got nothing"),
        (HEAD + "1,0,0,good\n", r"row 2: expected a number in column accuracy, or nothing or nan for a diverged run; "),
        (
            HEAD + "1,0,0,150\n",
            r"row 2: expected an accuracy from 0 to 100 .* got 150; for a loss, use --metric loss",
        ),
        (HEAD + "1,0,0,-3\n", r"row 2: expected an accuracy from 0 to 100 .*, got -3"),
        (HEAD + "1,0,0\n", r"row 2: expected 4 values as in the header, got 3"),
        (HEAD + "1,0,0,5,1\n", r"row 2: expected 4 values as in the header, got 5"),
        (HEAD + '1,0,0,"50\n', r"row 2: expected CSV that can be read, got: unexpected end of data"),
        ("lr,lr,wd,accuracy\n1,1,0,50\n", r"expected each column once, got 'lr' twice in the header; rename one"),
        (
            HEAD + "1,0,0,50\n1,1,0,50\n1.0,0e0,0,51\n",
            r"row 4: expected each run once, got lr=1 wd=0 seed=0 already in row 2 with another score; drop one, or",
        ),
        (
            "lr,wd,accuracy\n1,0,50\n1,0,50\n",
            r"row 3: expected each run once, got lr=1 wd=0 and the same score in row 2; drop one, or name the column",
        ),
        (
            "lr,config.lr,wd,accuracy\n1e-9,1,0,50\n",
            r"lr may be any of the columns lr, config.lr; say which, e.g. --columns lr=lr",
        ),
        ("lr,wd,val_acc,test_acc\n1,0,50,51\n", r"accuracy may be any of the columns val_acc, test_acc; say which"),
    ],
)
def test_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        sweep(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_equal_columns_are_not_ambiguous(tmp_path: Path) -> None:
    assert rows(sweep(tmp_path, "lr,config.lr,wd,accuracy\n1,1,0,50\n")) == [(1.0, 0.0, 0, 50.0, False)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr"], r"--columns: expected FIELD=COLUMN with FIELD one of lr, wd, .*; got 'lr'"),
        (["speed=x"], r"expected FIELD=COLUMN with FIELD one of .*; got 'speed=x'"),
        (["lr="], r"got 'lr='"),
        (["lr=a,lr=b"], r"--columns: expected each field once, got lr=a and lr=b"),
    ],
)
def test_bad_columns(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_columns(arguments)


def test_columns_are_read_from_several_arguments() -> None:
    assert parse_columns(["lr=a,wd = b", "seed=c=d"]) == {"lr": "a", "wd": "b", "seed": "c=d"}


@pytest.mark.parametrize(
    ("metric", "columns", "message"),
    [
        (None, {"lr": "x"}, r"--columns lr=x: no such column; the table has lr, wd, accuracy"),
        ("loss", {}, r"found none for loss among lr, wd, accuracy; .*e.g. --columns loss=NAME"),
        ("loss", {"accuracy": "accuracy"}, r"--columns: expected loss=… as --metric loss says, got accuracy=…"),
        (None, {"accuracy": "wd", "loss": "wd"}, r"--columns: expected accuracy or loss, got both"),
        (
            "error",
            {},
            r"--metric error: no such column; the table has lr, wd, accuracy; or use --metric accuracy or --metric",
        ),
        ("wd:up", {}, r"--metric wd:up: no such column"),
    ],
)
def test_contradicting_requests(tmp_path: Path, metric: str | None, columns: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sweep(tmp_path, PLAIN, metric, **columns)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "expected a table of runs, found no such file"),
        (lambda p: p.mkdir(), "expected a folder of runs, one file or folder each, got an empty one; give the path"),
    ],
)
def test_unreadable(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(UsageError, match=message):
        read_table(str(tmp_path / "x"))


positive = st.floats(1e-12, 1e6).map(lambda x: float(f"{x:.6g}"))


@given(
    runs=st.dictionaries(
        st.tuples(positive, st.one_of(st.just(0.0), positive), st.integers(0, 9)),
        st.one_of(st.none(), st.floats(2, 100)),
        min_size=1,
        max_size=30,
    )
)
def test_what_is_written_is_read(runs: dict[tuple[float, float, int], float | None]) -> None:
    """Any landscape that is written down plainly comes back, run for run."""
    out = io.StringIO()
    writer = csv.writer(out)
    for (lr, wd, seed), accuracy in runs.items():
        writer.writerow([repr(lr), repr(wd), seed, "" if accuracy is None else repr(accuracy)])
    values = tuple(tuple(row) for row in csv.reader(io.StringIO(out.getvalue())))
    table = Table("x", ("lr", "wd", "seed", "accuracy"), values, tuple(range(2, 2 + len(values))))
    found = rows(read_sweep(table))
    assert {row[:3]: None if row[4] else row[3] for row in found} == runs


@pytest.mark.parametrize(("column", "value"), [("lr", "1e200"), ("wd", "1e200"), ("lr", "1e-300"), ("wd", "1e-40")])
def test_numbers_of_no_training_are_refused(tmp_path: Path, column: str, value: str) -> None:
    row = {"lr": "0.001", "wd": "0.1", column: value}
    path = tmp_path / "sweep.csv"
    path.write_text(f"lr,wd,accuracy\n{row['lr']},{row['wd']},70\n")
    words = rf"expected a number between.* in column {column}, got"
    with pytest.raises(UsageError, match=words):
        read_sweep(read_table(str(path)))


class TestSizes:
    """What is no grid is refused in a moment, not judged for hours."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ((f"{i}e-5,0,0,50,a" for i in range(1, 100_001)), "at most 200 values of lr in a grid of runs, got 100000"),
            ((f"1,{i}e-5,0,50,a" for i in range(2_000)), "at most 1000 values of wd in a grid of runs, got 2000"),
            ((f"1,{i},{i},50,a" for i in range(1, 1_000)), None),
            ((f"{1 + i % 99},{i},{i},50,a" for i in range(20_000)), "at most 50 values of seed in a grid of runs, got"),
            (
                (f"1,0,0,50,a{i}" for i in range(3_000)),
                "at most 1000 values of arch and dataset in a grid of runs, got",
            ),
        ],
        ids=["learning rates", "weight decays", "fits", "seeds", "cells"],
    )
    def test_too_many(self, tmp_path: Path, rows: Iterable[str], message: str | None) -> None:
        text = "lr,wd,seed,accuracy,arch\n" + "\n".join(rows)
        if message is None:
            assert len(sweep(tmp_path, text).landscapes) == 1
            return
        with pytest.raises(UsageError, match=rf"sweep\.csv: expected {message}.*; name another column with --col"):
            sweep(tmp_path, text)


class TestSeeds:
    def test_one_number_is_one_seed_however_it_is_written(self, tmp_path: Path) -> None:
        rows = "lr,wd,seed,accuracy\n" + "\n".join(
            f"1,{wd},{seed},5{wd}" for wd in (0, 1) for seed in ("0", "01", "2.0")
        )
        (found,) = sweep(tmp_path, rows).landscapes
        assert found.seeds == (0, 1, 2)

    @pytest.mark.parametrize("other", ["00", "0.0"])
    def test_a_seed_written_in_two_ways_is_one_run_twice(self, tmp_path: Path, other: str) -> None:
        for large in ("7", "1" + 30 * "0"):  # beyond whole numbers too
            with pytest.raises(
                UsageError, match=r"row 3: expected each run once, got lr=1 wd=1 seed=0 already in row 2"
            ):
                sweep(tmp_path, f"lr,wd,seed,accuracy\n1,1,0,50\n1,1,{other},51\n1,2,{large},52\n")

    def test_seeds_beyond_what_floats_tell_apart_stay_apart(self, tmp_path: Path) -> None:
        large = [12345678901234567890 + i for i in range(3)]
        (found,) = sweep(tmp_path, "lr,wd,seed,accuracy\n" + "\n".join(f"1,1,{seed},50" for seed in large)).landscapes
        assert len(found.seeds) == 3


class TestUnits:
    def test_a_fraction_among_percentages(self, tmp_path: Path) -> None:
        words = r"row 3: expected accuracies in one unit, got 0.71 in a column that goes up to 72.3: is it a fraction"
        with pytest.raises(UsageError, match=words):
            sweep(tmp_path, "lr,wd,accuracy\n1,0,72.3\n1,1,0.71\n1,2,70\n")

    def test_a_run_that_learnt_nothing(self, tmp_path: Path) -> None:
        """0.1 per cent is guessing among a thousand classes."""
        found = sweep(tmp_path, "lr,wd,accuracy\n1,0,72.3\n1,1,0.1\n1,2,70\n")
        assert [row[3] for row in rows(found)] == [72.3, 0.1, 70.0]
        assert found.notes == ("1 accuracy of at most 1 (row 3: 0.1) beside others up to 72.3: taken as percent",)


class TestOptimizers:
    TEXT = "lr,wd,Optimizer,accuracy\n1,0,AdamW,50\n1,1,sgd,51\n1,2,adamw,52\n"

    def test_several(self, tmp_path: Path) -> None:
        words = (
            r"sweep.csv: expected the runs of one optimizer, got 2 values \('adamw', 'sgd'\) in column Optimizer; keep "
            r"the rows of one, or judge each separately: --columns arch=Optimizer"
        )
        with pytest.raises(UsageError, match=words):
            sweep(tmp_path, self.TEXT)

    def test_as_cells(self, tmp_path: Path) -> None:
        found = sweep(tmp_path, self.TEXT.replace("adamw", "AdamW"), arch="Optimizer")
        assert [(cell.arch, len(cell.frame)) for cell in found.landscapes] == [("AdamW", 2), ("sgd", 1)]

    def test_one(self, tmp_path: Path) -> None:
        assert len(sweep(tmp_path, self.TEXT.replace("sgd", "adamw")).landscapes) == 1

    def test_of_unfinished_runs(self, tmp_path: Path) -> None:
        text = "lr,wd,opt,state,accuracy\n1,0,adamw,finished,50\n1,1,sgd,failed,51\n"
        assert len(rows(sweep(tmp_path, text))) == 1


def test_many_rows_given_twice_are_one_note(tmp_path: Path) -> None:
    found = sweep(tmp_path, HEAD + "1,0,0,50\n1,1,0,51\n" + "1,0,0,50\n" * 300)
    assert found.notes == ("300 rows left out that repeat others: row 4 repeats row 2, …",)
