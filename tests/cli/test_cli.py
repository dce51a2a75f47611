"""The command line: what stands on which stream, exit statuses, and one line for whatever cannot be used."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicate.cli import arguments, judge, main, options
from replicate.cli.output import print_json
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, REPLICATED
from replicate.paper.registry import CLAIMS, claim
from replicate.runs import scales
from replicate.runs.needed import possible_runs, runs_for
from replicate.runs.result import Result
from replicate.store import recorded
from replicate.store.store import open_store
from replicate.train.engine import devices
from tests.support import pages
from tests.support.verdicts import made_cell

SMOKE = scales.get("smoke")
CELL = runs_for([claim("rho/resnet50-cifar100")], SMOKE)
SWEEP = "lr,wd,seed,accuracy\n1e-3,0,0,0.5\n1e-3,1e-4,0,0.6\n1e-2,1e-3,0,0.55\n"


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.csv"
    path.write_text(SWEEP)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the runs of one cell; one of them diverged."""
    opened = open_store(tmp_path / "store")
    for i, run in enumerate(CELL):
        diverged = i == 0
        result = Result(50.0 + i / 10, 60.0 + i / 10, diverged, None if diverged else 1.0, (50.0,), 0.1)
        opened.put(run, result, {"device_model": "an abacus"})
    return opened.path


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on standard error of a command that must refuse."""
    try:
        status = main(arguments)
    except SystemExit as end:  # argparse
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


class TestJudge:
    @pytest.mark.parametrize(
        ("verdicts", "status"),
        [
            ({"rho": REPLICATED, "slope": REPLICATED}, 0),
            ({"rho": REPLICATED, "slope": CONTRADICTED}, 1),
            ({"rho": INCONCLUSIVE, "slope": NOT_RUN}, 0),
        ],
    )
    def test_status(
        self,
        verdicts: dict[str, str],
        status: int,
        csv_file: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(judge, "judge_sweep", lambda landscapes, at: [made_cell(**verdicts)])
        assert main(["judge", str(csv_file)]) == status
        out, err = capsys.readouterr()
        assert out.startswith("a on b\n\nTo set: no run has a score.\n\nlr  best λ  95 %")
        assert "The best weight decay grows with the learning rate: λ* ∝ η^b with b ≥ 0.08 (95 %)." in out
        for name, outcome in verdicts.items():
            assert re.search(rf"(?m)^{name} .*  {outcome} +(\[0\.08, ∞\)|—)", out)
        assert ("To settle rho: more" in out) == (INCONCLUSIVE in verdicts.values())
        assert err == (
            "replicate: the largest accuracy is 0.6: taken as fractions and converted to percent\n"
        )  # what the reader decided on its own goes to standard error

    def test_json_stands_alone(
        self, csv_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = made_cell(rho=REPLICATED, slope=REPLICATED)
        monkeypatch.setattr(judge, "judge_sweep", lambda landscapes, at: [made])
        assert main(["judge", str(csv_file), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"cells": [made.to_json()]}
        print_json({"nan": float("nan")})
        assert json.loads(capsys.readouterr().out) == {"nan": None}

    def test_real_estimators(self, csv_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["judge", str(csv_file), "--json"]) in (0, 1)
        (cell,) = json.loads(capsys.readouterr().out)["cells"]
        assert {"arch", "dataset", "rho", "slope", "exponent", "verdicts"} <= cell.keys()
        assert {"value", "low", "high", "level", "flags"} <= cell["rho"].keys() & cell["slope"].keys()
        assert set(cell["verdicts"].values()) <= {"replicated", "contradicted", "inconclusive", "not run"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "got an empty file"),
            ("lr,accuracy\n1,50\n", "found none for wd among lr, accuracy"),
            ("lr,wd,accuracy\nfast,0,50\n", "row 2: expected a number in column lr, got 'fast'"),
        ],
    )
    def test_unusable(self, text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "bad.csv"
        path.write_text(text)
        assert message in fails(capsys, "judge", str(path), "--json")

    def test_bad_columns(self, csv_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "expected FIELD=COLUMN" in fails(capsys, "judge", str(csv_file), "--columns", "x")

    def test_how_runs_are_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        seen: list[Any] = []
        monkeypatch.setattr(judge, "judge_sweep", lambda landscapes, at: seen.extend(landscapes) or [made_cell()])
        rows = [
            f"0.1,{wd},{epochs},{size},x{epochs},7,{step}"
            for wd in (0, 1)
            for epochs in (2, 4)
            for size in "ab"
            for step in (1, 2)
        ]
        path = tmp_path / "runs.csv"
        path.write_text("\n".join(["lr,wd,epochs,size,host,value,step", *rows]))
        options = (
            "--where",
            "epochs=4",
            "--by=size",
            "--ignore=host",
            "--metric=value:min",
            "--noise=0.5",
            "--take=best",
        )
        assert main(["judge", str(path), *options]) == 0
        assert [(one.arch, one.metric, one.noise_sd, len(one.frame)) for one in seen] == [
            ("size=a", "loss", 0.5, 2),
            ("size=b", "loss", 0.5, 2),
        ]
        assert "8 of 16 rows have epochs=4" in capsys.readouterr().err

    def test_what_to_run_next_and_what_to_set(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        sweep, runs, page = tmp_path / "sweep.csv", tmp_path / "next.csv", tmp_path / "sweep.html"
        rows = [
            f"{lr},{wd},{seed},{70 - abs(math.log(wd / 0.003)) + 0.1 * math.sin(97 * seed + 1e4 * wd + 1e3 * lr)}"
            for lr in (0.001, 0.003, 0.01)
            for wd in (0.0003, 0.001, 0.003, 0.01, 0.03)
            for seed in (1, 2)
        ]
        sweep.write_text("\n".join(["lr,wd,seed,acc", *rows]))
        options = ("--next", "7", "--next-csv", str(runs), "--at", "0.002,1", "--html", str(page))
        assert main(["judge", str(sweep), *options]) in (0, 1)
        out = " ".join(capsys.readouterr().out.split())
        assert "What to run next (7 runs; rank 1 tells most); these should reduce" in out
        assert "To set: at learning rate 0.002 (not run): weight decay 0.00" in out
        assert "; at 1 (not run): unknown, more than a factor 3 beyond the learning rates run." in out
        with runs.open() as file:
            named = list(csv.DictReader(file))
        assert len(named) == 7 and named[0].keys() == {"arch", "dataset", "lr", "wd", "seed"}
        assert "What to run next (7 runs" in page.read_text()
        assert main(["judge", str(sweep), "--json", "--next=3"]) in (0, 1)
        (cell,) = json.loads(capsys.readouterr().out)["cells"]
        assert len(cell["answer"]["plan"]["runs"]) == 3
        assert [row["lr"] for row in cell["answer"]["by_lr"]] == [0.001, 0.003, 0.01]
        assert "expected also --next N, the number of runs to suggest" in fails(
            capsys, "judge", str(sweep), "--next-csv", str(runs)
        )
        assert "--at: expected learning rates above 0" in fails(capsys, "judge", str(sweep), "--at", "fast")

    def test_several_cells_are_judged_by_all_cores_as_one_by_one(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "runs.csv"
        rows = [f"m{arch},{lr},{wd},{70 + arch + wd}" for arch in (1, 2) for lr in (0.1, 1) for wd in (1, 2, 3)]
        path.write_text("\n".join(["arch,lr,wd,acc", *rows]))
        assert main(["judge", str(path), "--json"]) in (0, 1)
        alone = capsys.readouterr().out
        monkeypatch.setattr(judge, "SEVERAL", 2)
        monkeypatch.setattr(judge, "slots", lambda: ("a", "b"))
        assert main(["judge", str(path), "--json"]) in (0, 1)
        assert capsys.readouterr().out == alone

    def test_a_random_search(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "runs.csv"
        trials = (f"{0.001 * i},{0.0002 * i * 7 ** (i % 5 - 2)},{70 - abs(i % 5 - 2)}\n" for i in range(1, 30))
        path.write_text("lr,wd,acc\n" + "".join(trials))
        assert main(["judge", str(path), "--next", "3", "--html", str(tmp_path / "page.html")]) in (0, 1)
        out = " ".join(capsys.readouterr().out.split())
        assert "A random search: a smooth surface was fitted to its trials" in out
        assert "intercept, r2, one-dim/gap not run: the claim is judged on a grid, and this is a random search." in out
        assert "What to run next (3 runs" in out
        assert "29 trials of a random search" in (tmp_path / "page.html").read_text()
        path.write_text("lr,wd,acc\n" + "".join(f"{0.1 * i},{0.2 * i},{70 + i}\n" for i in range(1, 7)))
        assert main(["judge", str(path)]) == 0
        assert "To settle rho, slope: at least 8 trials with a score" in " ".join(capsys.readouterr().out.split())

    def test_no_such_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "nowhere.csv: expected a table of runs, found no such file" in fails(capsys, "judge", "nowhere.csv")


class TestPlan:
    def test_json(self, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["plan", "--scale", "smoke", "--store", str(store), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        needed, most = len(runs_for(CLAIMS, SMOKE)), len(possible_runs(SMOKE))
        assert needed < most
        counts = {"needed": needed, "needed_at_most": most, "stored": len(CELL), "to_train": needed - len(CELL)}
        assert found["runs"] == counts
        assert found["store"] == str(store)
        assert len(found["claims"]["trained"]) == len(CLAIMS)

    @pytest.mark.parametrize(
        "scale",
        [
            "smoke",
            pytest.param("cifar100", marks=pytest.mark.slow),
            *(
                pytest.param(name, marks=[pytest.mark.slow, pytest.mark.long])
                for name in scales.SCALES
                if name not in ("smoke", "cifar100")
            ),
        ],
    )
    def test_text(self, scale: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["plan", "--scale", scale, "--store", str(tmp_path / "none")]) == 0
        out, err = capsys.readouterr()
        assert f"scale {scale}: " in out
        assert ("not yet trainable: " in out) == bool(scales.get(scale).why_untrainable)
        recorded_runs = len(recorded.of_scale(scale))
        assert ("all runs count as missing" in err) == (not recorded_runs)
        assert (f"only the {recorded_runs} runs recorded with the source code are used" in err) == (recorded_runs > 0)
        assert not (tmp_path / "none").exists()

    def test_auto(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """As pytest's option: what this machine can train."""
        monkeypatch.setattr(devices, "cuda_devices", lambda: ())
        assert main(["plan", "--scale", "auto", "--json"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["scale"] == "embedded"
        assert err.startswith("replicate: scale embedded (auto: no CUDA device is visible)\n")

    def test_unusable(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        known = ", ".join(scales.SCALES)
        message = f"replicate plan: --scale: expected one of auto, {known}; got 'nonsense'"
        assert message in fails(capsys, "plan", "--scale", "nonsense")
        (tmp_path / "file").touch()
        assert "expected a directory, got a file" in fails(
            capsys, "plan", "--scale", "smoke", "--store", str(tmp_path / "file")
        )
        assert "the following arguments are required: --scale; see replicate plan --help" in fails(capsys, "plan")


class TestTrain:
    def test_trains_what_is_missing(
        self, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from replicate.train.engine import local

        asked = {}

        def ensure(store: object, runs: list[object], *, processes: int | None, trainer: str, until: float) -> None:
            asked.update(runs=len(runs), processes=processes, trainer=trainer.rpartition(":")[2])

        monkeypatch.setattr(local, "ensure", ensure)
        assert main(["train", "--scale", "smoke", "--store", str(store), "--processes", "3", "--json"]) == 0
        needed = len(runs_for(CLAIMS, SMOKE))
        assert asked == {"runs": needed, "processes": 3, "trainer": "train"}
        out, err = capsys.readouterr()
        assert json.loads(out) == {
            "scale": "smoke",
            "needed": needed,
            "stored_before": len(CELL),
            "stored": len(CELL),
        }
        main(["train", "--scale", "smoke", "--store", str(store), "--trainer", "solo", "--json"])
        assert asked == {"runs": needed, "processes": None, "trainer": "one_by_one"}
        assert f"{needed} runs needed, {len(CELL)} in {store}, {needed - len(CELL)} to train" in err

    def test_a_broken_driver_at_a_scale_that_needs_a_gpu(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from replicate.cli import train

        monkeypatch.setattr(train.catalogue, "prepare", lambda spec: None)
        monkeypatch.setattr(devices, "may_see_cuda", lambda environment: True)
        monkeypatch.setattr(devices, "_asked", lambda variable: ((), "none that torch can use"))
        where = ["--scale", "fashion-short", "--store", str(tmp_path / "store")]
        assert main(["train", *where]) == 2
        told = capsys.readouterr().err.splitlines()
        assert told[-1].startswith("replicate train: devices: expected a CUDA device, because a driver is installed")
        assert open_store(tmp_path / "store").keys() == set()

    def test_interrupted(
        self, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from replicate.train.engine import local

        def ensure(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(local, "ensure", ensure)
        assert main(["train", "--scale", "smoke", "--store", str(store)]) == 130
        assert (
            "interrupted; finished runs are kept, and the same command continues from there" in capsys.readouterr().err
        )

    def test_unusable(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "scale synthetic cannot be trained: its runs are made by `replicate synthesize`, never trained" in fails(
            capsys, "train", "--scale", "synthetic", "--store", str(tmp_path)
        )
        monkeypatch.setenv("REPLICATE_DATA", "set, to be put back")
        monkeypatch.chdir(tmp_path)
        assert fails(capsys, "train", "--scale", "imagenet", "--store", "store", "--data", "images") == (
            "replicate train: imagenet: expected train/ and val/ with a folder of images for each class in "
            f"{tmp_path / 'images' / 'imagenet'}, found none; get ILSVRC2012 from image-net.org and unpack it there, "
            "or name the folder of train/ and val/ with --data\n"
        )
        assert "expected a whole number of at least 1, got '0'" in fails(
            capsys, "train", "--scale", "smoke", "--processes", "0"
        )
        assert "argument --engine: invalid choice" in fails(capsys, "train", "--scale", "smoke", "--engine", "x")


class TestRuns:
    def test_list(self, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["runs", "list", "--store", str(store)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[:4] == ["key", "arch", "dataset", "optimizer"]
        assert len(lines) == 1 + len(CELL)
        assert main(["runs", "list", "--store", str(store), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)["runs"]
        assert {row["key"] for row in rows} == {run.key for run in CELL}
        assert [row["accuracy"] for row in rows if row["diverged"]] == [None]

    def test_list_of_a_scale_has_its_recorded_runs_too(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        held = open_store(store, create=False, read_only=True)
        path = tmp_path / "recorded.jsonl.gz"
        recorded.write(path, [stored for run in CELL if (stored := held.read(run.key)) is not None])
        monkeypatch.setattr(recorded, "path_of", lambda scale: path if scale == "smoke" else tmp_path / "none")
        none = ("--store", str(tmp_path / "empty"), "--scale", "smoke")
        assert main(["runs", "list", *none, "--json"]) == 0
        assert {row["key"] for row in json.loads(capsys.readouterr().out)["runs"]} == {run.key for run in CELL}
        assert main(["runs", "show", CELL[1].key, *none]) == 0
        assert CELL[1].key in capsys.readouterr().out
        assert main(["runs", "list", "--store", str(store), "--scale", "embedded", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["runs"] == []
        assert main(["plan", *none, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["runs"]["stored"] == len(CELL)

    def test_show(self, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["runs", "show", CELL[1].key[:10], "--store", str(store), "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert record["run"] == CELL[1].record()
        assert record["result"]["accuracy_pp"] == 50.1
        assert main(["runs", "show", CELL[1].key, "--store", str(store)]) == 0
        assert "  accuracy_pp: 50.1\n" in capsys.readouterr().out

    def test_show_needs_one_key(self, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "got none; see `replicate runs list`" in fails(capsys, "runs", "show", "zz", "--store", str(store))
        assert f"got {len(CELL)} that begin with it" in fails(capsys, "runs", "show", "", "--store", str(store))

    def test_export(self, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["runs", "export", "--format", "csv", "--store", str(store)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("key,arch,dataset,optimizer,")
        assert len(lines) == 1 + len(CELL)

    def test_exported_landscapes_can_be_judged(
        self, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["runs", "export", "--scale", "smoke", "--store", str(store)]) == 0
        out, err = capsys.readouterr()
        assert "points are not in the store; train them with `replicate train`" in err
        lines = out.splitlines()
        assert len(lines) > 1 + len(CELL)  # a run without weight decay measures several points
        path = tmp_path / "exported.csv"
        path.write_text(out)
        assert main(["judge", str(path), "--json"]) in (0, 1)
        (cell,) = json.loads(capsys.readouterr().out)["cells"]
        assert (cell["arch"], cell["dataset"]) == ("resnet50", "cifar100")
        assert "--variant: expected one of main, " in fails(
            capsys, "runs", "export", "--scale", "smoke", "--variant", "x", "--store", str(store)
        )

    def test_unusable(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "expected a directory, but there is none; train first" in fails(
            capsys, "runs", "list", "--store", str(tmp_path / "none")
        )
        assert "required: ACTION" in fails(capsys, "runs")


class TestReport:
    @pytest.mark.slow
    def test_writes_all_files(self, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = sorted(p for p in store.rglob("*"))
        status = main(["report", "--store", str(store), "--out", str(tmp_path / "out"), "--json"])
        out, err = capsys.readouterr()
        written = json.loads((tmp_path / "out" / "verdicts.json").read_text())
        assert written == json.loads(out)
        assert [c["id"] for c in written["claims"]] == [c.id for c in CLAIMS]
        assert written["scale"]["name"] == "smoke"
        assert written["scale"]["why"] == f"the store holds {len(CELL)} of its runs"
        assert status == int(written["counts"]["contradicted"] > 0)
        assert "rho/overall" in (tmp_path / "out" / "verdicts.md").read_text()
        assert "## Verdicts at scale smoke" in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
        page = pages.read((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
        assert "What the paper’s grid can reach" in page.text
        assert "PROBE" in err
        assert sorted(p for p in store.rglob("*")) == before

    def test_unusable(self, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").touch()
        assert "expected a writable folder, got: " in fails(
            capsys, "report", "--store", str(store), "--out", str(tmp_path / "file"), "--scale", "smoke"
        )
        none = str(tmp_path / "none")
        assert "replicate report: scale: expected one of smoke, " in fails(
            capsys, "report", "--store", none, "--out", str(tmp_path), "--scale", "smok"
        )
        empty = str(open_store(tmp_path / "empty").path)
        assert "expected runs of a scale (smoke, " in fails(capsys, "report", "--store", empty, "--out", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "replicate: the following arguments are required: COMMAND; see replicate --help"),
        (("dance",), "replicate: argument COMMAND: invalid choice: 'dance'"),
        (("judge", "x.csv", "--take", "first"), "replicate judge: argument --take: invalid choice: 'first'"),
        (
            ("judge", "x.csv", "--jso"),
            "replicate judge: unrecognized arguments: --jso; see replicate judge --help",
        ),
        (
            ("runs", "list", "--all"),
            "replicate runs list: unrecognized arguments: --all; see replicate runs list --help",
        ),
        (("plan", "--scale"), "replicate plan: argument --scale: expected one argument"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in fails(capsys, *arguments)


def test_the_help_names_every_scale() -> None:
    assert ", ".join(scales.SCALES) == options.SCALES


def replicate(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "replicate", *arguments], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.slow
def test_as_a_program(csv_file: Path) -> None:
    done = replicate("judge", "-", "--json", input=csv_file.read_text())
    assert done.returncode in (0, 1)
    assert len(json.loads(done.stdout)["cells"]) == 1
    (folder := csv_file.parent / "empty").mkdir()
    refused = replicate("judge", str(folder))
    assert (refused.returncode, refused.stdout) == (2, "")
    words = "expected a folder of runs, one file or folder each, got an empty one; give the path of the table itself"
    assert refused.stderr == f"replicate judge: {folder}: {words}\n"


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SWEEP.encode())))
    assert main(["judge", "-", "--json"]) in (0, 1)
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 1
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert fails(capsys, "judge", "-").startswith("replicate judge: standard input: expected a table")


@pytest.mark.skipif(os.name != "posix", reason="head is not everywhere")
def test_a_reader_that_leaves_early(store: Path) -> None:
    command = f"'{sys.executable}' -m replicate runs list --store '{store}' | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Error" not in done.stderr


@pytest.mark.parametrize("option", ["--html", "--picture"])
def test_a_sweep_is_not_overwritten(tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sweep.csv"
    path.write_text("lr,wd,accuracy\n0.001,0.1,70\n")
    assert main(["judge", str(path), option, str(tmp_path / "." / "sweep.csv")]) == 2
    assert "expected a file to write, got the sweep itself; name another" in capsys.readouterr().err
    assert path.read_text().startswith("lr,wd")


def test_a_picture_is_an_svg(csv_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("judge", str(csv_file)), ("report", "--out", str(tmp_path / "out")), ("audit",)):
        path = tmp_path / "picture.png"
        assert "expected a name that ends in .svg" in fails(capsys, *command, "--picture", str(path))
        assert not path.exists()


def every_parser(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """`parser` and those of its subcommands, at any depth."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from every_parser(below)


@pytest.mark.parametrize("parser", [pytest.param(p, id=p.prog) for p in every_parser(arguments.parser())])
def test_every_command_explains_itself(parser: argparse.ArgumentParser) -> None:
    """argparse formats help only when it is asked for, and then a lone percent sign in it is an error."""
    assert parser.format_help().startswith(f"usage: {parser.prog}")
