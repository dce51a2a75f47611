"""Estimates: what an interval may be, and that JSON gives back what it was given."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicate.estimate.result import Estimate, unknown

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NUMBER = st.floats(allow_nan=False)
WORDS = st.text(max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    low, high = sorted((draw(NUMBER), draw(NUMBER)))
    return Estimate(
        draw(WORDS), draw(WORDS), draw(st.none() | FINITE), low, high, draw(st.floats(0, 1)), draw(st.integers(0, 99)),
        draw(WORDS), tuple(draw(st.lists(WORDS, max_size=3))), draw(WORDS),
        draw(st.dictionaries(WORDS, PLAIN, max_size=3)),
    )  # fmt: skip


@pytest.mark.parametrize("ends", [(1.0, 0.0), (math.nan, 1.0), (0.0, math.nan), (math.inf, -math.inf)])
def test_an_interval_without_order_is_refused(ends: tuple[float, float]) -> None:
    message = r"rho: expected an interval with low <= high, got .*; use -inf and inf for ends that the data leave open"
    with pytest.raises(ValueError, match=message):
        Estimate("rho", "", 0.1, *ends, 0.95, 5, "made up")


def test_a_point_is_an_interval() -> None:
    assert Estimate("cost", "", 0.125, 0.125, 0.125, 1.0, 240, "counted").low == 0.125


def test_unknown_is_the_whole_line() -> None:
    found = unknown("rho", "pp", 0.9, "none", ("plateau",), "more seeds")
    assert (found.value, found.low, found.high, found.n) == (None, -math.inf, math.inf, 0)
    assert (found.level, found.flags, found.settle, found.details) == (0.9, ("plateau",), "more seeds", {})


def test_json_by_hand() -> None:
    found = Estimate("rho", "pp", 0.1, -math.inf, 0.2, 0.95, 5, "made up", ("edge-low",), "smaller ones", {"k": [1]})
    assert found.to_json() == {
        "quantity": "rho", "unit": "pp", "value": 0.1, "low": None, "high": 0.2, "level": 0.95, "n": 5,
        "method": "made up", "flags": ["edge-low"], "settle": "smaller ones", "details": {"k": [1]},
    }  # fmt: skip


@given(estimates())
def test_json_round_trip(estimate: Estimate) -> None:
    """Through a strict parser's text: infinities are no JSON."""
    text = json.dumps(estimate.to_json(), allow_nan=False)
    assert Estimate.from_json(json.loads(text)) == _as_stored(estimate)


def _as_stored(estimate: Estimate) -> Estimate:
    """An end at the wrong infinity is no end that data leave open: (inf, inf) comes back as the whole line."""
    low = -math.inf if math.isinf(estimate.low) else estimate.low
    high = math.inf if math.isinf(estimate.high) else estimate.high
    return replace(estimate, low=low, high=high)


@pytest.mark.parametrize(("low", "high"), [(-math.inf, math.inf), (-math.inf, 0.2), (0.1, math.inf), (0.1, 0.2)])
def test_open_ends_survive_json(low: float, high: float) -> None:
    found = Estimate.from_json(Estimate("rho", "", None, low, high, 0.95, 5, "made up").to_json())
    assert (found.low, found.high) == (low, high)


def test_json_of_another_version_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        Estimate.from_json({**unknown("rho", "", 0.95, "none", ()).to_json(), "colour": "red"})


def test_details_are_not_shared() -> None:
    first, second = (unknown("rho", "", 0.95, "none", ()) for _ in range(2))
    first.details["k"] = 1
    assert second.details == {}
