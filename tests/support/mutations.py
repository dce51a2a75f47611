"""Hostile variants of valid inputs: bytes, JSON, CSV, texts; from an input and a seeded generator to another input."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

Mutate = Callable[[bytes, random.Random], bytes]

TEXTS = (
    "", " ", "\0", "\n", "\r", "a\nb", "\u2028", "\x1b[2J\x1b[31m", "\u202etxt", "\ufeff", "é\u0301" * 10, "１２", "٣",
    "'\"`", '"', "{{ 7 * 7 }}", "{}", "%s%n", "<script>alert(1)</script>", "=1+1", "../../../../tmp/outside",
    "/dev/stdin", "~nobody-has-this-name", "~", "$HOME", "-", "--help", "@file", "x" * 10_000, "9" * 5_000, "1e400",
    "-1e400", "1e-400", "nan", "NaN", "inf", "-inf", "1_000", "0x10", "1,5", "1.5.2", "-0", "0", "1", "100", "1e308",
    "0.1", "True", "None", "null", "[]", "\ud800", "\U0010ffff",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 0.5, 100, 101, 1e308, -1e308, 5e-324, 10**30, -(10**30), 10**400, float("nan"), float("inf"))
DEEP = 100_000
"""Nested so far, JSON brings a reader that calls itself down."""


def value(rng: random.Random) -> Any:
    """A JSON value of a type and size that nobody expects."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(TEXTS)
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice((None, True, False))
    if kind == 3:
        return rng.choice(([], {}, [[]], [None], {"": None}, [1, 2], {"0": 1}))
    if kind == 4:
        return [value(rng) for _ in range(rng.randrange(4))]
    return {str(rng.choice(TEXTS)): value(rng) for _ in range(rng.randrange(3))}


def flip(blob: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or put in."""
    out = bytearray(blob)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            del out[at : at + rng.randrange(1, 64)]
        elif kind == 3:
            out[at:at] = out[at : at + rng.randrange(1, 64)]
        else:
            out[at:at] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
    return bytes(out)


def in_json(found: Any, rng: random.Random) -> Any:
    """`found` with one of its values, at any depth, replaced, taken out, doubled or renamed."""
    if not (isinstance(found, dict | list) and found and rng.random() < 0.85):
        return value(rng)
    out: Any = found.copy()
    place = rng.choice(sorted(out) if isinstance(out, dict) else range(len(out)))
    kind = rng.random()
    if kind < 0.7:
        out[place] = in_json(out[place], rng)
    elif kind < 0.8:
        del out[place]
    elif isinstance(out, list):
        out.append(out[place] if kind < 0.9 else value(rng))
    else:
        out[rng.choice(TEXTS)] = value(rng) if kind < 0.9 else out.pop(place)
    return out


def json_text(blob: bytes, rng: random.Random) -> bytes:
    """JSON with its values exchanged; now and then bytes, or a depth, that are no JSON at all."""
    kind = rng.random()
    if kind < 0.1:
        return flip(blob, rng)
    if kind < 0.13:
        at = blob.find(b":") + 1 if rng.random() < 0.8 else 0
        return blob[:at] + rng.choice((b"[", b'{"a":')) * DEEP + blob[at:]
    try:
        found = json.loads(blob)
    except (ValueError, RecursionError):
        return flip(blob, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = in_json(found, rng)
    try:
        return json.dumps(found, ensure_ascii=rng.random() < 0.8).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return flip(blob, rng)


def cell(rng: random.Random) -> str:
    """What may stand in a cell of a table."""
    if rng.random() < 0.5:
        return rng.choice(TEXTS)
    if rng.random() < 0.5:
        return str(rng.choice(NUMBERS[:-3]))
    return f"{rng.uniform(0, 2) * 10 ** rng.randrange(-6, 4):.3g}"


def table(blob: bytes, rng: random.Random) -> bytes:
    """A table with cells, columns or rows exchanged, or in another dialect."""
    if rng.random() < 0.15:
        return flip(blob, rng)
    rows = [line.split(",") for line in blob.decode("utf-8", "replace").split("\n")]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(rows))
        kind = rng.randrange(8)
        if kind < 3:
            rows[at][rng.randrange(len(rows[at]))] = cell(rng)
        elif kind == 3:
            rows.insert(at, list(rows[rng.randrange(len(rows))]))
        elif kind == 4 and len(rows) > 1:
            del rows[at]
        elif kind == 5:
            column = rng.randrange(len(rows[0]) + 1)
            for row in rows:
                row.insert(column, cell(rng))
        elif kind == 6:
            column = rng.randrange(len(rows[0]))
            for row in rows[1:]:
                if column < len(row):
                    row[column] = cell(rng)
        else:
            rows[0][rng.randrange(len(rows[0]))] = rng.choice(
                ("lr", "wd", "seed", "accuracy", "loss", "arch", "state", "value", "optimizer", cell(rng))
            )
    delimiter = rng.choice((",", ",", ",", ";", "\t", "|"))
    quote = rng.random() < 0.2
    lines = [delimiter.join(f'"{field}"' if quote else field for field in row) for row in rows]
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(lines)
    return text.encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")), "surrogatepass")


def words(blob: bytes, rng: random.Random) -> bytes:
    """Lines of a text exchanged for hostile ones."""
    lines = blob.decode("utf-8", "surrogatepass" if rng.random() < 0.5 else "replace").split("\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        lines[at] = rng.choice(TEXTS)
    elif kind == 1:
        name, equals, _ = lines[at].partition("=")
        lines[at] = name + equals + rng.choice(TEXTS)
    elif kind == 2:
        lines.insert(at, rng.choice(TEXTS))
    else:
        lines[at] += rng.choice((",", "=", " ", ",lr=", "h")) + rng.choice(TEXTS)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def either(*ways: Mutate) -> Mutate:
    """One of several, by the generator."""
    return lambda blob, rng: rng.choice(ways)(blob, rng)


def zipped(inner: Mutate) -> Mutate:
    """Mutates what a gzip file holds; else the file itself."""

    def mutate(blob: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return flip(blob, rng)
        try:
            return gzip.compress(inner(gzip.decompress(blob), rng), mtime=0)
        except (OSError, EOFError, zlib.error):
            return flip(blob, rng)

    return mutate
