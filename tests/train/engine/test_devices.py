"""Devices: what is visible, under which name it is leased, and that nobody shares one; with made-up GPUs."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from replicate.runs import scales
from replicate.runs.needed import runs_at
from replicate.store import provenance
from replicate.store.store import open_store
from replicate.text import UsageError
from replicate.train import cores
from replicate.train.engine import devices, local
from replicate.train.engine.devices import Slot, named, slots
from tests.support import faketrainer
from tests.support.faketrainer import NAME, fake_result, fake_run, train
from tests.support.here import train_here

A, B = "GPU-aaaaaaaa-1111-2222-3333-444444444444", "GPU-bbbbbbbb-1111-2222-3333-444444444444"


@pytest.mark.parametrize(
    ("files", "environment", "visible"),
    [
        ((), {}, False),
        (("nvidiactl",), {}, False),
        (("nvidia0", "nvidiactl"), {}, True),
        (("nvidia0",), {"CUDA_VISIBLE_DEVICES": "0"}, True),
        (("nvidia0",), {"CUDA_VISIBLE_DEVICES": ""}, False),
        (("nvidia0",), {"CUDA_VISIBLE_DEVICES": "-1"}, False),
        (("nvidia0", "nvidia1"), {"CUDA_VISIBLE_DEVICES": "1,0"}, True),
        ((), {"CUDA_VISIBLE_DEVICES": "0"}, False),
    ],
)
@pytest.mark.skipif("sys.platform == 'win32'", reason="no device files")
def test_cuda_devices_are_seen_without_torch(
    tmp_path: Path, files: tuple[str, ...], environment: dict[str, str], visible: bool
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert devices.may_see_cuda(environment, tmp_path) is visible


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, None),
        ("", ()),
        ("-1", ()),
        ("0", ("0",)),
        ("1, 0", ("1", "0")),
        ("0,-1,1", ("0",)),
        ("2,,1", ("2",)),
        (f"{B},GPU-aaaa", (B, "GPU-aaaa")),
        ("MIG-GPU-8f0e/1/0", ("MIG-GPU-8f0e/1/0",)),
    ],
)
def test_named(variable: str | None, expected: tuple[str, ...] | None) -> None:
    assert named(variable) == expected


ask_anew = devices._asked.cache_clear


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the driver would list; the test fills it."""
    listed: list[str] = []

    def ask(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, "[" + ", ".join(f'"{uuid}"' for uuid in listed) + "]")

    monkeypatch.setattr(devices, "may_see_cuda", lambda environment: named(environment.get(devices.VARIABLE)) != ())
    monkeypatch.setattr(devices.subprocess, "run", ask)
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    ask_anew()
    yield listed
    ask_anew()


