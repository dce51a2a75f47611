"""What benchmarks count and how they go about it; what they time is for who runs them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from replicate.runs.run import Run
from replicate.store.store import open_store
from replicate.train.contract import TooLarge
from replicate.train.stacked import How
from tests.support.faketrainer import fake_result, fake_run

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A benchmark as a module; what it does to the search path is undone."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("training", monkeypatch)


def test_what_ran_out_of_memory_is_not_timed(training: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def train_stack(runs: list[Run], device: str, how: How) -> None:
        asked.append((len(runs), how.lanes))
        if how.lanes > 4:
            raise TooLarge(how.lanes)

    monkeypatch.setattr(training, "train_stack", train_stack)
    runs = [fake_run(seed) for seed in range(16)]
    seconds, lanes = training.seconds_of_stacks(runs, "cpu", How(lanes=16))
    assert (asked, lanes) == ([(16, 16), (8, 8), *[(4, 4)] * 4], 4) and seconds >= 0


def test_cublas_is_told_before_the_first_product(training: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "put back afterwards")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    told: list[str | None] = []

    def device_rate(device: str) -> float:
        told.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG"))
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "device_rate", device_rate)
    monkeypatch.setattr(sys, "argv", ["training.py", "--device", "cuda"])
    with pytest.raises(KeyboardInterrupt):
        training.main()
    assert told == [":4096:8"]


class TestCold:
    @pytest.fixture
    def cold(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        return load("cold", monkeypatch)

    def test_it_counts_what_was_trained(
        self, cold: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        runs = [fake_run(seed) for seed in range(3)]
        ways: list[str] = []

        def train(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            given = dict(zip(command[4::2], command[5::2], strict=True))
            ways.append(given["--trainer"])
            store = open_store(Path(given["--store"]))
            assert store.keys() == set(), "cold"
            for run in runs:
                store.put(run, fake_result(run), {}, durable=False)
                store.log_training(run.key, 0.5)
            return subprocess.CompletedProcess(command, 0, "", "")

        used = iter([0.0, 30.0, 30.0, 40.0, 40.0, 48.0, 48.0, 80.0])
        monkeypatch.setattr(cold.subprocess, "run", train)
        monkeypatch.setattr(cold, "_processor_seconds", lambda: next(used))
        monkeypatch.setattr(cold, "runs_at", lambda *_: runs)
        monkeypatch.setattr(sys, "argv", ["cold.py", "--scale", "smoke", "--rounds", "2"])
        cold.main()
        assert ways == ["solo", "stacked", "stacked", "solo"], "in turns"
        out = capsys.readouterr().out.splitlines()
        assert out[1].split()[:3] == ["solo", "3", "30.0"]
        assert "scale smoke, 1 at once: run by run takes 3.75 times the processor" in out[-1]

    def test_a_scale_whose_runs_are_recorded_is_refused(
        self, cold: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def nothing_to_train(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            open_store(tmp_path / "store")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(cold.subprocess, "run", nothing_to_train)
        with pytest.raises(SystemExit, match=r"scale smoke: expected \d+ runs to train, got 0; choose a scale without"):
            cold.trained("smoke", "solo", 1, tmp_path / "store")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--scale", "imagenet"], "--scale imagenet: expected a scale whose images fit on a device"),
        (["--scale", "synthetic"], "--scale synthetic: expected a scale whose images fit on a device"),
        (["--scale", "smoke", "--arch", "lenet"], "--arch: expected some of resnet50, "),
    ],
)
def test_what_cannot_be_stacked_is_refused_in_one_line(
    training: ModuleType,
    arguments: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["training.py", *arguments])
    with pytest.raises(SystemExit) as end:
        training.main()
    assert end.value.code == 2
    (said,) = [text for text in capsys.readouterr().err.splitlines() if "error:" in text]
    assert line in said


class TestJudgeClaims:
    @pytest.fixture
    def judge_claims(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        arguments = ["--rounds", "1", "--select", "cost or satisfies"]
        monkeypatch.setattr(sys, "argv", ["judge_claims.py", *arguments])
        return load("judge_claims", monkeypatch)

    @pytest.mark.slow
    @pytest.mark.long
    def test_it_times_each_way_on_a_claim_that_takes_no_time(
        self, judge_claims: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(judge_claims, "WAYS", judge_claims.WAYS[:2])  # each is a session of pytest
        judge_claims.main()
        *rows, last = capsys.readouterr().out.splitlines()
        assert [row[:18].strip() for row in rows] == ["one process", "-n 2"]
        assert all(float(row[18:].split()[0]) > 0 and float(row[18:].split()[-5]) > 0 for row in rows)
        assert last == "verdicts: the same in all 2 sessions"

    def test_verdicts_that_differ_are_no_timing(
        self, judge_claims: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = iter([{"claims": ["replicated"]}, {"claims": ["contradicted"]}])
        monkeypatch.setattr(judge_claims, "judged", lambda *_: (1.0, 1.0, next(files)))
        with pytest.raises(SystemExit, match=r"^-n 2: expected the verdicts of the first session, got others$"):
            judge_claims.main()

    def test_a_session_that_could_not_judge_is_no_timing(
        self, judge_claims: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def crash(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess(command, 3, "exit status 3: 1 claim could not be judged", "")

        monkeypatch.setattr(judge_claims.subprocess, "run", crash)
        with pytest.raises(SystemExit, match=r"claims/ -q .*: expected exit 0 or 1, got 3\nexit status 3: 1 claim"):
            judge_claims.judged("smoke", "-n 4", "", tmp_path)


@pytest.mark.slow
def test_the_training_benchmark_measures_all_three_ways(
    training: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On real, tiny trainings: a row an architecture, its rates above 0, and the sum of hours."""
    arguments = ["--scale", "smoke", "--arch", "resnet50", "mixer_s16", "--runs", "2", "--alone", "1", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["training.py", *arguments, "--workers", "0"])
    threads = torch.get_num_threads()
    training.main()
    torch.set_num_threads(threads)
    first, _, *rows, last = capsys.readouterr().out.splitlines()
    assert first.startswith("a CPU core: ")
    hours = 0.0
    for row, arch in zip(rows, ("resnet50", "mixer_s16"), strict=True):
        name, lanes, rate, plain, script, share, taken = row.split()
        assert (name, int(lanes)) == (arch, 2)
        assert float(rate.replace(",", "")) > 0
        assert float(plain) > 0
        assert float(script) > 0
        assert 0 < float(share.rstrip("%")) < 100
        hours += float(taken)
    assert float(last.split(": ")[1].split()[0]) == pytest.approx(hours, abs=0.1)


@pytest.mark.slow
def test_the_loader_benchmark_reads_made_up_pictures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loader = load("loader", monkeypatch)
    monkeypatch.setenv("REPLICATE_DATA", "nowhere")
    monkeypatch.setattr(sys, "argv", ["loader.py", "--images", "16", "--side", "64", "--processes", "0", "1"])
    loader.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:-1]]
    assert [(row[0], row[1]) for row in rows] == [(a, n) for a in ("resnet50", "vit_s16") for n in ("0", "1")]
    assert all(float(row[2].replace(",", "")) > 0 for row in rows)


def test_every_ablation_names_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ablation = load("ablation", monkeypatch)
    for variant in ablation.variants():
        if variant.times != 1:
            assert any(hasattr(module, variant.name) for module in ablation.MODULES), variant
        else:
            assert variant.name in ablation.RULES
    assert {v.times for v in ablation.variants()} == {0.5, 1.0, 2.0}
