"""The store: round trip, corruption, opening, locks."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import Timeout
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicate.data.spec import DataSpec
from replicate.runs.result import Result
from replicate.runs.run import RESULT_VERSION, ModelSpec, Run
from replicate.store import garbage
from replicate.store.record import Corrupt, key_of, parse, run_from_record, seal
from replicate.store.store import STALE_SECONDS, Store, StoreError, open_store
from tests.support.faketrainer import fake_result, fake_run
from tests.support.processes import environment

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

PROVENANCE = {"versions": {"python": "3"}, "device": "cpu"}


def put(store: Store, run: Run, **changes: object) -> Path:
    store.put(run, dataclasses.replace(fake_result(run), **changes), PROVENANCE)
    return store.layout.record(run.key)


# Round trip

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)
positive = st.floats(0, 1e6)
runs = st.builds(
    Run,
    arch=st.text(),
    model=st.builds(ModelSpec, st.text(), st.lists(st.tuples(st.text(), values), max_size=3).map(tuple)),
    data=st.builds(DataSpec, st.text(), st.none() | st.integers(1, 10**6), st.floats(0, 1), st.integers(0, 9)),
    optimizer=st.sampled_from(["adamw", "sgd"]),
    lr=positive,
    weight_decay=positive,
    seed=st.integers(0, 2**31),
    schedule=st.text(),
    epochs=st.integers(1, 300),
    warmup_epochs=st.integers(0, 10),
    batch_size=st.integers(1, 4096),
    augment=st.lists(st.text(), max_size=2).map(tuple),
)
percent = st.floats(0, 100)


@st.composite
def results(draw: st.DrawFn) -> Result:
    diverged = draw(st.booleans())
    loss = None if diverged else draw(st.floats(allow_nan=False, allow_infinity=False))
    history = tuple(draw(st.lists(percent, max_size=4)))
    return Result(draw(percent), draw(percent), diverged, loss, history, draw(positive))


@given(run=runs, result=results(), remark=values)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_put_is_what_is_got_bit_for_bit(store: Store, run: Run, result: Result, remark: object) -> None:
    store.put(run, result, {"remark": remark})
    stored = Store(store.path).get(run)
    assert stored is not None
    assert stored.result == result
    assert [x.hex() for x in stored.result.history] == [x.hex() for x in result.history]
    assert stored.synthetic is run.synthetic
    assert stored.run == run.record()
    assert key_of(stored.run) == stored.key == run.key
    again = run_from_record(stored.run)
    assert again == run
    assert again.key == run.key


def test_get_of_a_run_that_is_not_there_is_none(store: Store) -> None:
    assert store.get(fake_run()) is None
    assert not store.has(fake_run().key)
    assert store.keys() == set()
    assert store.notices == []


def test_keys_find_and_records(store: Store) -> None:
    several = [fake_run(seed) for seed in range(5)]
    for run in several:
        put(store, run)
    assert store.keys() == {run.key for run in several}
    assert store.find(several[0].key[:10]) == [several[0].key]
    assert [s.key for s in store.records()] == sorted(store.keys())
    assert all(store.has(run.key) for run in several)


def test_a_key_is_no_path(store: Store) -> None:
    with pytest.raises(StoreError, match=r"^key: expected 24 hexadecimal digits, got '\.\./\.\./x'"):
        store.read("../../x")


def test_a_record_of_another_result_version_is_no_run() -> None:
    with pytest.raises(ValueError, match=f"expected result_version {RESULT_VERSION}, got 0"):
        run_from_record(fake_run().record() | {"result_version": 0})
    with pytest.raises(ValueError, match=r"^object missing required field `arch`$"):
        run_from_record({"result_version": RESULT_VERSION})
    with pytest.raises(ValueError, match=r"^run record: expected the fields of a Run, got .*'more'"):
        run_from_record(fake_run().record() | {"more": 1})


def test_a_replaced_record_is_read_anew(store: Store) -> None:
    run = fake_run()
    put(store, run, accuracy_pp=1.0)
    first = store.get(run)
    put(store, run, accuracy_pp=2.0)
    second = store.get(run)
    assert (first.result.accuracy_pp, second.result.accuracy_pp) == (1.0, 2.0)


def test_the_content_hash_tells_results_apart_and_not_seconds(store: Store, tmp_path: Path) -> None:
    one, two = fake_run(1), fake_run(2)
    for run in (one, two):
        put(store, run)
    other = open_store(tmp_path / "other")
    put(other, one, seconds=99.0)
    assert store.content_hash([one.key]) == other.content_hash([one.key, one.key])
    assert store.content_hash([one.key, two.key]) == store.content_hash([two.key, one.key])
    assert store.content_hash([one.key, two.key]) != other.content_hash([one.key, two.key])
    before = store.content_hash([one.key])
    put(store, one, accuracy_pp=1.0)
    assert store.content_hash([one.key]) != before


def test_infinite_provenance_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        store.put(fake_run(), fake_result(fake_run()), {"x": math.inf})
    assert store.keys() == set()


# Corruption


def assert_set_aside(store: Store, run: Run, *words: str) -> None:
    assert store.get(run) is None
    assert not store.has(run.key)
    (notice,) = store.notices
    assert f"runs/{run.key[:2]}/{run.key}.json is corrupt" in notice
    assert "moved to quarantine/" in notice
    assert "trained again" in notice
    for word in words:
        assert word in notice
    assert len(list(store.layout.quarantine.iterdir())) == 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda blob: b"", "got an empty file"),
        (lambda blob: blob[: len(blob) // 2], "expected a whole record: input data was truncated"),
        (lambda blob: blob[:-1], "the same values in another layout"),
        (lambda blob: blob + blob, "expected a whole record: JSON is malformed: trailing characters (byte "),
        (lambda blob: b" " + blob, "the same values in another layout"),
        (lambda blob: b"\xff" * 40, "expected a whole record: JSON is malformed: invalid character (byte 0)"),
        (lambda blob: b"[" * 100_000, "expected a whole record: expected `object`, got `array`"),
        (lambda blob: b'{"a":' * 100_000, "expected a whole record: nested too deep"),
        (lambda blob: b"null\n", "expected a whole record: expected `object`, got `null`"),
        (lambda blob: b"{}\n", "expected checksum 44136fa355b3…, got none"),
        (lambda blob: blob.replace(b"false", b"true", 1), "expected checksum"),
    ],
)
def test_damage_is_noticed_set_aside_and_said(store: Store, damage: object, words: str) -> None:
    run = fake_run()
    path = put(store, run)
    path.write_bytes(damage(path.read_bytes()))
    assert_set_aside(store, run, words)
    put(store, run)
    assert store.get(run).result == fake_result(run)


def test_every_flipped_bit_is_noticed(store: Store) -> None:
    run = fake_run()
    blob = put(store, run).read_bytes()
    for bit in range(8 * len(blob)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupt, match=r"^expected"):
            parse(bytes(damaged), run.key)


def test_two_swapped_files_are_noticed(store: Store) -> None:
    one, two = fake_run(1), fake_run(2)
    a, b = put(store, one), put(store, two)
    blob_a, blob_b = a.read_bytes(), b.read_bytes()
    a.write_bytes(blob_b)
    b.write_bytes(blob_a)
    assert store.get(one) is None
    assert store.get(two) is None
    assert len(store.notices) == 2
    assert f"expected the run with key {one.key}, got that of {two.key}" in store.notices[0]


def test_a_record_whose_run_was_changed_is_noticed_although_it_is_sealed(store: Store) -> None:
    run = fake_run()
    path = put(store, run)
    body = json.loads(path.read_bytes())
    del body["checksum"]
    body["run"]["lr"] = 0.5
    path.write_bytes(seal(body))
    assert_set_aside(store, run, f"expected the run with key {run.key}")


def test_a_directory_in_place_of_a_record_is_set_aside(store: Store) -> None:
    run = fake_run()
    store.layout.record(run.key).mkdir(parents=True)
    assert store.get(run) is None
    assert "got a directory" in store.notices[0]
    put(store, run)
    assert store.get(run) is not None


def test_damage_after_the_first_reading_is_noticed(store: Store) -> None:
    run = fake_run()
    path = put(store, run)
    assert store.get(run) is not None
    path.write_bytes(path.read_bytes()[:-9])
    assert_set_aside(store, run)


def test_a_good_record_that_arrives_while_a_bad_one_is_set_aside_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run()
    path = put(store, run)
    good = path.read_bytes()
    path.write_bytes(b"bad")
    real = Path.read_bytes

    def read_then_replace(self: Path) -> bytes:
        blob = real(self)
        if blob == b"bad" and self == path:
            path.write_bytes(good)
        return blob

    monkeypatch.setattr(Path, "read_bytes", read_then_replace)
    assert store.get(run).result == fake_result(run)
    assert store.notices == []


def test_a_record_of_a_newer_format_is_refused_and_kept(store: Store) -> None:
    run = fake_run()
    path = put(store, run)
    body = json.loads(path.read_bytes())
    del body["checksum"]
    path.write_bytes(seal(body | {"format": 2}))
    with pytest.raises(StoreError, match=r"expected record format 1 or older, got 2; upgrade replicate"):
        store.get(run)
    assert path.exists()


def test_random_damage_of_a_whole_store_is_all_noticed(store: Store) -> None:
    several = [fake_run(seed) for seed in range(40)]
    rng = random.Random(0)
    for run in several:
        path = put(store, run)
        blob = bytearray(path.read_bytes())
        kind = rng.choice(["flip", "cut", "empty", "none"])
        if kind == "flip":
            blob[rng.randrange(len(blob))] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del blob[rng.randrange(len(blob)) :]
        elif kind == "empty":
            blob.clear()
        damaged = bytes(blob) != path.read_bytes()
        path.write_bytes(blob)
        assert (store.get(run) is None) == damaged
    assert len(store.notices) == len(list(store.layout.quarantine.iterdir())) > 20


# Opening


def test_opening_makes_the_directory_and_its_marker(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a" / "b")
    assert json.loads(store.layout.marker.read_text())["format"] == 1
    assert [p.name for p in store.path.iterdir()] == ["store.json"]
    open_store(tmp_path / "a" / "b")


def test_a_file_in_place_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        StoreError, match=r"^store .*file: expected a directory, got a file; name a directory"
    ) as caught:
        open_store(tmp_path / "file")
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match=r"expected a directory.*got .*Not a directory|got a file"):
        open_store(tmp_path / "file" / "below")


@pytest.mark.parametrize("name", ["nul\0byte", "x" * 300])
def test_names_that_no_directory_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="expected a directory that can be read or made"):
        open_store(tmp_path / name)


def test_an_empty_name_is_not_the_working_directory() -> None:
    with pytest.raises(StoreError, match="got an empty name"):
        open_store("")


def test_a_store_that_is_not_there_is_not_made_to_be_read(tmp_path: Path) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreError, match="but there is none; train first, or check the path"):
            open_store(tmp_path / "gone", **options)
    assert not (tmp_path / "gone").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="expected a store, got an empty directory"):
        open_store(tmp_path / "empty", read_only=True)


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=r"expected a store or an empty directory, got one that holds 'thesis.tex'"):
        open_store(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs", "thesis.tex"]


@pytest.mark.parametrize("more", ['"software": "replicate 9.0"', '"software": ["replicate 9.0"], "locks": 7, "x": {}'])
def test_a_newer_format_is_refused_whatever_else_it_holds(store: Store, more: str) -> None:
    marker = f'{{"format": 2, {more}}}'
    store.layout.marker.write_text(marker)
    with pytest.raises(StoreError, match=r"expected format 1 or older, got 2, .*replicate 9\.0.*; upgrade replicate"):
        open_store(store.path)
    assert store.layout.marker.read_text() == marker


@pytest.mark.slow
def test_a_record_of_a_newer_format_is_no_garbage_whatever_it_holds(store: Store) -> None:
    path = put(store, fake_run())
    path.write_text('{"format": 2, "runs": [{"result_version": "z"}]}')
    assert not garbage.find(store)
    path.write_text('{"format": 1, "run": {"result_version": "z"}}')
    assert [item.reason for item in garbage.find(store)] == [garbage.UNREADABLE]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": true}', '{"format": "x"}', None])
def test_a_corrupt_or_missing_marker_is_said_and_written_anew(store: Store, text: str | None) -> None:
    put(store, fake_run())
    if text is None:
        store.layout.marker.unlink()
    else:
        store.layout.marker.write_text(text)
    readonly = open_store(store.path, read_only=True)
    assert readonly.get(fake_run()) is not None
    assert "store.json is" in readonly.notices[0]
    assert "written again" not in readonly.notices[0]
    again = open_store(store.path)
    assert "written again" in again.notices[0]
    assert open_store(store.path).notices == []


def _deny_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only file system: the superuser may write wherever permissions alone forbid it."""
    real = Path.open

    def deny(self: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        if set(mode) & set("wax+"):
            raise OSError(30, "Read-only file system")
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", deny)


def test_a_store_that_cannot_be_written_can_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run, bad = fake_run(1), fake_run(2)
    put(store, run)
    put(store, bad).write_bytes(b"bad")
    _deny_writing(monkeypatch)
    with pytest.raises(StoreError, match=r"got 'Read-only file system'; make it writable, name another .*--offline"):
        open_store(store.path)
    reader = open_store(store.path, read_only=True)
    assert reader.get(run).result == fake_result(run)
    assert reader.get(bad) is None
    assert reader.get(bad) is None
    (notice,) = reader.notices
    assert "its run counts as missing; a read-only store keeps the file" in notice
    with pytest.raises(StoreError, match="opened read-only"):
        reader.put(run, fake_result(run), {})
    with pytest.raises(StoreError, match=r"cannot write .*: Read-only file system; make room"):
        store.put(run, fake_result(run), {})


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_permissions_are_found_out_by_trying(store: Store) -> None:
    store.path.chmod(0o555)
    try:
        with pytest.raises(StoreError, match="expected a directory that can be written"):
            open_store(store.path)
    finally:
        store.path.chmod(0o755)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake_run()
    path = put(store, run)
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device; make room .*finished runs are kept"):
        put(store, run, accuracy_pp=1.0)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_only_old_temporary_files_are_swept(store: Store) -> None:
    path = put(store, fake_run())
    old, new = store.layout.temporary(path), store.layout.temporary(path)
    top = store.layout.temporary(store.layout.marker)
    for file in (old, new, top):
        file.touch()
    past = time.time() - STALE_SECONDS - 60
    for file in (old, top):
        os.utime(file, (past, past))
    assert store.keys() == {fake_run().key}
    open_store(store.path)
    assert (old.exists(), new.exists(), top.exists(), path.exists()) == (False, True, False, True)


def test_a_write_survives_that_its_temporary_file_is_swept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    swept = []
    real = os.fsync

    def sweep_once(fd: int) -> None:
        real(fd)
        if not swept:
            swept.append(store.clear_temporaries(time.time() + 2 * STALE_SECONDS))

    monkeypatch.setattr(os, "fsync", sweep_once)
    put(store, fake_run())
    assert swept == [1]
    assert store.get(fake_run()) is not None


def test_many_open_one_new_store_at_once(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def open_it() -> None:
        try:
            open_store(tmp_path / "s")
        except BaseException as error:
            errors.append(error)

    for _ in range(5):
        threads = [threading.Thread(target=open_it) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [p.name for p in (tmp_path / "s").iterdir()] == ["store.json"]
        shutil.rmtree(tmp_path / "s")
    assert errors == []


# Locks and the log of trainings


def test_a_lock_excludes_and_the_death_of_its_holder_frees_it(store: Store) -> None:
    run = fake_run()
    program = (
        "import sys, time; from replicate.store.store import open_store\n"
        "from tests.support.faketrainer import fake_run\n"
        "lock = open_store(sys.argv[1]).lock(fake_run()); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(store.path)],
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Timeout):
        store.lock(run).acquire(blocking=False)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with store.lock(run).acquire(timeout=5):
        store.drop_lock_file(run.key)
        assert not store.layout.run_lock(run.key).exists()


def test_locks_of_different_runs_and_slots_are_different(store: Store) -> None:
    with store.lock(fake_run(1)), store.lock(fake_run(2)), store.lease("a"), store.lease("b"), pytest.raises(Timeout):
        store.lease("a").acquire(blocking=False)


def test_the_log_of_trainings(store: Store) -> None:
    assert store.trainings() == []
    store.log_training(fake_run().key, 1.25)
    with store.layout.trainings.open("ab") as file:
        file.write(b"torn li\n\xff\n")
    store.log_training(fake_run(1).key, 2)
    assert store.trainings() == [(fake_run().key, os.getpid(), 1.25), (fake_run(1).key, os.getpid(), 2.0)]


def test_importing_the_store_imports_no_torch() -> None:
    modules = "replicate.store.store, replicate.runs.needed, replicate.train.watch.monitor"
    program = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, env=environment())
