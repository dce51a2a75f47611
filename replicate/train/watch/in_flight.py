"""In flight: which stacks of a store are being trained or were interrupted, and how many devices are at work.

Read from the folders of begun stacks and from the locks, so also from another machine that shares the store. Whether a
lock of the operating system is held is found out by a shared lock on it, taken and given back at once: a trainer that
asks for the lock in that moment takes it for another's and asks again a moment later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from replicate.runs.run import Run
from replicate.store import begun
from replicate.store.store import Store
from replicate.store.strict import Malformed
from replicate.text import duration

TRAINING, INTERRUPTED, UNKNOWN = "training", "interrupted", "not known to be training"


@dataclass(frozen=True)
class Stack:
    """Runs that were begun together and are not all stored."""

    folder: Path
    keys: tuple[str, ...]
    left: tuple[str, ...]
    """Those of `keys` that are not stored."""
    state: str
    """`training`: a living process holds the lock of a run that is left; `interrupted`: none does; or it is unknown,
    because this system or file system has no such locks."""
    begun_seconds_ago: float
    saved_seconds_ago: float | None
    """Since the last checkpoint; None where there is none."""


@dataclass(frozen=True)
class InFlight:
    """All stacks begun, oldest first, and the leases of devices that are held."""

    stacks: tuple[Stack, ...]
    devices: tuple[str, ...]


def read(store: Store) -> InFlight:
    """What is in flight now. Nothing is changed."""
    now = store.clock()
    stacks = []
    for path in store.layout.checkpoints.glob(f"*/{begun.RUNS}"):
        try:
            keys = tuple(begun.keys_of(path.parent))
            began = path.stat().st_mtime
            saved = max((file.stat().st_mtime for file in path.parent.glob("*.checkpoint")), default=None)
        except (OSError, Malformed):
            continue  # being written, or done by now
        if left := tuple(key for key in keys if not store.has(key)):
            since = None if saved is None else max(0.0, now - saved)
            stacks.append(Stack(path.parent, keys, left, _state(store, left), max(0.0, now - began), since))
    return InFlight(
        tuple(sorted(stacks, key=lambda stack: -stack.begun_seconds_ago)),
        tuple(store.held_slots()),
    )


def lines(found: InFlight, runs: Mapping[str, Run]) -> list[str]:
    """A line each for people; `runs` are those that are wanted, by key. Stacks of other runs are counted."""
    own = [stack for stack in found.stacks if any(key in runs for key in stack.left)]
    at_work = [stack for stack in own if stack.state != INTERRUPTED]
    others = sum(stack.state == TRAINING for stack in found.stacks) - sum(s.state == TRAINING for s in own)
    devices = f"{len(found.devices)} device{'' if len(found.devices) == 1 else 's'} at work"
    if not at_work and not found.devices:
        head = "in flight: nothing; nobody trains"
    else:
        head = f"in flight: {_stacks(len(at_work))}, {devices}"
    if others:
        head += f"; {_stacks(others)} of other scales"
    interrupted = [stack for stack in own if stack.state == INTERRUPTED]
    # What was interrupted is only worth a line each where nothing else is.
    shown = [*at_work, *interrupted] if len(interrupted) <= 2 else at_work
    rows = [f"  {_stack(stack, runs)}" for stack in shown]
    if len(shown) < len(own):
        rows.append(f"  {_stacks(len(interrupted))} interrupted: training goes on with them where it left off")
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
