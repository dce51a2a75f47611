"""Hostile input to every reader: what fuzzing has found, and some hundreds of new inputs from a seed.

`ci/fuzz.py` tries as many as there is time for, led by coverage.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest

from replicate.cli import main
from replicate.data import cifar100, source
from replicate.data.source import DATA_VARIABLE, DataError
from replicate.judging import verdict_file
from replicate.report import files
from replicate.store import begun, recorded
from replicate.store.record import seal
from replicate.store.store import open_store
from replicate.text import LONGEST, one_line
from replicate.train.checkpoint import Checkpoint
from tests.support import guard
from tests.support.faketrainer import fake_result, fake_run
from tests.support.mutations import DEEP
from tests.support.readers import TARGETS, _calibration_seed
from tests.support.readers_store import price_seed, record_seed, with_digest
from tests.support.readers_sweeps import database_seeds
from tests.support.verdicts import quick_page

EACH = {"page": 6, "price": 20, "environment": 10, "options": 10, "paper": 10, "images": 20, "sweep": 25, "record": 30}
EACH |= {f"sweep-{kind}": 6 for kind in ("text", "json", "lines", "packed", "packages", "database", "folder", "parted")}
"""Inputs of the slower targets."""
KEY = fake_run(1).key


def check(name: str, data: bytes, folder: Path) -> None:
    with guard.guarded(folder):
        TARGETS[name].check(data, folder)


@pytest.fixture(autouse=True)
def _quick(no_waiting_for_the_disk: None, smoke_alone: None) -> None:
    """Thousands of small files, and one scale."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name == "price" else []) for name in TARGETS]
)
def test_some_inputs(name: str, tmp_path: Path) -> None:
    """As they are, and altered: a clear line, or an answer."""
    rng = random.Random(name)
    seeds = TARGETS[name].seeds()
    inputs = [*seeds, *(TARGETS[name].mutate(rng.choice(seeds), rng) for _ in range(EACH.get(name, 60)))]
    for i, data in enumerate(inputs):
        (folder := tmp_path / str(i)).mkdir()
        check(name, data, folder)


def body(**changes: object) -> bytes:
    """A record with other fields, under a checksum that is right."""
    found = json.loads(record_seed(1))
    del found["checksum"]
    found["result"] |= {name: changes.pop(name) for name in set(changes) & found["result"].keys()}
    found["run"] |= {name: changes.pop(name) for name in set(changes) & found["run"].keys()}
    found |= changes
    if "key" not in changes:
        text = json.dumps(found["run"], sort_keys=True, separators=(",", ":"))
        found["key"] = hashlib.sha256(text.encode()).hexdigest()[:24]
    return seal(found)


def without(name: str) -> bytes:
    """A record whose run lacks a field."""
    found = json.loads(record_seed(1))
    del found["checksum"], found["run"][name]
    text = json.dumps(found["run"], sort_keys=True, separators=(",", ":"))
    return seal(found | {"key": hashlib.sha256(text.encode()).hexdigest()[:24]})


