"""Reads and writes JSON: text becomes a checked value of a given type, or an error says what is wrong and where."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from replicate.text import one_line

T = TypeVar("T")


if TYPE_CHECKING:
    Low: TypeAlias = float
    High: TypeAlias = float
else:

    class Low(float):
        """The lower end of an interval; minus infinity, which JSON has as null, if there is no lower end."""

        open = -math.inf

    class High(float):
        """The upper end of an interval; infinity, which JSON has as null, if there is no upper end."""

        open = math.inf


class Malformed(ValueError):
    """A text is not JSON of the expected type; the message is one line."""


def decode(content: bytes | str, kind: type[T]) -> T:
    """Read a JSON text as a value of `kind`, ignoring fields that `kind` lacks. Raises `Malformed`."""
    with _one_error():
        return msgspec.json.decode(content, type=kind, dec_hook=_end)


def convert(value: Any, kind: type[T]) -> T:
    """As `decode`, from `value` as `json.loads` returns it."""
    with _one_error():  # through the text, because msgspec.convert accepts NaN and infinity
        return msgspec.json.decode(json.dumps(value, allow_nan=False), type=kind, dec_hook=_end)


@dataclass(frozen=True)
class _Format:
    format: int


def format_of(content: bytes | str) -> int:
    """The number in a file's field `format`; other fields are not read, as a newer format may have changed them."""
    return decode(content, _Format).format


def plain(value: Any) -> Any:
    """`value` in JSON types: dataclasses and msgspec structs become dicts, NaN and infinities None."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_of_numpy))


def json_types(value: Any) -> Any:
    """`value` in JSON types: tuples and arrays become lists, keys text, NaN and infinities None. Raises TypeError."""
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        value = value.tolist()
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else f"{k:g}": json_types(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_types(v) for v in value]
    raise TypeError(f"expected numbers, texts, lists and mappings, got a {type(value).__name__}: {value!r}")


def schema(kind: type, title: str) -> dict[str, Any]:
    """The JSON Schema of values of type `kind` as `plain` returns them; additional fields are not allowed."""
    (found,), definitions = msgspec.json.schema_components(
        [kind], schema_hook=lambda _: {"type": ["number", "null"]}, ref_template="#/$defs/{name}"
    )
    for definition in definitions.values():
        definition.pop("title", None)
        if "properties" in definition:
            definition["additionalProperties"] = False
    draft = "https://json-schema.org/draft/2020-12/schema"
    return dict(plain({"$schema": draft, "title": title, **found, "$defs": definitions}))


def _end(kind: Any, value: Any) -> Any:
    """Hook for msgspec that makes `Low` and `High` from JSON; values of other types stay as they are."""
    if kind not in (Low, High):
        return value
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return kind(kind.open if value is None else value)
    raise ValueError(f"expected `float | null`, got `{type(value).__name__}`")


def _of_numpy(value: Any) -> Any:
    if isinstance(value, float):  # `Low` and `High` too
        return float(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"expected numbers, texts, lists and mappings, got a {type(value).__name__}: {value!r:.80}")


def text_of(value: Any) -> str:
    """`value` as JSON text; equal values have equal texts. Raises `Malformed` if `value` cannot be written as JSON."""
    with _one_error():
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    try:
        yield
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:  # all that bad JSON can raise
        what, _, where = ("nested too deep" if isinstance(error, RecursionError) else str(error)).partition(" - at ")
        what = what if what.startswith("JSON") else what[:1].lower() + what[1:]
        raise Malformed(one_line(f"{where.strip('`')}: {what}" if where else what)) from error
