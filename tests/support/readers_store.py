"""What lies in a store as hostile input: records, marker, begun stacks, log, prices, checkpoints, recorded runs."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import random
from pathlib import Path
from typing import Any

import torch

from replicate.data.spec import DataSpec
from replicate.runs.run import ModelSpec
from replicate.store import begun, fsck, garbage, model_file, recorded
from replicate.store.record import Corrupt, NewerFormat, parse, seal, seal_run, seal_stored
from replicate.store.store import StoreError, open_store
from replicate.train import kept_models, models
from replicate.train.checkpoint import Checkpoint
from replicate.train.plan import costs
from replicate.train.watch import in_flight
from tests.support import mutations
from tests.support.faketrainer import fake_result, fake_run
from tests.support.guard import Breach, command, one_line_of, sandbox


def record_seed(seed: int = 0) -> bytes:
    run = fake_run(seed)
    return seal_run(run, fake_result(run), {"seconds": 0.5, "device_model": "a processor"})


def resealed(blob: bytes, rng: random.Random) -> bytes:
    """A record with hostile values under a checksum, and mostly a key, that are right."""
    try:
        body = json.loads(blob)
        del body["checksum"]
        body = mutations.in_json(body, rng)
        if rng.random() < 0.8:
            body["key"] = hashlib.sha256(_canonical(body["run"])).hexdigest()[:24]
        return seal(body)
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return mutations.flip(blob, rng)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _key_in(blob: bytes) -> str:
    """The key under which a record says that it belongs; that of the seed where it says none."""
    key = blob.partition(b'"key":"')[2][:24].decode("ascii", "replace")
    return key if key.isalnum() and key.isascii() and len(key) == 24 else fake_run().key


def record(blob: bytes, folder: Path) -> None:
    key = _key_in(blob)
    try:
        stored = parse(blob, key)
    except (Corrupt, NewerFormat):
        pass
    else:
        if seal_stored(stored) != blob:
            raise Breach("expected a record that was believed to be these very bytes")
    open_store(folder / "store").put_sealed(fake_run(1), record_seed(1))
    path = folder / "store" / "runs" / key[:2] / f"{key}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(blob)
    where = ["--store", str(folder / "store")]
    command(["runs", "list", *where])
    command(["runs", "show", key, *where, "--json"])
    command(["runs", "export", *where])
    command(["runs", "compare", key, fake_run(1).key, *where])
    garbage._why(blob)
    command(["fsck", *where, "--json"])


_DIGITS = DataSpec("digits", train_images=20, test_images=30)
_TINY = dataclasses.replace(fake_run(), model=ModelSpec("class:Mlp", (("hidden", (2,)),)), data=_DIGITS)


def model_seed() -> bytes:
    return kept_models.sealed(_TINY, fake_result(_TINY), models.of_run(_TINY).state_dict())


def model_resealed(blob: bytes, rng: random.Random) -> bytes:
    """A model with altered bytes under a checksum that is right, where there is still a place for it."""
    blank = "0" * 64
    given = blob.partition(b'"sha256":"')[2][:64]
    try:
        return model_file.seal(mutations.flip(blob.replace(given, blank.encode()), rng))
    except Corrupt:
        return mutations.flip(blob, rng)


def model(blob: bytes, folder: Path) -> None:
    store = open_store(folder / "store")
    store.put(_TINY, fake_result(_TINY), {})
    store.put_model(_TINY.key, blob)
    try:
        if store.model_file(_TINY.key) != blob:
            raise Breach("expected the file as it is, or an error")
        kept_models.load(store, _TINY.key)
    except StoreError as error:
        one_line_of(error)
    command(["fsck", "--store", str(folder / "store"), "--repair", "--json"])


def marker(blob: bytes, folder: Path) -> None:
    store = open_store(folder / "store")
    store.layout.marker.write_bytes(blob)
    command(["runs", "list", "--store", str(store.path)])
    command(["fsck", "--store", str(store.path), "--repair"])


def begun_stack(blob: bytes, folder: Path) -> None:
    store = open_store(folder / "store")
    stack = begun.begin(store, [fake_run(1), fake_run(2)])
    (stack / begun.RUNS).write_bytes(blob)
    reader = open_store(folder / "store", read_only=True)
    in_flight.lines(in_flight.read(reader), {})
    list(garbage._stacks(reader, set(), 0.0))
    command(["fsck", "--store", str(store.path), "--json"])
    begun.regroup(store, [fake_run(1)])
    begun.prune(store)
    begun.begin(store, [fake_run(1)])


def trainings(blob: bytes, folder: Path) -> None:
    store = open_store(folder / "store")
    store.layout.trainings.write_bytes(blob)
    store.trainings()
    command(["fsck", "--store", str(store.path), "--json"])


def price_seed() -> bytes:
    layout = open_store(sandbox() / "store").layout
    costs.keep(layout, "smoke", {"resnet50": 2.0, "vit_s16": 0.5})
    return layout.price("smoke").read_bytes()


def price(blob: bytes, folder: Path) -> None:
    store = open_store(folder / "store")
    store.layout.rates.mkdir()
    store.layout.price("smoke").write_bytes(blob)
    for arch, seconds in costs.kept(store.layout, "smoke").items():
        if not (isinstance(arch, str) and 0 < seconds < costs.MOST_SECONDS):
            raise Breach(f"expected seconds that a run takes, got {seconds!r}")
    command(["plan", "--scale", "smoke", "--store", str(store.path), "--json"])


_IDENTITY = ["a stack"]


def checkpoint_seed() -> bytes:
    folder = sandbox()
    saved = Checkpoint(folder, _IDENTITY, print)
    saved.save({"weights": torch.arange(5.0), "bits": torch.ones(3, dtype=torch.bool), "step": 3, "losses": [0.5]})
    return saved.path.read_bytes()


class RunsCode:
    """What a pickle does that runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo broken",)


def pickled() -> bytes:
    held = io.BytesIO()
    torch.save({"identity": "x", "state": RunsCode()}, held)
    return with_digest(held.getvalue())


def with_digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def checked(blob: bytes, rng: random.Random) -> bytes:
    """A checkpoint with altered contents, mostly under a checksum that is right."""
    body = mutations.flip(blob[65:], rng)
    return with_digest(body) if rng.random() < 0.9 else blob[:65] + body


def checkpoint(blob: bytes, folder: Path) -> None:
    said: list[str] = []
    one = Checkpoint(folder, _IDENTITY, said.append)
    one.path.write_bytes(blob)
    state = one.load("cpu")
    if (state is None) != (len(said) == 1) or any(not line.isprintable() or len(line) > 2000 for line in said):
        raise Breach(f"expected a state or one line, got {type(state).__name__} and {said}")
    fsck._broken(one.path)


def recorded_runs(blob: bytes, folder: Path) -> None:
    path = folder / "runs.jsonl.gz"
    path.write_bytes(blob)
    for key, stored in recorded.read(path).items():
        parse(seal_stored(stored), key)


def lines_of_records(blob: bytes, rng: random.Random) -> bytes:
    lines = blob.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((resealed, mutations.flip))(lines[at], rng)
    return b"".join(lines)
