"""Every reader of the software as a target: valid inputs, hostile variants of them, and the law they must keep.

The law: one clear line, or a correct answer. `tests/guard.py` sees to what must not happen in either case.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from fixtures import options as plugin_options
from replicate import budget, fsck, garbage, in_flight, recorded
from replicate.calibration import measured, tables
from replicate.datasets import cifar100, fashion
from replicate.datasets.source import DATA_VARIABLE, DataError
from replicate.engine import begun, devices, remote
from replicate.paper.registry import CLAIMS
from replicate.record import Corrupt, NewerFormat, parse, seal, seal_run, seal_stored
from replicate.report import verdict_file
from replicate.store import StoreError, open_store
from replicate.train import stack_size
from replicate.train.checkpoint import Checkpoint
from replicate.verdict import OUTCOMES
from tests import archives, mutations
from tests.faketrainer import fake_result, fake_run
from tests.guard import Breach, command
from tests.mutations import Mutate
from tests.verdicts import made_file

Check = Callable[[bytes, Path], None]


@dataclass(frozen=True)
class Target:
    """One reader."""

    seeds: Callable[[], list[bytes]]
    mutate: Mutate
    check: Check
    """Reads an input in a folder of its own; raises where the law is broken."""


SWEEP = b"""lr,wd,seed,accuracy,arch
0.001,0,0,60,a
0.001,0.0001,0,71,a
0.001,0.001,0,64,a
0.01,0,0,61,a
0.01,0.001,0,72.5,a
0.01,0.01,0,65,a
0.1,0,0,,a
0.1,0.01,0,73,a
0.1,0.1,0,66,a
"""
LOSS = b"State,config.lr,config/weight_decay,eval_loss\nfinished,0.1,0,2.5\nfailed,0.1,1,nan\nfinished,1e-2,0.1,3\n"
OPTUNA = b"number;value;params_lr;params_wd;state\n0;0,7;0,1;0;COMPLETE\n1;0,71;0,1;0,01;COMPLETE\n"


def _sweep(blob: bytes, folder: Path) -> None:
    (folder / "sweep.csv").write_bytes(blob)
    _, said = command(["judge", str(folder / "sweep.csv"), "--json"])
    if said:
        for cell in json.loads(said)["cells"]:
            if not set(cell["verdicts"].values()) <= set(OUTCOMES):
                raise Breach(f"expected verdicts, got {cell['verdicts']}")


def _page(blob: bytes, folder: Path) -> None:
    (folder / "sweep.csv").write_bytes(blob)
    page = folder / "page.html"
    status, _ = command(["judge", str(folder / "sweep.csv"), "--html", str(page), "--picture", str(folder / "x.svg")])
    if status != 2 and "<script>alert" in page.read_text(encoding="utf-8") + (folder / "x.svg").read_text("utf-8"):
        raise Breach("a script from the input stands in the page")


def _columns(blob: bytes, folder: Path) -> None:
    (folder / "sweep.csv").write_bytes(SWEEP)
    arguments = [part for line in _text(blob).split("\n") for part in ("--columns", line)]
    command(["judge", str(folder / "sweep.csv"), "--json", *arguments])


def _verdicts(blob: bytes, folder: Path) -> None:
    one, other = folder / "one.json", folder / "other.json"
    one.write_bytes(blob)
    other.write_bytes(_verdict_seed())
    command(["report", "compare", str(one), str(other), "--json"])
    command(["report", "compare", str(other), str(one)])
    try:
        found = verdict_file.read(one)
    except verdict_file.VerdictFileError:
        return
    verdict_file.changes(found, {c.id: OUTCOMES[0] for c in CLAIMS}, [c.id for c in CLAIMS])
    verdict_file.write(other, found)  # what was believed can be written, and is the same when it is read again
    if verdict_file.read(other) != found:
        raise Breach("expected a file that was believed to be the same once written and read again")


def _verdict_seed() -> bytes:
    ids = [c.id for c in CLAIMS if c.parts and c.margin.high < 100 and c.margin.low > -100][:4]
    file = made_file(dict(zip(ids, OUTCOMES, strict=True)))
    return json.dumps(file.to_json()).encode()


def _short_verdicts() -> bytes:
    """With a few of the claims only: smaller inputs are quicker, and every field is there."""
    data = json.loads(_verdict_seed())
    first: dict[str, Any] = {}
    for claim in data["claims"]:
        first.setdefault(claim["outcome"], claim)
    return json.dumps({**data, "claims": list(first.values())}).encode()


def _record_seed(seed: int = 0) -> bytes:
    run = fake_run(seed)
    return seal_run(run, fake_result(run), {"seconds": 0.5, "device_model": "a processor"})


def _resealed(blob: bytes, rng: random.Random) -> bytes:
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


def _record(blob: bytes, folder: Path) -> None:
    key = _key_in(blob)
    try:
        stored = parse(blob, key)
    except (Corrupt, NewerFormat):
        pass
    else:
        if seal_stored(stored) != blob:
            raise Breach("expected a record that was believed to be these very bytes")
    open_store(folder / "store").put_sealed(fake_run(1), _record_seed(1))
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


def _marker(blob: bytes, folder: Path) -> None:
    store = open_store(folder / "store")
    store.layout.marker.write_bytes(blob)
    command(["runs", "list", "--store", str(store.path)])
    command(["fsck", "--store", str(store.path), "--repair"])


def _begun(blob: bytes, folder: Path) -> None:
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


def _trainings(blob: bytes, folder: Path) -> None:
    store = open_store(folder / "store")
    store.layout.trainings.write_bytes(blob)
    store.trainings()
    command(["fsck", "--store", str(store.path), "--json"])


def _rates(blob: bytes, folder: Path) -> None:
    said: list[str] = []
    (folder / "rates.json").write_bytes(blob)
    found = stack_size._read(folder / "rates.json", said.append)
    if found is None:
        if len(said) != 1 or not said[0].isprintable():
            raise Breach(f"expected one line, got {said}")
    elif not isinstance(lanes := stack_size.best(found), int) or lanes < 0:
        raise Breach(f"expected a number of lanes, got {lanes!r}")


_IDENTITY = ["a stack"]


def _checkpoint_seed() -> bytes:
    folder = _memory()
    saved = Checkpoint(folder, _IDENTITY, print)
    saved.save({"weights": torch.arange(5.0), "bits": torch.ones(3, dtype=torch.bool), "step": 3, "losses": [0.5]})
    return saved.path.read_bytes()


class _Runs:
    """What a pickle does that runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo broken",)


