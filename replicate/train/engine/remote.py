"""Trains one stack in a worker of a Ray cluster, and sends the record of each run to the driver, which stores it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import Timeout

from replicate import __version__
from replicate.data import catalogue
from replicate.data.source import DATA_VARIABLE
from replicate.runs.run import RESULT_VERSION, Run
from replicate.store import atomic, begun, provenance
from replicate.store.locking import kernel_lock
from replicate.store.record import run_from_record, seal_run
from replicate.train.contract import Stopped, TooLarge, Workspace
from replicate.train.engine.failed import DeviceFailed, TrainingFailed
from replicate.train.engine.leave import Leave, on_sigterm
from replicate.train.engine.scratch import scratch
from replicate.train.engine.worker import finished

SOFTWARE = [__version__, RESULT_VERSION]
"""Versions that must be equal in driver and worker."""

IN_USE = "in-use.lock"
HOLD_SECONDS = 1800.0
"""How long a device that has failed twice is kept occupied, so that Ray gives it to no other task."""


def train_stack(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Train the runs of `job` and yield a dictionary for each event.

    - A run is trained: its `key`, `record` and `model`; `on`: the device.
    - Training raises an exception: `error`: the message; `at_fault`: keys of runs, one or more of which are at fault.
    - There are too many runs for the device: `too_large`: how many were tried at once; `on`: the device.
    - The device fails: `device`: its name; `failed`: the message; `held`: whether the task keeps the device occupied
      for a while, because the job lists it among the devices that failed before.

    If the task has a GPU, that GPU must be the only one that CUDA shows to this process.
    """
    if job["software"] != SOFTWARE:
        found = f"expected version {job['software']} of replicate on every machine, got {SOFTWARE} on a worker"
        yield _error(f"{found}; install the same version on all")
        return
    if job["data"]:
        os.environ[DATA_VARIABLE] = job["data"]
    notices: list[str] = []
    try:
        runs = [run_from_record(record) for record in job["runs"]]
        for spec in {run.data for run in runs}:
            if spec.name in catalogue.DATASETS:
                catalogue.prepare(spec)
        device = _device()
        with on_sigterm() as leave, _workspace(job, notices, leave) as workspace:
            try:
                for done in finished(runs, job["trainer"], device, workspace):
                    origin = provenance.collect(done.run, device, done.result.seconds, done.how)
                    record = seal_run(done.run, done.result, origin)
                    yield {"key": done.run.key, "record": record, "model": done.model, "on": _name()}
            except TooLarge as error:
                yield {"too_large": error.lanes, "on": device}
            except DeviceFailed as error:
                held = _name() in job["failed"]
                yield {"device": _name(), "failed": str(error), "held": held}
                if held:
                    _hold(leave)
    except Stopped:
        raise
    except TrainingFailed as error:
        yield _error(str(error), error.runs)
    except catalogue.DataError as error:
        yield _error(str(error))
    except Exception as error:
        yield _error(f"{type(error).__name__}: {error}")
    if notices:
        yield {"notices": notices}


def _hold(leave: Leave) -> None:
    """Keep a failed device occupied: if it were free, Ray would give it one stack after the other."""
    until = time.monotonic() + HOLD_SECONDS
    while not leave.asked and time.monotonic() < until:
        time.sleep(0.2)


def _error(text: str, at_fault: Sequence[Run] = ()) -> dict[str, Any]:
    return {"error": text, "at_fault": [run.key for run in at_fault], "traceback": traceback.format_exc()}


def _device() -> str:
    """The GPU that the task was given, else `cpu`."""
    import ray

    return "cuda:0" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"


def _name() -> str:
    """A name, unique in the cluster, of the GPU that the task was given."""
    import ray

    context = ray.get_runtime_context()
    return f"{context.get_node_id()} {context.get_accelerator_ids().get('GPU')}"


@contextlib.contextmanager
def _workspace(job: dict[str, Any], notices: list[str], leave: Leave) -> Iterator[Workspace]:
    """The workspace of `job`: checkpoints go to the store's folder if this machine sees it, else to a local folder."""
    checkpoints = Path(job["checkpoints"])
    seen = job["probe"] is not None and Path(job["probe"]).exists()
    if not seen:
        own = scratch() / "checkpoints"
        _forget_old(own)
        checkpoints = own / checkpoints.name
        checkpoints.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            lock = kernel_lock(checkpoints / IN_USE)
            lock.acquire(blocking=False)
            held.callback(lock.release)
        except Timeout:  # a worker whose driver has ended still holds the lock, but will end soon
            checkpoints = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="replicate-")))
        except (OSError, NotImplementedError):
            pass  # a file system without locks
        yield Workspace(
            checkpoints=checkpoints,
            notice=notices.append,
            stopping=lambda: leave.asked,
            attentive=leave.attentive,
            lanes=job["lanes"],
            keep_models=job["keep_models"],
        )
    if not seen:
        shutil.rmtree(checkpoints, ignore_errors=True)


def _forget_old(folder: Path) -> None:
    """Delete the checkpoints in `folder` that are too old to be resumed."""
    now = atomic.clock(folder)
    for old in folder.glob("*"):
        if begun.age_seconds(old, now) > begun.STALE_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
