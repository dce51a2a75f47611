"""Layers as a GPU computes them against torch's and timm's own, in float64: outputs, gradients, running statistics."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from inspect import signature
from unittest.mock import patch

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from timm.layers import Mlp
from timm.layers.attention import Attention
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from replicate.runs.architectures import PAPER_MODELS
from replicate.runs.run import ModelSpec
from replicate.train import layers, models, tokens
from replicate.train.lanes import stackable
from replicate.train.layers import BatchNorm2d, Convolution, Depthwise, Linear
from replicate.train.products import as_products
from replicate.train.tokens import FewAttention, LoneWindows, TokenMixing, Windows
from tests.support.stacked import MODELS, no_fallback

__all__ = ["no_fallback"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noisy(model: nn.Module) -> nn.Module:
    """`model` in float64, with something added to each parameter: none is left at zero or one."""
    model = model.double()
    with torch.no_grad():
        for seed, p in enumerate(model.parameters()):
            p += 0.05 * normal(*p.shape, seed=seed)
    return model


def gradients_as_laid_out(model: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """The gradients that the parameters of `model` hold, as the converted model lays its parameters out."""
    holder = copy.deepcopy(model)
    for held, p in zip(holder.parameters(), model.parameters(), strict=True):
        assert p.grad is not None
        held.data = p.grad
    return {name: p.detach() for name, p in as_products(holder, example).named_parameters()}


def same(own: nn.Module, x: Tensor, kind: type[nn.Module]) -> None:
    """`own` and its replacement of `kind` agree on `x`, on the gradient of every parameter, and on every buffer."""
    plain = nn.Sequential(noisy(own))
    other = as_products(copy.deepcopy(plain), x[:1])
    assert type(other[0]) is kind  # type: ignore[index]
    found = []
    for module in (plain, other):
        inputs = x.clone().requires_grad_()
        out = module(inputs)
        (out * normal(*out.shape, seed=9)).sum().backward()
        found.append([out, inputs.grad, *(dict(module.named_buffers()).get(name) for name, _ in plain.named_buffers())])
    for a, b in zip(*found, strict=True):
        assert close(b, a, 1e-13)
    expected = gradients_as_laid_out(plain, x[:1])
    for name, p in other.named_parameters():
        assert p.grad is not None and close(p.grad, expected.pop(name), 1e-13), name
    assert not expected


def close(got: Tensor, expected: Tensor, relative: float) -> bool:
    """Within `relative` of the largest, or both nothing but rounding."""
    assert got.shape == expected.shape
    return bool((got - expected).abs().max() <= relative * expected.abs().max() + 1e-14)


@pytest.mark.slow
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
    assume(layers._seen(conv, size))
    same(conv, normal(2, channels[0], *size), Convolution)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size", "seen"),
    [(3, 1, 1, 1, 1), (3, 2, 1, 2, 4), (3, 1, 1, 2, 9), (7, 1, 3, 2, 9), (7, 2, 3, 32, 49), (4, 4, 0, 8, 16)],
)
@pytest.mark.parametrize("depthwise", [True, False])
def test_weights_that_see_nothing_but_padding_are_left_out(
    kernel: int, stride: int, padding: int, size: int, seen: int, depthwise: bool
) -> None:
    if depthwise and (stride != 1 or size > 12):
        return
    conv = nn.Conv2d(8, 8, kernel, stride, padding, groups=8 if depthwise else 1)
    as_products(conv, torch.zeros(1, 8, size, size))
    assert conv.weight.shape == (8, seen if depthwise else seen * 8)


@given(
    half=st.integers(0, 3), size=st.tuples(st.integers(1, 13), st.integers(1, 13)), channels=st.integers(2, 5),
    bias=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=20)
def test_depthwise_convolution(half: int, size: tuple[int, int], channels: int, bias: bool) -> None:
    """On images within `LARGEST_DENSE` pixels and beyond."""
    conv = nn.Conv2d(channels, channels, 2 * half + 1, padding=half, groups=channels, bias=bias)
    dense = size[0] * size[1] <= layers.LARGEST_DENSE
    same(conv, normal(2, channels, *size), Depthwise if dense else nn.Conv2d)


def test_convolutions_of_other_kinds_are_left_to_torch() -> None:
    """In groups, depthwise with a stride, dilated, padded by reflection, or with nothing to see."""
    for kept in (
        nn.Conv2d(4, 6, 3, groups=2),
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),
        nn.Conv2d(4, 2, 3, dilation=2),
        nn.Conv2d(4, 2, 3, padding_mode="reflect", padding=1),
        nn.Conv2d(4, 2, 3, padding="same"),
        nn.Conv2d(4, 2, 1, stride=9, padding=1),
    ):
        same(kept, normal(2, 4, 6, 6), nn.Conv2d)


def test_images_of_another_size_are_refused() -> None:
    for groups in (1, 4):
        conv = as_products(nn.Conv2d(4, 4, 3, padding=1, groups=groups), torch.zeros(1, 4, 2, 2))
        with pytest.raises(ValueError, match=r"image: expected 2 x 2 pixels, for which the layer was made, got"):
            conv(torch.zeros(1, 4, 3, 2))


@pytest.mark.parametrize(("batch", "size"), [(4, 3), (2, 1), (1, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_normalisation(batch: int, size: int, training: bool) -> None:
    norm = nn.BatchNorm2d(3).train(training)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.uniform_()
    norm.running_var.uniform_(0.5, 2)
    norm.num_batches_tracked = None  # as `lanes.stackable` leaves it
    same(norm, normal(batch, 3, size, size), BatchNorm2d)


def test_one_value_a_channel_is_refused_in_training_as_by_torch() -> None:
    norm, x = nn.BatchNorm2d(3).double(), normal(1, 3, 1, 1)
    converted = as_products(copy.deepcopy(norm), x)
    for one in (norm, converted):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
            one(x)
    assert converted.eval()(x).equal(norm.eval()(x))


@pytest.mark.parametrize("changes", [{"affine": False}, {"momentum": None}, {"track_running_stats": False}])
def test_batch_normalisation_of_other_kinds_is_left_to_torch(changes: dict[str, object]) -> None:
    norm = nn.BatchNorm2d(3, **changes)  # type: ignore[arg-type]
    assert type(as_products(norm, normal(2, 3, 4, 4))) is nn.BatchNorm2d


@pytest.mark.parametrize(("rows", "columns"), [(8, 16), (4, 8), (8, 4), (10, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(rows: int, columns: int, bias: bool) -> None:
    """Sizes are rounded up only where they must be."""
    kind = nn.Linear if rows == 8 and columns == 16 else Linear
    same(nn.Linear(columns, rows, bias), normal(2, 3, 5, columns), kind)


@given(tokens_in=st.integers(1, 9), hidden=st.integers(1, 12), tokens_out=st.integers(1, 9))
@settings(deadline=None, max_examples=12)
def test_token_mixing(tokens_in: int, hidden: int, tokens_out: int) -> None:
    """By autograd's backward pass and by that of a compiled step."""
    few = max(tokens_in, tokens_out) <= tokens.MOST_MIXED
    for compiling in (False, True):
        with patch.object(torch.compiler, "is_compiling", lambda: compiling):  # noqa: B023
            same(Mlp(tokens_in, hidden, tokens_out), normal(2, 6, tokens_in), TokenMixing if few else Mlp)


