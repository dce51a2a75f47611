"""Progress of a training, read from the store alone: runs done, rate, time left and device time used.

Because only the store is read, it does not matter which processes train, or on which machine. On a terminal a line or
a block (with a line per cell, an architecture on a data set) is rewritten in place; elsewhere a plain line is printed
every now and then. If no run is missing, nothing is shown.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TextIO

from replicate.runs.result import Result
from replicate.runs.run import Run
from replicate.store.store import Store, StoreError
from replicate.train.watch.snapshot import CellProgress, Snapshot, block, line, summary

WINDOW_SECONDS = 60.0
"""The rate is measured over about this time, or longer if fewer than two results were stored in it."""
EARLY_RUNS, EARLY_SECONDS = 5, 60.0
"""The time left is shown after this many runs or seconds: the first run of a process takes far longer than others."""
CLEAR_LINE, CLEAR_BELOW = "\x1b[K", "\x1b[J"
"""Terminal codes that clear the rest of the line, or of the screen."""


@dataclass(frozen=True)
class _Pace:
    """Runs that were stored recently, and the time they took."""

    runs: int
    training_seconds: float
    """Summed over the runs, some of which were trained at the same time."""
    seconds: float
    """Length of the time in which the runs were stored."""
    under_way_seconds: float
    """Time after the last of these runs, spent on runs that are not stored yet."""


class Monitor:
    """Watches a store for wanted runs in a thread of its own, and shows the progress on `stream`.

    Use `with Monitor(store, runs): ensure(store, runs)`, or `want`, `start` and `stop`. Other output to the same
    terminal must be written inside `with monitor.hidden():`.
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
        below: Callable[[], Sequence[str]] | None = None,
        joining: bool = False,
        more: Callable[[], Iterable[Run]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`interval`: seconds between two readings of the store. `log_interval`: seconds between two lines when the
        output is not a terminal.

        `before` is called before writing to a line that may hold other output, e.g. to end a line of test results.
        `below`: lines shown under the progress, redrawn with it as one block; only for a terminal that nothing else
        writes to. `joining`: the training may have begun before this monitor: its first results then do not count for
        the rate, and no closing line is printed.
        `more`, called once all runs are stored, returns the runs that adaptive grids need next, if any.
        """
        self._store = store
        self._stream = sys.stderr if stream is None else stream
        self._terminal = _is_terminal(self._stream)
        self._interval = interval
        self._log_interval = log_interval
        self._before = before
        self._below = below
        self._joined = self._joining = joining
        self._more = more
        self._asked = 0
        """How many runs were wanted when `more` was called last."""
        self._clock = clock
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._labels: dict[str, str] = {}
        """Key of each wanted run → label of its cell."""
        self._stored: dict[str, Result] = {}
        """Key of each wanted run that is stored → its result."""
        self._trained = self._trained_diverged = 0
        self._recent: deque[tuple[float, float]] = deque()
        """For each recently trained run, when it was first seen, and the seconds it took."""
        self._old_seconds: dict[str, list[float]] = {}
        self._new_seconds: dict[str, list[float]] = {}
        self._began: float | None = None
        self._paced_from: float | None = None
        """Results from this time on count for the rate."""
        self._cell = ""
        self._width = 0
        self._rows = 0
        """Number of lines of the block that is on the terminal."""
        self._logged: float | None = None
        self._open = False
        """Whether progress has been shown and no closing line yet."""
        if runs:
            self.want(runs)

    def want(self, runs: Iterable[Run], label: str | None = None) -> None:
        """Watch for `runs`, too; those not yet watched are shown under `label`, by default architecture and data."""
        with self._lock:
            new = {r.key: label or _label(r) for r in runs if r.key not in self._labels}
            self._labels |= new
            for key in sorted(self._store.keys() & new.keys()):
                if (stored := self._store.read(key)) is not None:
                    self._stored[key] = stored.result
                    self._old_seconds.setdefault(new[key], []).append(stored.result.seconds)

    def _want_more(self) -> bool:
        """If all watched runs are stored, watch for those that `more` returns, too; returns whether there are any."""
        if self._more is None or len(self._stored) < len(self._labels) or self._asked == len(self._labels):
            return False
        self._asked = len(self._labels)
        self._labels |= {r.key: _label(r) for r in self._more() if r.key not in self._labels}
        return len(self._labels) > self._asked

    def start(self) -> None:
        """Start the thread that watches."""
        if self._thread is None:
            self._ending.clear()
            self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and, if anything was trained, write a closing line."""
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
        """A context in which the progress is cleared from the terminal, so that other output can be written there."""
        with self._lock:
            self.clear()
            yield

    def clear(self) -> None:
        """Clear the progress from the terminal; the next `show` writes it again."""
        with self._lock:
            if self._rows:
                self._write(_up(self._rows) + CLEAR_BELOW)
                self._rows = 0
            if self._width:
                self._write("\r" + " " * self._width + "\r")
                self._width = 0

    def poll(self) -> Snapshot:
        """Read the store once; returns the progress."""
        with self._lock:
            now = self._clock()
            present = self._store.keys() & self._labels.keys()
            before = self._trained
            for key in self._stored.keys() - present:  # set aside as corrupt, or deleted
                del self._stored[key]
            for key in sorted(present - self._stored.keys()):
                if (stored := self._store.read(key)) is None:
                    continue
                self._stored[key] = result = stored.result
                self._trained += 1
                self._trained_diverged += result.diverged
                self._cell = self._labels[key]
                self._recent.append((now, result.seconds))
                self._new_seconds.setdefault(self._cell, []).append(result.seconds)
            if self._want_more():
                return self.poll()
            if self._began is None and len(self._stored) < len(self._labels):
                self._began = self._paced_from = now
            if self._joining and self._trained > before:
                self._joining, self._paced_from = False, now
            return self._snapshot(now)

    def _cells(self) -> tuple[CellProgress, ...]:
        total = Counter(self._labels.values())
        done, diverged = Counter[str](), Counter[str]()
        seconds = dict.fromkeys(total, 0.0)
        for key, result in self._stored.items():
            label = self._labels[key]
            done[label] += 1
            diverged[label] += result.diverged
            seconds[label] += result.seconds
        return tuple(CellProgress(c, done[c], total[c], diverged[c], seconds[c]) for c in total)

    def _snapshot(self, now: float) -> Snapshot:
        missing = Counter(label for key, label in self._labels.items() if key not in self._stored)
        began = now if self._began is None else self._began
        rate = left = None
        pace = None if self._joining else self._pace(began if self._paced_from is None else self._paced_from, now)
        if pace is not None:
            rate = pace.runs / pace.seconds
            if self._trained >= EARLY_RUNS or now - began >= EARLY_SECONDS:
                # Seconds of training per second: the number of processes at work, independent of the architecture.
                speed = pace.training_seconds / pace.seconds
                left = self._work(missing) / speed if speed > 0 else sum(missing.values()) / rate
                left = max(0.0, left - pace.under_way_seconds) if missing else 0.0
        if self._cell not in missing and missing and (not self._recent or now - self._recent[-1][0] > WINDOW_SECONDS):
            self._cell = next(iter(missing))
        return Snapshot(
            done=len(self._stored),
            total=len(self._labels),
            trained=self._trained,
            trained_diverged=self._trained_diverged,
            runs_per_second=rate,
            seconds_left=left,
            cell=self._cell,
            seconds=now - began,
            cells=self._cells(),
        )

    def _pace(self, began: float, now: float) -> _Pace | None:
        """The recent pace; None before the first run.

        Runs that are trained together are stored at the same moment, so the pace is measured between two such moments:
        measured up to `now`, it would sink before each moment and then jump. The time since the last moment counts as
        spent on the next runs, but at most the longest time between two earlier moments: the rest lowers the pace.
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
        """Training seconds that `missing` runs (cell → number) need; a cell without stored runs gets the mean."""
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
                    self.show(self.poll())
            except StoreError as error:
                self._say(f"progress is no longer shown: {error}")
                return
            if self._ending.wait(self._interval):
                return

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.done == snapshot.total:
            self._close(snapshot)
            return
        self._open = True
        if self._terminal and self._below is not None:
            width, height = _size(self._stream)
            # One column and one line stay free: a terminal that is filled completely would scroll.
            lines = block(snapshot, width - 1, height - 1, self._below())
            # Each line is overwritten and then cleared to its end: clearing everything first would flicker.
            self._write(_up(self._rows) + "".join(f"{text}{CLEAR_LINE}\n" for text in lines) + CLEAR_BELOW)
            self._rows = len(lines)
        elif self._terminal:
            width = _size(self._stream)[0] - 1
            text = line(snapshot, width)
            if not self._width and self._before:
                self._before()
            self._write("\r" + text.ljust(min(self._width, width)))
            self._width = len(text)
        elif self._logged is None or self._clock() - self._logged >= self._log_interval:
            self._logged = self._clock()
            self._say(line(snapshot))

    def _close(self, snapshot: Snapshot) -> None:
        """Write the closing line and reset the counts, if progress was shown since the last closing line."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._began = self._logged = None
            self._trained = self._trained_diverged = 0
            if snapshot.trained and not self._joined:
                self._say(summary(snapshot))
            self.clear()

    def _say(self, text: str) -> None:
        with self._lock:
            if self._width or self._rows:
                self.clear()
            elif self._before:
                self._before()
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        # A stream that has been closed must not end the training.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def _label(run: Run) -> str:
    return f"{run.arch} on {run.data.name}"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


def _size(stream: TextIO) -> tuple[int, int]:

    try:
        found = os.get_terminal_size(stream.fileno())
        return found.columns or 80, found.lines or 24
    except (OSError, ValueError, AttributeError):
        return 80, 24


def _up(rows: int) -> str:
    """The code that moves the cursor up by `rows` lines, to the beginning of the line."""
    return f"\x1b[{rows}A\r" if rows else "\r"
