"""Leases: a GPU is never used twice, whatever the store; a holder that dies frees it; who waits says for whom."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from replicate.store.store import Store, open_store
from replicate.train.engine import lease, scratch, waiting
from replicate.train.engine.devices import Slot
from replicate.train.engine.lease import Lease
from tests.support.faketrainer import fake_run
from tests.support.processes import environment

GPU, OTHER, CORE = Slot("gpu-a", "cuda:0"), Slot("gpu-b", "cuda:1"), Slot("m-cpu-0", "cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names of this machine's leases."""
    monkeypatch.setenv(scratch.SCRATCH_VARIABLE, str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture
def stores(tmp_path: Path) -> list[Store]:
    return [open_store(tmp_path / name) for name in ("one", "other")]


def of(store: Store | None, slot: Slot = GPU) -> Lease:
    said = store.note if store is not None else lambda text: None
    return Lease(slot, store, said)


def test_a_gpu_is_leased_among_all_stores_and_a_core_in_one(stores: list[Store]) -> None:
    mine, theirs, none = of(stores[0]), of(stores[1]), of(None)
    assert mine.take()
    assert not theirs.take() and not none.take() and not of(stores[0]).take()
    assert stores[1].held_slots() == [], "not had for a moment, either"
    assert of(stores[1], OTHER).take()
    mine.release()
    assert none.take() and not mine.take()
    none.release()
    assert theirs.take()
    theirs.release()
    cores = [of(store, CORE) for store in stores]
    assert all(core.take() for core in cores) and not of(stores[0], CORE).take()
    for core in cores:
        core.release()


def test_containers_that_see_one_store_and_no_folder_in_common(
    stores: list[Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = of(stores[0])
    assert mine.take()
    monkeypatch.setenv(scratch.SCRATCH_VARIABLE, str(tmp_path / "of the other container"))
    theirs = of(stores[0])
    assert not theirs.take()
    assert lease.holders(stores[0], [GPU])[GPU.name].pid == os.getpid()
    mine.release()
    assert theirs.take()
    theirs.release()


def holder_of(store: Store) -> subprocess.Popen[bytes]:
    """A process that trains into `store` on the GPU, until it is killed."""
    body = """
        import sys, time
        from replicate.train.engine.devices import Slot
        from replicate.train.engine.lease import Lease
        from replicate.store.store import open_store
        store = open_store(sys.argv[1])
        lease = Lease(Slot("gpu-a", "cuda:0"), store, store.note)
        assert lease.take()
        print(flush=True)
        time.sleep(60)
    """
    program = [sys.executable, "-c", textwrap.dedent(body), str(store.path)]
    holder = subprocess.Popen(program, stdout=subprocess.PIPE, env=environment())
    assert holder.stdout.readline() == b"\n"
    return holder


def end(holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.communicate()


def test_a_holder_that_is_killed_frees_the_gpu_for_another_store(stores: list[Store]) -> None:
    holder = holder_of(stores[0])
    mine = of(stores[1])
    assert not mine.take()
    end(holder)
    assert mine.take()
    assert lease.holders(stores[1], [GPU])[GPU.name].pid == os.getpid()
    mine.release()
    assert lease.holders(stores[1], [GPU]) == {}


def test_who_waits_for_a_gpu_that_another_store_uses_says_so(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SAY_SECONDS", 0.0)
    holder = holder_of(stores[0])
    waiting.Waiting(stores[1]).look([fake_run()], [GPU])
    assert stores[1].notices[0].startswith(f"waiting for device gpu-a, held by process {holder.pid} on ")
    held = lease.wait(stores[1], [GPU, OTHER], lambda: False, stores[1].note)
    assert held is not None
    held.release()
    end(holder)
    assert held.slot == OTHER


def test_measuring_waits_for_who_trains_and_says_for_whom(stores: list[Store]) -> None:
    holder = holder_of(stores[0])
    said: list[str] = []
    threading.Timer(0.3, holder.kill).start()
    with lease.to_measure(None, [GPU], said.append) as slot:
        held_meanwhile = not of(stores[1]).take()
    holder.communicate()
    assert slot == GPU and held_meanwhile
    assert len(said) == 1 and said[0].startswith(f"waiting for device gpu-a (process {holder.pid} on ")
    assert of(stores[1]).take(), "given back"


def test_measuring_takes_a_gpu_that_is_free_and_holds_no_core(stores: list[Store]) -> None:
    first = of(stores[0])
    assert first.take()
    said: list[str] = []
    with lease.to_measure(stores[1], [GPU, OTHER], said.append) as slot:
        assert slot == OTHER and stores[1].held_slots() == [OTHER.name]
    with lease.to_measure(stores[1], [CORE], said.append) as slot:
        assert slot == CORE and stores[1].held_slots() == []
    first.release()
    assert said == []


@pytest.mark.skipif("os.name != 'posix' or os.geteuid() == 0", reason="needs permissions that bind")
def test_measuring_leaves_a_store_that_is_not_ours_as_it_is(stores: list[Store]) -> None:
    stores[0].path.chmod(0o500)
    with lease.to_measure(stores[0], [GPU], pytest.fail) as slot:
        assert slot == GPU
    stores[0].path.chmod(0o700)


def test_a_store_that_is_not_there_is_not_made_by_measuring(tmp_path: Path) -> None:
    with lease.to_measure(Store(tmp_path / "none", read_only=True), [GPU], pytest.fail):
        pass
    assert not (tmp_path / "none").exists()


def test_without_a_folder_for_leases_the_store_has_them_and_a_line_says_so(stores: list[Store], folder: Path) -> None:
    folder.touch()
    mine = of(stores[0])
    assert mine.take() and not of(stores[0]).take()
    mine.release()
    assert len(stores[0].notices) == 1 and "\n" not in stores[0].notices[0]
    assert stores[0].notices[0].startswith("leases of GPUs: expected a folder with locks that all stores share, got: ")
    assert stores[0].notices[0].endswith("set REPLICATE_SCRATCH to a folder of this machine")
    said: list[str] = []
    with lease.to_measure(None, [GPU], said.append):
        assert len(said) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no flock on this system, nor a lack of it")
def test_where_the_system_knows_no_flock_a_line_says_that_other_stores_do_not_see_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fcntl

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    said: list[str] = []
    assert Lease(GPU, None, said.append).take()
    assert (
        len(said) == 1
        and f"got: [Errno {errno.ENOSYS}] Function not implemented; a session with another store may" in said[0]
    )


@pytest.mark.skipif("not hasattr(os, 'getuid')", reason="no owners here")
def test_the_folder_does_not_move_with_that_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(scratch.SCRATCH_VARIABLE)
    monkeypatch.setattr(scratch, "COMMON", tmp_path)
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path / "of this job"))
    assert scratch.common() == tmp_path / f"replicate-{os.getuid()}"
    assert scratch.common().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(scratch, "COMMON", tmp_path / "none")
    assert scratch.common() == scratch.scratch() == tmp_path / "of this job" / f"replicate-{os.getuid()}"
