"""A stack that waits or is being trained, and what becomes of it when its worker dies: retried, halved or given up."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum

from replicate.runs.run import Run
from replicate.train.engine.failed import TrainingFailed, describe


class WorkerDied(TrainingFailed):
    """A run that was given up because too many workers died training it."""


class Death(Enum):
    """How a worker was lost, as far as its engine can tell."""

    CRASHED = "ended by itself"
    KILLED = "from outside: a preempted machine, a person, the kernel short of memory"
    UNEXPLAINED = "crashed or killed"
    MACHINE_LOST = "with all that ran on it, which is no run's fault"


@dataclass(frozen=True)
class Retries:
    """What a stack is allowed of one kind of death."""

    most: int
    """Deaths after which a stack is given up: they are then taken for its own fault."""
    before_halves: float
    """Deaths after which a stack of several runs is split: perhaps one run is at fault, or all take too much memory."""
    at_once: bool
    """Whether it is tried again before other stacks, so that its own fault comes out early."""


RETRIES = {
    Death.CRASHED: Retries(most=3, before_halves=1, at_once=True),
    Death.KILLED: Retries(most=10, before_halves=3, at_once=False),
    Death.UNEXPLAINED: Retries(most=10, before_halves=3, at_once=True),
    Death.MACHINE_LOST: Retries(most=30, before_halves=math.inf, at_once=True),
}


@dataclass
class Work:
    """A stack of runs that are to be trained."""

    runs: list[Run]
    origin: int
    """The stack that it is a part of, as given: a run that fails alone does so after its company has been trained."""
    due: float = 0.0
    """When to look at it, by the monotonic clock."""
    deaths: Counter[Death] = field(default_factory=Counter)
    """How many workers died training it, by kind."""
    again_on: str = ""
    """The device that has failed under it, by name: it is tried once more there, in a new process."""
    cost: str = ""
    """The device that has been left alone because it failed under it, by name."""
    blamed: bool = False
    """Whether it, or what it is a part of, has failed on a second device: then no device is left alone for it."""


def after_death(
    waiting: deque[Work], work: Work, missing: list[Run], death: Death, how: str, output: str
) -> WorkerDied | None:
    """Put what is `missing` of `work` back into `waiting`; where too many died of it, return what to raise instead.

    `how`: how the last one died, in a few words; `output`: its last lines, which go below the message.
    """
    if not missing:
        return None
    work.runs = missing
    work.deaths[death] += 1
    times, retries = work.deaths[death], RETRIES[death]
    if times >= retries.most:
        return WorkerDied(
            f"training {describe(*missing)} failed: {times} workers died of it, the last by {how}; "
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