def _pickled() -> bytes:
    held = io.BytesIO()
    torch.save({"identity": "x", "state": _Runs()}, held)
    return _with_digest(held.getvalue())


def _with_digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _checked(blob: bytes, rng: random.Random) -> bytes:
    """A checkpoint with altered contents, mostly under a checksum that is right."""
    body = mutations.flip(blob[65:], rng)
    return _with_digest(body) if rng.random() < 0.9 else blob[:65] + body


def _checkpoint(blob: bytes, folder: Path) -> None:
    said: list[str] = []
    one = Checkpoint(folder, _IDENTITY, said.append)
    one.path.write_bytes(blob)
    state = one.load("cpu")
    if (state is None) != (len(said) == 1) or any(not line.isprintable() or len(line) > 2000 for line in said):
        raise Breach(f"expected a state or one line, got {type(state).__name__} and {said}")
    fsck._broken(one.path)


def _recorded(blob: bytes, folder: Path) -> None:
    path = folder / "runs.jsonl.gz"
    path.write_bytes(blob)
    for key, stored in recorded.read(path).items():
        parse(seal_stored(stored), key)


def _lines_of_records(blob: bytes, rng: random.Random) -> bytes:
    lines = blob.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((_resealed, mutations.flip))(lines[at], rng)
    return b"".join(lines)


def _calibration(blob: bytes, folder: Path) -> None:
    path = folder / "calibration.json"
    path.write_bytes(blob)
    try:
        found = measured.read(path)
    except measured.UnreadableCalibration as error:
        _one_line(error)
        return
    tables.markdown(found)
    measured.write(path, found)


