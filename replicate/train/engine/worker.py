"""Trains the missing runs of a stack, each once among all processes on a store; and the worker process for that.

A worker process reads jobs from standard input and writes answers to standard output, one JSON object per line. It is
started by `pool.Pool`, does not import its parent's main module, and ends when its standard input ends, which happens
however its parent dies.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from replicate.runs.run import Run
from replicate.store import begun, provenance
from replicate.store.model_file import Keep
from replicate.store.record import run_from_record
from replicate.store.store import Store, StoreError, open_store
from replicate.train.contract import RunFailed, Stopped, TooLarge, Trained, Trainer, Workspace
from replicate.train.engine import lease
from replicate.train.engine.devices import CPU, Slot
from replicate.train.engine.failed import DeviceFailed, TrainingFailed, describe, failure
from replicate.train.engine.lease import Lease
from replicate.train.engine.leave import STATUS, Leave
from replicate.train.engine.missing import RunLocks

DONE, FAILED, LOST, TOO_LARGE = "done", "failed", "lost", "too large"
"""Outcomes of a job. After `LOST` (the device failed) and `TOO_LARGE` the process ends, because its state on the device
is no longer reliable."""

RETIRED = 75
"""Exit status of a worker that was idle for long or whose device is unreliable; a job just sent to it is not begun."""

SEAT_SECONDS = 2.0
"""How long a process waits for a slot before it returns its job: an idle process of the same session may hold it."""

IDLE_SECONDS = 60.0
"""How long a process with a GPU waits for a job before it ends; starting a new process takes about 15 seconds."""

LEAVE_SECONDS = 30.0
"""How long a worker may take to save its stack and release its runs when it is asked to end."""


def load(trainer: str) -> Trainer:
    """The function that `trainer` names as `module:function`."""
    module, _, name = trainer.partition(":")
    function: Trainer | None = getattr(importlib.import_module(module), name, None)
    if function is None:
        raise TypeError(f"trainer: expected module:function, got {trainer!r}, whose module lacks the function")
    return function


@dataclass(frozen=True)
class Seat:
    """A slot that a process has leased to train on."""

    slot: Slot
    torch_device: str
    """torch's name for the device in this process."""
    leave: Leave


def train_missing(store: Store, runs: Sequence[Run], trainer: str, seat: Seat, lanes: int | None) -> list[Run]:
    """Train and store, as one stack, the runs not yet stored; returns the runs that other processes are training.

    `lanes`: how many runs to train at once, at most, because more were too many; None: no limit is known. Raises
    `TooLarge` if fewer should be tried, `TrainingFailed`, `StoreError`, and `Stopped` if this process is to end.
    """
    locks = RunLocks(store, runs)
    try:
        missing, busy = locks.split(runs)
        if missing:
            _train(store, missing, trainer, seat, lanes)
    finally:
        locks.release()
    return busy


def _train(store: Store, runs: Sequence[Run], trainer: str, seat: Seat, lanes: int | None) -> None:
    """Train `runs`, whose locks the caller holds, and store each as soon as it is trained."""
    workspace = Workspace(
        checkpoints=begun.begin(store, runs),
        notice=store.note,
        stopping=lambda: seat.leave.asked,
        attentive=seat.leave.attentive,
        lanes=lanes,
        keep_models=store.keeps_models,
    )
    for done in finished(runs, trainer, seat.torch_device, workspace, seat.slot.device):
        with seat.leave.attentive():
            seconds = done.result.seconds
            origin = provenance.collect(done.run, seat.torch_device, seconds, done.how)
            if done.model is not None:  # before the record, because a run with a record counts as finished
                store.put_model(done.run.key, done.model)
            store.put(done.run, done.result, origin | {"device": seat.slot.device})
            store.log_training(done.run.key, seconds)
    begun.prune(store)


def finished(
    runs: Sequence[Run], trainer: str, device: str, workspace: Workspace, called: str = ""
) -> Iterator[Trained]:
    """Train `runs` and yield each result; an error of the trainer is raised as `TrainingFailed`, which names the runs.

    `called`: the name of the device for messages, by default `device`. Two errors are passed on: `Stopped`, and
    `TooLarge` if the stack can be retried with fewer runs at once.
    """
    left = {run.key: run for run in runs}
    called = called or device
    try:
        for done in load(trainer)(runs, device, workspace):
            del left[done.run.key]
            yield done
    except Stopped:
        raise
    except TooLarge as error:
        if 1 < error.lanes <= (workspace.lanes or error.lanes):
            raise
        raise failure(error.__cause__ or error, called, *(left.values() or runs)) from error.__cause__
    except RunFailed as failed:
        raise failure(failed.__cause__ or failed, called, failed.run) from failed.__cause__
    except Exception as error:
        raise failure(error, called, *(left.values() or runs)) from error
    if left:
        message = f"training {describe(*left.values())} failed: the trainer returned no result"
        raise TrainingFailed(message, list(left.values()))


