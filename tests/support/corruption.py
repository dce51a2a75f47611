"""Damage done to the files of a store at random: flipped bits, truncations, swaps of two files, empty files."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch

from replicate.runs.run import Run
from replicate.store import begun
from replicate.store.store import Store
from replicate.train.checkpoint import Checkpoint
from replicate.train.kept_models import sealed as sealed_model
from tests.support.faketrainer import fake_result, fake_run

KINDS = ("flip", "truncate", "swap", "empty")


def filled(store: Store, runs: int = 12, stacks: int = 2, models: int = 0) -> list[Run]:
    """`runs` stored, the first `models` of them with a model, and `stacks` begun with a checkpoint each; the stored."""
    stored = [fake_run(seed) for seed in range(runs)]
    for run in stored:
        store.put(run, fake_result(run), {"seconds": 0.5}, durable=False)
    for run in stored[:models]:
        store.put_model(run.key, sealed_model(run, fake_result(run), {"weight": torch.arange(6.0) + run.seed}))
    for i in range(stacks):
        folder = begun.begin(store, [fake_run(1000 + i), fake_run(1100 + i)])
        Checkpoint(folder, [f"stack {i}"], print).save({"weights": torch.arange(5.0) + i, "step": i})
    return stored


def sealed(store: Store) -> list[Path]:
    """The files that carry a checksum, or are named for what they hold."""
    places = [
        store.layout.runs.glob("*/*.json"),
        store.layout.runs.glob("*/*.safetensors"),
        store.layout.checkpoints.glob("*/*"),
    ]
    return sorted(path for place in places for path in place)


def corrupt(files: Sequence[Path], kind: str, rng: random.Random) -> list[Path]:
    """Damage one or two of `files`; which ones."""
    if kind == "swap":
        one, other = rng.sample(list(files), 2)
        blobs = one.read_bytes(), other.read_bytes()
        other.write_bytes(blobs[0])
        one.write_bytes(blobs[1])
        return [one, other]
    path = rng.choice(list(files))
    blob = bytearray(path.read_bytes())
    if kind == "flip":
        blob[rng.randrange(len(blob))] ^= 1 << rng.randrange(8)
    elif kind == "truncate":
        del blob[rng.randrange(len(blob)) :]
    else:
        blob.clear()
    path.write_bytes(blob)
    return [path]


def check_noticed(store: Store, stored: Sequence[Run], kind: str, rng: random.Random) -> None:
    """One corruption of `store`, noticed by `fsck` and by readers; then the files are as before."""
    from replicate.store import fsck
    from replicate.store.store import open_store

    files = sealed(store)
    before = {path: path.read_bytes() for path in files}
    hurt = corrupt(files, kind, rng)
    found = fsck.check(store)
    problems = {problem.path for problem in found.problems}
    for path in hurt:
        assert path in problems or path.parent in problems, f"expected {kind} of {path} to be noticed, got {problems}"
    # A model without a record that can be believed goes with it.
    allowed = {*hurt, *(path.parent for path in hurt), *(store.layout.model(path.stem) for path in hurt)}
    assert problems <= allowed, f"expected nothing but {hurt} to be suspected, got {problems}"
    reader = open_store(store.path, read_only=True)
    for run in stored:
        found_run = reader.get(run)
        assert (found_run is None) == (store.layout.record(run.key) in hurt)
        assert found_run is None or found_run.result == fake_result(run)
    for path in hurt:
        path.write_bytes(before[path])
