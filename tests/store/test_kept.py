"""Files kept with the source: all there in a clone; without one, each command that would use them says so in a line."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import replicate
from replicate.calibration import recording
from replicate.calibration.trained import LANDSCAPES
from replicate.cli import main
from replicate.paper.registry import CLAIMS
from replicate.report import files
from replicate.runs import scales
from replicate.runs.needed import runs_for, split
from replicate.store import kept, recorded
from replicate.store.store import open_store
from tests.support.faketrainer import fake_result

RUNS = (
    "recorded runs of scale probe: expected fixtures/recorded/probe/runs.jsonl.gz, "
    "which only a clone of the repository has, got an installation; run in a clone"
)


@pytest.fixture
def no_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As in a package that is installed by itself."""
    monkeypatch.setattr(kept, "ROOT", tmp_path)
    monkeypatch.setattr(recorded.path_of, "__defaults__", (kept.path(recorded.KEPT),))
    kept.look_for.cache_clear()
    yield tmp_path
    kept.look_for.cache_clear()


def test_a_clone_has_everything(caplog: pytest.LogCaptureFixture) -> None:
    assert kept.in_clone()
    others = {Path(recording.KEPT).name, "no-effect"}  # the latter for benchmarks/no_effect.py alone
    assert {p.name for p in recorded.FOLDER.iterdir()} == {*recorded.SCALES} | others
    assert all(recording.path_of(name).exists() for name in LANDSCAPES)
    assert all(recorded.of_scale(scale) for scale in recorded.SCALES)
    assert kept.lacking(files.KEPT, "calibration figures") == ""
    assert not caplog.records


def test_without_a_clone_it_is_said_once(no_clone: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for scale in ("probe", "probe", "smoke"):
            assert recorded.of_scale(scale) == {}
    assert caplog.messages == [RUNS]


def test_nothing_is_recorded_beside_an_installed_package(no_clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(no_clone / "store").path
    assert main(["runs", "record", "--scale", "smoke", "--store", str(store)]) == 2
    assert capsys.readouterr().err == (
        f"replicate runs: expected a clone of the repository to record runs in, got an installation in {no_clone}\n"
    )
    assert [p.name for p in no_clone.iterdir()] == ["store"]


@pytest.mark.slow
def test_an_installed_package_says_what_it_lacks(tmp_path: Path) -> None:
    shutil.copytree(Path(replicate.__file__).parent, tmp_path / "site" / "replicate")  # what a wheel holds
    scale = scales.get("smoke")
    store = open_store(tmp_path / "store")
    for run in runs_for(split(CLAIMS, scale)[0], scale)[:5]:
        store.put(run, fake_result(run), {}, durable=False)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "replicate", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
            check=False,
        )

    refused = "replicate report: store none: expected a directory, but there is none; train first, or check the path"
    done = run("report", "--scale", "probe", "--store", "none", "--out", "out")
    assert (done.returncode, done.stderr.splitlines()) == (2, [f"replicate: {RUNS}", refused])
    done = run("runs", "verify", "--scale", "probe")
    assert done.returncode == 2
    assert done.stderr.startswith(f"replicate: {RUNS}\nreplicate runs: scale probe: expected recorded runs in ")
    assert run("report", "--scale", "smoke", "--store", "store", "--out", "out").returncode in (0, 1)
    assert (
        "<p>Calibration figures: expected docs/calibration.json, which only a clone of the repository has, "
        "got an installation; run in a clone.</p>"
    ) in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
