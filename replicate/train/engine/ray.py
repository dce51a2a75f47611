"""The Ray engine: trains missing runs on the machines of a Ray cluster, each exactly once.

A stack (runs trained together) is one Ray task. It sends the record of each trained run to the driver, the process that
called `ensure`, which stores it, so workers need no access to the store. The driver also locks the runs in training, so
that no other session trains them. Workers keep checkpoints in the store's folder if they see it, else on their disk.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import exceptions as lost

from replicate.data.source import DATA_VARIABLE
from replicate.runs.run import Run
from replicate.store import begun, model_file
from replicate.store.record import Corrupt, NewerFormat, parse
from replicate.store.store import Store
from replicate.train.contract import STACKED, TRAINERS
from replicate.train.engine import room
from replicate.train.engine.cluster import connect
from replicate.train.engine.failed import NO_DEVICE, TrainingFailed, describe
from replicate.train.engine.leave import Deadline, OutOfTime
from replicate.train.engine.missing import RunLocks, into_stacks, until_stored
from replicate.train.engine.remote import SOFTWARE, train_stack
from replicate.train.engine.work import Death, Work, after_death

LOOK_SECONDS = 1.0
"""Longest wait for a message of a worker before the driver checks the time and its queue."""
AGAIN_SECONDS = 2.0
"""Time between two checks whether runs that another session is training are stored."""
COUNT_SECONDS = 5.0
"""Time between two counts of the cluster's devices, which come and go."""
CANCEL_SECONDS = 5.0
"""How long cancelled tasks may take to end before they are killed."""

MACHINE_LOST = (lost.NodeDiedError, lost.LocalRayletDiedError)
WORKER_LOST = (lost.WorkerCrashedError, lost.OutOfMemoryError, lost.ObjectLostError, lost.TaskCancelledError)

_doubted: set[str] = set()
"""Devices that have failed and finished no run after that; kept between the calls of `ensure` in a session."""


@dataclass
class _Flight:
    """A stack that was sent to a worker."""

    work: Work
    locks: RunLocks
    """The locks that this process holds on the runs that are not stored yet."""


def ensure(
    store: Store,
    runs: Sequence[Run],
    *,
    processes: int | None = None,
    trainer: str = TRAINERS[STACKED],
    until: float | Deadline = math.inf,
    address: str | None = None,
    share: bool = True,
) -> None:
    """Train the runs that `store` lacks; returns when all `runs` are stored, by this or any other process.

    `processes`: how many stacks (runs trained together) to train at once, by default one per device of the cluster.
    `address`: where the cluster is; None: one that Ray finds, else a new one on this machine. `trainer`: the function
    to train with, as `module:function`. `until`: when to stop, by the monotonic clock. `share`: whether workers
    that see the store's folder keep checkpoints there. Raises `TrainingFailed` if a run cannot be trained, `StoreError`
    if a run cannot be stored, `UsageError` if there is no cluster, and `OutOfTime` at `until`, after cancelling the
    stacks in training.
    """

    def train(missing: list[Run]) -> None:
        connect(address)
        driver = _Driver(store, trainer, processes, share)
        driver.train(into_stacks(store, missing, trainer, driver.devices()), until)

    until_stored(store, runs, train)


