"""One missing run, trained exactly once among all processes on a store; and the process that does so for a pool.

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

from filelock import BaseFileLock, Timeout

from replicate.engine import provenance
from replicate.runs import Run, run_from_record
from replicate.store import Store, StoreError, open_store
from replicate.train.result import Result

Trainer = str | Callable[[Run], Result]
"""A function from a run to its result, or where to find one: `module:function`."""

TRAINED, HAD, BUSY, FAILED = "trained", "had", "busy", "failed"

POLL_SECONDS = (0.02, 0.25)
"""First and longest pause between two looks at locks that others hold."""

LEAVE_SECONDS = 5.0
"""How long a worker without a parent may take to let go of its run."""


class TrainingFailed(Exception):
    """A run that could not be trained; the first line names the run and the error, the rest is where it happened."""


def describe(run: Run) -> str:
    """The run in a few words."""
    return (
        f"{run.arch} on {run.data.name} lr={run.lr:g} wd={run.weight_decay:g} seed={run.seed} "
        f"({run.optimizer}, key {run.key})"
    )


def load(trainer: Trainer) -> Callable[[Run], Result]:
    """The function that `trainer` names."""
    if not isinstance(trainer, str):
        return trainer
    module, _, name = trainer.partition(":")
    function = getattr(importlib.import_module(module), name or "train", None)
    if not callable(function):
        raise TypeError(f"trainer: expected module:function, got {trainer!r}, where no function is")
    return function


def train_missing(store: Store, run: Run, trainer: Trainer, device: str = "cpu") -> str:
    """Train `run` and store its result, unless it is stored (`had`) or another process is training it (`busy`)."""
    lock = store.lock(run)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return BUSY
    try:
        # Only under the lock is the answer final: its last holder may have stored the run a moment ago.
        if store.get(run) is None:
            started = time.perf_counter()
            result = load(trainer)(run)
            seconds = time.perf_counter() - started
            store.put(run, result, provenance.collect(run, device, seconds))
            store.log_training(run.key, seconds)
            outcome = TRAINED
        else:
            outcome = HAD
        store.drop_lock_file(run)
        return outcome
    finally:
        lock.release()


@contextlib.contextmanager
def leased(store: Store, slots: Sequence[str], enough: Callable[[], bool]) -> Iterator[str | None]:
    """Hold one of `slots`, waiting for it; None, without one, as soon as there is `enough` without."""
    held = _wait_for_slot(store, slots, enough)
    try:
        yield held[0] if held else None
    finally:
        if held:
            held[1].release()


def _wait_for_slot(store: Store, slots: Sequence[str], enough: Callable[[], bool]) -> tuple[str, BaseFileLock] | None:
    locks = [(slot, store.lease(slot)) for slot in slots]
    pause, longest = POLL_SECONDS
    while not enough():
        for slot, lock in locks:
            try:
                lock.acquire(blocking=False)
                return slot, lock
            except Timeout:
                continue
        time.sleep(pause)
        pause = min(2 * pause, longest)
    return None


def do_job(store: Store, job: dict[str, Any]) -> dict[str, Any]:
    """Carry out one job and say how it went; an exception of the trainer is part of the answer."""
    told = len(store.notices)
    answer: dict[str, Any] = {"job": job["job"]}
    try:
        run = run_from_record(job["run"])
        with leased(store, job["slots"], lambda: store.has(run.key)) as slot:
            answer["outcome"] = HAD if slot is None else train_missing(store, run, job["trainer"])
    except StoreError as error:
        answer |= {"outcome": FAILED, "store": str(error)}
    except Exception as error:
        text = " ".join(str(error).split()) or "no message"
        answer |= {"outcome": FAILED, "error": f"{type(error).__name__}: {text}", "traceback": traceback.format_exc()}
    answer["notices"] = store.notices[told:]
    return answer


def main() -> NoReturn:
    """Serve jobs until standard input ends."""
    # Ctrl-C reaches the whole group of processes; what to do about it is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    parent = os.getppid()
    answers = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # a trainer that prints must not speak into the protocol
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    stores: dict[str, Store] = {}
    status = 0
    try:
        print(json.dumps({"ready": os.getpid()}), file=answers)
        while True:
            job = jobs.get()
            path = job["store"]
            try:
                if path not in stores:
                    stores[path] = open_store(Path(path))
                answer = do_job(stores[path], job)
            except StoreError as error:
                answer = {"job": job["job"], "outcome": FAILED, "store": str(error), "notices": []}
            print(json.dumps(answer), file=answers)
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


def _leave(signum: int, frame: Any) -> NoReturn:
    """Unwind the main thread, so that half-written files are deleted."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signum)


def _listen(jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    with contextlib.suppress(OSError, ValueError), open(0, "rb", closefd=False) as lines:
        for line in lines:
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
