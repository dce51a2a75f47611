"""The file of a kept model: every byte counts, and only beside the very result that it belongs to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import torch as safetensors

from replicate.cli import main
from replicate.runs.result import Result
from replicate.store import fsck, garbage, model_file
from replicate.store.model_file import Keep
from replicate.store.record import Corrupt, content_of
from replicate.store.store import STALE_SECONDS, Store, StoreError, open_store
from replicate.train.kept_models import sealed
from tests.support.faketrainer import fake_result, fake_run
from tests.support.processes import environment, posix, wait_until

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk", "smoke_alone")

RUN = fake_run(1)
CONTENT = content_of(RUN, fake_result(RUN))
BLOB = sealed(RUN, fake_result(RUN), {"weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor(7)})
KEYS = [RUN.key, fake_run(2).key, fake_run(3, arch="diverging").key]
OTHER = Result(12.0, 12.0, False, 1.0, (12.0,), 0.5)


def kept(store: Store) -> Path:
    """`RUN` stored with its model, whose path it is."""
    store.put_model(RUN.key, BLOB)
    store.put(RUN, fake_result(RUN), {})
    return store.layout.model(RUN.key)


def test_anybody_can_read_it() -> None:
    model_file.check(BLOB, RUN.key, CONTENT)
    assert safetensors.load(BLOB)["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255), st.booleans())
def test_a_byte_altered_or_missing_is_noticed(at: int, change: int, cut: bool) -> None:
    hurt = BLOB[:at] if cut else BLOB[:at] + bytes([BLOB[at] ^ change]) + BLOB[at + 1 :]
    with pytest.raises(Corrupt, match="expected "):
        model_file.check(hurt, RUN.key, CONTENT)


def test_that_of_another_run_or_training_is_noticed() -> None:
    with pytest.raises(Corrupt, match=f"expected the model of the run {fake_run(2).key}, got that of {RUN.key}"):
        model_file.check(BLOB, fake_run(2).key, CONTENT)
    with pytest.raises(Corrupt, match="expected the model whose result the run's record holds"):
        model_file.check(BLOB, RUN.key, content_of(RUN, OTHER))
    with pytest.raises(Corrupt, match="got one without"):
        model_file.check(safetensors.save({"a": torch.ones(2)}), RUN.key, CONTENT)


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (BLOB[:-3], "cut off or altered"),
        (BLOB[:5], "got 5 bytes that do not hold its header"),
        (BLOB[:-1] + b"x", "cut off or altered"),
        (b"", "got 0 bytes"),
    ],
)
def test_a_damaged_one_is_named_and_set_aside_and_its_record_stays(store: Store, blob: bytes, why: str) -> None:
    kept(store).write_bytes(blob)
    with pytest.raises(StoreError, match=rf"is corrupt \(.*{why}.*\); `replicate fsck --repair` sets it aside"):
        store.model_file(RUN.key)
    (problem,) = fsck.check(store).problems
    assert problem.kind == "model" and why in problem.why
    assert fsck.repair(store, (problem,)) == []
    assert fsck.check(store).problems == () and store.get(RUN) is not None
    with pytest.raises(StoreError, match="got none: it was trained without --keep-models"):
        store.model_file(RUN.key)
    assert open_store(store.path, keep=Keep.ALL).get(RUN) is None


def test_what_counts_as_missing(store: Store) -> None:
    diverged = fake_run(3, arch="diverging")
    store.put(diverged, fake_result(diverged), {})
    store.put(fake_run(2), fake_result(fake_run(2)), {})
    kept(store)
    for keep, have in ((Keep.NONE, 3), (Keep.NEW, 3), (Keep.ALL, 2)):
        opened = open_store(store.path, keep=keep)
        assert len(opened.keys()) == sum(opened.has(key) for key in KEYS) == have
        assert (opened.get(fake_run(2)) is None) == (keep is Keep.ALL)
        assert opened.without_model([RUN, diverged, fake_run(2), fake_run(9)]) == [fake_run(2)]


def test_a_model_without_a_record_is_left_while_its_run_is_held(store: Store) -> None:
    store.put_model(RUN.key, BLOB)
    path = store.layout.model(RUN.key)
    lock = store.lock(RUN)
    lock.acquire()
    assert fsck.check(store).problems == ()
    assert [item.path for item in garbage.find(store, time.time() + 2 * STALE_SECONDS)] == []
    lock.release()
    assert [(p.kind, p.path) for p in fsck.check(store).problems] == [("model", path)]
    assert garbage.find(store) == []
    assert [(i.path, i.reason) for i in garbage.find(store, time.time() + 2 * STALE_SECONDS)] == [
        (path, garbage.MODELS)
    ]


def test_gc_takes_a_model_with_its_record(store: Store) -> None:
    path = kept(store)
    found = garbage.find(store)
    assert {(i.path, i.reason) for i in found} == {(p, garbage.UNNAMED) for p in (path, store.layout.record(RUN.key))}
    assert len(garbage.delete(found)) == 2 and not path.exists()


def test_commands_name_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = kept(store)
    where = ["--store", str(store.path)]
    assert main(["runs", "show", RUN.key, *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == str(path)
    assert main(["fsck", *where]) == 0
    path.unlink()
    assert main(["runs", "verify", "--weights", *where]) == 2
    assert "expected kept models, got none; train with --keep-models" in capsys.readouterr().err


WRITER = """
import sys
from pathlib import Path
from replicate.store import atomic
from replicate.store.store import open_store
from tests.support.faketrainer import fake_run

run = fake_run(1)
store = open_store(sys.argv[1])
lock = store.lock(run)
lock.acquire()
if sys.argv[2] == "whole":
    store.put_model(run.key, bytes.fromhex(sys.argv[4]))
else:
    path = store.layout.model(run.key)
    path.parent.mkdir(parents=True)
    with atomic.written(path) as file:
        file.write(b"half")
        file.flush()
        Path(sys.argv[3]).touch()
        sys.stdin.read()
Path(sys.argv[3]).touch()
sys.stdin.read()
"""


@posix
@pytest.mark.slow
@pytest.mark.parametrize("when", ["half", "whole"])
def test_killed_while_keeping_the_next_one_goes_on(tmp_path: Path, when: str) -> None:
    """In the middle of the file, or between it and the record: the run is missing, and kept when it is trained."""
    ready = tmp_path / "ready"
    arguments = [sys.executable, "-c", WRITER, str(tmp_path / "store"), when, str(ready), BLOB.hex()]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, env=environment()) as writer:
        wait_until(lambda: ready.exists() or writer.poll() is not None, 60)
        writer.kill()
    store = open_store(tmp_path / "store", keep=Keep.NEW)
    path = store.layout.model(RUN.key)
    assert path.exists() == (when == "whole") and store.get(RUN) is None and not store.has(RUN.key)
    assert store.take(store.lock(RUN))
    kept(store)
    assert store.model_file(RUN.key) == path.read_bytes() == BLOB
    old = time.time() - 2 * STALE_SECONDS
    for left in path.parent.glob(".*.tmp"):
        os.utime(left, (old, old))
    open_store(store.path)
    assert {p.name for p in path.parent.iterdir()} == {path.name, f"{RUN.key}.json"}
