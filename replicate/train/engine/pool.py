"""A pool of worker processes that outlives calls: each imports the training code once and trains a stack at a time.

The workers are plain child processes that speak JSON lines over pipes. Unlike `multiprocessing`, nothing of the
parent's main module is imported again, no helper process is left behind, and one worker's death is only its own.
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
"""Exit statuses of a worker that was killed; one that catches SIGTERM ends with 143."""

AGAIN_SECONDS = 0.2
"""After which runs that another process was training are looked at again."""
CLOSE_SECONDS = 2.0
"""For a worker without work to end; one at work may take `LEAVE_SECONDS`."""

_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from replicate.train.engine.worker import main; main()"
)
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

Event = tuple["_Worker", "dict[str, Any] | None"]


class _Worker:
    """A child process, and the job it has, if any."""

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
        """The store of its last job."""
        self.ready = False
        self.bound: tuple[str, str] | None = None
        """The store for which it has leased a GPU until it ends, and the slot of that."""
        self.last_lines: deque[str] = deque(maxlen=20)
        self._threads = [
            threading.Thread(target=self._read_answers, args=(events,), daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def send(self, job: dict[str, Any]) -> None:
        """Hand over a job; a worker that is dead already is noticed by its end of output."""
        assert self.process.stdin is not None
        self.job, self.store = job["job"], job["store"]
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()

    def close(self, now: bool) -> None:
        """Ask the process to end: by the end of its input, or by a signal where it is at work."""
        assert self.process.stdin is not None
        if now:
            self.process.terminate()
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def join(self, seconds: float) -> int:
        """Wait for the end of the process, then kill it; its exit status."""
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
    """Workers that are started when there is work for them, no more than there are slots."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._ids = count()
        self._trust = Trust()

    def usable(self, slots: Sequence[Slot]) -> list[Slot]:
        """Those of `slots` that are not left alone because they fail."""
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
        """Train `stacks`, in order, but for runs that get stored by others; returns when all are stored.

        A stack whose worker is killed is tried again by another, one whose worker crashes in halves, one that is too
        large with half as many lanes at once; one whose device fails is tried once more there, then elsewhere. An
        exception of the trainer is raised here, as `TrainingFailed`; stacks that other workers have begun are finished
        and stored all the same; `OutOfTime` is raised at `until`, by the monotonic clock, with stacks begun and not
        done.
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
                    if done is not None:  # else left over from a call that ended early
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
            self.close(now=True)
            raise

    def close(self, now: bool = False) -> None:
        """End all workers; with `now` in the middle of their stacks, which are then begun and not done."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.close(now or worker.job is not None)
        at_work = any(worker.job is not None for worker in workers)
        deadline = time.monotonic() + (LEAVE_SECONDS if at_work else CLOSE_SECONDS)
        for worker in workers:
            worker.join(deadline - time.monotonic())
        self._events = queue.SimpleQueue()

    def _worker_for(self, work: Work, store: Store, slots: Sequence[Slot]) -> _Worker:
        """An idle worker that can have `work`, else a new one. Those that can have none any more are ended."""
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
        worker.close(now=False)
        worker.join(CLOSE_SECONDS)

    def _free(self, worker: _Worker, answer: dict[str, Any], flight: dict[int, Work]) -> Work | None:
        """Mark `worker` as idle; returns the stack that it has done, if this call gave it out."""
        worker.job = None
        if "gpu" in answer:
            worker.bound = worker.store, answer["gpu"][0]
        if answer["outcome"] in (LOST, TOO_LARGE):
            self._end(worker)  # before its job is given out again, so that its device is free
        return flight.pop(answer["job"], None)

    def _take(self, store: Store, work: Work, answer: dict[str, Any], waiting: deque[Work]) -> None:
        """Act on a worker's answer about `work`."""
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
        """Have the stack of `worker` trained by another, or note in `failed` that too many have died of it."""
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
        """Raise the error of a run that has failed as soon as nothing of its stack is `unfinished`."""
        origins = {work.origin for work in unfinished}
        for origin, error in failed.items():
            if origin not in origins:
                raise error


def _drop_stored(store: Store, waiting: deque[Work]) -> None:
    """Take off the front of `waiting` what others have stored."""
    while waiting:
        first = waiting[0]
        first.runs = [run for run in first.runs if not store.has(run.key)]
        if first.runs:
            return
        waiting.popleft()


def _died_of_device_error(store: Store, waiting: deque[Work], work: Work, answer: dict[str, Any]) -> WorkerDied | None:
    """As after a crash: its company is trained without the run that is at fault, which is then named."""
    missing = [run for run in work.runs if not store.has(run.key)]
    return after_death(waiting, work, missing, Death.CRASHED, "an error of its device", answer["error"])
