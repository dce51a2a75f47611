"""A pool of worker processes that outlives calls: each imports the training code once and trains a run at a time.

The workers are plain child processes that speak JSON lines over pipes. Unlike `multiprocessing`, nothing of the
parent's main module is imported again, no helper process is left behind, and one worker's death is only its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from replicate.engine.worker import BUSY, FAILED, TrainingFailed, describe
from replicate.runs import Run
from replicate.store import Store, StoreError

MOST_CRASHES = 3
"""Times in a row that a run may bring its worker down before that is taken for its own fault."""
MOST_KILLS = 10
"""The same for a worker killed from outside (a preempted machine, a person, the kernel short of memory)."""
KILLS = {-getattr(signal, name, 0) for name in ("SIGKILL", "SIGTERM", "SIGHUP")} - {0} | {128 + signal.SIGTERM}
"""Exit statuses of a worker that was killed; one that catches SIGTERM ends with 143."""

AGAIN_SECONDS = 0.2
"""After which a run that another process was training is looked at again."""
CLOSE_SECONDS = 2.0

_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from replicate.engine.worker import main; main()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

Event = tuple["_Worker", "dict[str, Any] | None"]


class WorkerDied(TrainingFailed):
    """A run whose workers died again and again."""


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
        self.ready = False
        self.last_words: deque[str] = deque(maxlen=20)
        self._threads = [
            threading.Thread(target=self._hear, args=(events,), daemon=True),
            threading.Thread(target=self._overhear, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def send(self, job: dict[str, Any]) -> None:
        """Hand over a job; a worker that is dead already is noticed by its end of output."""
        assert self.process.stdin is not None
        self.job = job["job"]
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

    def _hear(self, events: queue.SimpleQueue[Event]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                events.put((self, json.loads(line)))
            except ValueError:
                break  # a line cut off by the end of the process
        events.put((self, None))

    def _overhear(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.last_words.append(line.decode(errors="replace").rstrip())


class Pool:
    """At most `size` workers, started when there is work for them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers: list[_Worker] = []
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._ids = count()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def train(self, store: Store, runs: Sequence[Run], trainer: str, slots: Sequence[str]) -> None:
        """Train `runs`, in order, unless they get stored by others; returns when all are stored.

        A run whose worker is killed is tried again by another. An exception of the trainer is raised here, as
        `TrainingFailed`; runs that other workers have begun are finished and stored all the same.
        """
        waiting = deque((0.0, run) for run in runs)
        flight: dict[int, Run] = {}
        crashes: Counter[str] = Counter()
        kills: Counter[str] = Counter()
        try:
            while waiting or flight:
                while waiting and store.has(waiting[0][1].key):
                    waiting.popleft()
                if waiting and waiting[0][0] <= time.monotonic() and (worker := self._idle()) is not None:
                    _, run = waiting.popleft()
                    job = next(self._ids)
                    flight[job] = run
                    worker.send(
                        {
                            "job": job,
                            "store": str(store.path),
                            "run": run.record(),
                            "trainer": trainer,
                            "slots": list(slots),
                        }
                    )
                    continue
                if not waiting and not flight:
                    break
                try:
                    worker, answer = self._events.get(timeout=AGAIN_SECONDS)
                except queue.Empty:
                    continue
                if answer is None:
                    self._bury(worker, flight, waiting, crashes, kills)
                elif "ready" in answer:
                    worker.ready = True
                else:
                    worker.job = None
                    run_done = flight.pop(answer["job"], None)
                    if run_done is not None:  # else left over from a call that ended early
                        self._take(store, run_done, answer, waiting)
        except (TrainingFailed, StoreError):
            raise
        except BaseException:
            self.close(now=True)
            raise

    def close(self, now: bool = False) -> None:
        """End all workers; with `now` in the middle of their runs, which are then missing as before."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.close(now or worker.job is not None)
        deadline = time.monotonic() + CLOSE_SECONDS
        for worker in workers:
            worker.join(deadline - time.monotonic())
        self._events = queue.SimpleQueue()

    def _idle(self) -> _Worker | None:
        for worker in self._workers:
            if worker.job is None:
                return worker
        if len(self._workers) < self.size:
            self._workers.append(_Worker(self._events))
            return self._workers[-1]
        return None

    def _take(self, store: Store, run: Run, answer: dict[str, Any], waiting: deque[tuple[float, Run]]) -> None:
        """Act on a worker's answer about `run`."""
        for notice in answer["notices"]:
            store.note(notice)
        if answer["outcome"] == BUSY:
            waiting.append((time.monotonic() + AGAIN_SECONDS, run))
        elif answer["outcome"] == FAILED:
            if "store" in answer:
                raise StoreError(answer["store"])
            raise TrainingFailed(f"training {describe(run)} failed: {answer['error']}\n{answer['traceback']}")

    def _bury(
        self,
        worker: _Worker,
        flight: dict[int, Run],
        waiting: deque[tuple[float, Run]],
        crashes: Counter[str],
        kills: Counter[str],
    ) -> None:
        """A worker has died: its run goes to another one, unless too many have died of it."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        status = worker.join(CLOSE_SECONDS)
        words = "\n".join(worker.last_words)
        if not worker.ready and status not in KILLS:
            why = f"a worker process could not start (exit status {status}); check the installation"
            raise WorkerDied(f"{why}\n{words}".rstrip())
        run = flight.pop(worker.job, None) if worker.job is not None else None
        if run is None:
            return
        deaths, most = (kills, MOST_KILLS) if status in KILLS else (crashes, MOST_CRASHES)
        deaths[run.key] += 1
        if deaths[run.key] >= most:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise WorkerDied(
                f"training {describe(run)} failed: {most} workers died of it, the last by {how}; "
                f"check memory and the installation\n{words}".rstrip()
            )
        if status in KILLS:
            waiting.append((0.0, run))
        else:
            waiting.appendleft((0.0, run))  # at once: if it is the run's fault, that comes out before others wait