FOUND = [
    ("sweep", b"lr,wd\x11,seed,accuracy\n1,0,0,50\n"),  # a character that steers the terminal, in a message
    ("sweep", b'"l\x0br",wd,accuracy\n1,0,50\n'),  # a line feed of another kind
    ("sweep", b"lr,wd,seed,accuracy\n.01,0,0,60\n.01,.0011,0,71\n.01,.001,0,64\n.1,.01,0,73\n.1,0.1,0,66\n"),
    ("sweep-text", b"lr,wd,n,acc,acc_std\n1,0,inf,50,1\n1,1,3,51,1\n"),
    ("sweep-text", b"lr,wd,acc,acc_std\n1,0,50,1e200\n1,1,51,1\n"),
    ("sweep-parted", b"--noise=1e308"),
    ("sweep-database", database_seeds()[0].replace(b"study_name", b"study\xd4name")),
    ("sweep-json", b'{"lr":' + 60_000 * b'{"a":'),  # a column whose name has 60,000 parts
    ("sweep", b"lr,wd,seed,accuracy\n1,1,0,50\n1,1,00,51\n1,2,1" + 30 * b"0" + b",52\n"),
    ("columns", b"lr=" + b"x" * 10_000),
    ("columns", "lr=\U0010ffff".encode()),
    ("verdicts", b'{"format": ' + b"9" * 5000 + b"}"),
    ("verdicts", b"[" * DEEP),
    ("record", body(arch=[])),
    ("record", body(lr="1e-3")),
    ("record", body(history=["50"])),
    ("record", body(seconds=10**400)),
    ("record", body(format=0)),
    ("record", body(format=True)),
    ("record", body(provenance=[])),
    ("record", body(more=1)),
    ("record", without("optimizer")),
    ("record", b""),
    ("marker", b""),
    ("begun", b"[" * DEEP),
    ("begun", json.dumps([KEY[:23] + "\0"]).encode()),
    ("begun", json.dumps(["x" * 10_000]).encode()),
    ("begun", b'["\\ud800"]'),
    ("begun", b'["../../../../../../dev/stdin"]'),
    ("trainings", f"{KEY} abc 1.000\n{KEY} 1 4.567a\n{KEY} {'9' * 5000} 1.000\n".encode()),
    ("price", price_seed().replace(b"2.0", b"1e999")),
    ("price", price_seed().replace(b"2.0", b"-1")),
    ("price", price_seed().replace(b"2.0", b"1" + b"0" * 400)),
    ("price", b"[" * DEEP),
    ("checkpoint", with_digest(b"PK\x03\x04")),
    ("checkpoint", with_digest(b"\x80\x02.")),
    ("checkpoint", b"\x1b[2J" * 30),
    ("calibration", b'{"format": 1, "registry": "x", "cells": [{}], "experiments": []}'),
    ("calibration", b'{"format": 1, "registry": "x", "cells": null, "experiments": []}'),
    ("calibration", b"[" * DEEP),
    ("calibration", _calibration_seed().replace(b'"the paper holds"', b'""')),  # a heading without a first letter
    ("environment", f"{DATA_VARIABLE}=~nobody-has-this-name".encode()),
    ("environment", "REPLICATE_STORE=x\ufeff".encode()),
    ("pytest-options", b"--store=~nobody-has-this-name"),
    ("pytest-options", b"--expect=~nobody-has-this-name"),
    ("pytest-options", b"--data=~nobody-has-this-name"),
    ("options", b"runs\nshow\nab\x13"),
    ("options", b""),
    ("images", b"\0\0\x08\0\x01"),  # an array without a dimension
    ("images", b"\x80\x02]r\xff\xff\xff\x7f."),  # asks for 32 GB to number its values
    ("images", b"\x80\x02}(X\x04\0\0\0dataq\0cnumpy\nndarray\nK\x00\x8a\x05\0\0\0\0\x10\x85R\x75."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data"), FOUND, ids=[f"{i}-{name}" for i, (name, _) in enumerate(FOUND)])
def test_what_was_found(name: str, data: bytes, tmp_path: Path) -> None:
    check(name, data, tmp_path)


class TestTheGuard:
    def test_code(self, tmp_path: Path) -> None:
        with pytest.raises(guard.Breach, match=r"os\.system"), guard.guarded(tmp_path):
            os.system("true")

    def test_pickles(self, tmp_path: Path) -> None:
        with pytest.raises(guard.Breach, match=r"pickle\.find_class"), guard.guarded(tmp_path):
            pickle.loads(b"cos\nsystem\n.")  # noqa: S301

    def test_files_outside(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        with guard.guarded(tmp_path / "in"):
            (tmp_path / "in" / "x").touch()
            (tmp_path / "in" / "x").unlink()
        for harm in (lambda: (tmp_path / "x").touch(), lambda: (tmp_path / "y").mkdir(), (tmp_path / "in").rmdir):
            with pytest.raises(guard.Breach, match="outside the folder"), guard.guarded(tmp_path / "in" / "z"):
                harm()

    def test_even_where_it_is_caught(self, tmp_path: Path) -> None:
        with pytest.raises(guard.Breach), guard.guarded(tmp_path), contextlib.suppress(guard.Breach):
            os.system("true")


def test_one_line() -> None:
    assert one_line("a\nb\t c\u202e\x1b[2J\u2028d") == "a b c\ufffd\ufffd[2J d"
    long = one_line("begins " + "x" * 10_000 + " ends")
    assert len(long) < LONGEST and long.startswith("begins") and long.endswith("ends")


def test_a_begun_stack_names_no_file_outside_the_store(tmp_path: Path) -> None:
    folder = begun.begin(open_store(tmp_path / "store"), [fake_run(1)])
    (folder / begun.RUNS).write_text('["../../../../etc/passwd"]')
    with pytest.raises(ValueError, match="other than a list of keys"):
        begun.keys_of(folder)


def test_verdicts_with_numbers_too_long(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text('{"format": ' + "9" * 5000 + "}")
    with pytest.raises(verdict_file.VerdictFileError, match=r"expected (a )?verdict file"):
        verdict_file.read(tmp_path / "v.json")


@pytest.mark.slow
def test_what_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "runs.jsonl.gz"
    with gzip.open(path, "wb") as file:
        file.write(record_seed(1))
        for _ in range(160):
            file.write(bytes(1 << 20))
        file.write(b"\n" + record_seed(2))
    assert path.stat().st_size < 1 << 20
    assert set(recorded.read(path)) == {KEY}
    assert "MB of damaged records" in caplog.text


def test_a_checkpoint_that_unpacks_to_more_than_itself(tmp_path: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    said: list[str] = []
    checkpoint = Checkpoint(tmp_path, ["x"], said.append)
    checkpoint.path.write_bytes(with_digest(held.getvalue()))
    assert checkpoint.load("cpu") is None
    assert "expected an uncompressed archive, got a compressed one; training starts over" in said[0]


def test_a_users_folder_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_VARIABLE, "~nobody-has-this-name/x")
    with pytest.raises(DataError, match="expected an existing user after ~, got an unknown one; give"):
        cifar100.prepare()


def test_a_notice_of_a_store_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(tmp_path / "store")
    store.put(fake_run(1), fake_result(fake_run(1)), {}, durable=False)
    store.layout.record(KEY).write_bytes(b"")
    assert main(["runs", "list", "--store", str(store.path)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "corrupt" in line]
    assert len(said) == 1
    assert said[0].startswith(
        f"replicate: record runs/{KEY[:2]}/{KEY}.json is corrupt (expected a record, got an empty file)"
    )


def test_a_name_that_no_file_system_takes_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Found by fuzzing the environment variables that name a store and a folder of data."""
    assert main(["plan", "--scale", "smoke", "--store", "x" * 300]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "store x" in err and "File name too long" in err
    for name in ("x" * 300, "/".join(["x" * 200] * 21)):
        with pytest.raises(DataError, match=r"^data folder 'x{60}…': expected .*got: File name too long; name"):
            source.expanded(name)


def test_the_name_of_a_folder_does_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by fuzzing the options."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "write_page", quick_page)
    main(["report", "--scale", "smoke", "--store", str(open_store(tmp_path / "s").path), "--out", "a\u202eb"])
    out, err = capsys.readouterr()
    assert "a\ufffdb/report.html" in out and "\u202e" not in out + err
    assert (tmp_path / "a\u202eb" / "report.html").is_file()
