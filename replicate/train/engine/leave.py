"""Leaving: what a process does when it is asked to end (SIGTERM), as a machine that is taken away asks it.

A trainer that has promised to look saves what it has first; anything else is left where it is, and its runs are
missing as before.
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
    """The time that was given for training is over; what was begun goes on from there the next time."""

    def __init__(self) -> None:
        super().__init__("the time given for training is over; what was begun goes on from there the next time")


class Deadline:
    """When training is to end: at a time of the monotonic clock, or earlier where somebody says so."""

    def __init__(self, at: float = math.inf) -> None:
        self.at = at

    @classmethod
    def of(cls, until: float | Deadline) -> Deadline:
        """`until` itself, or the deadline at that time."""
        return until if isinstance(until, Deadline) else cls(until)

    def end(self) -> None:
        """Now, whatever was said before; from any thread."""
        self.at = -math.inf

    def passed(self) -> bool:
        return time.monotonic() >= self.at


class Leave:
    """Whether this process has been asked to end, and whether it may do so at once."""

    def __init__(self, until: float | Deadline = math.inf) -> None:
        """`until`: when training is to end, by the monotonic clock."""
        self.asked = False
        self._until = Deadline.of(until)
        self._attentive = 0

    def stopping(self) -> bool:
        """Whether training is to end: because this process is to, or because its time is over."""
        return self.asked or self._until.passed()

    @contextlib.contextmanager
    def attentive(self) -> Iterator[None]:
        """While inside, being asked only sets `asked`: who is inside looks at it often."""
        self._attentive += 1
        try:
            yield
        finally:
            self._attentive -= 1

    def on_signal(self, signum: int, frame: Any) -> None:
        """The handler of SIGTERM. Asking twice is asking once: who lost patience has SIGKILL."""
        if self.asked:
            return
        self.asked = True
        if not self._attentive:
            raise SystemExit(STATUS)


@contextlib.contextmanager
def heeding(until: float | Deadline = math.inf) -> Iterator[Leave]:
    """While inside, SIGTERM unwinds the main thread; the process then ends as it would have without.

    Where the signal is ignored or handled by another language, and in other threads, it stays as it is.
    """
    leave = Leave(until)
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
