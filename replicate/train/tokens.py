"""Layers of timm's that mix a few tokens, as a GPU computes them fast: sums that the compiler fuses, not products.

A matrix product over 4 or 16 numbers is all memory traffic: its operands are copied into place, its result is written
and read again. As multiplications and sums it becomes part of the kernels around it, in which nothing need be stored.
"""

from __future__ import annotations

import torch
from timm.layers import Mlp
from timm.layers.attention import Attention
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention
from torch import Tensor, nn
from torch.nn import functional

FEWEST_ATTENDED = 16
"""Tokens up to which attention is summed up: a side of the smallest tile that units for matrix products take."""

FEWEST_MIXED = 8
"""Tokens up to which mixing is summed up: with more, computing the hidden layer again costs more than storing it."""


class TokenMixing(Mlp):
    """timm's `Mlp` over a few tokens: its hidden layer, many times its input and output, is never stored."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., T] to [..., T']."""
        hidden = self.fc1.bias
        for token, weight in zip(x.unbind(-1), self.fc1.weight.unbind(1), strict=True):
            hidden = hidden + token[..., None] * weight
        hidden = self.act(hidden)
        return torch.stack([(hidden * weight).sum(-1) for weight in self.fc2.weight.unbind()], -1) + self.fc2.bias


class FewAttention(Attention):
    """timm's `Attention` over a few tokens."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """[B, N, C] to the same; takes no mask."""
        assert attn_mask is None and not is_causal
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        out = _attention(self.q_norm(q) * self.scale, self.k_norm(k), v)
        out: Tensor = self.proj(self.norm(out.transpose(1, 2).flatten(2)))
        return out


class Windows(SwinTransformerBlock):
    """timm's block with its windows padded between its two products, behind which they are cut again.

    What the first, for queries, keys and values, would make of padding is its bias; what the second would make is cut.
    """

    attn: WindowAttention
    places: Tensor
    """[N N, T], 1 where two of N tokens in a window lie as that row of the table of biases says."""

    def adapt(self) -> None:
        """Keep what the windows of this block need."""
        index = self.attn.relative_position_index
        table = self.attn.relative_position_bias_table
        self.register_buffer("places", functional.one_hot(index.flatten(), len(table)).to(table), persistent=False)

    def _attn(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to the same."""
        (height, width), (rows, columns), attn = x.shape[1:3], self.window_size, self.attn
        x = functional.linear(x, attn.qkv.weight)
        if any(self.shift_size):
            x = x.roll([-shift for shift in self.shift_size], (1, 2))
        x = functional.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
        if attn.qkv.bias is not None:
            x = x + attn.qkv.bias
        windows = x.unflatten(3, (3, attn.num_heads, -1)).unflatten(2, (-1, columns)).unflatten(1, (-1, rows))
        down, across = windows.shape[1], windows.shape[3]
        q, k, v = windows.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(5, 6).flatten(2, 3)  # [B, windows, heads, N, D] each
        area = rows * columns
        bias = (self.places @ attn.relative_position_bias_table).T.unflatten(1, (area, area))
        if self.attn_mask is not None:
            bias = bias + self.attn_mask[:, None]
        out = _attention(q * attn.scale, k, v, bias).unflatten(3, (rows, columns)).unflatten(1, (down, across))
        out = out.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4).flatten(1, 2)[:, :height, :width]
        if any(self.shift_size):
            out = out.roll(self.shift_size, (1, 2))
        out: Tensor = attn.proj(out)
        return out


class LoneWindows(SwinTransformerBlock):
    """timm's block where a window is one token, which attends to itself alone whatever its query and key.

    Of the layer that makes queries, keys and values only the values' part is left, of the table of biases nothing.
    """

    attn: WindowAttention

    def adapt(self) -> None:
        """Leave out the weights that nothing depends on."""
        qkv = self.attn.qkv
        qkv.out_features //= 3
        for name, parameter in list(qkv.named_parameters()):
            values = parameter.detach()[2 * qkv.out_features :].clone()
            setattr(qkv, name, nn.Parameter(values, parameter.requires_grad))
        self.attn.relative_position_bias_table = None

    def _attn(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to the same."""
        out: Tensor = self.attn.proj(self.attn.qkv(x))
        return out


def replace_mlp(layer: Mlp, shape: torch.Size) -> None:
    """Where tokens, in and out, are few."""
    first, second = layer.fc1, layer.fc2
    if not isinstance(first, nn.Linear) or not isinstance(second, nn.Linear):
        return
    plain = isinstance(layer.norm, nn.Identity) and not layer.drop1.p and not layer.drop2.p
    if plain and max(first.in_features, second.out_features) <= FEWEST_MIXED and None not in (first.bias, second.bias):
        layer.__class__ = TokenMixing


def replace_attention(layer: Attention, shape: torch.Size) -> None:
    """Where tokens are few."""
    if shape[1] <= FEWEST_ATTENDED and layer.gate is None and not layer.attn_drop.p and not layer.proj_drop.p:
        layer.__class__ = FewAttention


def replace_windows(block: SwinTransformerBlock, shape: torch.Size) -> None:
    """Where windows hold few tokens, or are padded."""
    attn = block.attn
    if block.dynamic_mask or attn.attn_drop.p or attn.proj_drop.p:
        return
    padded = any(length % side for length, side in zip(shape[1:3], block.window_size, strict=True))
    if block.window_area == 1:
        block.__class__ = LoneWindows
    elif padded or block.window_area <= FEWEST_ATTENDED:
        block.__class__ = Windows
    if isinstance(block, Windows | LoneWindows):
        block.adapt()


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """What each of `q` [..., N, D] finds among `k` and `v` [..., N, D]; `bias` is added to the scores [..., N, N]."""
    few = q.shape[-2] <= FEWEST_ATTENDED
    scores = (q.unsqueeze(-2) * k.unsqueeze(-3)).sum(-1) if few else q @ k.transpose(-2, -1)
    shares = (scores if bias is None else scores + bias).softmax(-1)
    return (shares.unsqueeze(-1) * v.unsqueeze(-3)).sum(-2) if few else shares @ v
