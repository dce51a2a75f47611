"""Recorded runs: what is written is read, damage is noticed and costs no more than it must, a store goes before."""

from __future__ import annotations

import dataclasses
import gzip
import json
import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicate.cli import main
from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.needed import runs_for, split
from replicate.runs.result import Result
from replicate.store import recorded
from replicate.store.record import StoredRun
from replicate.store.store import StoreError, open_store
from replicate.train.engine import local
from tests.support.faketrainer import fake_result, fake_run

PROVENANCE = {"versions": {"python": "3"}, "device": "cpu", "device_model": "a processor", "platform": "here"}


def stored(i: int) -> StoredRun:
    run = fake_run(lr=1e-3 * (i + 1))
    return StoredRun(run.key, run.record(), fake_result(run), PROVENANCE, run.synthetic)


RUNS = [stored(i) for i in range(8)]
BY_KEY = {run.key: run for run in RUNS}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = recorded.path_of("smoke", tmp_path)
    assert recorded.write(path, RUNS) == len(RUNS)
    return path


def test_what_is_written_is_read(path: Path) -> None:
    assert recorded.read(path) == BY_KEY
    assert [p.name for p in path.parent.iterdir()] == [recorded.FILE]


def test_equal_runs_give_equal_bytes(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.gz"
    recorded.write(again, reversed(RUNS))
    assert again.read_bytes() == path.read_bytes()


def test_no_file_holds_no_runs(tmp_path: Path) -> None:
    assert recorded.read(recorded.path_of("smoke", tmp_path)) == {}


def test_a_changed_file_is_read_again(path: Path) -> None:
    assert len(recorded.read(path)) == len(RUNS)
    recorded.write(path, RUNS[:3])
    assert recorded.read(path) == {run.key: run for run in RUNS[:3]}


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.99])
def test_a_row_with_a_flipped_bit_is_missing_and_no_other(
    path: Path, place: float, caplog: pytest.LogCaptureFixture
) -> None:
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    text = bytearray(lines[2])
    text[int(place * (len(text) - 1))] ^= 1
    lines[2] = bytes(text)
    path.write_bytes(gzip.compress(b"".join(lines)))
    with caplog.at_level(logging.WARNING):
        found = recorded.read(path)
    assert sorted(found) == [key for i, key in enumerate(sorted(BY_KEY)) if i != 2]
    assert all(found[key] == BY_KEY[key] for key in found)
    assert "1 recorded runs are damaged and count as missing; get the file again" in caplog.text


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_the_file_no_row_is_wrong(path: Path, data: st.DataObject) -> None:
    blob = bytearray(gzip.compress(b"".join(gzip.decompress(path.read_bytes()).splitlines(keepends=True))))
    if data.draw(st.booleans()):
        blob = blob[: data.draw(st.integers(0, len(blob)))]
    for _ in range(data.draw(st.integers(0, 3))):
        if blob:
            blob[data.draw(st.integers(0, len(blob) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = path.with_name("damaged.gz")
    damaged.write_bytes(blob)
    recorded._read.cache_clear()
    for key, run in recorded.read(damaged).items():
        assert run == BY_KEY[key]


def test_a_store_counts_what_lies_below_and_goes_before_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", below=BY_KEY)
    run = fake_run(lr=1e-3)
    assert store.has(run.key)
    assert store.keys() == set(BY_KEY)
    assert store.get(run) == BY_KEY[run.key]
    own = dataclasses.replace(fake_result(run), accuracy_pp=12.0, history=(12.0,), best_accuracy_pp=12.0)
    store.put(run, own, PROVENANCE)
    got = store.get(run)
    assert got is not None
    assert got.result == own
    store.layout.record(run.key).write_bytes(b"{}")  # damaged: set aside, and what lies below counts again
    assert store.get(run) == BY_KEY[run.key]
    assert store.get(fake_run(lr=0.5)) is None


def test_a_store_that_is_not_there_is_empty_above_recorded_runs(tmp_path: Path) -> None:
    store = open_store(tmp_path / "none", create=False, read_only=True, below=BY_KEY)
    assert store.keys() == set(BY_KEY)
    assert [stored.key for stored in store.records()] == sorted(BY_KEY)
    assert store.notices == [
        f"store {tmp_path / 'none'} does not exist: only the {len(BY_KEY)} runs recorded with the source code are used"
    ]
    assert not (tmp_path / "none").exists()
    with pytest.raises(StoreError, match="but there is none"):
        open_store(tmp_path / "none", create=False, read_only=True, below={})


def test_record_and_verify_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recorded, "FOLDER", tmp_path / "recorded")
    monkeypatch.setattr(recorded.path_of, "__defaults__", (tmp_path / "recorded",))
    scale = scales.get("smoke")
    wanted = runs_for(split(CLAIMS, scale)[0], scale)
    store = open_store(tmp_path / "store")
    for run in wanted[:5]:
        store.put(run, fake_result(run), PROVENANCE, durable=False)
    assert main(["runs", "record", "--scale", "smoke", "--store", str(store.path)]) == 0
    assert f"5 of {len(wanted)} runs recorded in" in capsys.readouterr().out
    assert recorded.read(recorded.path_of("smoke")).keys() == {run.key for run in wanted[:5]}
    assert main(["runs", "verify", "--scale", "embedded"]) == 2
    assert "expected recorded runs in" in capsys.readouterr().err


def test_verifying_compares_to_the_last_digit_on_the_same_machine_alone() -> None:
    from replicate.cli.runs import ROUNDING_PP, _compared

    before = dataclasses.replace(RUNS[0], result=dataclasses.replace(RUNS[0].result, accuracy_pp=50.0))
    near = dataclasses.replace(before.result, accuracy_pp=before.result.accuracy_pp - 0.1)
    far = dataclasses.replace(before.result, accuracy_pp=before.result.accuracy_pp - ROUNDING_PP - 0.1)
    elsewhere = {**PROVENANCE, "device_model": "another processor"}

    def agrees(after: StoredRun) -> bool:
        return bool(_compared(before, after)["agrees"])

    assert agrees(before)
    assert not agrees(dataclasses.replace(before, result=near))
    assert agrees(dataclasses.replace(before, result=near, provenance=elsewhere))
    assert not agrees(dataclasses.replace(before, result=far, provenance=elsewhere))


def test_verifying_on_a_gpu_allows_for_other_company_in_the_stack() -> None:
    """The very machine that recorded a run rounds it otherwise in another stack; more than rounding is a finding."""
    from replicate.cli.runs import ROUNDING_PP, _compared

    provenance = {**PROVENANCE, "device": "cuda:1", "device_model": "a GPU"}

    def measured(pp: float) -> StoredRun:
        return dataclasses.replace(RUNS[0], result=Result(pp, pp, False, 0.5, (pp,), 1.0), provenance=provenance)

    before = measured(50.0)
    for pp, agrees in ((50.0, True), (50.1, True), (50.1 - ROUNDING_PP, True), (49.9 - ROUNDING_PP, False)):
        row = _compared(before, measured(pp))
        assert (row["same machine"], row["agrees"]) == (True, agrees)


@pytest.mark.slow
def test_recorded_runs_are_trained_again_and_an_altered_one_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(recorded, "FOLDER", tmp_path / "recorded")
    monkeypatch.setattr(recorded.path_of, "__defaults__", (tmp_path / "recorded",))
    scale = scales.get("smoke")
    chosen = runs_for(split(CLAIMS, scale)[0], scale)[:3]
    store = open_store(tmp_path / "store")
    local.ensure(store, chosen)
    found = {run.key: stored for run in chosen if (stored := store.read(run.key)) is not None}
    recorded.write(recorded.path_of("smoke"), found.values())
    verify = ["runs", "verify", "--scale", "smoke", "--json"]
    assert main([*verify, "--sample", "2"]) == 0
    assert [row["agrees"] for row in json.loads(capsys.readouterr().out)["rows"]] == [True, True]
    key = chosen[0].key
    result = found[key].result
    wrong = dataclasses.replace(result, accuracy_pp=90.0, best_accuracy_pp=90.0, history=(*result.history[:-1], 90.0))
    altered = {**found, key: dataclasses.replace(found[key], result=wrong)}
    recorded.write(recorded.path_of("smoke"), altered.values())
    assert main([*verify, key[:6], key]) == 1
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["key"], row["agrees"]) == (key, False)
    assert main([*verify, chosen[1].key]) == 0
    for prefix, got in (("zz", "none that begins with it"), ("", "3 that begin with it")):
        assert main([*verify, prefix]) == 2
        assert f"one recorded run of scale smoke, or its first digits, got {got}" in capsys.readouterr().err
