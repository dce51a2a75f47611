"""A stack (runs trained together), queued or in training: how it is retried, halved or given up if its worker dies."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum

from replicate.runs.run import Run
from replicate.train.engine.failed import TrainingFailed, describe


class WorkerDied(TrainingFailed):
    """A run was given up because too many workers died while training it."""


class Death(Enum):
    """How a worker died, as far as its engine can tell."""

    CRASHED = "ended by itself"
    KILLED = "killed from outside: by a preempted machine, a person, or the kernel for lack of memory"
    UNEXPLAINED = "crashed or killed"
    MACHINE_LOST = "lost with its machine, which is no run's fault"


@dataclass(frozen=True)
class Retries:
    """How a stack is retried after one kind of death."""

    most: int
    """Number of deaths after which the stack is given up, because it seems to be at fault."""
    before_halves: float
    """Number of deaths after which a stack of several runs is split: one run may be at fault, or memory too small."""
    at_once: bool
    """Whether the stack is retried before other stacks, so that an error in its runs is found early."""


RETRIES = {
    Death.CRASHED: Retries(most=3, before_halves=1, at_once=True),
    Death.KILLED: Retries(most=10, before_halves=3, at_once=False),
    Death.UNEXPLAINED: Retries(most=10, before_halves=3, at_once=True),
    Death.MACHINE_LOST: Retries(most=30, before_halves=math.inf, at_once=True),
}


@dataclass
class Work:
    """A stack of runs to train."""

    runs: list[Run]
    origin: int
    """Index of the stack, in the list given to the engine, that these runs come from. The failure of a run is reported
    only after the other runs of the same origin have been trained."""
    due: float = 0.0
    """When to try the stack next, by the monotonic clock."""
    deaths: Counter[Death] = field(default_factory=Counter)
    """How many workers died while training the stack, by kind of death."""
    again_on: str = ""
    """Name of the device that has failed while training the stack and retries it once in a new process; else empty."""
    cost: str = ""
    """Name of the device that is no longer used because it failed while training the stack; else empty."""
    blamed: bool = False
    """Whether the stack, or the stack it was split from, failed on two devices: then its runs are blamed for that."""


def after_death(
    waiting: deque[Work], work: Work, missing: list[Run], death: Death, how: str, output: str
) -> WorkerDied | None:
    """Put the `missing` runs of `work` back into `waiting`, or return the error to raise if too many workers died.

    `how`: how the last worker died, in a few words; `output`: its last lines of output, to be shown below the message.
    """
    if not missing:
        return None
    work.runs = missing
    work.deaths[death] += 1
    times, retries = work.deaths[death], RETRIES[death]
    if times >= retries.most:
        return WorkerDied(
            f"training {describe(*missing)} failed: {times} workers died while training it, the last by {how}; "
            f"check memory and the installation\n{output}".rstrip(),
            missing,
        )
    if len(missing) > 1 and times % retries.before_halves == 0:
        half = (len(missing) + 1) // 2
        parts = (missing[half:], missing[:half])
        waiting.extendleft(Work(part, work.origin, blamed=work.blamed) for part in parts)
    elif retries.at_once:
        waiting.appendleft(work)
    else:
        waiting.append(work)
    return None
