"""Intervals of means, differences and largest distances of estimates, computed from the estimates' own intervals.

Method of variance estimates recovery (Zou and Donner, "Construction of confidence limits about effect measures", 2008):
the distances of an estimate from its own limits take the place of standard errors, so skewed and one-sided intervals
keep their shape. The estimates are independent, except in `mean_in_step`; an infinite limit stays infinite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Span:
    """A value with its interval."""

    value: float
    low: float
    high: float


def mean(parts: Sequence[Span]) -> Span:
    """Mean of the independent estimates `parts`; raises ValueError if `parts` is empty.

    >>> both = mean([Span(1.0, 0.0, 2.0), Span(3.0, 2.0, 4.0)])
    >>> both.value, round(both.high, 3)
    (2.0, 2.707)
    """
    if not parts:
        raise ValueError("mean of intervals: expected at least one, got none")
    n = len(parts)
    value = sum(p.value for p in parts) / n
    down = math.sqrt(sum((p.value - p.low) ** 2 for p in parts)) / n
    up = math.sqrt(sum((p.high - p.value) ** 2 for p in parts)) / n
    return Span(value, value - down, value + up)


def mean_in_step(parts: Sequence[Span]) -> Span:
    """Mean of `parts`, whose errors may be fully correlated: averaging narrows no interval. ValueError if empty."""
    if not parts:
        raise ValueError("mean of intervals: expected at least one, got none")
    n = len(parts)
    return Span(sum(p.value for p in parts) / n, sum(p.low for p in parts) / n, sum(p.high for p in parts) / n)


def difference(first: Span, second: Span) -> Span:
    """`first` minus `second`, two independent estimates."""
    value = first.value - second.value
    down = math.hypot(first.value - first.low, second.high - second.value)
    up = math.hypot(first.high - first.value, second.value - second.low)
    return Span(value, value - down, value + up)


def largest_distance(parts: Sequence[Span], parts_strict: Sequence[Span]) -> Span:
    """Largest absolute difference between any two parts; raises ValueError if there are fewer than two.

    Upper limit: the largest upper limit of any pair of `parts`. Showing that all pairs lie below a bound needs no
    adjustment for multiplicity (intersection-union test, Berger and Hsu 1996). Lower limit: the largest lower limit of
    any pair of `parts_strict`, the same values with intervals adjusted for the number of pairs: needed to show that
    some pair lies above a bound.
    """
    if len(parts) < 2:
        raise ValueError(f"largest distance: expected at least two parts, got {len(parts)}")
    value = low = high = 0.0
    for plain, strict in zip(combinations(parts, 2), combinations(parts_strict, 2), strict=True):
        d, surely = difference(*plain), difference(*strict)
        value = max(value, abs(d.value))
        high = max(high, abs(d.low), abs(d.high))
        low = max(low, surely.low, -surely.high)
    return Span(value, low, high)