def test_sessions_that_number_the_devices_otherwise_lease_the_same_ones(
    gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus += [A, B]
    both = slots()
    assert [(slot.device, slot.visible) for slot in both] == [("cuda:0", "0"), ("cuda:1", "1")]
    monkeypatch.setenv(devices.VARIABLE, "1")
    gpus[:] = [B]
    assert slots() == (Slot(both[1].name, "cuda:0", "1"),)
    assert slots(4) == slots(), "more processes than devices wait for each other"
    monkeypatch.setenv(devices.VARIABLE, "-1")
    assert {slot.device for slot in slots()} == {"cpu"}
    with pytest.raises(ValueError, match="expected 1 or more, got 0"):
        slots(0)


def test_a_slice_of_a_device_goes_by_its_own_name(gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus += [A]
    whole = slots()
    names = ("MIG-GPU-8f0e/1/0", "MIG-3c1b4d5e-1111-2222-3333-444444444444")
    found = set()
    for name in names:
        monkeypatch.setenv(devices.VARIABLE, name)
        (slot,) = slots()
        found.add(slot.name)
        assert "/" not in slot.name and slot.visible == name
    assert len(found) == 2 and whole[0].name not in found
    monkeypatch.setenv(devices.VARIABLE, ",".join(names))
    assert {slot.name for slot in slots()} == found, "though CUDA shows a process the first alone"
    assert [(slot.device, slot.visible) for slot in slots()] == [("cuda:0", names[0]), ("cuda:1", names[1])]


def test_a_process_is_shown_one_device_as_the_user_has_named_it(
    gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus += [B, A]
    monkeypatch.setenv(devices.VARIABLE, "GPU-bbbb, 0,-1,7")
    first, second = slots()
    assert (first.name, first.visible) == (f"gpu-{B}", "GPU-bbbb")
    assert (second.name, second.visible) == (f"gpu-{A}", "0")
    assert second.bind() == "cuda:0" and os.environ[devices.VARIABLE] == "0"
    assert Slot("m-cpu-0", "cpu").bind() == "cpu" and os.environ[devices.VARIABLE] == "0"


TORCH = """
class _Cuda:
    shown = 0
    def init(self): self.shown = {shown}  # before, the driver's count
    def device_count(self): return self.shown or 8
    def get_device_properties(self, i):
        assert i < self.shown, "Invalid device id"
        return type("Properties", (), {{"uuid": "aaaa-%d" % i}})
    def __getattr__(self, name): raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")
cuda = _Cuda()
"""


@pytest.mark.parametrize("shown", [1, 3])
def test_torch_is_asked_for_nothing_that_needs_a_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: int
) -> None:
    """Whose count is CUDA's and not the driver's, which takes a device in slices for a whole one."""
    (tmp_path / "torch.py").write_text(TORCH.format(shown=shown))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(devices, "may_see_cuda", lambda environment: True)
    monkeypatch.setenv(devices.VARIABLE, f"0,1,2,{shown}")  # asked for by no other test
    assert devices.cuda_devices() == tuple(f"aaaa-{i}" for i in range(shown))


def test_a_machine_whose_torch_sees_no_device_trains_on_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "may_see_cuda", lambda environment: True)
    monkeypatch.setattr(devices, "_ASK", "raise RuntimeError('driver too\\x1b[1m old')")
    monkeypatch.setenv(devices.VARIABLE, "12345")
    assert {slot.device for slot in slots()} == {"cpu"}
    assert devices.unseen() == (
        "devices: expected a CUDA device, because a driver is installed, got an error in asking torch "
        "(RuntimeError: driver too\ufffd[1m old); training on CPU cores: check the driver and PyTorch's CUDA build, or "
        "set CUDA_VISIBLE_DEVICES= to use CPU cores"
    )


def test_a_torch_that_does_not_answer_and_one_without_devices(
    gpus: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "got none that torch can use; training on CPU cores" in devices.unseen()
    store = open_store(tmp_path / "store")
    for i in range(2):
        local.ensure(store, [fake_run(i)], trainer=NAME)
    assert store.notices == [devices.unseen()], "said once, and to those who train"
    monkeypatch.setenv(devices.VARIABLE, "-1")
    assert devices.unseen() == "", "cores are meant"
    monkeypatch.setenv(devices.VARIABLE, "0")
    gpus += [A]
    assert devices.unseen() == ""

    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", devices.ASK_SECONDS)

    ask_anew()
    monkeypatch.setattr(devices.subprocess, "run", hang)
    assert "got no answer from torch within 120 s; training on CPU cores" in devices.unseen()


def test_on_cores_for_want_of_a_driver_large_models_are_not_trained(
    gpus: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "store")
    large = dataclasses.replace(fake_run(), precision="bf16")
    with pytest.raises(
        UsageError,
        match=r"^devices: expected a CUDA device, .* got none that torch can use; CPU cores would train for "
        r"weeks in bf16: check the driver .*, or set CUDA_VISIBLE_DEVICES= to use CPU cores$",
    ):
        local.ensure(store, [fake_run(), large], trainer=NAME)
    assert store.keys() == set() and store.notices == []
    monkeypatch.setenv(devices.VARIABLE, "")
    local.ensure(store, [large], trainer=NAME)
    assert store.has(large.key), "cores are meant"


@pytest.mark.parametrize("name", ["embedded", "probe", "smoke", "cifar100", "fashion-short", "imagenet"])
def test_a_broken_driver_is_told_by_each_scale(gpus: list[str], name: str) -> None:
    """Small models train on cores, and it is said; the paper's are refused before their first run."""
    scale = scales.get(name)
    runs = runs_at(scale)
    if dict(scale.models) == dict(scales.SMALL_MODELS):
        assert "training on CPU cores" in devices.unseen(runs)
    else:
        with pytest.raises(UsageError, match="CPU cores would train for weeks in bf16"):
            devices.unseen(runs)


def test_two_containers_call_a_gpu_alike_and_their_cores_not(gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for name in ("one", "other"):
        gpus[:] = [A, "pci-0-3-0"]
        monkeypatch.setattr(cores.platform, "node", lambda name=name: name)
        ask_anew()
        found[name] = [slot.name for slot in slots()]
    assert found["one"][0] == found["other"][0] == f"gpu-{A}"
    assert found["one"][1] != found["other"][1], "a place on the bus is no identity"


def test_more_processes_than_devices_wait_and_a_dead_holders_lease_is_free(
    gpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "device_model", lambda device: f"a made-up {device}")
    gpus += [A]
    store = open_store(tmp_path / "store")
    (slot,) = slots()
    holder = subprocess_that_holds(store.layout.lease(slot.name))  # as in a container that shares the store alone
    seen: list[str] = []

    def seeing(runs, device, workspace):  # type: ignore[no-untyped-def]
        seen.append(device)
        return train(runs, "cpu", workspace)

    run = fake_run()
    monkeypatch.setattr(faketrainer, "train", seeing)
    training = threading.Thread(target=train_here, args=(store, [run]))
    training.start()
    time.sleep(0.1)
    trained_without_a_device = store.has(run.key)
    holder.kill()
    holder.communicate()
    training.join(10)
    assert not trained_without_a_device
    assert store.get(run).result == fake_result(run)
    assert seen == ["cuda:0"]
    assert store.get(run).provenance["device_model"] == "a made-up cuda:0"


def subprocess_that_holds(path: Path) -> subprocess.Popen[bytes]:
    program = (
        "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
        "print(flush=True); time.sleep(60)"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    holder.stdout.readline()
    return holder


def test_a_real_gpu_has_a_name_of_its_own() -> None:
    found = devices.cuda_devices()
    if not found:
        pytest.skip("torch sees no CUDA device here")
    assert len(set(found)) == len(found) and all(len(name) > 8 for name in found)
