"""A pool of worker processes, kept between calls: each imports the training code once and trains a stack at a time.

The workers are child processes that exchange JSON lines over pipes. Unlike with `multiprocessing`, they do not import
the parent's main module, there is no helper process, and the death of one worker does not affect the others.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import astuple
from itertools import count
from pathlib import Path
from typing import Any

from replicate.runs.run import Run
from replicate.store.store import Store, StoreError
from replicate.train.engine import room
from replicate.train.engine.devices import CPU, Slot
from replicate.train.engine.failed import TrainingFailed
from replicate.train.engine.leave import Deadline, OutOfTime
from replicate.train.engine.trust import Trust
from replicate.train.engine.waiting import Waiting
from replicate.train.engine.work import Death, Work, WorkerDied, after_death
from replicate.train.engine.worker import FAILED, LEAVE_SECONDS, LOST, RETIRED, TOO_LARGE

KILLS = {-getattr(signal, name, 0) for name in ("SIGKILL", "SIGTERM", "SIGHUP")} - {0} | {128 + signal.SIGTERM}
"""Exit statuses of a worker that was killed; a worker that catches SIGTERM ends with 143."""

AGAIN_SECONDS = 0.2
"""Time between two checks whether runs that another process is training are stored."""
CLOSE_SECONDS = 2.0
"""How long an idle worker may take to end; a busy one may take `LEAVE_SECONDS`."""

_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from replicate.train.engine.worker import main; main()"
)
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

Event = tuple["_Worker", "dict[str, Any] | None"]


class _Worker:
    """A child process, and the job that it is working on, if any."""

    def __init__(self, events: queue.SimpleQueue[Event]) -> None:
        path = [entry or str(Path.cwd()) for entry in sys.path]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD},
        )
        self.job: int | None = None
        self.store = ""
        """The path of the store of the last job."""
        self.ready = False
        self.bound: tuple[str, str] | None = None
        """If the process has a GPU, which it keeps until it ends: the store of the lease, and the slot's name."""
        self.last_lines: deque[str] = deque(maxlen=20)
        self._threads = [
            threading.Thread(target=self._read_answers, args=(events,), daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def send(self, job: dict[str, Any]) -> None:
        """Send `job` to the process; a process that has died is found out later, where its output is read."""
        assert self.process.stdin is not None
        self.job, self.store = job["job"], job["store"]
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()

    def close(self) -> None:
        """Ask the process to end, by a signal if it has a job."""
        assert self.process.stdin is not None
        if self.job is not None:
            self.process.terminate()
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def join(self, seconds: float) -> int:
        """Wait at most `seconds` for the process to end, then kill it; returns its exit status."""
        assert self.process.stdin is not None and self.process.stdout is not None and self.process.stderr is not None
        try:
            status = self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        for thread, pipe in zip(self._threads, (self.process.stdout, self.process.stderr), strict=True):
            thread.join(1.0)
            if not thread.is_alive():  # else a child that the trainer started holds the pipe open
                pipe.close()
        return status

    def _read_answers(self, events: queue.SimpleQueue[Event]) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                if line.endswith(b"\n"):  # else cut off by the end of the process
                    events.put((self, json.loads(line)))
        finally:
            events.put((self, None))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.last_lines.append(line.decode(errors="replace").rstrip())


class Pool:
    """Worker processes, started when there is work for them; at most one per slot has a job."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._ids = count()
        self._trust = Trust()

    def usable(self, slots: Sequence[Slot]) -> list[Slot]:
        """The members of `slots` whose devices have not failed repeatedly; see `Trust.usable`."""
        return self._trust.usable(slots)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def train(
        self,
        store: Store,
        stacks: Sequence[Sequence[Run]],
        trainer: str,
        slots: Sequence[Slot],
        until: float | Deadline = math.inf,
    ) -> None:
        """Train `stacks` (runs trained together), in order; returns when all are stored, by this or any other process.

        If a worker is killed, its stack is retried; if it crashes, the stack is retried in halves. If the stack is too
        large for its device, half as many of its runs are trained at once. If the device fails, the stack is retried on
        it once, then on another. An exception of the trainer is raised at once, as `TrainingFailed`; other workers
        still finish their stacks. At `until` (monotonic clock), unfinished stacks are saved and `OutOfTime` is raised.
        """
        waiting = deque(Work(list(runs), origin) for origin, runs in enumerate(stacks))
        flight: dict[int, Work] = {}
        failed: dict[int, WorkerDied] = {}
        held, deadline = Waiting(store), Deadline.of(until)
        try:
            while waiting or flight:
                self._raise_if_alone(failed, [*waiting, *flight.values()])
                if deadline.passed():
                    raise OutOfTime
                _drop_stored(store, waiting)
                at_work = sum(worker.job is not None for worker in self._workers)
                if waiting and waiting[0].due <= time.monotonic() and at_work < len(slots):
                    work = waiting.popleft()
                    job = next(self._ids)
                    flight[job] = work
                    self._worker_for(work, store, slots).send(
                        {
                            "job": job,
                            "store": str(store.path),
                            "keep": store.keep.value,
                            "runs": [run.record() for run in work.runs],
                            "trainer": trainer,
                            "slots": [astuple(slot) for slot in sorted(slots, key=lambda s: s.name != work.again_on)],
                            "lanes": room.lanes(work.runs[0]),
                        }
                    )
                    continue
                if not waiting and not flight:
                    break
                try:
                    worker, answer = self._events.get(timeout=AGAIN_SECONDS)
                except queue.Empty:
                    held.look([run for work in waiting for run in work.runs], slots, self.pids)
                    continue
                if answer is None:
                    self._worker_died(store, worker, flight, waiting, failed)
                elif "ready" in answer:
                    worker.ready = True
                else:
                    done = self._free(worker, answer, flight)
                    if done is not None:  # None: the answer is to an earlier call, which ended early
                        for notice in answer["notices"]:
                            store.note(notice)
                        if len(answer.get("busy", ())) < len(done.runs):
                            held.over()
                        if answer["outcome"] == LOST:
                            slots = self._trust.after_error(store, done, answer["gpu"][0], answer["error"], slots)
                            if not done.blamed:
                                waiting.appendleft(done)
                            elif (error := _died_of_device_error(store, waiting, done, answer)) is not None:
                                failed[done.origin] = error
                        elif answer["outcome"] == TOO_LARGE:
                            room.halve(done.runs[0], answer["lanes"], answer.get("gpu", [CPU])[-1], store.note)
                            waiting.appendleft(done)
                        else:
                            self._trust.used(answer.get("gpu", [""])[0])
                            self._take(store, done, answer, waiting)
            self._raise_if_alone(failed, [])
        except (TrainingFailed, StoreError):
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all workers, which save the stacks that they are training."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.close()
        at_work = any(worker.job is not None for worker in workers)
        deadline = time.monotonic() + (LEAVE_SECONDS if at_work else CLOSE_SECONDS)
        for worker in workers:
            worker.join(deadline - time.monotonic())
        self._events = queue.SimpleQueue()

    def _worker_for(self, work: Work, store: Store, slots: Sequence[Slot]) -> _Worker:
        """An idle worker that can train `work`, else a new one; ends idle workers whose GPU is not among `slots`."""
        usable = {(str(store.path), slot.name) for slot in slots}
        for worker in [worker for worker in self._workers if worker.job is None]:
            if worker.bound is not None and worker.bound not in usable:
                self._end(worker)
        idle = [worker for worker in self._workers if worker.job is None and not (worker.bound and work.again_on)]
        if idle:
            return max(idle, key=lambda worker: worker.bound is not None)
        self._workers.append(_Worker(self._events))
        return self._workers[-1]

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.close()
        worker.join(CLOSE_SECONDS)

    def _free(self, worker: _Worker, answer: dict[str, Any], flight: dict[int, Work]) -> Work | None:
        """Mark `worker` as idle; returns the stack that it was training, None if an earlier `train` sent it."""
        worker.job = None
        if "gpu" in answer:
            worker.bound = worker.store, answer["gpu"][0]
        if answer["outcome"] in (LOST, TOO_LARGE):
            self._end(worker)  # before its stack is retried, so that its device is free
        return flight.pop(answer["job"], None)

    def _take(self, store: Store, work: Work, answer: dict[str, Any], waiting: deque[Work]) -> None:
        """Handle the answer of a worker that has finished or failed `work`."""
        if answer["outcome"] == FAILED:
            if "store" in answer:
                raise StoreError(answer["store"])
            missing = [run for run in work.runs if not store.has(run.key)]
            at_fault = [run for run in missing if run.key in answer["at_fault"]]
            raise TrainingFailed(f"{answer['error']}\n{answer['traceback']}", at_fault or missing)
        if busy := [run for run in work.runs if run.key in answer["busy"]]:
            work.runs, work.due = busy, time.monotonic() + AGAIN_SECONDS
            waiting.append(work)

    def _worker_died(
        self,
        store: Store,
        worker: _Worker,
        flight: dict[int, Work],
        waiting: deque[Work],
        failed: dict[int, WorkerDied],
    ) -> None:
        """Queue the stack of `worker` again, or add it to `failed` if too many workers have died while training it."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        status = worker.join(CLOSE_SECONDS)
        output = "\n".join(worker.last_lines)
        if not worker.ready and status not in KILLS:
            why = f"a worker process could not start (exit status {status}); check the installation"
            raise WorkerDied(f"{why}\n{output}".rstrip())
        work = flight.pop(worker.job, None) if worker.job is not None else None
        if work is None:
            return
        if status == RETIRED:
            waiting.appendleft(work)
            return
        missing = [run for run in work.runs if not store.has(run.key)]
        death = Death.KILLED if status in KILLS else Death.CRASHED
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        if (error := after_death(waiting, work, missing, death, how, output)) is not None:
            failed[work.origin] = error

    def _raise_if_alone(self, failed: dict[int, WorkerDied], unfinished: Sequence[Work]) -> None:
        """Raise the error of a failed run once no other run of its original stack is `unfinished`."""
        origins = {work.origin for work in unfinished}
        for origin, error in failed.items():
            if origin not in origins:
                raise error


def _drop_stored(store: Store, waiting: deque[Work]) -> None:
    """Remove runs that other processes have stored from the stacks at the front of `waiting`."""
    while waiting:
        first = waiting[0]
        first.runs = [run for run in first.runs if not store.has(run.key)]
        if first.runs:
            return
        waiting.popleft()


def _died_of_device_error(store: Store, waiting: deque[Work], work: Work, answer: dict[str, Any]) -> WorkerDied | None:
    """Queue `work` again, in halves, to find the run at fault; returns an error instead after too many failures."""
    missing = [run for run in work.runs if not store.has(run.key)]
    return after_death(waiting, work, missing, Death.CRASHED, "an error of its device", answer["error"])
