"""Layers as matrix products against torch's own, in float64: outputs, gradients, running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from replicate.train import products
from replicate.train.products import as_products


def same(own: nn.Module, x: Tensor) -> None:
    """`own` and its replacement agree on `x`, on the gradient of every parameter, and on every buffer."""
    own = own.double()
    other = as_products(nn.Sequential(copy.deepcopy(own)))[0]  # type: ignore[index]
    assert type(other) is not type(own)
    found = []
    for module in (own, other):
        inputs = x.clone().requires_grad_()
        out = module(inputs)
        probe = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
        gradients = torch.autograd.grad((out * probe).sum(), [inputs, *module.parameters()])
        found.append([out, *gradients, *module.buffers()])
    for a, b in zip(*found, strict=True):
        assert a.shape == b.shape and torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def images(batch: int, channels: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0)).double()


@given(
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    bias=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_convolution(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    size: tuple[int, int], channels: tuple[int, int], bias: bool,
) -> None:  # fmt: skip
    size = tuple(max(s, k - 2 * p) for s, k, p in zip(size, kernel, padding, strict=True))  # type: ignore[assignment]
    conv = nn.Conv2d(*channels, kernel, stride, padding, bias=bias)
    same(conv, images(2, channels[0], *size))


@given(
    half=st.integers(0, 3), size=st.tuples(st.integers(1, 13), st.integers(1, 13)), channels=st.integers(1, 5),
    bias=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_depthwise_convolution(half: int, size: tuple[int, int], channels: int, bias: bool) -> None:
    """On images within `LARGEST_DENSE` pixels and beyond."""
    conv = nn.Conv2d(channels, channels, 2 * half + 1, padding=half, groups=channels, bias=bias)
    same(conv, images(2, channels, *size))


def test_convolutions_of_other_kinds_are_left_to_torch() -> None:
    """In groups, or depthwise with a stride; dilated or padded by reflection they are not even replaced."""
    same(nn.Conv2d(4, 6, 3, groups=2), images(2, 4, 6, 6))
    same(nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4), images(2, 4, 6, 6))
    for kept in (nn.Conv2d(2, 2, 3, dilation=2), nn.Conv2d(2, 2, 3, padding_mode="reflect", padding=1)):
        assert type(as_products(kept)) is nn.Conv2d


@pytest.mark.parametrize(("batch", "size"), [(4, 3), (2, 1), (1, 2)])
def test_batch_normalisation(batch: int, size: int) -> None:
    for training in (True, False):
        norm = nn.BatchNorm2d(3).train(training)
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.uniform_()
        norm.running_var.uniform_(0.5, 2)
        norm.num_batches_tracked = None  # as `lanes.stackable` leaves it
        same(norm, images(batch, 3, size, size))


@pytest.mark.parametrize(("rows", "columns"), [(8, 16), (4, 8), (8, 4), (10, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(rows: int, columns: int, bias: bool) -> None:
    same(nn.Linear(columns, rows, bias), images(2, 3, 5, columns))


def test_sizes_are_rounded_up_only_where_they_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products.functional, "pad", None)
    as_products(nn.Linear(16, 8))(torch.zeros(1, 16))
    with pytest.raises(TypeError):
        as_products(nn.Linear(4, 8))(torch.zeros(1, 4))
