"""Checkpoints: whole or not at all, believed only when whole, and never a way to run code."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from replicate.train import checkpoint as checkpoint_module
from replicate.train.checkpoint import FORMAT, Checkpoint, CheckpointError, Saver
from tests.support.readers_store import with_digest

STATE = {
    "taken": 3,
    "theta": torch.arange(6.0).view(2, 3),
    "alive": torch.tensor([True, False]),
    "history": [[1.5], []],
}


@pytest.fixture
def words() -> list[str]:
    return []


@pytest.fixture
def checkpoint(tmp_path: Path, words: list[str]) -> Checkpoint:
    return Checkpoint(tmp_path / "made" / "when needed", ["float32", "abc"], words.append)


def test_what_is_saved_comes_back(checkpoint: Checkpoint, words: list[str]) -> None:
    assert checkpoint.load("cpu") is None
    checkpoint.save({"taken": 1})
    checkpoint.save(STATE)
    found = checkpoint.load("cpu")
    assert found is not None
    assert found["theta"].equal(STATE["theta"]) and found["theta"].dtype == torch.float32
    assert found["alive"].tolist() == [True, False]
    assert (found["taken"], found["history"]) == (3, [[1.5], []])
    assert words == []
    assert [p.name for p in checkpoint.path.parent.iterdir()] == [checkpoint.path.name]


def test_discarded_when_done(checkpoint: Checkpoint) -> None:
    checkpoint.discard()
    checkpoint.save(STATE)
    checkpoint.discard()
    assert list(checkpoint.path.parent.iterdir()) == []
    assert checkpoint.load("cpu") is None


def test_other_work_has_another_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = checkpoint.path.parent
    names = {
        Checkpoint(folder, identity, print).path.name
        for identity in (["float32", "abc"], ["bf16", "abc"], ["float32", "abc", "abc"], ["float32", "ab", "c"])
    }
    assert len(names) == 4 and checkpoint.path.name in names


@pytest.mark.parametrize("keep", [0, 1, 64, 65, 100, -1])
def test_cut_off(checkpoint: Checkpoint, words: list[str], keep: int) -> None:
    checkpoint.save(STATE)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:keep])
    assert checkpoint.load("cpu") is None
    assert len(words) == 1
    assert words[0].startswith(f"checkpoint {checkpoint.path.name}: expected SHA-256 ")
    assert words[0].endswith("cut off or altered; training starts over")
    checkpoint.save(STATE)
    assert checkpoint.load("cpu") is not None


def test_every_altered_byte_is_noticed(checkpoint: Checkpoint, words: list[str]) -> None:
    checkpoint.save(STATE)
    whole = checkpoint.path.read_bytes()
    places = [*range(70), *range(70, len(whole), 97), len(whole) - 1]
    for place in places:
        altered = bytearray(whole)
        altered[place] ^= 1
        checkpoint.path.write_bytes(altered)
        assert checkpoint.load("cpu") is None, place
    assert len(words) == len(places)
    checkpoint.path.write_bytes(whole)
    assert checkpoint.load("cpu") is not None


def test_no_code_is_run(checkpoint: Checkpoint, words: list[str], tmp_path: Path) -> None:
    """A file with a right checksum whose pickle would run a command."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'run'}",)

    checkpoint.path.parent.mkdir(parents=True)
    with (tmp_path / "evil").open("wb") as file:
        torch.save({"identity": checkpoint.identity, "state": Evil()}, file)
    for body in ((tmp_path / "evil").read_bytes(), pickle.dumps(Evil(), protocol=2), b"", b"nonsense"):
        checkpoint.path.write_bytes(with_digest(body))
        assert checkpoint.load("cpu") is None
    assert not (tmp_path / "run").exists()
    assert len(words) == 4 and all(w.endswith("training starts over") and "\n" not in w for w in words)


def test_file_of_other_work_under_this_name(checkpoint: Checkpoint, words: list[str]) -> None:
    other = Checkpoint(checkpoint.path.parent, ["other"], words.append)
    other.save(STATE)
    other.path.replace(checkpoint.path)
    assert checkpoint.load("cpu") is None
    assert f"expected a checkpoint with identity {checkpoint.identity[:12]}…, got {other.identity[:12]}…" in words[0]


def test_leftovers_of_killed_writers_are_swept(checkpoint: Checkpoint) -> None:
    checkpoint.save(STATE)
    mine = checkpoint.path.with_name(f".{checkpoint.path.name}.0123456789abcdef.tmp")
    others = checkpoint.path.with_name(".other.checkpoint.0123456789abcdef.tmp")
    mine.write_bytes(b"half")
    others.write_bytes(b"half")
    assert checkpoint.load("cpu") is not None
    assert not mine.exists() and others.exists()


def test_failed_write_leaves_the_last_one(
    checkpoint: Checkpoint, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(STATE)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.save({"taken": 4})
    assert str(caught.value) == (
        f"cannot write {checkpoint.path}: No space left on device; make room or make it writable"
    )
    monkeypatch.undo()
    found = checkpoint.load("cpu")
    assert found is not None and found["taken"] == 3
    assert [p.name for p in checkpoint.path.parent.iterdir()] == [checkpoint.path.name]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX limits")
@pytest.mark.parametrize("limit", [0, 40, 300, 5000])
def test_a_disk_that_is_full_in_the_middle_leaves_the_last_one(
    checkpoint: Checkpoint, words: list[str], limit: int
) -> None:
    """The kernel cuts the write off, wherever torch is at the time."""
    import resource

    checkpoint.save(STATE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(CheckpointError) as caught:
            checkpoint.save({"taken": 4, "more": torch.zeros(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == f"cannot write {checkpoint.path}: File too large; make room or make it writable"
    assert [p.name for p in checkpoint.path.parent.iterdir()] == [checkpoint.path.name]
    found = checkpoint.load("cpu")
    assert found is not None and found["taken"] == 3 and words == []
    checkpoint.save({"taken": 4, "more": torch.zeros(5000)})
    again = checkpoint.load("cpu")
    assert again is not None and again["taken"] == 4


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checkpoint = Checkpoint(tmp_path / "file", ["x"], print)
    with pytest.raises(CheckpointError, match=r"cannot write .*; make room or make it writable"):
        checkpoint.save(STATE)


def test_identity_is_a_hash_of_its_parts(checkpoint: Checkpoint) -> None:
    text = json.dumps([FORMAT, "float32", "abc"], separators=(",", ":"))
    assert checkpoint.identity == hashlib.sha256(text.encode()).hexdigest()


def test_saving_that_takes_long_comes_less_often(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most a hundredth of a training goes into it; a fast one comes as often as was asked for."""
    now, taken = [0.0], [0.0]
    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: now[0])

    def state() -> dict[str, object]:
        now[0] += taken[0]
        return STATE

    for seconds, expected in ((0.5, [300, 600.5, 901]), (20.0, [300, 2320, 4340])):
        now[0], taken[0] = 0.0, seconds
        saver, saved = Saver(checkpoint, seconds=300.0), []
        while now[0] < 5000 and len(saved) < 3:
            before = now[0]
            saver.after_step(state, "")
            if now[0] > before:
                saved.append(before)
            now[0] += 0.5
        assert saved == pytest.approx(expected, abs=1.0)
