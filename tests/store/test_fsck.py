"""Checking a store: every kind of problem found, named and moved aside; nothing in use is touched."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from replicate.cli import main
from replicate.store import begun, fsck
from replicate.store.store import Store
from tests.support.corruption import KINDS, check_noticed, filled
from tests.support.faketrainer import fake_result, fake_run


def kinds(store: Store) -> list[str]:
    return [problem.kind for problem in fsck.check(store).problems]


@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_are_noticed_and_nothing_else_is_suspected(store: Store, kind: str) -> None:
    stored = filled(store, models=6)
    assert fsck.check(store) == fsck.Check(12, (), ())
    rng = random.Random(kind)
    for _ in range(15):
        check_noticed(store, stored, kind, rng)


def test_what_is_left_over_is_found_and_what_is_in_use_is_not(store: Store) -> None:
    runs = filled(store, stacks=0)
    fresh = store.layout.temporary(store.layout.record(runs[0].key))
    fresh.touch()
    held, orphaned = store.lock(runs[0]), store.lock(runs[1])
    held.acquire()
    orphaned.acquire()
    orphaned.release()
    store.lock(fake_run(99)).acquire(blocking=False)
    assert kinds(store) == (["lock"] if store.layout.run_lock(runs[1].key).exists() else [])
    held.release()
    old = store.layout.temporary(store.layout.marker)
    old.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    store.put(fake_run(50), fake_result(fake_run(50)), {})
    begun.begin(store, [fake_run(50)])
    begun.begin(store, [fake_run(51)])
    (store.layout.runs / "note.txt").write_text("mine")
    (store.path / "letter").write_text("mine")
    store.layout.marker.write_text("{}")
    store.layout.trainings.write_text("not a training\n")
    found = kinds(store)
    assert sorted(set(found)) == ["checkpoint", "lock", "log", "marker", "stray", "temporary"]
    assert found.count("stray") == 2 and found.count("checkpoint") == 1
    assert fsck.repair(store, fsck.check(store).problems) == []
    after = fsck.check(store)
    assert after.problems == () and after.records == 13 and len(after.quarantined) == 6
    assert fresh.exists()


def test_command(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    runs = filled(store)
    where = ["--store", str(store.path)]
    assert main(["fsck", *where]) == 0
    assert "12 valid records, 0 problems, 0 files in quarantine" in capsys.readouterr().out
    store.layout.record(runs[3].key).write_bytes(b"")
    assert main(["fsck", *where]) == 1
    said = capsys.readouterr().out
    assert f"record: runs/{runs[3].key[:2]}/{runs[3].key}.json: expected a record, got an empty file\n" in said
    assert "--repair moves these files" in said
    assert main(["fsck", *where, "--repair"]) == 1
    assert "moved to quarantine" in capsys.readouterr().out
    assert main(["fsck", *where, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["records"] == 11 and told["problems"] == [] and len(told["quarantine"]) == 1


def test_what_is_no_store_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fsck", "--store", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith("replicate fsck: store ")
    (tmp_path / "letter").write_text("mine")
    assert main(["fsck", "--store", str(tmp_path)]) == 2
    assert "one that holds 'letter'" in capsys.readouterr().err
