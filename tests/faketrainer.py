"""A stand-in for the trainer, told by the run's record what to do; imports nothing that a real worker would not."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

from replicate.runs import DataSpec, ModelSpec, Run
from replicate.train.result import Result

NAME = f"{__name__}:train"


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


def train(run: Run) -> Result:
    """Sleep, misbehave as asked, and return numbers that depend on the run alone."""
    asked = dict(run.model.arguments)
    print("a trainer that prints")
    if run.arch == "failing":
        raise ValueError("expected luck,\ngot none")
    if run.arch == "crashing":
        os._exit(7)
    if run.arch == "modules":
        loaded = {"pytest", "_pytest", "__mp_main__", "torch"} & sys.modules.keys()
        if loaded:
            raise AssertionError(f"expected a bare worker, got {sorted(loaded)}")
    if run.arch == "killing" and not Path(asked["once"]).exists():
        Path(asked["once"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    time.sleep(asked.get("sleep", 0.0))
    if "log" in asked:
        fd = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(fd, f"{run.key} {began} {time.monotonic()}\n".encode())
        os.close(fd)
    return fake_result(run)
