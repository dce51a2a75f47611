"""The Ray engine as far as one process tells: what it says without Ray, and what a worker sends home.

On a cluster: ci/test_ray.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from replicate.cli import main
from replicate.runs.run import Run
from replicate.store import begun
from replicate.store.record import Corrupt
from replicate.store.store import Store, open_store
from replicate.train.engine import choice, remote
from replicate.train.engine import scratch as folders
from tests.support.faketrainer import NAME, POISON, fake_result, fake_run
from tests.support.projects import ROOT, project

pytest_plugins = ["pytester"]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A processor, which jobs are given, of the machine on which they are carried out."""
    monkeypatch.setenv(folders.SCRATCH_VARIABLE, str(tmp_path / "scratch"))
    monkeypatch.setattr(remote, "_device", lambda: "cpu")
    monkeypatch.setattr(remote, "_name", lambda: "this machine's")
    return tmp_path / "scratch"


def job_of(store: Store, runs: list[Run], **other: object) -> dict[str, object]:
    job = {
        "software": remote.SOFTWARE,
        "runs": [run.record() for run in runs],
        "trainer": NAME,
        "checkpoints": str(begun.begin(store, runs)),
        "probe": None,
        "data": None,
        "lanes": None,
        "keep_models": False,
        "failed": [],
    }
    return {**job, **other}


def test_without_ray_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    where = ["--scale", "smoke", "--store", str(tmp_path / "store")]
    assert main(["train", "--engine", "ray", *where]) == 2
    expected = "--engine ray: expected Ray to be installed, found it missing; pip install 'replicate[ray]'"
    assert capsys.readouterr().err == f"replicate train: {expected}\n"
    assert not (tmp_path / "store").exists()
    assert main(["train", "--address", "head:6379", *where]) == 2
    assert "--address head:6379: expected --engine ray beside it, got --engine local" in capsys.readouterr().err


def test_claims_take_the_same_options(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ("claims", "--scale", "smoke", "--store", "store", "--address", "head:6379")
    with pytest.raises(pytest.exit.Exception) as caught:
        project(pytester, monkeypatch).parseconfigure(*typed)
    assert caught.value.returncode == 2
    assert "--address head:6379: expected --engine ray beside it, got --engine local" in caught.value.msg


def test_the_local_engine_loads_no_ray() -> None:
    program = "import sys; from replicate.train.engine.choice import ensure_of; ensure_of('local', None); "
    subprocess.run([sys.executable, "-c", program + "assert 'ray' not in sys.modules"], cwd=ROOT, check=True)


def test_a_job_sends_home_records_that_a_store_takes_as_its_own(store: Store, scratch: Path) -> None:
    runs = [fake_run(lr=lr) for lr in (1e-3, 2e-3, 3e-3)]
    told = list(remote.train_stack(job_of(store, runs)))
    assert [said["key"] for said in told] == [run.key for run in runs]
    for run, said in zip(runs, told, strict=True):
        store.put_sealed(run, said["record"])
        assert open_store(store.path).get(run).result == fake_result(run)
    assert not list((scratch / "checkpoints").iterdir())
    with pytest.raises(Corrupt, match=f"expected the run with key {runs[1].key}"):
        store.put_sealed(runs[1], told[0]["record"])
    with pytest.raises(Corrupt, match="expected a whole record"):
        store.put_sealed(runs[0], told[0]["record"][:-9])


def test_checkpoints_lie_in_the_store_where_it_is_seen(store: Store, scratch: Path) -> None:
    run = fake_run(arch="attentive")
    probe = store.layout.temporary(store.layout.marker)
    probe.touch()
    job = job_of(store, [run], probe=str(probe))
    (Path(job["checkpoints"]) / "saved").touch()  # else this trainer waits to be asked to stop
    assert [said["key"] for said in remote.train_stack(job)] == [run.key]
    assert not scratch.exists()
    apart = scratch / "checkpoints" / Path(job["checkpoints"]).name
    apart.mkdir(parents=True)
    (apart / "saved").touch()
    assert [said["key"] for said in remote.train_stack({**job, "probe": None})] == [run.key]


def test_errors_come_home_with_the_run_and_after_what_was_done(store: Store, scratch: Path) -> None:
    bad = fake_run(arch="failing")
    (said,) = remote.train_stack(job_of(store, [bad]))
    assert (
        said["error"].startswith("training failing on nowhere lr=0.001") and "expected luck, got none" in said["error"]
    )
    named = [fake_run(poison="failing by name"), fake_run(lr=POISON, poison="failing by name")]
    (said,) = remote.train_stack(job_of(store, named))
    assert f"key {named[1].key}) failed: ValueError: expected luck" in said["error"]
    assert said["at_fault"] == [named[1].key], "for the others to be trained"
    (said,) = remote.train_stack(job_of(store, [bad], software=["0.0.1", 1]))
    assert said["error"].startswith("expected version ['0.0.1', 1] of replicate on every machine, got [")
    assert said["at_fault"] == []


def test_a_device_that_fails_twice_is_kept_from_other_stacks(
    store: Store, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the worker is asked to leave, or for `HOLD_SECONDS`."""
    monkeypatch.setattr(remote, "_device", lambda: "cuda:0")
    monkeypatch.setattr(remote, "_name", lambda: "machine 3")
    monkeypatch.setattr(remote, "HOLD_SECONDS", 0.5)
    broken = fake_run(arch="breaking", devices=("cuda:0",), words="CUDA error: gone")
    for failed, held in ((["machine 2"], False), (["machine 2", "machine 3"], True)):
        told = remote.train_stack(job_of(store, [broken], failed=failed))
        said = next(told)
        assert said.pop("failed").startswith("device cuda:0 failed while training breaking on nowhere")
        assert said == {"device": "machine 3", "held": held}
        begun = time.monotonic()
        assert list(told) == []
        assert (0.4 < time.monotonic() - begun < 10) if held else time.monotonic() - begun < 0.4


def test_a_stack_that_is_too_large_is_to_be_given_out_again_with_fewer_lanes(store: Store, scratch: Path) -> None:
    runs = [fake_run(arch="large", room=4, lr=lr) for lr in (1e-3, 2e-3)]
    assert list(remote.train_stack(job_of(store, runs, lanes=8))) == [{"too_large": 8, "on": "cpu"}]
    assert [said["key"] for said in remote.train_stack(job_of(store, runs, lanes=4))] == [run.key for run in runs]


def test_a_link_and_a_folder_that_others_may_write_to_are_no_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "getuid"):
        pytest.skip("no owners here")
    monkeypatch.delenv(folders.SCRATCH_VARIABLE)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    own = folders.scratch()
    own.chmod(0o777)
    with pytest.raises(PermissionError, match="expected a folder of this user alone, got one that others own"):
        folders.scratch()
    own.rename(tmp_path / "elsewhere")
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="expected a folder of this user alone, got one that others own"):
        folders.scratch()


def test_a_scratch_folder_that_is_somebody_elses(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "getuid"):
        pytest.skip("no owners here")
    assert folders.scratch().stat().st_mode & 0o777 == 0o700
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(
        PermissionError, match="got one that others own or may write to; set REPLICATE_SCRATCH to another folder"
    ):
        folders.scratch()
