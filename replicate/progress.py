"""Progress: runs done and to do, rate, time left and current cell, from nothing but a look at the store.

Because only the store is looked at, it does not matter which processes train. On a terminal one line is rewritten in
place; elsewhere a plain line appears every now and then. Where nothing is missing nothing is shown.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TextIO

from replicate.runs import Run
from replicate.store import Store, StoreError

WINDOW_SECONDS = 60.0
"""The rate is that of the last minute or, where results come more rarely, since the last but one came."""
EARLY_RUNS, EARLY_SECONDS = 5, 60.0
"""With fewer runs in less time no time left is given: the first run of each process takes far longer than others."""
SAMPLES = 3
"""How many runs of a cell that were stored beforehand are read, to learn how long one takes."""


@dataclass(frozen=True)
class Snapshot:
    """How far the training is."""

    done: int
    total: int
    trained: int
    """How many were stored since something was first missing."""
    diverged: int
    """How many of `trained` diverged."""
    runs_per_second: float | None
    """Of late; None before the first run."""
    seconds_left: float | None
    cell: str
    """Label of the cell at work."""
    cell_done: int
    cell_total: int
    seconds: float
    """Since the first look at which something was missing."""


@dataclass(frozen=True)
class _Pace:
    """What came in how much time."""

    runs: int
    training_seconds: float
    seconds: float
    under_way_seconds: float
    """Since the last result, of which nothing has come yet."""


class Monitor:
    """Watches a store for wanted runs in a thread of its own, and shows how it goes on `stream`.

    `with Monitor(store, runs): ensure(store, runs)`, or `want`, `start` and `stop`. Whoever writes to the same terminal
    does so inside `with monitor.hidden():`.
    """

    def __init__(
        self,
        store: Store,
        runs: Iterable[Run] = (),
        *,
        stream: TextIO | None = None,
        interval: float = 0.5,
        log_interval: float = 15.0,
        before: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`before` is called ahead of writing on a line that may be another's, e.g. to end a line of test results."""
        self._store = store
        self._stream = sys.stderr if stream is None else stream
        self._terminal = _is_terminal(self._stream)
        self._interval = interval
        self._log_interval = log_interval
        self._before = before
        self._clock = clock
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._labels: dict[str, str] = {}
        self._present: set[str] = set()
        self._trained = self._diverged = 0
        self._recent: deque[tuple[float, float]] = deque()
        """When a run was seen to be stored, and the seconds it took."""
        self._old_seconds: dict[str, list[float]] = {}
        self._new_seconds: dict[str, list[float]] = {}
        self._began: float | None = None
        self._cell = ""
        self._width = 0
        self._logged: float | None = None
        self._open = False
        """Whether progress was shown that no closing line has followed."""
        if runs:
            self.want(runs)

    def want(self, runs: Iterable[Run], label: str | None = None) -> None:
        """Wait for these runs as well; a run that is wanted already keeps its label, by default what is trained."""
        with self._lock:
            new = {r.key: label or f"{r.arch} on {r.data.name}" for r in runs if r.key not in self._labels}
            self._labels |= new
            there = self._store.keys() & new.keys()
            self._present |= there
            for key in new:  # in order, so that the sample does not depend on a set's
                known = self._old_seconds.setdefault(new[key], [])
                if key in there and len(known) < SAMPLES and (stored := self._store.read(key)) is not None:
                    known.append(stored.result.seconds)

    def start(self) -> None:
        """Begin to watch; returns at once."""
        if self._thread is None:
            self._ending.clear()
            self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and, if anything was trained, say what and how long it took."""
        if self._thread is not None:
            self._ending.set()
            self._thread.join()
            self._thread = None
        with contextlib.suppress(StoreError):
            self._close(self.poll())

    def __enter__(self) -> Monitor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """While inside, the terminal line is gone and not written; for others who write to the terminal."""
        with self._lock:
            self.clear()
            yield

    def clear(self) -> None:
        """Take the line off the terminal; the next look writes it again."""
        with self._lock:
            if self._width:
                self._write("\r" + " " * self._width + "\r")
                self._width = 0

    def poll(self) -> Snapshot:
        """Look at the store and take in what is new."""
        with self._lock:
            now = self._clock()
            present = self._store.keys() & self._labels.keys()
            for key in sorted(present - self._present):
                if (stored := self._store.read(key)) is None:
                    present.discard(key)
                    continue
                self._trained += 1
                self._diverged += stored.result.diverged
                self._cell = self._labels[key]
                self._recent.append((now, stored.result.seconds))
                self._new_seconds.setdefault(self._cell, []).append(stored.result.seconds)
            self._present = present
            if self._began is None and len(present) < len(self._labels):
                self._began = now
            return self._snapshot(now)

    def _snapshot(self, now: float) -> Snapshot:
        missing = Counter(label for key, label in self._labels.items() if key not in self._present)
        began = now if self._began is None else self._began
        rate = left = None
        pace = self._pace(began, now)
        if pace is not None:
            rate = pace.runs / pace.seconds
            if self._trained >= EARLY_RUNS or now - began >= EARLY_SECONDS:
                # How many seconds of training a second brings: the processes at work, whatever an architecture takes.
                speed = pace.training_seconds / pace.seconds
                left = self._work(missing) / speed if speed > 0 else sum(missing.values()) / rate
                left = max(0.0, left - pace.under_way_seconds) if missing else 0.0
        if self._cell not in missing and missing and (pace is None or now - self._recent[-1][0] > WINDOW_SECONDS):
            self._cell = next(iter(missing))
        total = Counter(self._labels.values())
        return Snapshot(
            done=len(self._present),
            total=len(self._labels),
            trained=self._trained,
            diverged=self._diverged,
            runs_per_second=rate,
            seconds_left=left,
            cell=self._cell,
            cell_done=total[self._cell] - missing[self._cell],
            cell_total=total[self._cell],
            seconds=now - began,
        )

    def _pace(self, began: float, now: float) -> _Pace | None:
        """How fast it has gone of late; None before the first run.

        Runs of a stack are stored together. So time is counted from one such moment to another: from `now` it would
        swing with every stack. The silence since the last one is time under way as long as it is not longer than
        those before; what is longer counts as slowness.
        """
        while self._recent and self._recent[0][0] <= began:
            self._recent.popleft()
        if not self._recent:
            return None
        last = self._recent[-1][0]
        moments = sorted({began, *(moment for moment, _ in self._recent)})
        start = max((m for m in moments if m <= now - WINDOW_SECONDS and m < last), default=began)
        while self._recent[0][0] < start:
            self._recent.popleft()
        counted = [seconds for moment, seconds in self._recent if moment > start]
        moments = [m for m in moments if m >= start]
        longest = max(b - a for a, b in pairwise(moments))
        under_way = min(now - last, longest)
        return _Pace(len(counted), sum(counted), now - under_way - start, under_way)

    def _work(self, missing: Counter[str]) -> float:
        """Seconds of training that are missing; a cell of which nothing is known counts as the mean of the others."""
        typical = {
            label: statistics.median(known)
            for label in {*self._new_seconds, *self._old_seconds}
            if (known := self._new_seconds.get(label) or self._old_seconds.get(label))
        }
        other = statistics.mean(typical.values())
        return sum(n * typical.get(label, other) for label, n in missing.items())

    def _watch(self) -> None:
        while True:
            try:
                with self._lock:
                    self._show(self.poll())
            except StoreError as error:
                self._say(f"progress is no longer shown: {error}")
                return
            if self._ending.wait(self._interval):
                return

    def _show(self, snapshot: Snapshot) -> None:
        if snapshot.done == snapshot.total:
            self._close(snapshot)
            return
        self._open = True
        if self._terminal:
            width = _columns(self._stream) - 1
            text = line(snapshot, width)
            if not self._width and self._before:
                self._before()
            self._write("\r" + text.ljust(min(self._width, width)))
            self._width = len(text)
        elif self._logged is None or self._clock() - self._logged >= self._log_interval:
            self._logged = self._clock()
            self._say(line(snapshot))

    def _close(self, snapshot: Snapshot) -> None:
        """The closing line, once for every time that something was missing."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._began = self._logged = None
            self._trained = self._diverged = 0
            if snapshot.trained:
                self._say(summary(snapshot))
            self.clear()

    def _say(self, text: str) -> None:
        with self._lock:
            if self._width:
                self.clear()
            elif self._before:
                self._before()
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        # A stream that its owner has closed is nothing to end a training for.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def line(snapshot: Snapshot, width: int | None = None) -> str:
    """The snapshot in one line of at most `width` characters; what matters most comes first."""
    fields = [f"training {snapshot.done}/{snapshot.total} runs"]
    if snapshot.seconds_left is None:
        fields.append("time left unknown yet")
    else:
        fields.append(f"{duration(snapshot.seconds_left)} left")
    if snapshot.runs_per_second is not None:
        fields.append(_rate(snapshot.runs_per_second))
    if snapshot.cell:
        fields.append(f"{snapshot.cell} {snapshot.cell_done}/{snapshot.cell_total}")
    if snapshot.diverged:
        fields.append(f"{snapshot.diverged} diverged")
    text = ", ".join(fields)
    if width is not None and len(text) > width:
        text = text[: max(0, width - 3)] + "..."
        text = text[: max(0, width)]
    return text


def summary(snapshot: Snapshot) -> str:
    """The closing line."""
    text = f"trained {snapshot.trained} runs in {duration(snapshot.seconds)}"
    if snapshot.seconds > 0:
        text += f" ({_rate(snapshot.trained / snapshot.seconds)})"
    if snapshot.diverged:
        text += f", {snapshot.diverged} diverged"
    if snapshot.done < snapshot.total:
        text += f"; {snapshot.total - snapshot.done} of {snapshot.total} are missing"
    return text


def duration(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _rate(runs_per_second: float) -> str:
    if runs_per_second >= 1:
        return f"{runs_per_second:.1f} runs/s"
    if 60 * runs_per_second >= 1:
        return f"{60 * runs_per_second:.1f} runs/min"
    return f"{3600 * runs_per_second:.1f} runs/h"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80
