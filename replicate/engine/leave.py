"""Leaving: what a process does when it is asked to end (SIGTERM), as a machine that is taken away asks it.

A trainer that has promised to look saves what it has first; anything else is left where it is, and its runs are
missing as before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

STATUS = 128 + signal.SIGTERM


class Leave:
    """Whether this process has been asked to end, and whether it may do so at once."""

    def __init__(self) -> None:
        self.asked = False
        self._attentive = 0

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
def heeding() -> Iterator[Leave]:
    """While inside, SIGTERM unwinds the main thread; the process then ends as it would have without.

    Where the signal is ignored or handled by another language, and in other threads, it stays as it is.
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
