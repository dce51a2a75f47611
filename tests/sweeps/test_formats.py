"""One sweep in many formats: the same runs from every one, or a line that says what to do."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import lzma
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from replicate.sweeps import packages, studies
from replicate.sweeps.delimited import read as read_text
from replicate.text import UsageError
from tests.support.sweeps import EXPECTED, RUNS, csv_text, of_text, only, read, scores

CSV = csv_text(RUNS)


def zipped(files: dict[str, str | bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return held.getvalue()


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def markdown(runs: list[dict[str, Any]]) -> str:
    header = list(runs[0])
    rows = [f"| {' | '.join(str(r[c]) for c in header)} |" for r in runs]
    return "\n".join([f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *rows]) + "\n"


def wandb_runs() -> str:
    return json.dumps(
        [
            {
                "name": f"glad-{i}",
                "state": "finished",
                "config": {
                    "lr": {"value": r["lr"]},
                    "optim": {"value": {"weight_decay": r["wd"]}},
                    "_wandb": {"value": {}},
                },
                "summary": {"val/acc": r["acc"], "_runtime": 17.5, "_wandb": {"runtime": 17}, "x": ["a", "b"]},
            }
            for i, r in enumerate(RUNS)
        ]
    )


def wandb_frame() -> str:
    """As `pd.DataFrame({"summary": …, "config": …, "name": …}).to_csv()` writes runs of W&B."""
    rows = {
        "summary": [str({"val_acc": r["acc"], "_step": 900, "loss": float("nan")}) for r in RUNS],
        "config": [str({"lr": r["lr"], "weight_decay": r["wd"], "seed": r["seed"], "model": None}) for r in RUNS],
        "name": [f"glad-{i}" for i in range(len(RUNS))],
    }
    return pd.DataFrame(rows).to_csv()


FORMATS: dict[str, Callable[[], str | bytes]] = {
    "comment": lambda: "# sweep of May, ResNet-18\n\n" + CSV,
    "header in a comment": lambda: "# " + CSV.replace(",", " "),
    "trailing delimiter": lambda: CSV.replace("\n", ",\n"),
    "trailing delimiter of rows": lambda: CSV.replace("\n", ",\n").replace("acc,", "acc", 1),
    "blanks": lambda: CSV.replace(",", "   "),
    "printed by pandas": lambda: pd.DataFrame(RUNS).to_string(index=False),
    "printed by pandas with its index": lambda: pd.DataFrame(RUNS).to_string(),
    "pandas' index": lambda: pd.DataFrame(RUNS).to_csv(),
    "latin-1": lambda: CSV.replace("acc", "précision").encode("latin-1"),
    "decimal commas in quotes": lambda: CSV.replace("0.003,", '"0,003",'),
    "header again": lambda: CSV + CSV.splitlines()[0] + "\n",
    "float32": lambda: CSV.replace("0.003,", "0.003000000026077032,"),
    "gzip": lambda: packed(CSV.encode()),
    "bzip2": lambda: bz2.compress(CSV.encode()),
    "xz": lambda: lzma.compress(CSV.encode()),
    "zip": lambda: zipped({"sweep.csv": CSV, "__MACOSX/x": "x"}),
    "zip of gzip": lambda: zipped({"sweep.csv.gz": packed(CSV.encode())}),
    "markdown": lambda: f"# Our sweep\n\nSome words | and a bar.\n\n{markdown(RUNS)}\nMore words.\n",
    "markdown with bold": lambda: markdown([{**r, "acc": f"**{r['acc']}**"} for r in RUNS]),
    "two markdown tables": lambda: markdown([{"team": "a", "size": 3}]) + "\n" + markdown(RUNS),
    "markdown in parts": lambda: f"## One\n{markdown(RUNS[:6])}\n## Two\n{markdown(RUNS[6:])}",
    "records": lambda: json.dumps(RUNS),
    "columns": lambda: json.dumps({key: [r[key] for r in RUNS] for key in RUNS[0]}),
    "pandas' records": lambda: pd.DataFrame(RUNS).to_json(orient="records"),
    "pandas' columns": lambda: pd.DataFrame(RUNS).to_json(),
    "pandas' index of JSON": lambda: pd.DataFrame(RUNS).to_json(orient="index"),
    "pandas' split": lambda: pd.DataFrame(RUNS).to_json(orient="split"),
    "pandas' table": lambda: pd.DataFrame(RUNS).to_json(orient="table"),
    "wandb table": lambda: json.dumps({"columns": list(RUNS[0]), "data": [list(r.values()) for r in RUNS]}),
    "wrapped": lambda: json.dumps({"project": "x", "runs": RUNS}),
    "header and rows": lambda: json.dumps([list(RUNS[0]), *(list(r.values()) for r in RUNS)]),
    "JSON lines": lambda: pd.DataFrame(RUNS).to_json(orient="records", lines=True),
    "wandb runs": wandb_runs,
    "wandb frame": wandb_frame,
    "names of runs": lambda: "run,acc\n" + "".join(
        f"bs64-lr{r['lr']}-wd{r['wd']}-s{r['seed']},{r['acc']}\n" for r in RUNS
    ),
    "names of Ray": lambda: "trial_name,acc\n" + "".join(
        f"train_{i:05d}_lr={r['lr']}_weight_decay={r['wd']}_seed={r['seed']},{r['acc']}\n" for i, r in enumerate(RUNS)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str, tmp_path: Path) -> None:
    assert scores(of_text(tmp_path, FORMATS[name]())) == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"a.csv": CSV, "b.csv": CSV}), r"expected one table in the zip file, got 2 files \(a.csv, b.csv, …\)"),
        (zipped({}), r"expected one table in the zip file, got 0 files; unpack it"),
        (packed(CSV.encode())[:50], r"expected a compressed table, got a damaged file .*; pack it again"),
        (b"\x1f\x8b", r"expected a compressed table, got a damaged file"),
        (b"\xd0\xcf\x11\xe0 old", r"got an old .xls file; save it as .xlsx or CSV"),
        (b"SQLite format 3\0 and more", r"expected an SQLite database, got one that cannot be read"),
        ("[]", r"expected a list of JSON records, one per run, or columns of equal length, got an empty one"),
        ("[1, 2]", r"expected a list of JSON records, .*, got another JSON value"),
        ('{"a": [1], "b": [1, 2]}', r"got lists of 1 values and others; export it again"),
        ('{"columns": ["a", "a"], "data": []}', r"expected each column once, got a, a; rename one"),
        ('{"columns": ["a"], "data": [[1, 2]]}', r"row 1: expected 1 values, got 2"),
        ("[" * 100_000, r"expected JSON"),
        (markdown(RUNS) + "\n" + markdown([{**r, "x": 1} for r in RUNS]), r"got 2 tables .*; keep one"),
        (packed(packed(packed(packed(b"x")))), r"got more than 3 archives in each other; unpack them first"),
    ],
)  # fmt: skip
def test_refused(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        of_text(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    text = "".join(json.dumps(r) + "\n" for r in RUNS) + "interrupted\n"
    found = of_text(tmp_path, text)
    assert scores(found) == EXPECTED
    assert found.notes[-1] == "left out 1 row that cannot be read: row 19: expected a JSON record, got something else"


def test_a_history_within_a_record(tmp_path: Path) -> None:
    records = [
        {
            "lr": r["lr"],
            "wd": r["wd"],
            "seed": r["seed"],
            "history": [{"step": s, "acc": r["acc"] - 5 + s} for s in (1, 5)],
        }
        for r in RUNS
    ]
    assert scores(of_text(tmp_path, json.dumps(records))) == EXPECTED


def test_a_header_without_rows_is_no_table_of_one_column() -> None:
    assert read_text("x", "a,b\n").header == ("a", "b")


class TestPackages:
    """Parquet and xlsx: read where the package is there, else one line that says what to install."""

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"PAR1 and more", r"reading a Parquet file needs pyarrow, which is not installed; pip install"),
            (zipped({"xl/workbook.xml": "x"}), r"reading an Excel workbook needs openpyxl, which is not installed"),
        ],
    )  # fmt: skip
    def test_not_installed(self, content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def none_there(name: str) -> Any:
            raise ImportError(name)

        monkeypatch.setattr(packages.importlib, "import_module", none_there)
        with pytest.raises(UsageError, match=message):
            of_text(tmp_path, content)

    def test_parquet(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        path = tmp_path / "runs.parquet"
        pd.DataFrame(RUNS).to_parquet(path)
        assert scores(read(path)) == EXPECTED
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(UsageError, match="expected a Parquet file, got one that pyarrow cannot read"):
            read(path)

    def test_excel(self, tmp_path: Path) -> None:
        book = importlib.import_module("openpyxl").Workbook()
        sheet = book.active
        sheet.append(["Our sweep"])
        sheet.append(list(RUNS[0]))
        for run in RUNS:
            sheet.append(list(run.values()))
        book.create_sheet("notes").append(["nothing", "here"])
        book.save(tmp_path / "runs.xlsx")
        assert scores(read(tmp_path / "runs.xlsx")) == EXPECTED

    def test_a_sheet_without_a_package(self) -> None:
        """What openpyxl gives, given by hand."""

        class Sheet:
            def iter_rows(self, values_only: bool) -> list[tuple[object, ...]]:
                return [
                    (None,),
                    ("lr", "wd", "acc", None),
                    (0.001, 0, 71.5, None),
                    (None, None, None, None),
                    (3.0, 1, 72, 5),
                ]

        found = packages._sheet("x", Sheet())
        assert (found.header, found.lines) == (("lr", "wd", "acc"), (3, 5))
        assert found.rows == (("0.001", "0", "71.5"), ("3", "1", "72"))

    def test_the_package_is_asked_for_by_name(self) -> None:
        assert packages._package("x", "a file", "json") is importlib.import_module("json")


OPTUNA = """
CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name VARCHAR);
CREATE TABLE study_directions (study_direction_id INTEGER, direction VARCHAR, study_id INTEGER, objective INTEGER);
CREATE TABLE trials (trial_id INTEGER PRIMARY KEY, number INTEGER, study_id INTEGER, state VARCHAR);
CREATE TABLE trial_params (trial_id INTEGER, param_name VARCHAR, param_value FLOAT, distribution_json TEXT);
CREATE TABLE trial_values (trial_id INTEGER, objective INTEGER, value FLOAT, value_type VARCHAR);
CREATE TABLE trial_user_attributes (trial_id INTEGER, key VARCHAR, value_json TEXT);
"""
CHOICES = json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": [0.0, 0.0001, 0.001]}})


def optuna(path: Path, studies: int = 1, direction: str = "MAXIMIZE") -> Path:
    with sqlite3.connect(path) as made:
        made.executescript(OPTUNA)
        trial = 0
        for study in range(studies):
            made.execute("INSERT INTO studies VALUES (?, ?)", (study, f"study-{study}"))
            made.execute("INSERT INTO study_directions VALUES (1, ?, ?, 0)", (direction, study))
            for number, run in enumerate(RUNS):
                made.execute("INSERT INTO trials VALUES (?, ?, ?, 'COMPLETE')", (trial, number, study))
                made.execute("INSERT INTO trial_params VALUES (?, 'lr', ?, '{}')", (trial, run["lr"]))
                choice = [0.0, 0.0001, 0.001].index(run["wd"])
                made.execute("INSERT INTO trial_params VALUES (?, 'weight_decay', ?, ?)", (trial, choice, CHOICES))
                made.execute("INSERT INTO trial_values VALUES (?, 0, ?, 'FINITE')", (trial, run["acc"] + study))
                made.execute("INSERT INTO trial_user_attributes VALUES (?, 'seed', ?)", (trial, str(run["seed"])))
                trial += 1
            made.execute("INSERT INTO trials VALUES (?, 99, ?, 'RUNNING')", (trial, study))
            trial += 1
    made.close()
    return path


class TestDatabases:
    def test_optuna(self, tmp_path: Path) -> None:
        path = optuna(tmp_path / "study.db")
        before = path.read_bytes()
        found = read(path)
        assert (scores(found), found.metric) == (EXPECTED, "score")
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]

    def test_a_direction_to_the_minimum(self, tmp_path: Path) -> None:
        found = read(optuna(tmp_path / "study.db", direction="MINIMIZE"))
        assert (found.metric, scores(found)[0][2]) == ("loss", -70.5)

    def test_several_studies(self, tmp_path: Path) -> None:
        path = optuna(tmp_path / "study.db", studies=2)
        with pytest.raises(
            UsageError, match=r"differ in study_name \(study-0, study-1\); use --by study_name to judge"
        ):
            read(path)
        assert [cell.arch for cell in read(path, by="study_name").landscapes] == [
            "study_name=study-0",
            "study_name=study-1",
        ]
        assert scores(read(path, where="study_name=study-0")) == EXPECTED

    def test_mlflow(self, tmp_path: Path) -> None:
        path = tmp_path / "mlflow.db"
        with sqlite3.connect(path) as made:
            made.executescript(
                "CREATE TABLE runs (run_uuid, experiment_id, status, lifecycle_stage, start_time);"
                "CREATE TABLE params (run_uuid, key, value);"
                "CREATE TABLE latest_metrics (run_uuid, key, value, is_nan);"
            )
            for i, run in enumerate([*RUNS, {**RUNS[0], "acc": 1}, {**RUNS[0], "wd": 0.01, "acc": 0}]):
                stage, lost = ("deleted" if i == len(RUNS) else "active"), i == len(RUNS) + 1
                made.execute("INSERT INTO runs VALUES (?, 1, 'FINISHED', ?, ?)", (f"r{i}", stage, i))
                for key, name in (("lr", "lr"), ("wd", "weight_decay"), ("seed", "seed")):
                    made.execute("INSERT INTO params VALUES (?, ?, ?)", (f"r{i}", name, str(run[key])))
                made.execute("INSERT INTO latest_metrics VALUES (?, 'val_acc', ?, ?)", (f"r{i}", run["acc"], lost))
        made.close()
        found = read(path)
        assert [one for one in scores(found) if one[2] == one[2]] == EXPECTED
        assert only(found).frame["diverged"].sum() == 1

    def test_another_database(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "x.db") as made:
            made.execute("CREATE TABLE people (name)")
        made.close()
        with pytest.raises(
            UsageError, match="expected a database of Optuna or MLflow, got one with people; export the"
        ):
            read(tmp_path / "x.db")

    def test_a_view_that_never_ends_is_no_table(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "x.db") as made:
            made.executescript("\n".join(line for line in OPTUNA.splitlines() if "TABLE trials" not in line))
            made.execute(
                "CREATE VIEW trials AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x FROM c"
            )
        made.close()
        with pytest.raises(UsageError, match="expected a database of Optuna or MLflow"):
            read(tmp_path / "x.db")

    def test_a_study_that_goes_on(self, tmp_path: Path) -> None:
        path = optuna(tmp_path / "study.db")
        (tmp_path / "study.db-wal").write_bytes(b"x")
        with pytest.raises(UsageError, match=r"got unmerged writes in study\.db-wal; end the study first"):
            read(path)

    def test_standard_input(self) -> None:
        with pytest.raises(UsageError, match="expected a database in a file of its own; unpack it and name the file"):
            studies.read("standard input", "-")
