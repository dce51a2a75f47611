"""Room: how many lanes of a kind of stack fit a device, as this session has found out where one was too large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from replicate.runs.run import Run
from replicate.runs.stacks import stack_key

_fitting: dict[Run, int] = {}
"""By kind of stack."""


def lanes(run: Run) -> int | None:
    """The most at once of a stack with `run` that are known to fit; None: none was too large so far."""
    return _fitting.get(_kind(run))


def halve(run: Run, tried: int, device: str, note: Callable[[str], None]) -> None:
    """From now on half as many as `tried`, 2 or more, which were too large on `device`; a notice says so once."""
    left = tried // 2
    if left < (lanes(run) or tried):
        _fitting[_kind(run)] = left
        note(f"out of memory on {device} with {tried} lanes: going on with {left} at a time")


def _kind(run: Run) -> Run:
    return replace(stack_key(run), seed=0)
