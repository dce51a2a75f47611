"""A function over tasks in several processes, its answers kept: cut off, the next time goes on."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from replicate.calibration import sources
from replicate.judging import processes
from replicate.store import atomic
from replicate.store.strict import Malformed, decode

Task = TypeVar("Task")
Answer = TypeVar("Answer")

CHUNK = 50
"""Number of landscapes or outcomes that are judged, and kept, at a time."""


def chunks(n: int) -> list[tuple[int, int]]:
    """Start and stop of `CHUNK` out of `n`, and of what is left."""
    return [(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]


def in_processes(
    function: Callable[[Task], Answer],
    tasks: Sequence[Task],
    count: int,
    folder: Path | None = None,
    *,
    kind: type[Answer],
) -> Iterator[Answer]:
    """`function` of each task, of `kind`, in the order of the tasks, in `count` processes; 1: in this one.

    Answers, in which no number may be infinite or NaN, are kept in `folder`, by function, task (its repr) and the
    source that they depend on, and those that are there are taken from it. Where they cannot be kept they are given
    all the same.
    """
    ask = function if folder is None else partial(_kept, function, folder, kind)
    yield from processes.in_processes(ask, tasks, count)


def _kept(function: Callable[[Task], Answer], folder: Path, kind: type[Answer], task: Task) -> Answer:
    name = hashlib.sha256(f"{function.__module__}.{function.__qualname__} {task!r}".encode()).hexdigest()[:32]
    path = folder / sources.code(function.__module__) / f"{name}.json"
    try:
        return decode(path.read_bytes(), kind)
    except (OSError, Malformed):  # not there, or cut off by a full disk: worked out anew
        pass
    answer = function(task)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, msgspec.json.encode(answer), durable=False)
    return answer
