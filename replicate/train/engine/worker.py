"""One stack of missing runs, each trained exactly once among all processes on a store; and a pool's process for it.

The worker process reads jobs and answers, one JSON object a line, on its standard input and output. It is started by
`pool.Pool`, knows nothing of its parent's main module, and ends when its standard input does: however its parent dies.
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
from pathlib import Path
from typing import Any, NoReturn

from replicate.runs.run import Run
from replicate.store import begun, provenance
from replicate.store.locks import Lock
from replicate.store.record import run_from_record
from replicate.store.store import Store, StoreError, open_store
from replicate.train.contract import RunFailed, Stopped, Trained, Trainer, Workspace
from replicate.train.engine import lease
from replicate.train.engine.devices import Slot
from replicate.train.engine.failed import DeviceFailed, TrainingFailed, describe, failure
from replicate.train.engine.leave import STATUS, Leave

DONE, FAILED, LOST = "done", "failed", "lost"
"""`lost`: the device failed, and with it this process."""

LEAVE_SECONDS = 30.0
"""How long a worker without a parent may take to save what it has and let go of its runs."""


def load(trainer: Trainer | str) -> Trainer:
    """The function that `trainer` names as `module:function`."""
    if not isinstance(trainer, str):
        return trainer
    module, _, name = trainer.partition(":")
    function: Trainer | None = getattr(importlib.import_module(module), name or "train", None)
    if not callable(function):
        raise TypeError(f"trainer: expected module:function, got {trainer!r}, where no function is")
    return function


def train_missing(store: Store, runs: Sequence[Run], trainer: Trainer | str, device: str, leave: Leave) -> list[Run]:
    """Train and store, as one stack, those of `runs` that are not stored; returns those that others are training.

    The locks are taken without waiting: a process that waited for one while it held another could wait forever.
    """
    busy: set[str] = set()
    with contextlib.ExitStack() as held:
        for run in sorted(runs, key=lambda run: run.key):
            lock = store.lock(run)
            if store.take(lock):
                held.callback(_release, store, run, lock)
            else:
                busy.add(run.key)
        # Only under the lock is the answer final: its last holder may have stored the run a moment ago.
        missing = [run for run in runs if run.key not in busy and store.get(run) is None]
        if missing:
            _train(store, missing, trainer, device, leave)
    return [run for run in runs if run.key in busy]


def _release(store: Store, run: Run, lock: Lock) -> None:
    if store.has(run.key):
        store.drop_lock_file(run)
    lock.release()


def _train(store: Store, runs: Sequence[Run], trainer: Trainer | str, device: str, leave: Leave) -> None:
    """Train and store `runs`, whose locks the caller holds; each is stored as soon as it is done."""
    workspace = Workspace(
        checkpoints=begun.begin(store, runs),
        notice=store.note,
        stopping=leave.stopping,
        attentive=leave.attentive,
    )
    for done in finished(runs, trainer, device, workspace):
        with leave.attentive():
            seconds = done.result.seconds
            store.put(done.run, done.result, provenance.collect(done.run, device, seconds, done.how))
            store.log_training(done.run.key, seconds)
    begun.prune(store)


def finished(runs: Sequence[Run], trainer: Trainer | str, device: str, workspace: Workspace) -> Iterator[Trained]:
    """`runs` as they are done, every one; what goes wrong in the trainer is raised as `TrainingFailed` of a run."""
    left = {run.key: run for run in runs}
    try:
        for done in load(trainer)(runs, device, workspace):
            del left[done.run.key]
            yield done
    except Stopped:
        raise
    except RunFailed as failed:
        raise failure(failed.__cause__ or failed, device, failed.run) from failed.__cause__
    except Exception as error:
        raise failure(error, device, *(left.values() or runs)) from error
    if left:
        said = f"training {describe(*left.values())} failed: the trainer returned no result"
        raise TrainingFailed(said, list(left.values()))


@contextlib.contextmanager
def leased(store: Store, slots: Sequence[Slot], enough: Callable[[], bool]) -> Iterator[Slot | None]:
    """Hold one of `slots`, waiting for it; None, without one, as soon as there is `enough` without."""
    held = lease.wait(store, slots, enough, store.note)
    try:
        yield held.slot if held else None
    finally:
        if held:
            held.release()


def last_first(slots: Sequence[Slot], last: Slot | None) -> list[Slot]:
    """`slots` in order, but the `last` one that was used first: on its device there are data and kernels already."""
    return sorted(slots, key=lambda slot: slot != last)


class Worker:
    """What a worker process knows between jobs."""

    def __init__(self, leave: Leave) -> None:
        self._leave = leave
        self._stores: dict[str, Store] = {}
        self._last: Slot | None = None
        """The slot of the job before."""

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """Carry out one job and say how it went; an exception of the trainer is part of the answer."""
        answer: dict[str, Any] = {"job": job["job"], "outcome": DONE, "notices": []}
        try:
            path = job["store"]
            if path not in self._stores:
                self._stores[path] = open_store(Path(path))
            store = self._stores[path]
            before = len(store.notices)
            try:
                answer["busy"] = [run.key for run in self._train(store, job)]
            finally:
                answer["notices"] = store.notices[before:]
        except StoreError as error:
            answer |= {"outcome": FAILED, "store": str(error)}
        except DeviceFailed as error:
            answer |= {"outcome": LOST, "slot": self._last.name if self._last else "", "error": str(error)}
        except Stopped:
            raise
        except Exception as error:
            told = str(error) if isinstance(error, TrainingFailed) else f"{type(error).__name__}: {error}"
            answer |= {"outcome": FAILED, "error": told, "traceback": traceback.format_exc()}
        return answer

    def _train(self, store: Store, job: dict[str, Any]) -> list[Run]:
        """Train what the job lists; returns the runs that others are training."""
        runs = [run_from_record(record) for record in job["runs"]]
        slots = last_first([Slot(*fields) for fields in job["slots"]], self._last)
        with leased(store, slots, lambda: all(store.has(run.key) for run in runs)) as slot:
            if slot is None:
                return []
            self._last = slot
            return train_missing(store, runs, job["trainer"], slot.device, self._leave)


def main() -> NoReturn:
    """Serve jobs until standard input ends."""
    leave = Leave()
    # Ctrl-C reaches the whole group of processes; what to do about it is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave.on_signal)
    parent = os.getppid()
    answers = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # a trainer that prints must not speak into the protocol
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    worker = Worker(leave)
    status = 0
    try:
        print(json.dumps({"ready": os.getpid()}), file=answers)
        while not leave.asked:
            print(json.dumps(worker.answer(jobs.get())), file=answers)
        status = STATUS
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
        os._exit(status)  # not waiting for threads that wait for input


def _listen(jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    with contextlib.suppress(OSError), open(0, "rb", closefd=False) as lines:
        for line in lines:
            if line.endswith(b"\n"):  # else cut off by the end of the parent
                jobs.put(json.loads(line))
    _end_this_process()


def _watch_parent(parent: int) -> None:
    """End with the parent even where another of its children holds the other end of standard input open."""
    while os.getppid() == parent:
        time.sleep(1.0)
    _end_this_process()


def _end_this_process() -> NoReturn:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEAVE_SECONDS)
    os._exit(1)
