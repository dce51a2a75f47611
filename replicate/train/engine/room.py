"""Remembers in this session, for each kind of stack that was too large, how many runs at once (lanes) fit a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from replicate.runs.run import Run
from replicate.runs.stacks import stack_key

_fitting: dict[Run, int] = {}
"""Kind of run (without seed, learning rate, weight decay, schedule) → most lanes (runs at once) to try."""


def lanes(run: Run) -> int | None:
    """The most lanes (runs at once) to try for runs like `run`; None if no number has been too large so far."""
    return _fitting.get(_kind(run))


def halve(run: Run, tried: int, device: str, note: Callable[[str], None]) -> None:
    """Halve the lanes (runs at once) for runs like `run`: `tried` (2 or more) were too many for `device`. `note` it."""
    left = tried // 2
    if left < (lanes(run) or tried):
        _fitting[_kind(run)] = left
        note(f"out of memory on {device} with {tried} runs at once: going on with {left} at a time")


def _kind(run: Run) -> Run:
    return replace(stack_key(run), seed=0)