@pytest.mark.slow
@given(count=st.integers(1, 18), heads=st.integers(1, 3), width=st.integers(1, 5), bias=st.booleans())
@settings(deadline=None, max_examples=30)
def test_attention(count: int, heads: int, width: int, bias: bool) -> None:
    few = count <= tokens.MOST_ATTENDED
    same(
        Attention(heads * width, heads, qkv_bias=bias),
        normal(2, count, heads * width),
        FewAttention if few else Attention,
    )


@pytest.mark.slow
@given(
    resolution=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    shifted=st.booleans(),
    bias=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_windows(resolution: tuple[int, int], window: tuple[int, int], shifted: bool, bias: bool) -> None:
    """Whole or padded, shifted or not, of one token, one or more than one of several."""
    shift = tuple(side // 2 if shifted else 0 for side in window)
    block = SwinTransformerBlock(6, resolution, 2, window_size=window, shift_size=shift, qkv_bias=bias)
    area = block.window_area
    windows = math.prod(-(-length // side) for length, side in zip(resolution, block.window_size, strict=True))
    kind = Windows if math.prod(resolution) ** 2 <= windows * area**2 else SwinTransformerBlock
    same(block, normal(2, *resolution, 6), LoneWindows if area == 1 else kind)


def test_layers_that_drop_or_gate_or_bend_otherwise_are_left_to_timm() -> None:
    x = torch.zeros(1, 4, 8)
    for kept in (
        Mlp(8, 4, drop=0.1),
        Mlp(8, 4, norm_layer=nn.LayerNorm),
        Mlp(8, 4, act_layer=nn.ReLU),
        Mlp(8, 4, act_layer=partial(nn.GELU, approximate="tanh")),
        Mlp(8, 4, bias=False),
        Attention(8, 2, attn_drop=0.1),
        Attention(8, 2, proj_drop=0.1),
        *([Attention(8, 2, gated=True)] if "gated" in signature(Attention).parameters else []),  # not in older timm
    ):
        assert type(as_products(kept, x)) in (Mlp, Attention)
    for changes in ({"attn_drop": 0.1}, {"proj_drop": 0.1}, {"dynamic_mask": True}):
        block = SwinTransformerBlock(8, (3, 3), 2, window_size=2, **changes)
        assert type(as_products(block, torch.zeros(1, 3, 3, 8))) is SwinTransformerBlock


def built(spec: ModelSpec, size: int) -> nn.Module:
    return models.build_seeded(spec, 10, 3, size, seed=0)


REPLACED = {
    "resnet50": {Convolution: 53, BatchNorm2d: 53, Linear: 1},
    "vit_s16": {Convolution: 1, FewAttention: 12, Linear: 1},
    "convnext_t": {Convolution: 4, Depthwise: 18, Linear: 1},
    "mixer_s16": {Convolution: 1, TokenMixing: 8, Linear: 17},
    "swin_t": {Convolution: 1, Windows: 10, LoneWindows: 2, Linear: 1},
}


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "spec"), PAPER_MODELS)
def test_what_is_replaced_in_the_papers_models(arch: str, spec: ModelSpec) -> None:
    with torch.device("meta"):
        model = models.build(spec, 10, 3, 32)
    own = (layers.__name__, tokens.__name__)
    kinds = Counter(type(module) for module in as_products(model, torch.zeros(1, 3, 32, 32)).modules())
    assert {kind: count for kind, count in kinds.items() if kind.__module__ in own} == REPLACED[arch]


def test_converting_changes_nothing_else() -> None:
    """Neither statistics nor modes nor the random state; types and devices other than the example's are no matter."""
    model = built(MODELS["resnet50"], 8).bfloat16().train()
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    random = torch.get_rng_state()
    as_products(model, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(b, buffers.pop(name)) for name, b in model.named_buffers()) and not buffers
    assert all(module.training and not module._forward_pre_hooks for module in model.modules())
    assert all(p.requires_grad and p.dtype == torch.bfloat16 for p in model.parameters())


class Twice(nn.Module):
    """A layer on two sizes, and one on none."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.never = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[..., 1:] + self.conv(x[..., 1:])


def test_layers_without_one_size_are_left_alone() -> None:
    model = as_products(Twice(), torch.zeros(1, 3, 2, 2))
    assert type(model.conv) is type(model.never) is nn.Conv2d


def check_model(spec: ModelSpec, size: int) -> None:
    plain = noisy(stackable(built(spec, size)))
    x, labels = normal(4, 3, size, size), torch.arange(4)
    converted = as_products(copy.deepcopy(plain), x[:1])
    logits = [model(x) for model in (plain, converted)]
    assert close(logits[1], logits[0], 1e-10)
    for each in logits:
        functional.cross_entropy(each, labels).backward()
    expected = gradients_as_laid_out(plain, x[:1])
    for name, p in converted.named_parameters():
        assert p.grad is not None and p.grad.any(), name
        assert close(p.grad, expected.pop(name), 1e-10), name
    assert not expected
    gone = dict(plain.named_parameters()).keys() - dict(converted.named_parameters()).keys()
    assert all(name.endswith("attn.relative_position_bias_table") for name in gone)  # of windows of one token
    assert not any(plain.get_parameter(name).grad.any() for name in gone)  # type: ignore[union-attr]


SIZES = {"convnext_t": 16}
"""Pixels; with fewer, only its head would depend on the image."""


@pytest.mark.parametrize("arch", MODELS)
def test_small_model(arch: str) -> None:
    check_model(MODELS[arch], SIZES.get(arch, 8))


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "spec"), PAPER_MODELS)
def test_paper_model(arch: str, spec: ModelSpec) -> None:
    check_model(spec, 32)


def gradient_of_lane(model: nn.Module, x: Tensor, labels: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(functional_call(model, parameters, (x,)), labels)

    return grad(loss)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("arch", MODELS)
@pytest.mark.usefixtures("no_fallback")
def test_under_vmap_and_compiled(arch: str) -> None:
    """Lanes with weights of their own equal each alone, without a graph break and without vmap's loop over lanes."""
    x = normal(4, 3, *[SIZES.get(arch, 8)] * 2)
    model = as_products(noisy(stackable(built(MODELS[arch], x.shape[2]))), x[:1]).eval()
    single = gradient_of_lane(model, x, torch.arange(4))
    lanes = {
        name: torch.stack([p.detach(), p.detach() + 0.05 * normal(*p.shape, seed=5)])
        for name, p in model.named_parameters()
    }
    together = vmap(single)(lanes)
    compiled = torch.compile(vmap(single), backend="aot_eager", fullgraph=True)(lanes)
    for lane in range(2):
        alone = single({name: weights[lane] for name, weights in lanes.items()})
        for name, gradient in alone.items():
            assert close(together[name][lane], gradient, 1e-10) and close(compiled[name][lane], gradient, 1e-10), name
