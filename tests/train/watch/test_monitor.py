"""Progress: numbers, wording, and the two ways of showing them."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
import time

import pytest

from replicate.runs.run import Run
from replicate.store.store import Store, StoreError
from replicate.text import duration
from replicate.train.watch import monitor as monitoring
from replicate.train.watch.monitor import Monitor
from replicate.train.watch.snapshot import CellProgress, Snapshot, block, line, summary
from tests.support.faketrainer import fake_result, fake_run
from tests.support.processes import wait_until
from tests.support.terminal import Terminal

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _a_terminal_that_can_and_time_left_from_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(monitoring, "EARLY_RUNS", 1)


def put(store: Store, run: Run, seconds: float = 1.0) -> None:
    store.put(run, dataclasses.replace(fake_result(run), seconds=seconds), {})


def test_nothing_missing_nothing_shown(store: Store) -> None:
    put(store, fake_run())
    for stream in (io.StringIO(), Terminal()):
        with Monitor(store, [fake_run()], stream=stream, interval=0.01):
            time.sleep(0.05)
        assert stream.getvalue() == ""


def test_the_next_round_is_asked_for_when_this_one_is_there(store: Store, clock: Clock) -> None:
    first, second = fake_run(0), fake_run(1)
    asked: list[int] = []

    def more() -> list[Run]:
        asked.append(len(store.keys()))
        return [first, second]

    monitor = Monitor(store, [first], clock=clock, stream=io.StringIO(), more=more)
    assert (monitor.poll().total, asked) == (1, [])
    put(store, first)
    for _ in range(2):
        found = monitor.poll()
        assert (found.done, found.total, found.trained, asked) == (1, 2, 1, [1]), "once"
    put(store, second)
    for _ in range(2):
        found = monitor.poll()
        assert (found.done, found.total, found.trained, asked) == (2, 2, 2, [1, 2]), "nothing more, and nothing asked"


def test_done_total_rate_cell_and_diverged(store: Store, clock: Clock) -> None:
    runs = [fake_run(i) for i in range(8)]
    others = [fake_run(i, arch="diverging") for i in range(2)]
    put(store, runs[0])
    monitor = Monitor(store, runs, clock=clock, stream=io.StringIO())
    first = monitor.poll()
    assert (first.done, first.total, first.trained, first.seconds_left, first.cell) == (
        1,
        8,
        0,
        None,
        "quick on nowhere",
    )
    for run in runs[1:5]:
        put(store, run, seconds=2.0)
    clock.now += 4
    now = monitor.poll()
    assert (now.done, now.total, now.trained, now.diverged) == (5, 8, 4, 0)
    assert now.runs_per_second == 1.0
    assert now.seconds_left == 3.0
    assert now.cell == "quick on nowhere"
    (cell,) = now.cells
    assert (cell.done, cell.total, now.cells_done) == (5, 8, 0)
    monitor.want(others, label="the other cell")
    monitor.want(runs, label="a second label changes nothing")
    put(store, others[0])
    clock.now += 1
    later = monitor.poll()
    assert (later.done, later.total, later.trained, later.diverged) == (6, 10, 5, 1)
    assert (later.cell, later.cells[1].done, later.cells[1].total) == ("the other cell", 1, 2)
    assert later.seconds == 5


def test_time_left_knows_that_one_architecture_is_slower_than_another(store: Store, clock: Clock) -> None:
    slow = [fake_run(i, arch="slow") for i in range(11)]
    quick = [fake_run(i) for i in range(10)]
    put(store, slow[0], seconds=9.0)
    monitor = Monitor(store, slow + quick, clock=clock, stream=io.StringIO())
    monitor.poll()
    for run in quick:
        put(store, run, seconds=1.0)
    clock.now += 5  # ten seconds of training in five: two processes
    assert monitor.poll().seconds_left == pytest.approx(10 * 9.0 / 2)
    for run in slow[1:3]:  # what is seen now counts more than what was stored before
        put(store, run, seconds=20.0)
    clock.now += 20
    assert monitor.poll().seconds_left == pytest.approx(8 * 20.0 / ((10 + 40) / 25))


def test_an_unknown_architecture_counts_as_the_mean_of_the_others(store: Store, clock: Clock) -> None:
    monitor = Monitor(
        store, [fake_run(0), fake_run(0, arch="b"), fake_run(0, arch="c")], clock=clock, stream=io.StringIO()
    )
    monitor.poll()
    put(store, fake_run(0), seconds=2.0)
    put(store, fake_run(0, arch="b"), seconds=4.0)
    clock.now += 6
    assert monitor.poll().seconds_left == pytest.approx(3.0)


def test_the_rate_is_that_of_the_last_minute_and_silence_makes_it_smaller(store: Store, clock: Clock) -> None:
    runs = [fake_run(i) for i in range(200)]
    monitor = Monitor(store, runs, clock=clock, stream=io.StringIO())
    monitor.poll()
    put(store, runs[0])
    clock.now += 1
    assert monitor.poll().runs_per_second == 1.0
    clock.now += 100
    idle = monitor.poll()
    assert idle.runs_per_second == pytest.approx(1 / 100)
    assert idle.seconds_left == pytest.approx(199 * 100 - 1)
    put(store, runs[1])
    assert monitor.poll().runs_per_second == pytest.approx(1 / 100)
    for run in runs[2:102]:
        put(store, run)
        clock.now += 1
        latest = monitor.poll()
    assert latest.runs_per_second == pytest.approx(1.0)
    assert latest.seconds_left == pytest.approx(98)


def test_time_left_runs_down_evenly_where_results_come_in_stacks(store: Store, clock: Clock) -> None:
    """Two workers, each with a stack of ten every 90 seconds, in turns; the truth is known at every moment."""
    runs = [fake_run(i) for i in range(120)]
    monitor = Monitor(store, runs, clock=clock, stream=io.StringIO())
    monitor.poll()
    began = clock.now
    end = 45 + 90 + 45 * 10  # the first stack after 90 seconds, then one every 45
    for second in range(1, end):
        clock.now = began + second
        if second >= 90 and (second - 90) % 45 == 0:
            stack = (second - 90) // 45
            for run in runs[10 * stack : 10 * stack + 10]:
                put(store, run, seconds=9.0)
        now = monitor.poll()
        if second < 90:
            assert now.seconds_left is None
        elif second > 270:
            assert now.seconds_left == pytest.approx(end - second, abs=1)
            assert now.runs_per_second == pytest.approx(10 / 45)


def test_a_watcher_that_joins_counts_from_the_first_results(store: Store, clock: Clock) -> None:
    """Ten runs that had been under way for long and come at once are no rate of ten a second."""
    runs = [fake_run(i) for i in range(40)]
    monitor = Monitor(store, runs, clock=clock, stream=io.StringIO(), joining=True)
    monitor.poll()
    for stack in range(3):
        for run in runs[10 * stack : 10 * stack + 10]:
            put(store, run)
        clock.now += 1 if stack == 0 else 20
        now = monitor.poll()
        assert now.trained == 10 * stack + 10
        assert now.runs_per_second == (None if stack == 0 else 0.5)
    assert now.seconds_left == 20.0


def test_what_was_stored_before_counts_in_the_cost(store: Store, clock: Clock) -> None:
    put(store, fake_run(0, "diverging"), seconds=7.0)
    monitor = Monitor(store, [fake_run(0, "diverging"), fake_run(1)], clock=clock, stream=io.StringIO())
    put(store, fake_run(1), seconds=2.0)
    now = monitor.poll()
    assert (now.trained, now.trained_diverged, now.diverged, now.device_seconds) == (1, 0, 1, 9.0)
    assert (now.cells_done, len(now.cells)) == (2, 2)


def test_a_terminal_of_its_own_shows_a_block(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_size", lambda _: (60, 10))
    stream = Terminal()
    monitor = Monitor(
        store, [fake_run(0), fake_run(1)], stream=stream, clock=clock, below=lambda: ["nothing in flight"]
    )
    monitor.show(monitor.poll())
    first = stream.getvalue()
    assert first.startswith("\r0 of 2 runs, 0 of 1 cells done, time left unknown yet\x1b[K\n")
    assert first.endswith("nothing in flight\x1b[K\n\x1b[J")
    put(store, fake_run(0))
    clock.now += 1
    monitor.show(monitor.poll())
    assert stream.getvalue()[len(first) :].startswith("\x1b[4A\r1 of 2 runs")  # over the four earlier lines
    put(store, fake_run(1))
    monitor.show(monitor.poll())
    assert stream.getvalue().endswith("\x1b[4A\r\x1b[Jtrained 2 runs in 1 s (2.0 runs/s)\n")


def test_no_time_left_from_too_few_runs_and_one_slow_start_does_not_count(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "EARLY_RUNS", 5)
    runs = [fake_run(i) for i in range(10)]
    monitor = Monitor(store, runs, clock=clock, stream=io.StringIO())
    monitor.poll()
    put(store, runs[0], seconds=9.0)
    clock.now += 9
    assert (monitor.poll().trained, monitor.poll().seconds_left) == (1, None)
    for run in runs[1:5]:
        put(store, run, seconds=1.0)
    clock.now += 4
    assert monitor.poll().seconds_left == pytest.approx(5.0)
    other = Monitor(store, [*runs, fake_run(99)], clock=clock, stream=io.StringIO())
    other.poll()
    put(store, fake_run(99))
    clock.now += monitoring.EARLY_SECONDS
    assert other.poll().seconds_left is not None  # long runs: a minute is enough


def test_a_record_that_is_corrupt_is_not_done(store: Store, clock: Clock) -> None:
    monitor = Monitor(store, [fake_run()], clock=clock, stream=io.StringIO())
    monitor.poll()
    put(store, fake_run())
    store.layout.record(fake_run().key).write_bytes(b"bad")
    assert monitor.poll().done == 0
    put(store, fake_run())
    assert monitor.poll().done == 1


CELLS = (
    CellProgress("resnet50 on digits", 33, 33, 2, 60.0),
    CellProgress("vit_s16 on digits", 12, 180, 1, 21.0),
    CellProgress("mixer_s16 on digits", 0, 687, 0, 0.0),
)


def shown(**changes: object) -> Snapshot:
    snapshot = Snapshot(45, 900, 40, 3, 2.34, 365.0, "vit_s16 on digits", 17.2, CELLS)
    return dataclasses.replace(snapshot, **changes)


def test_wording() -> None:
    text = (
        "training 45/900 runs, 6 min 05 s left, 2.3 runs/s, vit_s16 on digits 12/180, 1/3 cells, 3 diverged, "
        "cost 1 min 21 s"
    )
    assert line(shown()) == text
    assert line(shown(), 200) == text
    assert line(shown(), 30) == text[:27] + "..."
    assert all(len(line(shown(), width)) <= width for width in range(100))
    early = shown(runs_per_second=None, seconds_left=None, cells=(CELLS[2],), cell="")
    assert line(early) == "training 45/900 runs, time left unknown yet, 0/1 cells, cost 0 s"
    assert "7.2 runs/min" in line(shown(runs_per_second=0.12))
    assert "3.6 runs/h" in line(shown(runs_per_second=0.001))
    assert line(shown()).isascii()


def test_a_block_has_a_line_a_cell() -> None:
    assert block(shown(), 79, 23, ["nothing in flight"]) == [
        "45 of 900 runs, 1 of 3 cells done, 6 min 05 s left",
        "2.3 runs/s, cost so far 1 min 21 s of one device, 3 diverged",
        "  resnet50 on digits    33/33   ################# 100 %  1 min 00 s, 2 diverged",
        "  vit_s16 on digits     12/180  #................   6 %  21 s, 1 diverged",
        "  mixer_s16 on digits    0/687  .................   0 %  0 s",
        "nothing in flight",
    ]


@pytest.mark.parametrize("width", [10, 39, 40, 60, 79, 200])
@pytest.mark.parametrize("height", [1, 3, 4, 6, 23])
def test_a_block_fits(width: int, height: int) -> None:
    lines = block(shown(), width, height, ["in flight: a stack"] * 4)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert ("resnet50" in "\n".join(lines)) == (height == 23 and width >= 40)  # what is done makes room first


def test_wording_of_the_end() -> None:
    assert summary(shown(done=900)) == "trained 40 runs in 17 s (2.3 runs/s), 3 diverged"
    assert summary(shown(trained_diverged=0)) == "trained 40 runs in 17 s (2.3 runs/s); 855 of 900 are missing"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(store: Store, clock: Clock) -> None:
    stream = io.StringIO()
    runs = [fake_run(i) for i in range(4)]
    monitor = Monitor(store, runs, stream=stream, clock=clock, log_interval=15)
    for run in runs:
        for _ in range(10):
            monitor.show(monitor.poll())
            clock.now += 1
        put(store, run)
    monitor.show(monitor.poll())
    monitor.show(monitor.poll())
    assert stream.getvalue().splitlines() == [
        "training 0/4 runs, time left unknown yet, quick on nowhere 0/4, 0/1 cells, cost 0 s",
        "training 1/4 runs, 25 s left, 6.0 runs/min, quick on nowhere 1/4, 0/1 cells, cost 1 s",
        "training 3/4 runs, 10 s left, 6.0 runs/min, quick on nowhere 3/4, 0/1 cells, cost 3 s",
        "trained 4 runs in 40 s (6.0 runs/min)",
    ]


def test_a_second_batch_is_counted_by_itself(store: Store, clock: Clock) -> None:
    stream = io.StringIO()
    monitor = Monitor(store, [fake_run(0)], stream=stream, clock=clock)
    monitor.show(monitor.poll())
    put(store, fake_run(0))
    clock.now += 10
    monitor.show(monitor.poll())
    clock.now += 1000
    monitor.want([fake_run(1), fake_run(2)])
    monitor.show(monitor.poll())
    put(store, fake_run(1))
    put(store, fake_run(2))
    clock.now += 20
    monitor.show(monitor.poll())
    assert stream.getvalue().splitlines()[-1] == "trained 2 runs in 20 s (6.0 runs/min)"


def test_a_terminal_has_one_line_rewritten_in_place(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "_size", lambda _: (50, 24))
    stream = Terminal()
    runs = [fake_run(i) for i in range(3)]
    called = []
    monitor = Monitor(store, runs, stream=stream, clock=clock, before=lambda: called.append(stream.getvalue()))
    for run in runs:
        monitor.show(monitor.poll())
        assert len(stream.screen) == 1
        assert len(stream.screen[0]) < 50
        assert stream.screen[0].startswith(f"training {run.seed}/3 runs")
        put(store, run)
        clock.now += 1
    assert called == [""]
    with monitor.hidden():
        assert stream.screen == [""]
        stream.write("somebody else\n")
    monitor.show(monitor.poll())
    assert stream.screen == ["somebody else", "trained 3 runs in 3 s (1.0 runs/s)", ""]
    assert len(called) == 2


def test_a_narrowed_terminal_is_not_overrun(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monitor = Monitor(store, [fake_run()], stream=stream, clock=clock)
    for columns in (80, 30, 5, 1):
        monkeypatch.setattr(monitoring, "_size", lambda _, columns=columns: (columns, 24))
        before = len(stream.getvalue())
        monitor.show(monitor.poll())
        assert len(stream.getvalue()[before:].lstrip("\r")) < max(columns, 1)


def test_the_thread_watches_while_others_train(store: Store) -> None:
    stream = Terminal()
    runs = [fake_run(i) for i in range(6)]
    with Monitor(store, runs, stream=stream, interval=0.01) as monitor:
        monitor.start()  # a second time changes nothing
        wait_until(stream.getvalue)
        for run in runs:
            put(store, run)
            time.sleep(0.02)
    assert stream.screen[0].startswith("trained 6 runs in ")
    assert stream.screen[1:] == [""]
    assert not [t for t in threading.enumerate() if t.name == "progress"]


def test_an_early_stop_says_what_is_missing(store: Store) -> None:
    stream = io.StringIO()
    with Monitor(store, [fake_run(0), fake_run(1)], stream=stream, interval=0.01):
        wait_until(stream.getvalue)
        put(store, fake_run(0))
    assert stream.getvalue().splitlines()[-1].endswith("; 1 of 2 are missing")


def test_a_store_that_vanishes_or_a_closed_stream_harms_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    with Monitor(store, [fake_run()], stream=closed, interval=0.01):
        time.sleep(0.03)
    stream = io.StringIO()

    def fail() -> set[str]:
        raise StoreError("cannot list it")

    monitor = Monitor(store, [fake_run()], stream=stream, interval=0.01)
    monkeypatch.setattr(store, "keys", fail)
    with monitor:
        wait_until(stream.getvalue)
    assert stream.getvalue() == "progress is no longer shown: cannot list it\n"


def test_columns_of_a_real_terminal_and_of_none() -> None:
    assert monitoring._size(io.StringIO())[0] == 80
    if hasattr(os, "openpty"):
        import fcntl
        import struct
        import termios

        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 57, 0, 0))
        with os.fdopen(slave, "w") as stream:
            assert monitoring._size(stream)[0] == 57
            assert monitoring._is_terminal(stream)
        os.close(master)
