"""Strategies for what estimates hold."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from replicate.estimate import details
from replicate.store import strict

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
for end in (strict.Low, strict.High):
    st.register_type_strategy(end, st.floats(allow_nan=False, allow_infinity=False).map(end))
st.register_type_strategy(int, st.integers(-(2**53), 2**53))


def any_details() -> st.SearchStrategy[details.AnyDetails]:
    """Every kind of details, with any content that JSON can hold."""
    return st.one_of(*(st.from_type(kind) for kind in get_args(details.AnyDetails)))
