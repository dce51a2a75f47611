"""Convolutions and batch normalisation as a GPU computes them fast when every lane has kernels of its own.

Under vmap a convolution becomes a grouped one, which no library does well. The same sums as matrix products, batched
over the lanes, run on the units for matrix products; what lies between them is left to the compiler to fuse. Images
keep their channels last throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LARGEST_DENSE = 144
"""Pixels up to which a depthwise kernel, spread out to a matrix from all pixels to all pixels, is the faster form."""

ALIGNED = 8
"""Rows and columns of matrices come in multiples of so many: others take kernels that are several times as slow."""


class Linear(nn.Linear):
    """`nn.Linear` with sizes rounded up by zeros where they are not `ALIGNED`."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O]."""
        return _linear(x, self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` as one matrix product: over kernel positions and channels or, depthwise, over pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, O, H', W']."""
        if self.groups == 1:
            return self._dense(x)
        same = tuple(2 * p + 1 for p in _pair(self.padding)) == self.weight.shape[2:] and _pair(self.stride) == (1, 1)
        if self.groups == self.in_channels == self.out_channels and same and x.shape[2] * x.shape[3] <= LARGEST_DENSE:
            return self._depthwise(x)
        return super().forward(x)

    def _dense(self, x: Tensor) -> Tensor:
        patches, weight = self._patches(x.permute(0, 2, 3, 1))
        batch, height, width, _ = patches.shape
        out = _linear(patches.flatten(0, 2), weight, self.bias)
        return out.view(batch, height, width, self.out_channels).permute(0, 3, 1, 2)

    def _patches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What each output pixel sees, [B, H', W', K], of `x` [B, H, W, C], and the weight as [O, K]."""
        (rows, columns), (down, right) = self.weight.shape[2:], _pair(self.stride)
        (top, left), channels = _pair(self.padding), self.in_channels
        batch, height, width, _ = x.shape
        if (rows, columns) == (down, right) and (top, left) == (0, 0):
            h, w = height // rows, width // columns
            whole = x[:, : h * rows, : w * columns].reshape(batch, h, rows, w, columns, channels)
            weight = self.weight.permute(0, 2, 3, 1).flatten(1)
            return whole.permute(0, 1, 3, 2, 4, 5).reshape(batch, h, w, rows * columns * channels), weight
        h, w = (height + 2 * top - rows) // down + 1, (width + 2 * left - columns) // right + 1
        padded = functional.pad(x, (0, 0, left, left, top, top)) if top or left else x
        # Where the image is smaller than the kernel, some of its positions never see anything but padding.
        seen = [(i, j) for i in _seen(rows, h, down, top, height) for j in _seen(columns, w, right, left, width)] or [
            (0, 0)
        ]
        parts = [padded[:, i : i + down * (h - 1) + 1 : down, j : j + right * (w - 1) + 1 : right] for i, j in seen]
        weight = torch.cat([self.weight[:, :, i, j] for i, j in seen], 1)
        return torch.cat(parts, 3), weight

    def _depthwise(self, x: Tensor) -> Tensor:
        """A kernel on an image hardly larger than itself: a full matrix [H W, H W] a channel."""
        batch, channels, height, width = x.shape
        rows, columns = self.weight.shape[2:]
        i, j = _offsets(height, rows, x), _offsets(width, columns, x)  # [rows, H in, H out], [columns, W in, W out]
        spread = torch.einsum("khp,lwq->klhwpq", i, j).reshape(rows * columns, (height * width) ** 2)
        matrices = (self.weight.flatten(1) @ spread).view(channels, height * width, height * width)
        out = torch.bmm(x.flatten(2).transpose(0, 1), matrices)  # [C, B, H W]
        if self.bias is not None:
            out = out + self.bias[:, None, None]
        return out.permute(1, 0, 2).view(batch, channels, height, width)


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` in plain operations, which leave the memory format as it is; needs a momentum."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], normalised by the batch in training and by the running statistics in evaluation."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        if self.training:
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            count = x.numel() // x.shape[1]
            with torch.no_grad():
                share = self.momentum
                self.running_mean.mul_(1 - share).add_(mean.detach(), alpha=share)
                self.running_var.mul_(1 - share).add_(variance.detach(), alpha=share * count / max(count - 1, 1))
        else:
            mean, variance = self.running_mean, self.running_var
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]


REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.Linear: Linear,
}


def as_products(model: nn.Module) -> nn.Module:
    """`model` with its layers replaced by those above, in place; parameters and names stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d and (
            module.padding_mode != "zeros" or isinstance(module.padding, str) or _pair(module.dilation) != (1, 1)
        ):
            continue
        if type(module) in REPLACEMENTS:
            module.__class__ = REPLACEMENTS[type(module)]
    return model


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows, columns = (-size % ALIGNED for size in weight.shape)
    if not rows and not columns:
        return functional.linear(x, weight, bias)
    if columns:
        x = functional.pad(x, (0, columns))
    out = functional.linear(x, functional.pad(weight, (0, columns, 0, rows)))[..., : len(weight)]
    return out if bias is None else out + bias


def _pair(value: object) -> tuple[int, int]:
    a, b = value if isinstance(value, tuple) else (value, value)
    assert isinstance(a, int) and isinstance(b, int)
    return a, b


def _seen(size: int, outputs: int, stride: int, padding: int, length: int) -> list[int]:
    """The kernel positions, of `size`, that lie on the image for some output."""
    return [i for i in range(size) if any(0 <= i - padding + stride * o < length for o in range(outputs))]


def _offsets(length: int, size: int, like: Tensor) -> Tensor:
    """[size, length, length], 1 where that kernel position leads from an input to an output."""
    place = torch.arange(length, device=like.device)
    position = torch.arange(size, device=like.device)
    hit = place[None, :, None] - place[None, None, :] + size // 2 == position[:, None, None]
    return hit.to(like.dtype)