def _calibration_seed() -> bytes:
    data = json.loads((Path(__file__).parents[1] / "docs" / "calibration.json").read_bytes())
    return json.dumps({**data, "cells": data["cells"][::150], "experiments": data["experiments"][::40]}).encode()


def _one_line(error: BaseException) -> None:
    if not str(error).isprintable() or len(str(error)) > 2000:
        raise Breach(f"expected one line, got {str(error)[:400]!r}")


VARIABLES = ("REPLICATE_STORE", DATA_VARIABLE, remote.SCRATCH_VARIABLE, devices.VARIABLE, "COLUMNS", "TERM")


def _environment(blob: bytes, folder: Path) -> None:
    """Lines VARIABLE=value, to commands that read them. Paths stay relative to the folder."""
    given = dict(line.split("=", 1) for line in _text(blob).split("\n") if "=" in line and "\0" not in line)
    here = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ):
            for name in VARIABLES:
                if name in given and _settable(given[name]):
                    os.environ[name] = given[name]
            devices.named(os.environ.get(devices.VARIABLE))
            command(["plan", "--scale", "smoke", "--json"])
            command(["runs", "list"])
            try:
                fashion.prepare()
            except DataError as error:
                _one_line(error)
            plugin_options.settings(_Config({}, folder))
    except plugin_options.UNUSABLE as error:
        _one_line(error)
    finally:
        os.chdir(here)


def _settable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return not os.path.isabs(text)  # noqa: PTH117


class _Config:
    """Stands in for pytest's."""

    def __init__(self, given: dict[str, Any], folder: Path) -> None:
        self._given = {"--scale": "smoke", "--engine": "local", "--trainer": "solo", **given}
        self.rootpath = folder
        self.invocation_params = SimpleNamespace(dir=folder)

    def getoption(self, name: str, default: Any = None) -> Any:
        return self._given.get(name, default)


PYTEST_OPTIONS = ("--scale", "--store", "--report", "--expect", "--data", "--budget", "--address", "--engine")


def _pytest(blob: bytes, folder: Path) -> None:
    """Lines --option=value, to what checks pytest's options."""
    given = dict(line.split("=", 1) for line in _text(blob).split("\n") if line.startswith(PYTEST_OPTIONS) and "=" in line)
    try:
        plugin_options.settings(_Config(given, folder))  # type: ignore[arg-type]
    except plugin_options.UNUSABLE as error:
        _one_line(error)


COMMANDS = (
    "plan --scale smoke --json", "judge sweep.csv --metric accuracy --json", "runs list --json", "runs show abc",
    "runs compare abc abd", "runs export --format csv --scale smoke", "runs export --out runs.csv",
    "watch --once --scale smoke", "watch --json --scale smoke", "fsck --json", "report compare A B --json",
    "landscapes --scale smoke --variant main", "judge sweep.csv --picture x.svg", "runs gc --dry-run", "--version",
    "judge sweep.csv --html new/x.html", "report --out folder --scale smoke",
)  # fmt: skip
NEVER = {"train", "calibrate", "synthesize", "audit", "verify", "record", "gc", "--measure", "-"}
"""What trains, computes for long, writes beside the source, or waits for standard input."""


def _options(blob: bytes, folder: Path) -> None:
    """A command line, one word a line."""
    arguments = _text(blob).split("\n")
    budgets = [word for word in arguments if word and not word.startswith("--")]
    for word in budgets:
        try:
            budget.seconds(word)
        except budget.BudgetError as error:
            _one_line(error)
    outside = any(os.path.isabs(word) or ".." in word or "~" in word for word in arguments)  # noqa: PTH117
    if NEVER & set(arguments) or ("--out" in " ".join(arguments) and outside):
        return
    here = Path.cwd()
    os.chdir(folder)
    try:
        (folder / "sweep.csv").write_bytes(SWEEP)
        open_store(folder / ".replicate" / "store").put_sealed(fake_run(1), _record_seed(1))
        command(arguments)
    finally:
        os.chdir(here)


