"""Remembers in this session, for each kind of stack that was too large, how many runs at once (lanes) fit a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from replicate.runs.run import Run
from replicate.runs.stacks import stack_key

_fitting: dict[Run, int] = {}
"""Kind of stack → most lanes to try."""


def lanes(run: Run) -> int | None:
    """The most lanes to try for a stack with `run`; None if no such stack has been too large so far."""
    return _fitting.get(_kind(run))


def halve(run: Run, tried: int, device: str, note: Callable[[str], None]) -> None:
    """Halve the lanes for stacks with `run` after `tried` (at least 2) were too many for `device`, and `note` that."""
    left = tried // 2
    if left < (lanes(run) or tried):
        _fitting[_kind(run)] = left
        note(f"out of memory on {device} with {tried} lanes: going on with {left} at a time")


def _kind(run: Run) -> Run:
    return replace(stack_key(run), seed=0)
