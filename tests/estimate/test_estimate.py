"""Estimates: what an interval may be, and that JSON gives back what it was given."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicate.estimate import details
from replicate.estimate.estimate import Estimate, unknown
from replicate.estimate.flags import Flag, forbidding
from replicate.store import strict
from tests.support.estimates import any_details

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NUMBER = st.floats(allow_nan=False)
WORDS = st.text(max_size=12)


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    low, high = sorted((draw(NUMBER), draw(NUMBER)))
    return Estimate(
        quantity=draw(WORDS),
        unit=draw(WORDS),
        value=draw(st.none() | FINITE),
        low=low,
        high=high,
        level=draw(st.floats(0, 1)),
        n=draw(st.integers(0, 99)),
        method=draw(WORDS),
        flags=tuple(draw(st.lists(st.sampled_from(Flag), max_size=3))),
        settle=draw(WORDS),
        details=draw(st.none() | any_details()),
    )


@pytest.mark.parametrize("ends", [(1.0, 0.0), (math.nan, 1.0), (0.0, math.nan), (math.inf, -math.inf)])
def test_an_interval_without_order_is_refused(ends: tuple[float, float]) -> None:
    message = r"rho: expected an interval with low <= high, got .*; use -inf and inf for ends that are not bounded"
    with pytest.raises(ValueError, match=message):
        Estimate("rho", "", 0.1, *ends, 0.95, 5, "made up")


def test_a_point_is_an_interval() -> None:
    assert Estimate("cost", "", 0.125, 0.125, 0.125, 1.0, 240, "counted").low == 0.125


def test_unknown_is_the_whole_line() -> None:
    found = unknown("rho", "pp", 0.9, "none", (Flag.PLATEAU,), "more seeds")
    assert (found.value, found.low, found.high, found.n) == (None, -math.inf, math.inf, 0)
    assert (found.level, found.flags, found.settle, found.details) == (0.9, (Flag.PLATEAU,), "more seeds", None)


def test_json_by_hand() -> None:
    terms = details.Terms({"kappa 10": 0.1}, smallest="kappa 10")
    flags = (Flag.EDGE_LOW,)
    found = Estimate("rho", "pp", 0.1, -math.inf, 0.2, 0.95, 5, "made up", flags, "smaller ones", terms)
    assert found.to_json() == {
        "quantity": "rho",
        "unit": "pp",
        "value": 0.1,
        "low": None,
        "high": 0.2,
        "level": 0.95,
        "n": 5,
        "method": "made up",
        "flags": ["edge-low"],
        "settle": "smaller ones",
        "details": {"kind": "terms", "terms": {"kappa 10": 0.1}, "smallest": "kappa 10"},
    }


@given(estimates())
def test_json_round_trip(estimate: Estimate) -> None:
    """Through a strict parser's text: infinities are no JSON."""
    text = json.dumps(estimate.to_json(), allow_nan=False)
    assert strict.convert(json.loads(text), Estimate) == _as_stored(estimate)


def _as_stored(estimate: Estimate) -> Estimate:
    """An end at the wrong infinity is no end that data leave open: (inf, inf) comes back as the whole line."""
    low = -math.inf if math.isinf(estimate.low) else estimate.low
    high = math.inf if math.isinf(estimate.high) else estimate.high
    return replace(estimate, low=low, high=high)


@pytest.mark.parametrize(("low", "high"), [(-math.inf, math.inf), (-math.inf, 0.2), (0.1, math.inf), (0.1, 0.2)])
def test_open_ends_survive_json(low: float, high: float) -> None:
    found = strict.convert(Estimate("rho", "", None, low, high, 0.95, 5, "made up").to_json(), Estimate)
    assert (found.low, found.high) == (low, high)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flags": ["blue"]}, r"invalid enum value 'blue'"),
        ({"value": "0.1"}, r"\$\.value: expected `float \| null`, got `str`"),
        ({"details": {"kind": "colour"}}, r"\$\.details\.kind: invalid value 'colour'"),
        ({"low": 2.0, "high": 1.0}, "rho: expected an interval with low <= high"),
    ],
)
def test_what_is_no_estimate_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strict.convert({**unknown("rho", "", 0.95, "none", ()).to_json(), **change}, Estimate)


def test_flags_say_what_they_mean_and_are_forbidding_in_one_order() -> None:
    assert all(flag.meaning for flag in Flag)
    assert f"{Flag.EDGE_LOW}" == "edge-low"
    found = forbidding([Flag.RATIO_OFF, Flag.PLATEAU, Flag.FEW_OPTIMA, Flag.RATIO_OFF])
    assert found == (Flag.FEW_OPTIMA, Flag.RATIO_OFF)