def _paper(blob: bytes, folder: Path) -> None:
    """grid.csv and table-1.csv, parted by a form feed."""
    grid, _, table = blob.partition(b"\f")
    (folder / "grid.csv").write_bytes(grid)
    (folder / "table-1.csv").write_bytes(table)
    command(["audit", str(folder), "--json"])


def _paper_seed() -> bytes:
    paper = Path(__file__).parents[1] / "examples" / "made-up-paper"
    return (paper / "grid.csv").read_bytes() + b"\f" + (paper / "table-1.csv").read_bytes()


def _images(blob: bytes, folder: Path) -> None:
    """The pickles of CIFAR-100 and the idx files of Fashion-MNIST."""
    (folder / "train").write_bytes(blob)
    (folder / "test").write_bytes(blob)
    for name in fashion.FILES:
        (folder / name).write_bytes(blob)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {DATA_VARIABLE: str(folder)}))
        for reader in (cifar100.read, fashion.read):
            try:
                reader()
            except DataError as error:
                _one_line(error)


def _image_seeds() -> list[bytes]:
    pickled = archives.cifar100(_memory(), 2, 2) / "cifar-100-python" / "train"
    harmful = archives.python2_pickle({b"data": _Runs(), b"fine_labels": [1]})
    idx = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 28, 28)) + bytes(2 * 28 * 28)
    return [pickled.read_bytes(), harmful, idx, gzip.compress(idx, mtime=0)]


def _memory() -> Path:
    from tests.guard import sandbox

    return sandbox()


def _text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogateescape")


def _joined(*lines: str) -> bytes:
    return "\n".join(lines).encode()


TABLE, JSON, WORDS = mutations.table, mutations.json_text, mutations.words
RATES = b'{"of":{},"rates":{"alone":3.5,"stacked":[[2,5.0],[4,9.5]],"limit":null}}'

TARGETS: dict[str, Target] = {
    "sweep": Target(lambda: [SWEEP, LOSS, OPTUNA], TABLE, _sweep),
    "page": Target(lambda: [SWEEP, OPTUNA], TABLE, _page),
    "columns": Target(lambda: [_joined("lr=lr,wd=wd", "accuracy=accuracy"), _joined("loss=accuracy")], WORDS, _columns),
    "verdicts": Target(lambda: [_short_verdicts()], JSON, _verdicts),
    "record": Target(lambda: [_record_seed()], mutations.either(_resealed, _resealed, mutations.flip, JSON), _record),
    "marker": Target(lambda: [b'{"format":1,"software":"replicate 0"}\n'], JSON, _marker),
    "begun": Target(lambda: [json.dumps([fake_run(i).key for i in (1, 2)]).encode()], JSON, _begun),
    "trainings": Target(lambda: [f"{fake_run().key} 123 4.567\n".encode()], WORDS, _trainings),
    "rates": Target(lambda: [RATES], JSON, _rates),
    "checkpoint": Target(lambda: [_checkpoint_seed(), _pickled()], _checked, _checkpoint),
    "recorded": Target(
        lambda: [gzip.compress(_record_seed(0) + _record_seed(1), mtime=0)],
        mutations.zipped(_lines_of_records),
        _recorded,
    ),
    "calibration": Target(lambda: [_calibration_seed()], JSON, _calibration),
    "environment": Target(lambda: [_joined(*(f"{name}=x" for name in VARIABLES))], WORDS, _environment),
    "pytest-options": Target(lambda: [_joined(*(f"{name}=6h" for name in PYTEST_OPTIONS[1:3]), "--budget=6h")], WORDS, _pytest),
    "options": Target(lambda: ["\n".join(shlex.split(line)).encode() for line in COMMANDS], WORDS, _options),
    "paper": Target(lambda: [_paper_seed()], TABLE, _paper),
    "images": Target(_image_seeds, mutations.either(mutations.flip, mutations.zipped(mutations.flip)), _images),
}
