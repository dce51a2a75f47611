"""The file of a kept model (the final weights of a run): safetensors, in the folder of the run's record.

Its metadata has the run's `key`, the hash of the result (`content`), and the SHA-256 of the whole file, computed with
64 zeros in place of the SHA-256. So a file that is cut off, altered or from another training of the run is rejected.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import Enum

from replicate.store.record import Corrupt
from replicate.store.strict import Malformed, decode

SUFFIX = ".safetensors"
LONGEST_HEADER = 16 << 20

_LENGTH_BYTES = 8
_BLANK = "0" * 64
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Keep(Enum):
    """Which runs' final weights are kept when runs are trained into a store."""

    NONE = "none"
    NEW = "new"
    """The models of newly trained runs; runs already stored without a model are not trained again."""
    ALL = "all"
    """The models of all runs: a run that is stored without its model counts as missing and is trained again."""


@dataclass(frozen=True)
class _Header:
    """The header of a safetensors file, without its tensors."""

    __metadata__: dict[str, str] = field(default_factory=dict)


def labels(key: str, content: str) -> dict[str, str]:
    """Metadata for the model file of the run `key` with the result hash `content`; `seal` fills in the checksum."""
    return {"format": "pt", "key": key, "content": content, "sha256": _BLANK}


def seal(blob: bytes) -> bytes:
    """Fill in the checksum of a safetensors file that was written with `labels`."""
    end = _end_of_header(blob)
    return _with_sha256(blob[:end], _BLANK, hashlib.sha256(blob).hexdigest()) + blob[end:]


def check(blob: bytes, key: str, content: str) -> None:
    """Raise `Corrupt` unless `blob` is a whole, unaltered model of the run `key` with the result hash `content`."""
    end = _end_of_header(blob)
    try:
        metadata = decode(blob[_LENGTH_BYTES:end], _Header).__metadata__
    except Malformed as error:
        raise Corrupt(f"expected the header of a safetensors file: {error}") from error
    given = metadata.get("sha256", "")
    if not _SHA256.fullmatch(given):
        raise Corrupt("expected a model with its SHA-256 in the metadata, got one without")
    digest = hashlib.sha256(_with_sha256(blob[:end], given, _BLANK))
    digest.update(memoryview(blob)[end:])
    if digest.hexdigest() != given:
        raise Corrupt(f"expected SHA-256 {digest.hexdigest()[:12]}…, got {given[:12]}…: cut off or altered")
    if metadata.get("key") != key:
        raise Corrupt(f"expected the model of the run {key}, got that of {metadata.get('key', 'none')}")
    if metadata.get("content") != content:
        raise Corrupt("expected the model whose result the run's record holds, got that of another training of the run")


def _end_of_header(blob: bytes) -> int:
    length = int.from_bytes(blob[:_LENGTH_BYTES], "little")
    if len(blob) < _LENGTH_BYTES or not 0 < length <= min(LONGEST_HEADER, len(blob) - _LENGTH_BYTES):
        raise Corrupt(f"expected a safetensors file, got {len(blob)} bytes that do not hold its header: cut off")
    return _LENGTH_BYTES + length


def _with_sha256(head: bytes, old: str, new: str) -> bytes:
    """The header `head` with its checksum `old` replaced by `new`; raises `Corrupt` unless `old` occurs just once."""
    before = f'"sha256":"{old}"'.encode()
    if head.count(before) != 1:
        raise Corrupt("expected the SHA-256 exactly once in the header, as replicate writes it, got another header")
    return head.replace(before, f'"sha256":"{new}"'.encode())