class Worker:
    """The state of a worker process between jobs."""

    def __init__(self, leave: Leave) -> None:
        self._leave = leave
        self._stores: dict[tuple[str, Keep], Store] = {}
        self._lease: Lease | None = None
        self._gpu: Seat | None = None
        """A GPU stays leased until this process ends, because it has a CUDA context there: some GPUs allow only one."""

    @property
    def patience(self) -> float | None:
        """How many seconds to wait for a job; None: forever."""
        return None if self._gpu is None else IDLE_SECONDS

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """Carry out one job and return the answer, which also reports an exception of the trainer."""
        answer: dict[str, Any] = {"job": job["job"], "outcome": DONE, "notices": []}
        try:
            path, keep = job["store"], Keep(job["keep"])
            if (path, keep) not in self._stores:
                self._stores[path, keep] = open_store(Path(path), keep=keep)
            store = self._stores[path, keep]
            before = len(store.notices)
            try:
                answer["busy"] = [run.key for run in self._train(store, job)]
            finally:
                answer["notices"] = store.notices[before:]
        except StoreError as error:
            answer |= {"outcome": FAILED, "store": str(error)}
        except DeviceFailed as error:
            answer |= {"outcome": LOST, "error": str(error)}
        except TooLarge as error:
            answer |= {"outcome": TOO_LARGE, "lanes": error.lanes}
        except Stopped:
            raise
        except Exception as error:
            message = str(error) if isinstance(error, TrainingFailed) else f"{type(error).__name__}: {error}"
            at_fault = [run.key for run in error.runs] if isinstance(error, TrainingFailed) else []
            answer |= {"outcome": FAILED, "error": message, "at_fault": at_fault, "traceback": traceback.format_exc()}
        if self._gpu is not None:
            answer["gpu"] = [self._gpu.slot.name, self._gpu.slot.device]
        return answer

    def _train(self, store: Store, job: dict[str, Any]) -> list[Run]:
        """Train the runs of `job`; returns those that other processes are training, or all runs if no slot was free."""
        runs = [run_from_record(record) for record in job["runs"]]
        slots = [Slot(*fields) for fields in job["slots"]]
        until = time.monotonic() + SEAT_SECONDS

        def enough() -> bool:
            return time.monotonic() >= until or all(store.has(run.key) for run in runs)

        with self._seated(store, slots, enough) as seat:
            return runs if seat is None else train_missing(store, runs, job["trainer"], seat, job["lanes"])

    @contextlib.contextmanager
    def _seated(self, store: Store, slots: Sequence[Slot], enough: Callable[[], bool]) -> Iterator[Seat | None]:
        """Lease one of `slots`, or reuse this process's GPU; yields None if `enough()` is true before one is free."""
        if self._gpu is not None:
            yield self._gpu
            return
        self._lease = lease.wait(store, slots, enough, store.note)
        if self._lease is None:
            yield None
            return
        seat = Seat(self._lease.slot, self._lease.slot.bind(), self._leave)
        if seat.slot.device != CPU:
            self._gpu = seat
        try:
            yield seat
        finally:
            if self._gpu is None:
                self._lease.release()


def main() -> NoReturn:
    """Serve jobs until standard input ends."""
    leave = Leave()
    # Ctrl-C reaches the whole process group, but the parent decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave.on_signal)
    parent = os.getppid()
    answers = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # what a trainer prints must not get into the answers
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    worker = Worker(leave)
    status = 0
    try:
        print(json.dumps({"ready": os.getpid()}), file=answers)
        outcome = DONE
        while not leave.asked and outcome not in (LOST, TOO_LARGE):
            answer = worker.answer(jobs.get(timeout=worker.patience))
            outcome = answer["outcome"]
            print(json.dumps(answer), file=answers)
        status = STATUS if leave.asked else RETIRED
    except queue.Empty:
        status = RETIRED
    except Stopped:
        status = STATUS
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    except BrokenPipeError:
        pass  # no parent to answer to
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stderr.flush()
        os._exit(status)  # without waiting for threads that wait for input


def _listen(jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    with contextlib.suppress(OSError), open(0, "rb", closefd=False) as lines:
        for line in lines:
            if line.endswith(b"\n"):  # else cut off by the end of the parent
                jobs.put(json.loads(line))
    _end_this_process()


def _watch_parent(parent: int) -> None:
    """End this process when its parent ends, even if another process still keeps its standard input open."""
    while os.getppid() == parent:
        time.sleep(1.0)
    _end_this_process()


def _end_this_process() -> NoReturn:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEAVE_SECONDS)
    os._exit(1)
