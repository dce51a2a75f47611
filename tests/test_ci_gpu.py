"""`ci/gpu`, rehearsed on a CPU: as a real process that is cut off and goes on, and its parts by themselves."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from replicate.data import fashion
from replicate.runs import scales
from replicate.runs.needed import runs_at
from replicate.store import recorded
from replicate.store.store import open_store
from replicate.train.plan import costs
from tests.support.processes import wait_until

ROOT = Path(__file__).parents[1]
ARCHITECTURE = "mixer_s16"


def command(out: Path, *more: str) -> list[str]:
    rehearsed = [ROOT / "ci" / "gpu", "--python", sys.executable, "--device", "cpu", "--out", out]
    return [*map(str, rehearsed), *more]


def stamps(out: Path) -> dict[str, int]:
    """When each finding was written."""
    found = out / "findings"
    return {path.relative_to(found).as_posix(): path.stat().st_mtime_ns for path in found.rglob("*.json")}


@pytest.mark.slow
@pytest.mark.long
def test_cut_off_it_goes_on_and_records_evidence(tmp_path: Path) -> None:
    """Killed with all its processes when the first steps are known; then to the end, and some seconds of training."""
    out = tmp_path / "report"
    whole = command(out, "--arch", ARCHITECTURE)
    process = subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until = time.monotonic() + 300
        while not any(name.endswith("/steps.json") for name in (stamps(out) if out.exists() else ())):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = stamps(out)
    assert "health.json" in before and "projection.json" not in before
    done = subprocess.run(whole, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    after = stamps(out)
    finished = [name for name in before if name not in ("correctness.json", f"{ARCHITECTURE}/compile.json")]
    assert {name: after[name] for name in finished} == {name: before[name] for name in finished}
    page = (out / "summary.md").read_text()
    assert "## Missing findings\n\nnothing\n" in page and "too far" not in page and "no budget known" in page
    compiled = json.loads((out / "findings" / ARCHITECTURE / "compile.json").read_text())
    assert compiled["seconds"] > 0 and compiled["again_seconds"] > 0
    tests = json.loads((out / "findings" / "correctness.json").read_text())["tests"]
    assert tests and {test["outcome"] for test in tests.values()} == {"passed"}
    kept = costs.kept(open_store(out / "store").layout, "smoke")
    assert set(kept) == {ARCHITECTURE}

    for budget in ("6s", "12s", "24s", "48s"):  # on a busy machine few seconds are over before anything is trained
        gathered = subprocess.run(command(out, "--evidence", budget), capture_output=True, text=True)
        assert (gathered.returncode, gathered.stderr) == (0, "")
        if runs := recorded.read(recorded.path_of("smoke", out / "recorded")):
            break
    evidence = json.loads((out / "findings" / "evidence.json").read_text())
    assert 0 < len(runs) == evidence["runs"] < evidence["wanted"]
    assert all(run.provenance["device"] == "cpu" and run.provenance["versions"] for run in runs.values())
    assert (out / "report" / "verdicts.json").exists()


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports a module of `ci/first_minutes`."""
    for folder in ("benchmarks", "ci"):
        monkeypatch.syspath_prepend(ROOT / folder)

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"first_minutes.{name}")

    return load


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--arch", "lenet"], "--arch: expected some of resnet50, vit_s16, convnext_t, mixer_s16, swin_t; got lenet"),
        (["--minutes", "0"], "--minutes: expected a number above 0, got 0"),
        (["--arch", "vit_s16", "--evidence", "9m"], "--arch: expected no --evidence with it"),
    ],
)
def test_bad_options_are_refused(
    part: Any, arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        part("__main__").parsed(arguments)
    assert end.value.code == 2
    assert line in capsys.readouterr().err


def test_evidence_without_images_is_refused_in_one_line(
    part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = part("__main__")
    monkeypatch.setattr(fashion, "SYSTEM", tmp_path)
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setattr(main, "prepare", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["ci/gpu", "--out", str(tmp_path / "out"), "--evidence", "9m"])
    assert main.main() == 2
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("ci/gpu: --evidence: fashion: expected train-images-idx3-ubyte.gz")
    assert "dataset-fashion-mnist" in (tmp_path / "out" / "summary.md").read_text()


class Scripted:
    """A session whose processes end at once, with the statuses that are given for them."""

    def __init__(self, tried: Any, findings: Any, statuses: dict[str, list[int]]) -> None:
        self.tried, self.findings, self.statuses = tried, findings, statuses
        self.together: list[list[str]] = []

    def module(self, name: str, arch: str) -> str:
        return arch

    def wait(self, processes: list[str]) -> list[int]:
        self.together.append(processes)
        return [self.statuses[arch].pop(0) for arch in processes]


def test_what_found_no_room_is_started_again_after_the_others(part: Any, tmp_path: Path) -> None:
    findings, tried = part("findings").Findings(tmp_path), part("trial").on("cpu")
    statuses = {arch: [0] for arch in tried.architectures} | {"vit_s16": [part("trial").NO_ROOM, 0]}
    session = Scripted(tried, findings, statuses)
    part("__main__").stack_all(session)
    assert session.together == [tried.architectures, ["vit_s16"]]
    assert "see logs/architecture-swin_t.txt" in findings.get("swin_t/steps")["error"]


def test_where_one_process_has_the_device_they_go_one_by_one(part: Any, tmp_path: Path) -> None:
    findings, tried = part("findings").Findings(tmp_path), part("trial").on("cpu")
    findings.put("health", gpus=[{"compute_mode": "Exclusive_Process"}])
    session = Scripted(tried, findings, {arch: [0] for arch in tried.architectures})
    part("__main__").stack_all(session)
    assert session.together == [[arch] for arch in tried.architectures]


class TestProjection:
    @pytest.fixture
    def tried(self, part: Any) -> Any:
        return part("trial").on("cuda:0")

    @pytest.fixture
    def findings(self, part: Any, tried: Any, tmp_path: Path) -> Any:
        """A step takes 16 ms, an evaluation a second, and the start of an epoch two; the script an hour a run."""
        found = part("findings").Findings(tmp_path)
        for arch in tried.architectures:
            found.put(f"{arch}/replays", step_seconds=0.016)
            found.put(f"{arch}/evaluation", seconds=1.0, images=10_000)
            by_scale = {name: {"seconds": 2.0} for name in ("fashion-short", "cifar100")}
            found.put(f"{arch}/augmentation", by_scale=by_scale)
            found.put(f"{arch}/beside", script_run_seconds=3600.0)
        return found

    @pytest.mark.slow
    def test_hours_are_those_of_full_stacks(self, part: Any, tried: Any, findings: Any, tmp_path: Path) -> None:
        found = part("projection").project(tried, findings, tmp_path / "store")
        a_stack = 200 * (391 * 0.016 + 2.0 + 1.0)
        of = found["architectures"]["vit_s16"]
        stacks = sum(-(-len(runs) // 16) for runs in _by_seed(part("projection").grid_of(tried.target, "vit_s16")))
        assert of["grid_hours"] == pytest.approx(stacks * a_stack / 3600)
        assert of["times_the_script"] == pytest.approx(of["grid_runs"] * 3600 / (stacks * a_stack))
        assert found["complete"] and found["all_runs"] > 2500
        assert part("pieces").missing(tried, findings)[0] == "health"
        assert "projection" not in part("pieces").missing(tried, findings)

    @pytest.mark.slow
    def test_what_is_missing_is_said_and_the_rest_counted(
        self, part: Any, tried: Any, findings: Any, tmp_path: Path
    ) -> None:
        findings.fail("swin_t/replays", "CUDA error: an illegal memory access")
        found = part("projection").project(tried, findings, tmp_path / "store")
        assert len(found["architectures"]) == 4 and not found["complete"]
        assert "projection" in part("pieces").missing(tried, findings)
        page = part("summary").page(tried, findings)
        assert "total of the rows above" in page and "- swin_t/replays: CUDA error: an illegal memory access" in page

    @pytest.mark.slow
    def test_prices_are_kept_for_the_budget(self, part: Any, tried: Any, findings: Any, tmp_path: Path) -> None:
        part("projection").project(tried, findings, tmp_path / "store")
        kept = costs.kept(open_store(tmp_path / "store").layout, "fashion-short")
        own = [run for run in runs_at(scales.get("fashion-short")) if run.arch == "vit_s16"]
        stacks = sum(-(-len(of) // 16) for of in _by_seed(own))
        assert kept["vit_s16"] == pytest.approx(stacks * (512 * 0.016 + 32 * 2.0 + 2 * 1.0) / len(own))


def _by_seed(runs: list[Any]) -> list[list[Any]]:
    return [[run for run in runs if run.seed == seed] for seed in {run.seed for run in runs}]


def test_stacks_that_differ_from_the_loop_are_wrong(part: Any, tmp_path: Path) -> None:
    findings, tried = part("findings").Findings(tmp_path), part("trial").on("cpu")
    findings.put("vit_s16/steps", steps=12, apart=0.3, agrees=False)
    findings.put("correctness", tests={"test_gradients[vit_s16]": {"outcome": "failed", "error": "AssertionError"}})
    assert part("pieces").wrong(tried, findings) == [
        "test_gradients[vit_s16] failed: AssertionError",
        "vit_s16: stack and plain loop differ by 0.3 within 12 steps",
    ]
    assert "0.3 (too far)" in part("summary").page(tried, findings)


def test_a_device_that_computes_no_numbers_is_wrong(part: Any, tmp_path: Path) -> None:
    findings, tried = part("findings").Findings(tmp_path), part("trial").on("cpu")
    findings.put("vit_s16/steps", steps=12, stack=[math.nan], apart=math.nan, agrees=False)
    assert part("pieces").wrong(tried, findings) == ["vit_s16: stack and plain loop differ by nan within 12 steps"]
    assert "nan (too far)" in part("summary").page(tried, findings)


def test_a_rehearsal_does_not_go_on_in_the_folder_of_a_gpu(
    part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = part("__main__")
    assert {device: main.parsed(["--device", device]).out.name for device in ("cpu", "cuda")} == {
        "cpu": "gpu-rehearsal",
        "cuda": "gpu-report",
    }
    main.of_device(part("findings").Findings(tmp_path), part("trial").on("cuda:0"))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["ci/gpu", "--out", str(tmp_path), "--device", "cpu"])
    assert main.main() == 2
    assert "expected findings on cpu, got findings on cuda; name another folder" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_time_that_is_none_names_its_option(
    part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ci/gpu", "--out", str(tmp_path), "--device", "cpu", "--evidence", "9x"])
    assert part("__main__").main() == 2
    assert capsys.readouterr().err.startswith("ci/gpu: --evidence: expected a time such as 6h, 90m, 1h30m or 45s")


def test_a_folder_that_cannot_be_written_is_one_line(
    part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["ci/gpu", "--out", str(tmp_path / "file" / "below"), "--device", "cpu"])
    assert part("__main__").main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ci/gpu: --out ") and "expected a folder to write to, got" in line


@pytest.mark.slow
def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    """By SIGTERM, as a scheduler ends it: nothing holds the device when the same command goes on."""
    asked = command(tmp_path / "report", "--arch", ARCHITECTURE)
    process = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    logs = tmp_path / "report" / "logs"
    wait_until(lambda: (logs / f"architecture-{ARCHITECTURE}.txt").exists(), 120)
    children = children_of(process.pid)
    assert children
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 10)


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


def test_a_finding_that_cannot_be_read_is_found_again(part: Any, tmp_path: Path) -> None:
    findings = part("findings").Findings(tmp_path)
    findings.put("health", cores=2)
    (path,) = (tmp_path / "findings").iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert findings.get("health") is None


def test_bytes_of_compiled_kernels_are_found_by_name(part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Inductor's modules hold them: a kernel is an attribute, with what was counted when it was compiled."""
    module = ModuleType("compiled")
    module.triton_poi_fused_add_3 = argparse.Namespace(inductor_meta={"kernel_num_gb": 0.5})
    module.triton_red_fused_sum_4 = argparse.Namespace(inductor_meta={})
    cache = importlib.import_module("torch._inductor.codecache").PyCodeCache
    monkeypatch.setattr(cache, "modules", [module])
    assert part("kernels").compiled_bytes() == {"triton_poi_fused_add_3": 0.5e9}
