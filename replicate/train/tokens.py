"""timm layers that mix a few tokens, computed by elementwise products and sums, which the compiler can fuse.

A matrix product over 4 or 16 numbers spends its time on memory traffic: its operands are copied, its result is written
and read again. As elementwise products and sums it becomes part of neighbouring kernels, which store no such copies.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any, cast

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.swin_transformer import (
    SwinTransformerBlock,
    WindowAttention,
    get_relative_position_index,
    window_partition,
)
from torch import Tensor, nn
from torch.nn import functional

from replicate.train.layers import ALIGNED

MOST_ATTENDED = 16
"""Largest number of tokens for which attention is computed with sums: the side of a tensor core's smallest tile."""

MOST_MIXED = 8
"""Largest number of tokens for which mixing is computed with sums: with more, storing the hidden layer is cheaper."""

NEVER = -1e30
"""Added to an attention score, makes the attention weight exactly 0 in all float types and, unlike -inf, never nan."""


class TokenMixing(Mlp):
    """timm's `Mlp` over a few tokens, without storing the hidden layer, which is far larger than input and output."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, ..., T] to [B, ..., T']."""
        assert self.fc1.bias is not None and self.fc2.bias is not None
        # Uncompiled, every intermediate result is stored anyway, and autograd computes the hidden gradient only once.
        mix = _mix if torch.compiler.is_compiling() else _Mixing.forward
        mixed: Tensor = mix(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        return mixed


class _Mixing(torch.autograd.Function):
    """Linear layer, GELU and linear layer, with a backward pass that does not store the hidden layer either.

    Autograd would sum the hidden layer's gradient along the layer and also over all other dimensions. No kernel does
    both, so autograd would store the gradient. Here it is computed twice, in the layout that each of the sums needs.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, out_weight: Tensor, out_bias: Tensor) -> Tensor:
        """[B, ..., T] to [B, ..., T'], by weights [H, T] and [T', H], biases [H] and [T']."""
        hidden = functional.gelu(_products(x.unsqueeze(-2), weight, bias))
        return torch.stack([(hidden * row).sum(-1) for row in out_weight.unbind()], -1) + out_bias

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Save all arguments of `forward` except the last bias."""
        ctx.save_for_backward(*inputs[:-1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """The gradients of the arguments of `forward`, from the gradient of its result [B, ..., T']."""
        x, weight, bias, out_weight = ctx.saved_tensors
        hidden = _products(x.unsqueeze(-2), weight, bias)  # [B, ..., H]
        inner = torch.ops.aten.gelu_backward(_products(gradient.unsqueeze(-2), out_weight.T), hidden)
        of_x = torch.stack([(inner * column).sum(-1) for column in weight.unbind(1)], -1)

        first, others = (-1, *[1] * (x.dim() - 1)), tuple(range(1, x.dim()))
        hidden = _products(x, weight.unflatten(0, first), bias.unflatten(0, first))  # [H, B, ...]
        inner = torch.ops.aten.gelu_backward(_products(gradient, out_weight.T.unflatten(0, first)), hidden)
        hidden = functional.gelu(hidden)
        of_weight = torch.stack([(inner * token).sum(others) for token in x.unbind(-1)], 1)
        of_out_weight = torch.stack([(hidden * token).sum(others) for token in gradient.unbind(-1)])
        return of_x, of_weight, inner.sum(others), of_out_weight, gradient.flatten(0, -2).sum(0)


@torch.compiler.allow_in_graph  # type: ignore[untyped-decorator]
def _mix(*arguments: Tensor) -> Tensor:
    """`_Mixing` as one operation for the compiler, which would otherwise trace into it and differentiate it itself."""
    out: Tensor = _Mixing.apply(*arguments)
    return out


def _products(a: Tensor, b: Tensor, start: Tensor | None = None) -> Tensor:
    """`start` plus the sum of `a * b` along the last dimension, term by term, which the compiler can fuse."""
    terms = (one * other for one, other in zip(a.unbind(-1), b.unbind(-1), strict=True))
    return reduce(add, terms) if start is None else reduce(add, terms, start)


class FewAttention(Attention):
    """timm's `Attention`, computed by `_attention`."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """[B, N, C] to the same shape; takes no mask."""
        assert attn_mask is None and not is_causal
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        found = _attention(self.q_norm(q) * self.scale, self.k_norm(k), v)
        out: Tensor = self.proj(self.norm(found.transpose(1, 2).flatten(2)))
        return out


class Windows(SwinTransformerBlock):
    """timm's Swin block for images of a fixed size, with one attention among all tokens instead of one per window.

    A mask hides the tokens of other windows. One token represents all padding, because padded positions have equal
    queries, keys and values, namely the bias of the layer `qkv`. In timm their scores differ by the position biases, so
    the score of the one token gets the log-sum-exp of the position biases of the padding.
    """

    attn: WindowAttention
    bias_entries: Tensor
    """[H W (H W + P), T]: for each pair of a token and another token, or one of at most P padded positions, a one-hot
    row that selects the pair's entry in timm's table of T position biases."""
    window_mask: Tensor
    """[H W, H W + P]: timm's mask for shifted windows, and `NEVER` for tokens of other windows."""

    def adapt(self, height: int, width: int) -> None:
        """Compute `bias_entries` and `window_mask` for images of `height` x `width` tokens."""
        table, (rows, columns) = self.attn.relative_position_bias_table, self.window_size
        count, area = height * width, rows * columns
        numbers = torch.arange(1, count + 1).view(1, height, width, 1)
        shifted = numbers.roll([-shift for shift in self.shift_size], (1, 2))
        padded = functional.pad(shifted, (0, 0, 0, -width % columns, 0, -height % rows))
        windows = window_partition(padded, self.window_size).flatten(1)  # [windows, N], 0 where padded
        keys = torch.where(windows > 0, windows - 1, count - 1 + (windows == 0).cumsum(1))
        found = windows.flatten().argsort()[-count:]
        window, place = found // area, found % area  # of each token
        keys, tokens = keys[window], torch.arange(count)[:, None]  # [H W, N]: the tokens of each token's window
        entries = torch.zeros(count, int(keys.max()) + 1, len(table))
        entries[tokens, keys, get_relative_position_index(rows, columns)[place]] = 1
        shift_mask = self.get_attn_mask()  # older timm takes no device
        mask = torch.full(entries.shape[:2], NEVER)
        mask[tokens, keys] = 0 if shift_mask is None else shift_mask[window, place]
        self.register_buffer("bias_entries", entries.flatten(0, 1).to(table), persistent=False)
        self.register_buffer("window_mask", mask.to(table), persistent=False)

    def _attn(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to the same shape."""
        attn, count, mask = self.attn, len(self.window_mask), self.window_mask
        bias = (self.bias_entries @ attn.relative_position_bias_table).T.unflatten(1, mask.shape) + mask
        tokens = functional.linear(x.flatten(1, 2), attn.qkv.weight)
        if bias.shape[2] > count:
            extra = 1 + -(count + 1) % ALIGNED  # one token for the padding, further ones only for alignment
            tokens = functional.pad(tokens, (0, 0, 0, extra))
            together = functional.pad(bias[..., count:].logsumexp(2, keepdim=True), (0, extra - 1), value=NEVER)
            bias = torch.cat([bias[..., :count], together], 2)
        if attn.qkv.bias is not None:
            tokens = tokens + attn.qkv.bias
        q, k, v = tokens.unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        found = _attention(q[..., :count, :] * attn.scale, k, v, bias)
        out: Tensor = attn.proj(found.transpose(1, 2).flatten(2)).view(x.shape)
        return out


class LoneWindows(SwinTransformerBlock):
    """timm's Swin block with windows of one token: each token attends only to itself, whatever its query and key.

    Of the layer `qkv` only the part that computes values is kept; the table of position biases is removed.
    """

    attn: WindowAttention

    def adapt(self) -> None:
        """Remove the weights that cannot influence the output."""
        qkv = self.attn.qkv
        qkv.out_features //= 3
        for name, parameter in list(qkv.named_parameters()):
            values = parameter.detach()[2 * qkv.out_features :].clone()
            setattr(qkv, name, nn.Parameter(values, parameter.requires_grad))
        self.attn.register_parameter("relative_position_bias_table", None)

    def _attn(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to the same shape."""
        out: Tensor = self.attn.proj(self.attn.qkv(x))
        return out


def replace_mlp(layer: Mlp, shape: torch.Size) -> None:
    """Make `layer` a `TokenMixing` if it has few tokens in and out, whatever the input's `shape`."""
    first, second = layer.fc1, layer.fc2
    if not isinstance(first, nn.Linear) or not isinstance(second, nn.Linear):
        return
    plain = isinstance(layer.norm, nn.Identity) and not layer.drop1.p and not layer.drop2.p
    plain = plain and isinstance(layer.act, nn.GELU) and layer.act.approximate == "none"
    if plain and max(first.in_features, second.out_features) <= MOST_MIXED and None not in (first.bias, second.bias):
        layer.__class__ = TokenMixing


def replace_attention(layer: Attention, shape: torch.Size) -> None:
    """Make `layer` a `FewAttention` if its input, of this `shape`, has few tokens."""
    if (
        shape[1] <= MOST_ATTENDED
        and getattr(layer, "gate", None) is None
        and not layer.attn_drop.p
        and not layer.proj_drop.p
    ):
        layer.__class__ = FewAttention


def replace_windows(block: SwinTransformerBlock, shape: torch.Size) -> None:
    """Make `block` a `LoneWindows` if windows have one token, a `Windows` if attending to all tokens costs no more."""
    attn, (height, width), (rows, columns) = block.attn, shape[1:3], block.window_size
    if block.dynamic_mask or attn.attn_drop.p or attn.proj_drop.p:
        return
    windows = -(-height // rows) * -(-width // columns)
    if block.window_area == 1:
        block.__class__ = LoneWindows
        cast(LoneWindows, block).adapt()
    elif (height * width) ** 2 <= windows * block.window_area**2:
        block.__class__ = Windows
        cast(Windows, block).adapt(height, width)


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of `q` [..., N, D] to `k` and `v` [..., M, D]; `bias` is added to the scores [..., N, M]."""
    few = k.shape[-2] <= MOST_ATTENDED
    scores = (q.unsqueeze(-2) * k.unsqueeze(-3)).sum(-1) if few else q @ k.transpose(-2, -1)
    shares = (scores if bias is None else scores + bias).softmax(-1)
    return (shares.unsqueeze(-1) * v.unsqueeze(-3)).sum(-2) if few else shares @ v
