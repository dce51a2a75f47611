"""A record: the bytes in which the store keeps one finished run, valid only if no byte has changed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from replicate.runs.result import Result
from replicate.runs.run import RESULT_VERSION, Run, RunRecord
from replicate.store.strict import Malformed, convert, decode, text_of

FORMAT = 1

_KEY = re.compile(r"[0-9a-f]{24}")


class Corrupt(Exception):
    """A file's bytes are not the expected record or model; the message says why."""


class NewerFormat(Exception):
    """A record has a newer format than this version of replicate can read; the message is one line."""


@dataclass(frozen=True)
class _Record:
    """A record without its checksum."""

    format: int
    key: str
    run: RunRecord
    result: Result
    provenance: dict[str, Any]
    synthetic: bool


@dataclass(frozen=True)
class StoredRun:
    """A finished run as the store holds it."""

    key: str
    run: dict[str, Any]
    """`Run.record()` of the run."""
    result: Result
    provenance: dict[str, Any]
    synthetic: bool
    """True if the result was made up, not trained."""

    @property
    def title(self) -> str:
        """What was trained, e.g. `resnet50 on digits`."""
        return f"{self.run['arch']} on {self.run['data']['name']}"

    @property
    def measured(self) -> dict[str, Any]:
        """The fields of the result, except the duration of the training."""
        return {name: value for name, value in self.result.to_json().items() if name != "seconds"}

    @cached_property
    def content(self) -> str:
        """SHA-256 of the key and the result, except its duration: equal for equal results of one run."""
        text = text_of({"key": self.key, "result": self.measured, "synthetic": self.synthetic})
        return hashlib.sha256(text.encode()).hexdigest()


def content_of(run: Run, result: Result) -> str:
    """What `StoredRun.content` will be once `result` is stored for `run`."""
    return StoredRun(run.key, run.record(), result, {}, run.synthetic).content


def seal_run(run: Run, result: Result, provenance: dict[str, Any]) -> bytes:
    """The bytes of the record of a run that has just been trained."""
    return seal_stored(StoredRun(run.key, run.record(), result, provenance, run.synthetic))


def seal_stored(stored: StoredRun) -> bytes:
    """The bytes of the record of `stored`, equal to the bytes from which it was read."""
    return seal(
        {
            "format": FORMAT,
            "key": stored.key,
            "run": stored.run,
            "result": stored.result.to_json(),
            "provenance": stored.provenance,
            "synthetic": stored.synthetic,
        }
    )


def seal(body: dict[str, Any]) -> bytes:
    """The bytes of a record: its JSON text, with the checksum of that text put in front as the first field."""
    text = text_of(body)
    return f'{{"checksum":"{hashlib.sha256(text.encode()).hexdigest()}",{text[1:]}\n'.encode()


def parse(blob: bytes, key: str) -> StoredRun:
    """Read the record `blob` of the run `key`; `Corrupt` if a byte has changed, `NewerFormat` if too new to read."""
    if not blob:
        raise Corrupt("expected a record, got an empty file")
    try:
        body = decode(blob, dict[str, Any])
        given = body.pop("checksum", "none")
        if (whole := seal(body)) != blob:
            if given != (expected := whole[len(b'{"checksum":"') :][:64].decode()):
                raise Corrupt(f"expected checksum {expected[:12]}…, got {str(given)[:12]}…")
            raise Corrupt("expected the JSON text as it was written, got one with the same values in another layout")
        if type(form := body.get("format")) is int and form > FORMAT:
            raise NewerFormat(f"expected record format {FORMAT} or older, got {form}")
        found = decode(blob, _Record)
        stored = StoredRun(key, body["run"], found.result, found.provenance, found.synthetic)
        if not key == found.key == key_of(stored.run):
            raise Corrupt(f"expected the run with key {key}, got that of {key_of(stored.run)}")
        if found.synthetic is not found.run.synthetic:
            raise Corrupt(f"expected synthetic {found.run.synthetic} on {found.run.data.name}, got {found.synthetic}")
        if seal_stored(stored) != blob:
            raise Corrupt(f"expected record format {FORMAT} and its fields, got format {form!r} with {sorted(body)}")
    except Malformed as error:
        raise Corrupt(f"expected a whole record: {error}") from error
    return stored


def run_from_record(record: dict[str, Any]) -> Run:
    """The `Run` whose `Run.record` is `record`; ValueError if `record` has other fields or another result version."""
    if (version := record.get("result_version")) != RESULT_VERSION:
        raise ValueError(f"run record: expected result_version {RESULT_VERSION}, got {version}")
    run = convert(record, Run)
    if run.record() != record:
        raise ValueError(f"run record: expected the fields of a Run, got {sorted(record)}")
    return run


def is_key(text: str) -> bool:
    """Whether `text` has the form of a key, so that it is safe to use in a file name."""
    return _KEY.fullmatch(text) is not None


def key_of_stack(keys: Sequence[str]) -> str:
    """The key, 24 hexadecimal digits, of a stack: the runs `keys` trained together, in this order."""
    return hashlib.sha256(text_of(list(keys)).encode()).hexdigest()[:24]


def key_of(record: dict[str, Any]) -> str:
    """The key of the run with the fields `record`: 24 hexadecimal digits, equal to its `Run.key`."""
    return hashlib.sha256(text_of(record).encode()).hexdigest()[:24]
