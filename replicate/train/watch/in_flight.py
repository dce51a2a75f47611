"""Lists the stacks (runs trained together) of a store that are in training or interrupted, and the devices at work.

Both are read from the folders of stacks and from locks, so reading also works from another machine that shares the
store. To see whether a lock of the operating system is held, a shared lock on the same file is taken and released at
once: a trainer that tries to take the lock at that moment fails, and retries a moment later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from replicate.runs.run import Run
from replicate.store import begun
from replicate.store.store import Store
from replicate.store.strict import Malformed
from replicate.text import duration

TRAINING, INTERRUPTED, UNKNOWN = "training", "interrupted", "not known to be training"


@dataclass(frozen=True)
class Stack:
    """Runs that are trained together, of which at least one is not stored."""

    keys: tuple[str, ...]
    left: tuple[str, ...]
    """The members of `keys` that are not stored."""
    state: str
    """`TRAINING`: a process holds the lock of a run in `left`; `INTERRUPTED`: no process does; `UNKNOWN`: this system
    or file system cannot tell."""
    begun_seconds_ago: float
    saved_seconds_ago: float | None
    """Time since the last checkpoint; None if there is no checkpoint."""


@dataclass(frozen=True)
class InFlight:
    """All stacks that have begun, oldest first, and the names of the devices that are leased."""

    stacks: tuple[Stack, ...]
    devices: tuple[str, ...]


def read(store: Store) -> InFlight:
    """Read from `store` which stacks are in flight now; changes nothing."""
    now = store.clock()
    stacks = []
    for path in store.layout.checkpoints.glob(f"*/{begun.RUNS}"):
        try:
            keys = tuple(begun.keys_of(path.parent))
            began = path.stat().st_mtime
            saved = max((file.stat().st_mtime for file in path.parent.glob("*.checkpoint")), default=None)
        except (OSError, Malformed):
            continue  # being written, or just finished
        if left := tuple(key for key in keys if not store.has(key)):
            since = None if saved is None else max(0.0, now - saved)
            stacks.append(Stack(keys, left, _state(store, left), max(0.0, now - began), since))
    return InFlight(
        tuple(sorted(stacks, key=lambda stack: -stack.begun_seconds_ago)),
        tuple(store.held_slots()),
    )


def lines(found: InFlight, runs: Mapping[str, Run]) -> list[str]:
    """A summary and a line per stack of the wanted runs, `runs` (key → run). Stacks of other runs are only counted."""
    own = [stack for stack in found.stacks if any(key in runs for key in stack.left)]
    at_work = [stack for stack in own if stack.state != INTERRUPTED]
    others = sum(stack.state == TRAINING for stack in found.stacks) - sum(s.state == TRAINING for s in own)
    devices = f"{len(found.devices)} device{'' if len(found.devices) == 1 else 's'} at work"
    if not at_work and not found.devices:
        head = "in flight: nothing; no process trains"
    else:
        head = f"in flight: {_stacks(len(at_work))}, {devices}"
    if others:
        head += f"; {_stacks(others)} of other scales"
    interrupted = [stack for stack in own if stack.state == INTERRUPTED]
    # More than two interrupted stacks are only counted.
    shown = [*at_work, *interrupted] if len(interrupted) <= 2 else at_work
    rows = [f"  {_stack(stack, runs)}" for stack in shown]
    if len(shown) < len(own):
        rows.append(f"  {_stacks(len(interrupted))} interrupted: the next training resumes them")
    return [head, *rows]


def _state(store: Store, left: tuple[str, ...]) -> str:
    answers = []
    for key in left:
        answers.append(store.is_run_held(key))
        if answers[-1]:
            return TRAINING
    return UNKNOWN if None in answers else INTERRUPTED


def _stack(stack: Stack, runs: Mapping[str, Run]) -> str:
    run = next(runs[key] for key in stack.left if key in runs)
    text = f"{run.arch} on {run.data.name} seed {run.seed}: {len(stack.keys)} runs"
    if len(stack.left) < len(stack.keys):
        text += f", {len(stack.keys) - len(stack.left)} stored"
    text += f", begun {duration(stack.begun_seconds_ago)} ago"
    if stack.saved_seconds_ago is not None:
        text += f", saved {duration(stack.saved_seconds_ago)} ago"
    return text if stack.state == TRAINING else f"{text}; {stack.state}"


def _stacks(n: int) -> str:
    return f"{n} stack{'' if n == 1 else 's'}"