class _Driver:
    """Sends stacks to the cluster's workers and stores the records that they return."""

    def __init__(self, store: Store, trainer: str, processes: int | None, share: bool) -> None:
        self._store = store
        self._trainer = trainer
        self._processes = processes
        self._probe = store.layout.temporary(store.layout.marker) if share else None
        self._waiting: deque[Work] = deque()
        self._flights: dict[Any, _Flight] = {}
        self._held: set[Any] = set()
        """Tasks whose device has failed twice, and which keep it occupied so that Ray gives it to no other task."""
        self._failures: list[TrainingFailed] = []
        self._failed_origins: set[int] = set()
        self._counted = -COUNT_SECONDS
        self._devices = 1
        self._gpus = False

    def devices(self) -> int:
        """Number of GPUs in the cluster, or of processors if it has none, counted every `COUNT_SECONDS`."""
        if time.monotonic() - self._counted >= COUNT_SECONDS:
            resources = ray.cluster_resources()
            self._gpus = resources.get("GPU", 0) >= 1
            self._devices = max(1, int(resources.get("GPU" if self._gpus else "CPU", 0)))
            self._counted = time.monotonic()
            if self._probe is not None:
                self._probe.touch()  # repeatedly, because old temporary files get deleted
        return self._devices

    def train(self, stacks: Sequence[Sequence[Run]], until: float | Deadline = math.inf) -> None:
        """Train `stacks`, except runs that other processes store meanwhile; returns when all are stored.

        If a worker or machine is lost, its stack is sent again, in halves after repeated losses. After an exception of
        the trainer no other stacks are sent; the stacks in training are finished before the exception is raised.
        """
        self._waiting.extend(Work(list(runs), origin) for origin, runs in enumerate(stacks))
        _allow_open_files()
        deadline = Deadline.of(until)
        try:
            while self._waiting or len(self._flights) > len(self._held):
                if deadline.passed():
                    raise OutOfTime
                self._give_out()
                if self._flights:
                    ready, _ = ray.wait(list(self._flights), num_returns=1, timeout=LOOK_SECONDS, fetch_local=False)
                    for task in ready:
                        self._receive(task)
                elif self._waiting:
                    time.sleep(LOOK_SECONDS / 4)
        finally:
            self._cancel()
            if self._probe is not None:
                self._probe.unlink(missing_ok=True)
        if self._failures:
            raise self._failures[0]

    def _give_out(self) -> None:
        """Send queued stacks, a few more than there are devices: some clusters grow only if tasks are waiting."""
        most = self._processes or self.devices() + max(1, self.devices() // 4)
        for _ in range(len(self._waiting)):
            if len(self._flights) >= most:
                return
            work = self._waiting.popleft()
            if work.due > time.monotonic():
                self._waiting.append(work)
            else:
                self._begin(work)

    def _begin(self, work: Work) -> None:
        """Send the runs of `work` that are missing and that no other process is training."""
        locks = RunLocks(self._store, work.runs)
        try:
            missing, busy = locks.split(work.runs)
            if busy:
                self._waiting.append(Work(busy, work.origin, time.monotonic() + AGAIN_SECONDS))
            locks.release({run.key for run in work.runs} - {run.key for run in [*missing, *busy]})
            work.runs = missing
            if not missing:
                return
            job = {
                "software": SOFTWARE,
                "runs": [run.record() for run in work.runs],
                "trainer": self._trainer,
                "checkpoints": str(begun.begin(self._store, work.runs)),
                "probe": None if self._probe is None else str(self._probe),
                "data": os.environ.get(DATA_VARIABLE),
                "lanes": room.lanes(work.runs[0]),
                "keep_models": self._store.keeps_models,
                "failed": sorted(_doubted),
            }
            # No retries by Ray: `after_death` decides on them. One task per process on a GPU: the process cannot switch
            # to another GPU, and may be unusable after an error.
            task = ray.remote(max_calls=1 if self._gpus else 0)(train_stack).options(
                num_cpus=1, num_gpus=1 if self._gpus else 0, max_retries=0, num_returns="streaming"
            )
            self._flights[task.remote(job)] = _Flight(work, locks)
        except BaseException:
            locks.release()
            raise

    def _receive(self, task: Any) -> None:
        """Handle the next message of `task`, or its end."""
        flight = self._flights[task]
        try:
            message = ray.get(next(task))
        except StopIteration:
            self._end(task)
        except (*MACHINE_LOST, *WORKER_LOST) as error:
            self._end(task)
            self._worker_died(flight.work, error)
        except lost.RayError as error:
            self._end(task)
            words = next((line for line in reversed(str(error).splitlines()) if line.strip()), "no message")
            self._fail(
                TrainingFailed(
                    f"training {describe(*flight.work.runs)} failed on a worker: {words}; are replicate and its "
                    f"libraries installed on every machine of the cluster?\n{error}"
                ),
                None,
            )
        else:
            for notice in message.get("notices", ()):
                self._store.note(notice)
            if "record" in message:
                self._keep(flight, message)
            if "too_large" in message:
                room.halve(flight.work.runs[0], message["too_large"], message["on"], self._store.note)
                self._again(flight)
            if "device" in message:
                self._device_failed(task, message)
            if "error" in message:
                at_fault = [run for run in flight.work.runs if run.key in message["at_fault"]]
                self._fail(TrainingFailed(f"{message['error']}\n{message['traceback']}", at_fault), None)

    def _device_failed(self, task: Any, message: dict[str, Any]) -> None:
        """Send the stack of `task` again after its device has failed; fail if no other device is left."""
        first = message["failed"].splitlines()[0]
        if not message["held"]:
            _doubted.add(message["device"])
            self._store.note(f"{first}; the runs are tried once more, in a new process")
        else:
            self._held.add(task)
            if len(self._held) >= self.devices():
                _doubted.clear()  # the user is asked to repair the devices
                self._fail(TrainingFailed(f"{first}; {NO_DEVICE}"), None)
            else:
                self._store.note(f"{first}; the device is no longer used, the runs go to another device")
        self._again(self._flights[task])

    def _again(self, flight: _Flight) -> None:
        """Queue the missing runs of `flight` again, for another process."""
        flight.locks.release()
        left = replace(flight.work, runs=[run for run in flight.work.runs if not self._store.has(run.key)])
        flight.work = Work([], left.origin)
        if left.runs and (not self._failures or left.origin in self._failed_origins):
            self._waiting.appendleft(left)

    def _keep(self, flight: _Flight, message: dict[str, Any]) -> None:
        """Store the record of a run that a worker has sent."""
        (run,) = [run for run in flight.work.runs if run.key == message["key"]]
        try:
            if message["model"] is not None:
                parsed = parse(message["record"], run.key)
                model_file.check(message["model"], run.key, parsed.content)
                self._store.put_model(run.key, message["model"])
            stored = self._store.put_sealed(run, message["record"])
        except (Corrupt, NewerFormat) as why:
            self._store.note(f"run {run.key}: the worker's record arrived damaged ({why}); the run is trained again")
            return
        _doubted.discard(message["on"])
        self._store.log_training(run.key, stored.result.seconds)
        flight.locks.release([run.key])

    def _end(self, task: Any) -> None:
        self._held.discard(task)
        self._flights.pop(task).locks.release()
        begun.prune(self._store)

    def _worker_died(self, work: Work, error: Exception) -> None:
        """Queue the missing runs of `work` again, unless too many workers have died while training them."""
        missing = [run for run in work.runs if not self._store.has(run.key)]
        death = Death.MACHINE_LOST if isinstance(error, MACHINE_LOST) else Death.UNEXPLAINED
        output = " ".join(str(error).split())
        died = after_death(self._waiting, work, missing, death, type(error).__name__, output)
        if died is not None:
            self._fail(died, work.origin)
        elif self._failures:
            self._drop_others()

    def _fail(self, error: TrainingFailed, origin: int | None) -> None:
        """Keep `error`, to be raised at the end, and drop the queued stacks, except parts of stack number `origin`."""
        self._failures.append(error)
        if origin is not None:
            self._failed_origins.add(origin)
        self._drop_others()
        self._store.note(f"{str(error).splitlines()[0]}; runs already in training are still finished")

    def _drop_others(self) -> None:
        """Drop the queued stacks, except parts of a stack that failed because too many workers died in training it."""
        self._waiting = deque(work for work in self._waiting if work.origin in self._failed_origins)

    def _cancel(self) -> None:
        """Cancel all tasks, kill the tasks that do not end, and release the locks of their runs."""
        tasks = [task for task in self._flights if task not in self._held]
        with contextlib.suppress(Exception):  # there may be no cluster any more
            for task in self._held:
                ray.cancel(task, force=True)  # a task on a failed device has nothing to save
            for task in tasks:
                ray.cancel(task, force=False)
            deadline = time.monotonic() + CANCEL_SECONDS
            while tasks and (left := deadline - time.monotonic()) > 0:
                ready, _ = ray.wait(tasks, num_returns=1, timeout=left, fetch_local=False)
                for task in ready:
                    try:
                        ray.get(next(task))
                    except (StopIteration, lost.RayError):
                        tasks.remove(task)
            for task in tasks:
                ray.cancel(task, force=True)
        self._held.clear()
        for task in list(self._flights):
            self._flights.pop(task).locks.release()


def _allow_open_files() -> None:
    """Raise the limit on open files as far as the system allows: each lock is an open file."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
