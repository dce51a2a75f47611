"""Every reader of the software as a target: valid inputs, hostile variants of them, and the law they must keep.

The law: one clear line, or a correct answer. `tests/support/guard.py` sees to what must not happen in either case.
"""

from __future__ import annotations

import gzip
import json
import os
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from replicate.calibration import measured, tables
from replicate.calibration.experiments import FamilyRate
from replicate.data import cifar100, fashion
from replicate.data.source import DATA_VARIABLE, DataError
from replicate.judging import verdict_file
from replicate.judging.verdict import OUTCOMES
from replicate.paper.registry import CLAIMS
from replicate.text import UsageError
from tests.support import archives, mutations
from tests.support import readers_options as typed
from tests.support import readers_store as kept
from tests.support import readers_sweeps as sweeps
from tests.support.faketrainer import fake_run
from tests.support.guard import Breach, command, one_line_of, sandbox
from tests.support.mutations import Mutate
from tests.support.readers_options import text_of
from tests.support.verdicts import made_file

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
    arguments = [part for line in text_of(blob).split("\n") for part in ("--columns", line)]
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


def _calibration(blob: bytes, folder: Path) -> None:
    path = folder / "calibration.json"
    path.write_bytes(blob)
    try:
        found = measured.read(path)
    except UsageError as error:
        one_line_of(error)
        return
    tables.markdown(found)
    measured.write(path, found)


def _calibration_seed() -> bytes:
    data = json.loads((Path(__file__).parents[2] / "docs" / "calibration.json").read_bytes())
    whole = FamilyRate("the paper holds", 3, "rho", 10, 100, 0.5, 0.1, 0.4, 0.1, 0.2, None, 0.9)
    rows = measured.Measured((), (whole,)).to_json()["experiments"]
    return json.dumps({**data, "cells": data["cells"][::150], "experiments": rows}).encode()


def _paper(blob: bytes, folder: Path) -> None:
    """grid.csv and table-1.csv, parted by a form feed."""
    grid, _, table = blob.partition(b"\f")
    (folder / "grid.csv").write_bytes(grid)
    (folder / "table-1.csv").write_bytes(table)
    command(["audit", str(folder), "--json"])


def _paper_seed() -> bytes:
    paper = Path(__file__).parents[2] / "examples" / "made-up-paper"
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
                one_line_of(error)


def _image_seeds() -> list[bytes]:
    kept.pickled = archives.cifar100(sandbox(), 2, 2) / "cifar-100-python" / "train"
    harmful = archives.python2_pickle({b"data": kept.RunsCode(), b"fine_labels": [1]})
    idx = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 28, 28)) + bytes(2 * 28 * 28)
    return [kept.pickled.read_bytes(), harmful, idx, gzip.compress(idx, mtime=0)]


TABLE, JSON, WORDS = mutations.table, mutations.json_text, mutations.words

TARGETS: dict[str, Target] = {
    "sweep": Target(lambda: [SWEEP, LOSS, OPTUNA], TABLE, _sweep),
    "sweep-text": Target(sweeps.text_seeds, TABLE, sweeps.sweep),
    "sweep-json": Target(sweeps.json_seeds, JSON, sweeps.sweep),
    "sweep-lines": Target(sweeps.lines_seeds, mutations.either(mutations.flip, WORDS), sweeps.sweep),
    "sweep-packed": Target(
        sweeps.packed_seeds, mutations.either(mutations.zipped(TABLE), sweeps.zipped(TABLE)), sweeps.sweep
    ),
    "sweep-packages": Target(sweeps.package_seeds, sweeps.zipped(mutations.flip), sweeps.sweep),
    "sweep-database": Target(sweeps.database_seeds, mutations.flip, sweeps.sweep),
    "sweep-folder": Target(sweeps.folder_seeds, JSON, sweeps.folder),
    "sweep-parted": Target(
        lambda: [
            typed.joined("--where=epochs=2", "--by=state,step", "--take=best", "--noise=0.1"),
            typed.joined("--by=epochs", "--ignore=step", "--metric=val_loss:max"),
        ],
        WORDS,
        sweeps.parted,
    ),
    "page": Target(lambda: [SWEEP, OPTUNA], TABLE, _page),
    "columns": Target(
        lambda: [typed.joined("lr=lr,wd=wd", "accuracy=accuracy"), typed.joined("loss=accuracy")],
        WORDS,
        _columns,
    ),
    "verdicts": Target(lambda: [_short_verdicts()], JSON, _verdicts),
    "record": Target(
        lambda: [kept.record_seed()],
        mutations.either(kept.resealed, kept.resealed, mutations.flip, JSON),
        kept.record,
    ),
    "model": Target(
        lambda: [kept.model_seed()],
        mutations.either(kept.model_resealed, mutations.flip),
        kept.model,
    ),
    "marker": Target(lambda: [b'{"format":1,"software":"replicate 0"}\n'], JSON, kept.marker),
    "begun": Target(lambda: [json.dumps([fake_run(i).key for i in (1, 2)]).encode()], JSON, kept.begun_stack),
    "trainings": Target(lambda: [f"{fake_run().key} 123 4.567\n".encode()], WORDS, kept.trainings),
    "price": Target(lambda: [kept.price_seed()], JSON, kept.price),
    "checkpoint": Target(
        lambda: [kept.checkpoint_seed(), kept.pickled()],
        kept.checked,
        kept.checkpoint,
    ),
    "recorded": Target(
        lambda: [gzip.compress(kept.record_seed(0) + kept.record_seed(1), mtime=0)],
        mutations.zipped(kept.lines_of_records),
        kept.recorded_runs,
    ),
    "calibration": Target(lambda: [_calibration_seed()], JSON, _calibration),
    "environment": Target(
        lambda: [typed.joined(*(f"{name}=x" for name in typed.VARIABLES))],
        WORDS,
        typed.environment,
    ),
    "pytest-options": Target(
        lambda: [typed.joined(*(f"{name}=6h" for name in typed.PYTEST_OPTIONS[1:3]), "--budget=6h")],
        WORDS,
        typed.pytest_options,
    ),
    "options": Target(
        lambda: ["\n".join(shlex.split(line)).encode() for line in typed.COMMANDS],
        WORDS,
        typed.options,
    ),
    "paper": Target(lambda: [_paper_seed()], TABLE, _paper),
    "images": Target(_image_seeds, mutations.either(mutations.flip, mutations.zipped(mutations.flip)), _images),
}
