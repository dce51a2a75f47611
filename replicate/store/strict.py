"""Somebody's JSON, to a checked value of a dataclass or type, or one error that says what is wrong and where."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from replicate.text import one_line

T = TypeVar("T")


class Malformed(ValueError):
    """Content that is not what was asked for; the message is one line."""


def decode(content: bytes | str, kind: type[T]) -> T:
    """The value of a JSON text, checked to be one of `kind`; fields that `kind` does not name are passed over."""
    with _one_error():
        return msgspec.json.decode(content, type=kind)


def convert(value: Any, kind: type[T]) -> T:
    """`decode` of JSON that is parsed already."""
    with _one_error():  # by way of the text, for msgspec.convert lets NaN and infinity through
        return msgspec.json.decode(json.dumps(value, allow_nan=False), type=kind)


def plain(value: Any) -> Any:
    """`value` as JSON has it: dataclasses and structs as objects, numbers that are not finite as null."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_of_numpy))


def _of_numpy(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"expected numbers, texts, lists and mappings, got a {type(value).__name__}: {value!r:.80}")


def text_of(value: Any) -> str:
    """The one way this project writes a JSON value: two equal values have equal texts. `Malformed` where it is none."""
    with _one_error():
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    try:
        yield
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:  # the only one for bad JSON
        what, _, where = ("nested too deep" if isinstance(error, RecursionError) else str(error)).partition(" - at ")
        what = what if what.startswith("JSON") else what[:1].lower() + what[1:]
        raise Malformed(one_line(f"{where.strip('`')}: {what}" if where else what)) from error


def parse(text: str) -> Any:
    """The JSON value of `text`; ValueError where it is none, nests too deep, or has a number that is not finite."""
    try:
        return json.loads(text, parse_float=_number, parse_constant=_number)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _number(text: str) -> float:
    if not math.isfinite(found := float(text)):
        raise ValueError(f"{text:.40} is no finite number")
    return found


def check(made: Any, where: str = "") -> None:
    """Raises ValueError, naming the field, unless all fields of the dataclass `made`, and what they hold, fit."""
    for name, annotation in _annotations(type(made)).items():
        _check(getattr(made, name), annotation, f"{where}{name}")


def _annotations(kind: type) -> Mapping[str, Any]:
    if kind not in _KNOWN:
        hints = get_type_hints(kind)
        _KNOWN[kind] = {name: hints[name] for name in kind.__dataclass_fields__}  # type: ignore[attr-defined]
    return _KNOWN[kind]


_KNOWN: dict[type, Mapping[str, Any]] = {}


def _check(value: Any, annotation: Any, where: str) -> None:
    origin = get_origin(annotation)
    if annotation is Any:
        return
    if origin is types.UnionType:
        options = get_args(annotation)
        if value is None and type(None) in options:
            return
        (annotation,) = (option for option in options if option is not type(None))
        _check(value, annotation, where)
    elif origin is tuple:  # of any length
        _is(value, tuple, where)
        for one in value:
            _check(one, get_args(annotation)[0], where)
    elif origin is dict:
        _is(value, dict, where)
        for key, one in value.items():
            _check(key, get_args(annotation)[0], where)
            _check(one, get_args(annotation)[1], where)
    elif annotation is float:
        _is(value, (int, float), where)
        if math.isnan(value) or (isinstance(value, int) and abs(value) > 1e300):
            raise ValueError(f"{where}: expected a number, got {value!r:.60}")
    else:
        _is(value, annotation, where)
        if dataclasses.is_dataclass(annotation):
            check(value, f"{where}.")


def _is(value: Any, kind: type | tuple[type, ...], where: str) -> None:
    wrong = isinstance(value, bool) and kind is not bool
    if wrong or not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise ValueError(f"{where}: expected {' or '.join(k.__name__ for k in kinds)}, got {value!r:.60}")
