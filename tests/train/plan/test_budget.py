"""A budget of time, as it is typed."""

from __future__ import annotations

import pytest

from replicate.text import UsageError
from replicate.train.plan.budget import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("6h", 21600), ("90m", 5400), ("90min", 5400), ("45s", 45), ("1h30m", 5400), (" 1H 30M ", 5400), ("0.5d", 43200)],
)
def test_times(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "6", "h", "-6h", "6 hours", "0h", "6h!", "6hh", "nan", "1e3s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--budget: expected a time such as 6h, 90m, 1h30m or 45s, got ") as refused:
        seconds(text)
    assert repr(text) in str(refused.value)
