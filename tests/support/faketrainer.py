"""A stand-in for the trainer, told by the run's record what to do; imports nothing that a real worker would not."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import BaseFileLock, Timeout

from replicate.data.spec import DataSpec
from replicate.runs.result import Result
from replicate.runs.run import ModelSpec, Run
from replicate.store.locking import kernel_lock
from replicate.train.contract import RunFailed, Stopped, TooLarge, Trained, Workspace
from replicate.train.engine import devices

NAME = f"{__name__}:train"
POISON = 0.666
"""Learning rate of the run that misbehaves in a stack whose model says how: `poison="crashing"`."""


def fake_run(seed: int = 0, arch: str = "quick", lr: float = 1e-3, **arguments: object) -> Run:
    """A run that `train` understands; equal arguments give equal runs."""
    return Run(
        arch,
        ModelSpec("fake", tuple(arguments.items())),
        DataSpec("nowhere"),
        "adamw",
        lr,
        0.1,
        seed,
        "cosine",
        1,
        0,
        8,
    )


def fake_result(run: Run) -> Result:
    """What `train` returns for a run that does not misbehave."""
    accuracy = int(hashlib.sha256(run.key.encode()).hexdigest()[:6], 16) / 2**24 * 100
    diverged = run.arch == "diverging"
    return Result(accuracy, accuracy, diverged, None if diverged else 1 / 3, (accuracy / 3, accuracy), 0.5)


def train(runs: Sequence[Run], device: str, workspace: Workspace) -> Iterator[Trained]:
    """Do to each run of the stack as it asks; results, which depend on the run alone, when the last one is done."""
    print("a trainer that prints")
    for run in runs:
        _train(run, device, workspace)
    how = {"trainer": "fake", "lanes": len(runs), "precision": run.precision}
    yield from (Trained(run, fake_result(run), how) for run in runs)


def _train(run: Run, device: str, workspace: Workspace) -> None:
    """Sleep, or misbehave as asked."""
    asked = dict(run.model.arguments)
    misbehaviour = asked.get("poison", run.arch) if run.lr == POISON else run.arch
    if misbehaviour == "failing":
        raise ValueError("expected luck,\ngot none")
    if misbehaviour == "failing by name":
        raise RunFailed(run) from ValueError("expected luck")
    if misbehaviour == "crashing":
        os._exit(7)
    if misbehaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if run.arch == "breaking" and visible(device) in asked["devices"]:
        once = Path(asked.get("once", os.devnull))
        if not once.is_file():
            once.touch()
            raise RuntimeError(asked["words"])
    if "contexts" in asked:
        context(device, asked["contexts"])
    if run.arch == "large" and (workspace.lanes or 16) > asked["room"]:
        raise TooLarge(workspace.lanes or 16) from MemoryError("no room")
    if run.arch == "modules":
        loaded = {"pytest", "_pytest", "__mp_main__", "torch"} & sys.modules.keys()
        if loaded:
            raise AssertionError(f"expected a bare worker, got {sorted(loaded)}")
    if run.arch == "killing" and not Path(asked["once"]).exists():
        Path(asked["once"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if run.arch == "attentive":
        _until_asked(workspace)
    began = time.monotonic()
    time.sleep(asked.get("sleep", 0.0))
    if "log" in asked:
        fd = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(fd, f"{run.key} {began} {time.monotonic()}\n".encode())
        os.close(fd)


def _until_asked(workspace: Workspace) -> None:
    """Wait to be asked to stop and leave a file that tells the next one to go on."""
    saved = workspace.checkpoints / "saved"
    if saved.exists():
        return
    with workspace.attentive():
        (workspace.checkpoints / "waiting").touch()
        deadline = time.monotonic() + 15
        while not workspace.stopping():
            assert time.monotonic() < deadline, "waited too long to be asked"
            time.sleep(0.01)
        saved.touch()
        raise Stopped


def visible(device: str) -> str:
    """What the session calls the GPU that is `device` in this process, as CUDA finds it."""
    entries = devices.named(os.environ.get(devices.VARIABLE)) or ()
    return f"cuda:{entries[0]}" if device == "cuda:0" and entries else device


_contexts: dict[str, BaseFileLock] = {}


def context(device: str, folder: str) -> None:
    """As a GPU in mode EXCLUSIVE_PROCESS: this process has it from now on, if no other does."""
    lock = _contexts.setdefault(visible(device), kernel_lock(Path(folder) / visible(device)))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable") from None


BROKEN_VARIABLE = "FAKE_TRAINER_BROKEN"
"""The device that fails whenever `on_devices` is to train on it."""
BROKEN_ONCE_VARIABLE = "FAKE_TRAINER_BROKEN_ONCE"
"""A device that fails as long as a file, `FAKE_TRAINER_ONCE`, is not there; it makes the file."""
ONCE_VARIABLE = "FAKE_TRAINER_ONCE"
TRACE_VARIABLE = "FAKE_TRAINER_TRACE"
"""The file in which `on_devices` writes a line a stack: device, begin and end by the machine's clock."""


def on_devices(runs: Sequence[Run], device: str, workspace: Workspace) -> Iterator[Trained]:
    """Take a second for a stack on whatever device, as a GPU would, and leave a trace of it."""
    device = visible(device)
    first = device == os.environ.get(BROKEN_ONCE_VARIABLE) and not (once := Path(os.environ[ONCE_VARIABLE])).exists()
    if first:
        once.touch()
    if first or device == os.environ.get(BROKEN_VARIABLE):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    began = time.time()
    time.sleep(1.0)
    with Path(os.environ[TRACE_VARIABLE]).open("a", encoding="ascii") as trace:
        trace.write(f"{device} {began} {time.time()}\n")
    how = {"trainer": "fake", "lanes": len(runs), "precision": runs[0].precision}
    yield from (Trained(run, fake_result(run), how) for run in runs)
