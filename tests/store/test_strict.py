"""Reading somebody's JSON: checked values, and one kind of error with one line that says what is wrong and where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from replicate.store.strict import Malformed, convert, decode

pytestmark = pytest.mark.fast


@dataclass(frozen=True)
class Cell:
    accuracy: float
    seed: int = 0
    diverged: bool = False
    loss: float | None = None

    def __post_init__(self) -> None:
        if self.accuracy > 100:
            raise ValueError(f"accuracy: expected at most 100, got {self.accuracy:g}")


@dataclass(frozen=True)
class Sweep:
    name: str
    cells: tuple[Cell, ...] = ()
    more: Any = None


GOOD = {"name": "a", "cells": [{"accuracy": 50}, {"accuracy": 61.5, "seed": 3, "loss": 0.1}], "later": 1}


def test_a_good_one() -> None:
    wanted = Sweep("a", (Cell(50.0), Cell(61.5, 3, False, 0.1)))
    assert decode(json.dumps(GOOD), Sweep) == decode(json.dumps(GOOD).encode(), Sweep) == convert(GOOD, Sweep) == wanted
    assert type(convert(GOOD, Sweep).cells[0].accuracy) is float
    assert decode("[1, null, {}]", list[Any]) == [1, None, {}]


WRONG = [
    ({}, "object missing required field `name`"),
    ([], "expected `object`, got `array`"),
    ({"name": 1}, "$.name: expected `str`, got `int`"),
    ({"name": "a", "cells": [{"accuracy": 1}, {"accuracy": "1"}]}, "$.cells[1].accuracy: expected `float`, got `str`"),
    ({"name": "a", "cells": [{"accuracy": True}]}, "$.cells[0].accuracy: expected `float`, got `bool`"),
    ({"name": "a", "cells": [{"accuracy": 1, "seed": True}]}, "$.cells[0].seed: expected `int`, got `bool`"),
    ({"name": "a", "cells": [{"accuracy": 1, "seed": 1.0}]}, "$.cells[0].seed: expected `int`, got `float`"),
    ({"name": "a", "cells": [{"accuracy": 1, "diverged": 0}]}, "$.cells[0].diverged: expected `bool`, got `int`"),
    ({"name": "a", "cells": [{}]}, "$.cells[0]: object missing required field `accuracy`"),
    ({"name": "a", "cells": [{"accuracy": 101}]}, "$.cells[0]: accuracy: expected at most 100, got 101"),
    ({"name": "a", "cells": [{"accuracy": 10**400}]}, "$.cells[0].accuracy: number out of range"),
]


@pytest.mark.parametrize(("value", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_and_where(value: Any, said: str) -> None:
    for read in (lambda: convert(value, Sweep), lambda: decode(json.dumps(value), Sweep)):
        with pytest.raises(Malformed) as caught:
            read()
        assert str(caught.value) == said


TEXTS = [
    ("", "input data was truncated"),
    ('{"name": "a"', "input data was truncated"),
    ('{"name": "a"} x', "JSON is malformed: trailing characters (byte 15)"),
    ('{"name": "a", "more": NaN}', "JSON is malformed: invalid character (byte 22)"),
    ('{"name": "a", "more": 1e999}', "$.more: number out of range"),
    ('{"name": "a", "more": [' + "9" * 5000 + "]}", "$.more[0]: integer value out of range"),
    ('{"name": "a", "more": ' + "[" * 100_000, "nested too deep"),
    (b'{"name": "\xff"}', "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ('{"name": "\udcff"}', "'utf-8' codec can't encode character '\\udcff' in position 10: surrogates not allowed"),
]


@pytest.mark.parametrize(("text", "said"), TEXTS, ids=[said for _, said in TEXTS])
def test_no_such_text(text: str | bytes, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(text, Sweep)
    assert str(caught.value) == said


def test_values_that_no_text_holds() -> None:
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    for value in (float("nan"), float("-inf"), 10**5000, deep, "\udcff"):
        with pytest.raises(Malformed):
            convert({"name": "a", "more": value}, Sweep)


def test_a_message_is_one_line() -> None:
    @dataclass(frozen=True)
    class Loud:
        name: str

        def __post_init__(self) -> None:
            raise ValueError(f"got {self.name}")

    with pytest.raises(Malformed, match=r"^got a b\ufffd\[2J$"):
        convert({"name": "a\nb\x1b[2J"}, Loud)
