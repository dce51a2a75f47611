"""Progress: runs done and to do, cells, rate, time left and cost, from nothing but a look at the store.

Because only the store is looked at, it does not matter which processes train, or on which machine. On a terminal one
line, or a block of lines, is rewritten in place; elsewhere a plain line appears every now and then. Where nothing is
missing nothing is shown.
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

from replicate.runs.run import Run
from replicate.store.store import Store, StoredRun, StoreError
from replicate.text import duration
from replicate.train.watch.snapshot import CellProgress, Snapshot, block, line, summary

__all__ = ["Monitor", "Snapshot", "duration"]

WINDOW_SECONDS = 60.0
"""The rate is that of the last minute or, where results come more rarely, since the last but one came."""
EARLY_RUNS, EARLY_SECONDS = 5, 60.0
"""With fewer runs in less time no time left is given: the first run of each process takes far longer than others."""
CLEAR_LINE, CLEAR_BELOW = "\x1b[K", "\x1b[J"
"""What a terminal is told: to clear the rest of the line, or of the screen."""


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

    `with Monitor(store, runs): ensure(store, runs)`, or `want`, `start` and `stop`. To write to the same terminal, do
    so inside `with monitor.hidden():`.
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
        """`before` is called ahead of writing on a line that may be another's, e.g. to end a line of test results.

        `below`: a terminal, which then must be nobody else's, shows a block of lines, and these at its end.
        `joining`: the training may be under way already, so how long the first results took is not known, and there
        is no closing line. `more` is asked once all runs are stored: those of the next round of brackets, if any.
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
        """How many runs were wanted when `more` was asked last."""
        self._clock = clock
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._labels: dict[str, str] = {}
        self._present: set[str] = set()
        self._trained = self._trained_diverged = 0
        self._seen: dict[str, tuple[float, bool]] = {}
        """Key of each wanted run that is stored → the seconds it took, and whether it diverged."""
        self._recent: deque[tuple[float, float]] = deque()
        """When a run was seen to be stored, and the seconds it took."""
        self._old_seconds: dict[str, list[float]] = {}
        self._new_seconds: dict[str, list[float]] = {}
        self._began: float | None = None
        self._paced_from: float | None = None
        """Since when results are counted for the rate."""
        self._cell = ""
        self._width = 0
        self._rows = 0
        """Lines of the block that stands on the terminal."""
        self._logged: float | None = None
        self._open = False
        """Whether progress was shown that no closing line has followed."""
        if runs:
            self.want(runs)

    def want(self, runs: Iterable[Run], label: str | None = None) -> None:
        """Wait for these runs as well; a run that is wanted already keeps its label, by default what is trained."""
        with self._lock:
            new = {r.key: label or _label(r) for r in runs if r.key not in self._labels}
            self._labels |= new
            there = self._store.keys() & new.keys()
            self._present |= there
            for key in sorted(there):  # the engine and the judge read them all as well: from the store's memory then
                if (stored := self._store.read(key)) is not None:
                    self._see(key, stored)
                    self._old_seconds.setdefault(new[key], []).append(stored.result.seconds)

    def _want_more(self) -> bool:
        """Wait for the runs of the next round as well, where all others are stored; whether there are any."""
        if self._more is None or len(self._present) < len(self._labels) or self._asked == len(self._labels):
            return False
        self._asked = len(self._labels)
        self._labels |= {r.key: _label(r) for r in self._more() if r.key not in self._labels}
        return len(self._labels) > self._asked

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
            if self._rows:
                self._write(_up(self._rows) + CLEAR_BELOW)
                self._rows = 0
            if self._width:
                self._write("\r" + " " * self._width + "\r")
                self._width = 0

    def poll(self) -> Snapshot:
        """Look at the store and take in what is new."""
        with self._lock:
            now = self._clock()
            present = self._store.keys() & self._labels.keys()
            before = self._trained
            for key in sorted(present - self._present):
                if (stored := self._store.read(key)) is None:
                    present.discard(key)
                    continue
                self._see(key, stored)
                self._trained += 1
                self._trained_diverged += stored.result.diverged
                self._cell = self._labels[key]
                self._recent.append((now, stored.result.seconds))
                self._new_seconds.setdefault(self._cell, []).append(stored.result.seconds)
            for key in self._present - present:  # set aside as corrupt, or deleted by somebody
                self._seen.pop(key, None)
            self._present = present
            if self._want_more():
                return self.poll()
            if self._began is None and len(present) < len(self._labels):
                self._began = self._paced_from = now
            if self._joining and self._trained > before:
                self._joining, self._paced_from = False, now
            return self._snapshot(now)

    def _see(self, key: str, stored: StoredRun) -> None:
        self._seen[key] = (stored.result.seconds, stored.result.diverged)

    def _cells(self) -> tuple[CellProgress, ...]:
        total = Counter(self._labels.values())
        done, diverged = Counter[str](), Counter[str]()
        seconds = dict.fromkeys(total, 0.0)
        for key in self._present:
            label = self._labels[key]
            took, failed = self._seen.get(key, (0.0, False))
            done[label] += 1
            diverged[label] += failed
            seconds[label] += took
        return tuple(CellProgress(c, done[c], total[c], diverged[c], seconds[c]) for c in total)

    def _snapshot(self, now: float) -> Snapshot:
        missing = Counter(label for key, label in self._labels.items() if key not in self._present)
        began = now if self._began is None else self._began
        rate = left = None
        pace = None if self._joining else self._pace(began if self._paced_from is None else self._paced_from, now)
        if pace is not None:
            rate = pace.runs / pace.seconds
            if self._trained >= EARLY_RUNS or now - began >= EARLY_SECONDS:
                # How many seconds of training a second brings: the processes at work, whatever an architecture takes.
                speed = pace.training_seconds / pace.seconds
                left = self._work(missing) / speed if speed > 0 else sum(missing.values()) / rate
                left = max(0.0, left - pace.under_way_seconds) if missing else 0.0
        if self._cell not in missing and missing and (not self._recent or now - self._recent[-1][0] > WINDOW_SECONDS):
            self._cell = next(iter(missing))
        return Snapshot(
            done=len(self._present),
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
            # One column and one line are left free: a terminal that is written full would scroll.
            lines = block(snapshot, width - 1, height - 1, self._below())
            # Line by line, each to its end: cleared first, the terminal would flicker.
            self._write(_up(self._rows) + "".join(f"{text}{CLEAR_LINE}\n" for text in lines) + CLEAR_BELOW)
            self._rows = len(lines)
        elif self._terminal:
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
        # A stream that its owner has closed is nothing to end a training for.
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


def _columns(stream: TextIO) -> int:
    return _size(stream)[0]


def _size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of the terminal."""
    try:
        found = os.get_terminal_size(stream.fileno())
        return found.columns or 80, found.lines or 24
    except (OSError, ValueError, AttributeError):
        return 80, 24


def _up(rows: int) -> str:
    """To the beginning of the line that many lines above."""
    return f"\x1b[{rows}A\r" if rows else "\r"
