"""`replicate runs compare`, `gc` and `export --format parquet`."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from pathlib import Path

import pytest

from replicate.cli import main
from replicate.paper.registry import CLAIMS, claim
from replicate.runs import scales
from replicate.runs.needed import runs_for
from replicate.runs.result import Result
from replicate.runs.run import RESULT_VERSION, Run
from replicate.store import begun, garbage
from replicate.store.record import key_of, seal
from replicate.store.store import Store, open_store
from tests.support.faketrainer import fake_run

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk", "smoke_alone")

SMOKE = scales.get("smoke")
CELL = runs_for([claim("rho/resnet50-cifar100")], SMOKE)[:8]
HOUR = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(tmp_path / "store")
    fill(opened)
    return opened


def fill(store: Store, **changes: float) -> None:
    """The runs of `CELL`; `changes`: index of a run, as k5, to what its accuracy has more."""
    for i, run in enumerate(CELL):
        accuracy = 50.0 + i / 10 + changes.get(f"k{i}", 0.0)
        store.put(run, Result(accuracy, accuracy, i == 0, None if i == 0 else 1.0, (accuracy,), 0.1), {"device": "cpu"})


def put_old(store: Store, run: Run, version: int, accuracy: float = 50.0) -> Path:
    """A record as a program of another result version has written it; those of version 1 knew no precision."""
    record = run.record() | {"result_version": version}
    if version == 1:
        del record["precision"]
    result = Result(accuracy, accuracy, False, 1.0, (accuracy,), 0.1).to_json()
    key = key_of(record)
    path = store.layout.record(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        seal({"format": 1, "key": key, "run": record, "result": result, "provenance": {}, "synthetic": False})
    )
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


class TestCompare:
    def test_two_runs(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        first, second = CELL[1], CELL[2]
        assert main(["runs", "compare", first.key, second.key[:12], "--store", str(store.path)]) == 1
        out = capsys.readouterr().out
        assert out.startswith("accuracy 50.1 and 50.2 per cent: the second is 0.1 pp higher\nfield")
        assert "run.weight_decay" in out
        assert "run.arch" not in out  # what they have in common
        assert main(["runs", "compare", first.key, first.key, "--store", str(store.path)]) == 0
        assert capsys.readouterr().out.endswith("equal to the last digit\n")

    def test_two_stores(self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        other = open_store(tmp_path / "other")
        fill(other, k5=1.5, k3=-0.25)
        other.put(fake_run(), Result(1.0, 1.0, False, 1.0, (1.0,), 1.0), {})
        both = ["runs", "compare", "--store", str(store.path), "--other", str(other.path)]
        assert main(both) == 1
        head, _, *rows = capsys.readouterr().out.splitlines()
        assert head == (
            "8 runs in both, 2 differ (by 0.88 pp on average, 1.5 at most); 0 only in the first, 1 only in the second"
        )
        assert [row.split()[0] for row in rows] == [CELL[5].key, CELL[3].key]
        assert main([*both, "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert (found["shared"], found["only_first"], found["only_second"]) == (8, 0, 1)
        assert [row["difference"] for row in found["differing"]] == [pytest.approx(1.5), pytest.approx(-0.25)]
        assert main([*both, CELL[1].key[:9]]) == 0  # that run alone
        assert capsys.readouterr().out.startswith("1 runs in both, 0 differ; ")

    def test_seconds_and_provenance_are_no_difference(
        self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = open_store(tmp_path / "other")
        for run in CELL:
            result = store.get(run).result
            other.put(run, dataclasses.replace(result, seconds=9.0), {"device": "cuda:0"})
        assert main(["runs", "compare", "--store", str(store.path), "--other", str(other.path)]) == 0

    def test_runs_of_an_older_result_version_are_the_same_runs(
        self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = open_store(tmp_path / "other")
        put_old(other, CELL[1], version=1, accuracy=49.1)
        assert main(["runs", "compare", "--store", str(other.path), "--other", str(store.path)]) == 1
        assert capsys.readouterr().out.startswith("1 runs in both, 1 differ (by 1 pp on average")

    def test_unusable(self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        where = ["--store", str(store.path)]
        assert "expected two keys, or --other DIR, got 1 keys" in refused(capsys, "runs", "compare", "ab", *where)
        assert "expected the key of one run" in refused(capsys, "runs", "compare", "zz", CELL[1].key, *where)
        open_store(tmp_path / "empty")
        words = refused(capsys, "runs", "compare", *where, "--other", str(tmp_path / "empty"))
        assert "share, got none (8 only in the first, 0 only in the second)" in words


class TestGc:
    def test_what_goes_and_what_stays(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        now = store.layout.marker.stat().st_mtime
        old = put_old(store, CELL[1], version=1)
        newer = put_old(store, CELL[2], version=RESULT_VERSION + 1)
        custom = fake_run()
        store.put(custom, Result(1.0, 1.0, False, 1.0, (1.0,), 1.0), {})
        unreadable = store.layout.record("ab" * 12)
        unreadable.parent.mkdir(exist_ok=True)
        unreadable.write_bytes(b"{}")
        store.layout.quarantine.mkdir()
        aside = store.layout.set_aside(old)
        aside.write_bytes(b"damaged")
        done, foreign = begun.begin(store, CELL[:2]), begun.begin(store, [fake_run(7)])
        wanted = begun.begin(store, runs_for(CLAIMS, SMOKE)[-2:])
        trained = begun.begin(store, [fake_run(8)])
        halfway = store.layout.temporary(old)
        fresh = store.layout.temporary(newer)
        for path in (halfway, fresh):
            path.write_bytes(b"half")
        os.utime(halfway, (now - 2 * HOUR, now - 2 * HOUR))
        with store.lock(fake_run(8)):
            found = garbage.find(store)
        assert {item.path: item.reason for item in found} == {
            old: garbage.OLD, store.layout.record(custom.key): garbage.UNNAMED, unreadable: garbage.UNREADABLE,
            aside: garbage.QUARANTINE, done: garbage.CHECKPOINTS, foreign: garbage.CHECKPOINTS,
            halfway: garbage.TEMPORARY,
        }  # fmt: skip
        assert trained.exists() and wanted.exists()
        trained.joinpath(begun.RUNS).unlink()  # as while it is being made
        command = ["runs", "gc", "--store", str(store.path)]
        assert main([*command, "--dry-run"]) == 0
        out = capsys.readouterr().out
        size = sum(item.size_bytes for item in found)
        assert out.endswith(f"\n{size:,} bytes; nothing was deleted; add --delete to delete these\n")
        assert f"\n{garbage.OLD}" in out
        assert all(item.path.exists() for item in found)
        assert main([*command, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["deleted"], told["bytes"], len(told["items"])) == (False, size, 7)
        assert main([*command, "--delete"]) == 0
        assert f"deleted 7 files and folders in {store.path}: {size:,} bytes" in capsys.readouterr().out
        assert not any(item.path.exists() for item in found)
        assert newer.exists() and wanted.exists() and fresh.exists()
        assert {run.key for run in CELL} <= store.keys()
        assert main(command) == 0
        assert capsys.readouterr().out.startswith("nothing to delete in ")

    def test_what_is_gone_by_then_is_not_counted(self, store: Store) -> None:
        path = put_old(store, CELL[1], version=1)
        items = garbage.find(store)
        path.unlink()
        assert garbage.delete(items) == []

    def test_a_stack_left_for_a_month(self, store: Store) -> None:
        folder = begun.begin(store, runs_for(CLAIMS, SMOKE)[-2:])
        assert garbage.find(store) == []
        (item,) = garbage.find(store, now=folder.stat().st_mtime + begun.STALE_SECONDS + 1)
        assert (item.path, item.reason) == (folder, garbage.CHECKPOINTS)


class TestExport:
    def test_out_is_written(self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "runs.csv"
        assert main(["runs", "export", "--store", str(store.path), "--out", str(out)]) == 0
        assert capsys.readouterr().out == ""
        assert len(out.read_text().splitlines()) == 1 + len(CELL)
        words = refused(capsys, "runs", "export", "--store", str(store.path), "--out", str(tmp_path / "no" / "x"))
        assert "expected a file that can be written, got: No such file" in words

    def test_parquet_says_what_it_needs(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        words = refused(capsys, "runs", "export", "--format", "parquet", "--store", str(store.path))
        assert words == (
            "replicate runs: --format parquet: expected pyarrow, got none installed; pip install pyarrow\n"
        )

    def test_parquet(self, store: Store, tmp_path: Path) -> None:
        import pandas as pd

        pytest.importorskip("pyarrow")
        out = tmp_path / "runs.parquet"
        assert main(["runs", "export", "--format", "parquet", "--store", str(store.path), "--out", str(out)]) == 0
        frame = pd.read_parquet(out)
        assert len(frame) == len(CELL)
        assert frame["accuracy"].isna().sum() == 1
