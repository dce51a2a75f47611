"""A record: the bytes in which the store keeps one finished run, believed only if every one is as it was written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from replicate.data.spec import is_synthetic
from replicate.runs.result import Result
from replicate.runs.run import Run, check_record

FORMAT = 1

_KEY = re.compile(r"[0-9a-f]{24}")
_FIELDS = {"format", "key", "run", "result", "provenance", "synthetic"}


class Corrupt(Exception):
    """Bytes that are not the record they stand for; the message says why."""


class NewerFormat(Exception):
    """A record of a format that this version cannot read; the message is one line."""


@dataclass(frozen=True)
class StoredRun:
    """A finished run as the store holds it."""

    key: str
    run: dict[str, Any]
    """`Run.record()` of the run."""
    result: Result
    provenance: dict[str, Any]
    synthetic: bool
    """True where the result was made up, not trained."""

    @property
    def measured(self) -> dict[str, Any]:
        """The result without the seconds it took."""
        return {name: value for name, value in self.result.to_json().items() if name != "seconds"}

    @cached_property
    def content(self) -> str:
        """SHA-256 of what was measured, and of which run."""
        text = text_of({"key": self.key, "result": self.measured, "synthetic": self.synthetic})
        return hashlib.sha256(text.encode()).hexdigest()


def seal_run(run: Run, result: Result, provenance: dict[str, Any]) -> bytes:
    """The bytes of the record of `run`."""
    return seal_stored(StoredRun(run.key, run.record(), result, provenance, run.synthetic))


def seal_stored(stored: StoredRun) -> bytes:
    """The bytes of the record of a run that is stored: those it was read from."""
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


def text_of(value: Any) -> str:
    """The one way this project writes a JSON value: two equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def seal(body: dict[str, Any]) -> bytes:
    """The file of a record: its text, with the checksum of it as a first field put in front of the others."""
    text = text_of(body)
    return f'{{"checksum":"{hashlib.sha256(text.encode()).hexdigest()}",{text[1:]}\n'.encode()


def parse(blob: bytes, key: str) -> StoredRun:
    """The record in `blob`, believed only if these are exactly the bytes that `seal_run` makes for `key`."""
    if not blob:
        raise Corrupt("expected a record, got an empty file")
    try:
        body = json.loads(blob)
        given = body.pop("checksum")
        if (whole := seal(body)) != blob:
            expected = json.loads(whole)["checksum"]
            if given != expected:
                raise Corrupt(f"expected checksum {expected[:12]}…, got {str(given)[:12]}…")
            raise Corrupt("expected the text as it was written, got one that differs outside its values")
        if type(form := body["format"]) is int and form > FORMAT:
            raise NewerFormat(f"expected record format {FORMAT} or older, got {form}")
        if type(form) is not int or form != FORMAT or body.keys() != _FIELDS:
            raise Corrupt(f"expected record format {FORMAT} and its fields, got format {form!r} with {sorted(body)}")
        if not key == body["key"] == key_of(body["run"]):
            raise Corrupt(f"expected the run with key {key}, got that of {key_of(body['run'])}")
        check_record(body["run"])
        if not isinstance(body["provenance"], dict):
            raise Corrupt("expected provenance by name, got something else")
        if body["synthetic"] is not is_synthetic(body["run"]["data"]["name"]):
            raise Corrupt(f"expected synthetic data exactly where marked, got {body['run']['data']['name']}")
        return StoredRun(key, body["run"], Result.from_json(body["result"]), body["provenance"], body["synthetic"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Corrupt(f"expected a whole record, got {type(error).__name__}: {error}") from error


def is_key(text: str) -> bool:
    """Whether `text` has the form of a key: what else stands where a key should may name any file."""
    return _KEY.fullmatch(text) is not None


def key_of_stack(keys: Sequence[str]) -> str:
    """24 hexadecimal digits for the runs under `keys`, in this order."""
    return hashlib.sha256(text_of(list(keys)).encode()).hexdigest()[:24]


def key_of(record: dict[str, Any]) -> str:
    """The key of the run that has `record`; equals `Run.key`."""
    return hashlib.sha256(text_of(record).encode()).hexdigest()[:24]
