"""Whether memory has run out, as errors say it, or those that they came of."""

from __future__ import annotations

import pytest
import torch

from replicate.train.memory import out_of_memory


def test_an_error_on_the_way_out_hides_nothing() -> None:
    """In the capture of a graph, ending the capture raises another one."""
    with pytest.raises(RuntimeError) as caught:  # noqa: PT012
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")
    assert out_of_memory(caught.value)
    with pytest.raises(ValueError, match="no stack") as caught_too:
        raise ValueError("no stack") from caught.value
    assert out_of_memory(caught_too.value)


def test_other_errors() -> None:
    """Also where one came of itself."""
    one, other = RuntimeError("shape mismatch"), ValueError("out of memory")
    one.__context__, other.__context__ = other, one
    assert not out_of_memory(one)
