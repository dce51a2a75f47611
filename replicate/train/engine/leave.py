"""When training ends early: at a deadline, or on SIGTERM, which a cloud sends before it takes a machine away.

On SIGTERM, training inside `Leave.attentive` first saves a checkpoint; other code is interrupted by SystemExit.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

STATUS = 128 + signal.SIGTERM


class OutOfTime(Exception):
    """The time for training is over; unfinished runs continue from their checkpoints the next time."""

    def __init__(self) -> None:
        super().__init__("the time given for training is over; the next training resumes the unfinished stacks")


class Deadline:
    """When training must end: at a time of the monotonic clock, or as soon as `end` is called."""

    def __init__(self, at: float = math.inf) -> None:
        self.at = at

    @classmethod
    def of(cls, until: float | Deadline) -> Deadline:
        """`until` as a `Deadline`; a number is a time of the monotonic clock."""
        return until if isinstance(until, Deadline) else cls(until)

    def end(self) -> None:
        """Make the deadline pass now; may be called from any thread."""
        self.at = -math.inf

    def passed(self) -> bool:
        return time.monotonic() >= self.at


class Leave:
    """Whether this process was asked to end, and whether it may end at once."""

    def __init__(self) -> None:
        self.asked = False
        self._attentive = 0

    @contextlib.contextmanager
    def attentive(self) -> Iterator[None]:
        """A context in which SIGTERM only sets `asked`, which the code inside must check often."""
        self._attentive += 1
        try:
            yield
        finally:
            self._attentive -= 1

    def on_signal(self, signum: int, frame: Any) -> None:
        """The handler of SIGTERM; ignores all signals but the first."""
        if self.asked:
            return
        self.asked = True
        if not self._attentive:
            raise SystemExit(STATUS)


@contextlib.contextmanager
def on_sigterm() -> Iterator[Leave]:
    """A context in which SIGTERM unwinds the main thread; the process then ends as it would without this handler.

    Does nothing in other threads, or if the signal is ignored or handled by code that is not Python.
    """
    leave = Leave()
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) in (
        signal.SIG_IGN,
        None,
    ):
        yield leave
        return
    before = signal.signal(signal.SIGTERM, leave.on_signal)
    try:
        yield leave
    finally:
        signal.signal(signal.SIGTERM, before)
        if leave.asked:
            os.kill(os.getpid(), signal.SIGTERM)
