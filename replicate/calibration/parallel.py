"""Applies a function to tasks in several processes and caches the answers, so that an interrupted job can resume."""

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
"""Number of landscapes or outcomes that are judged and cached together."""


def chunks(n: int) -> list[tuple[int, int]]:
    """Start and stop of consecutive ranges of `CHUNK` indices that cover 0 to `n`; the last may be shorter."""
    return [(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]


def in_processes(
    function: Callable[[Task], Answer],
    tasks: Sequence[Task],
    count: int,
    folder: Path | None = None,
    *,
    kind: type[Answer],
) -> Iterator[Answer]:
    """Yields `function(task)`, of type `kind`, in the order of the tasks, from `count` processes; 1: no other process.

    Answers, in which no number may be infinite or NaN, are cached in `folder`, by function, repr of the task and the
    source code that `function` uses. If the folder cannot be written, answers are not cached.
    """
    ask = function if folder is None else partial(_kept, function, folder, kind)
    yield from processes.in_processes(ask, tasks, count)


def _kept(function: Callable[[Task], Answer], folder: Path, kind: type[Answer], task: Task) -> Answer:
    name = hashlib.sha256(f"{function.__module__}.{function.__qualname__} {task!r}".encode()).hexdigest()[:32]
    path = folder / sources.code(function.__module__) / f"{name}.json"
    try:
        return decode(path.read_bytes(), kind)
    except (OSError, Malformed):  # not there, or cut short by a full disk: computed again
        pass
    answer = function(task)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, msgspec.json.encode(answer), durable=False)
    return answer
