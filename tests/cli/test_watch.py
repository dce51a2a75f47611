"""`replicate watch` and what is in flight: stacks by their folders and locks, on a terminal and in a log."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from replicate.cli import main, watch
from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.needed import runs_for, split
from replicate.runs.result import Result
from replicate.runs.run import Run
from replicate.store import begun
from replicate.store.store import Store
from replicate.train.watch import in_flight

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk", "smoke_alone")

SMOKE = scales.get("smoke")
RUNS = runs_for(split(CLAIMS, SMOKE)[0], SMOKE)
WANTED = {run.key: run for run in RUNS}

needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="locks are looked at by flock")


def put(store: Store, *runs: Run) -> None:
    for i, run in enumerate(runs):
        store.put(run, Result(50.0, 50.0, i == 0, None if i == 0 else 1.0, (50.0,), 2.0), {}, durable=False)


@needs_locks
def test_stacks_are_told_by_their_locks(store: Store) -> None:
    first, second, third = RUNS[:4], RUNS[4:6], RUNS[6:8]
    folder, *_ = [begun.begin(store, stack) for stack in (first, second, third)]
    put(store, first[0], *third)
    before = sorted(store.path.rglob("*"))
    with store.lock(first[1]), store.lease("m-cpu-0"):
        found = in_flight.read(store)
        assert {stack.state for stack in found.stacks} == {in_flight.TRAINING, in_flight.INTERRUPTED}
        (training,) = (stack for stack in found.stacks if stack.state == in_flight.TRAINING)
        assert training.keys == tuple(run.key for run in first)
        assert training.left == tuple(run.key for run in first[1:])
        assert training.saved_seconds_ago is None
        assert found.devices == ("m-cpu-0",)
        assert in_flight.lines(found, WANTED) == [
            "in flight: 1 stack, 1 device at work",
            "  resnet50 on digits seed 0: 4 runs, 1 stored, begun 0 s ago",
            "  resnet50 on digits seed 0: 2 runs, begun 0 s ago; interrupted",
        ]
    (folder / "x.checkpoint").touch()
    after = in_flight.read(store)
    assert [stack.state for stack in after.stacks] == [in_flight.INTERRUPTED] * 2
    assert after.devices == ()
    head, *rows = in_flight.lines(after, WANTED)
    assert head == "in flight: nothing; no process trains"
    assert rows[0].endswith("begun 0 s ago, saved 0 s ago; interrupted")
    assert set(before) <= set(store.path.rglob("*"))  # looking deletes nothing


@needs_locks
def test_stacks_of_another_scale_and_many_interrupted_ones_are_counted(store: Store) -> None:
    for i in range(3):
        begun.begin(store, RUNS[2 * i : 2 * i + 2])
    assert in_flight.lines(in_flight.read(store), WANTED)[1:] == [
        "  3 stacks interrupted: the next training resumes them"
    ]
    with store.lock(RUNS[0]), store.lease("x"):
        assert in_flight.lines(in_flight.read(store), {RUNS[-1].key: RUNS[-1]}) == [
            "in flight: 0 stacks, 1 device at work; 1 stack of other scales"
        ]


def test_a_lock_that_cannot_be_looked_at_is_unknown(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.is_run_held(RUNS[0].key) is False
    monkeypatch.setattr(Store, "is_run_held", lambda *_: None)
    begun.begin(store, RUNS[:1])
    (stack,) = in_flight.read(store).stacks
    assert stack.state == in_flight.UNKNOWN
    (folder,) = store.layout.checkpoints.iterdir()
    (folder / begun.RUNS).write_text("[cut of")
    assert in_flight.read(store).stacks == ()


def test_once_and_json(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, *RUNS[:10])
    assert main(["watch", "--once", "--store", str(store.path)]) == 0
    out, err = capsys.readouterr()
    assert err == f"replicate: watching scale smoke in {store.path}\n"  # the scale of which the store holds most
    assert out.startswith(f"training 10/{len(RUNS)} runs, time left unknown yet, resnet50 on digits 10/")
    assert out.endswith("0/5 cells, 1 diverged, cost 20 s\nin flight: nothing; no process trains\n")
    assert main(["watch", "--once", "--json", "--store", str(store.path), "--scale", "smoke"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == {"needed": len(RUNS), "stored": 10}
    assert (found["diverged"], found["device_seconds"], found["stacks"]) == (1, 20.0, [])
    assert [cell["stored"] for cell in found["cells"]] == [10, 0, 0, 0, 0]


def test_a_stack_begun_tells_the_scale_of_an_empty_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--store", str(store.path)]) == 2
    assert "stored or begun, got none among its 0 runs; add --scale NAME" in capsys.readouterr().err
    begun.begin(store, RUNS[:2])
    assert main(["watch", "--once", "--store", str(store.path)]) == 0
    assert "watching scale smoke" in capsys.readouterr().err
    assert main(["watch", "--store", str(store.path / "none")]) == 2
    assert "expected a directory, but there is none" in capsys.readouterr().err


def test_it_ends_when_all_is_there(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = RUNS[:4]
    monkeypatch.setattr(watch, "runs_at", lambda *_: few)
    monkeypatch.setattr(watch, "SECONDS", 0.01)
    monkeypatch.setattr(watch.time, "sleep", lambda _: put(store, *few))
    put(store, *few[:1])
    assert main(["watch", "--scale", "smoke", "--store", str(store.path)]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("training 1/4 runs")
    assert last == "done: all 4 runs are stored; training took 8 s on one device"
    assert main(["watch", "--scale", "smoke", "--store", str(store.path)]) == 0  # and at once where it already is
    assert capsys.readouterr().out.endswith("cost 8 s\ndone: all 4 runs are stored; training took 8 s on one device\n")


@needs_locks
def test_ctrl_c_leaves(store: Store) -> None:
    put(store, *RUNS[:3])
    command = [sys.executable, "-m", "replicate", "watch", "--scale", "smoke", "--store", str(store.path)]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    assert watching.stdout.readline().startswith("training 3/")
    time.sleep(0.1)
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert out.startswith("training 3/")
    assert err.endswith("replicate: stopped watching; the training continues\n")
    assert "Traceback" not in err
