"""Convolutions, linear layers and batch normalisation as a GPU computes them fast when lanes differ in weights.

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

LARGEST_SUMS = 4
"""Pixels up to which that matrix is so small that its product costs more to start than to compute."""

ALIGNED = 8
"""Rows and columns of matrices are multiples of this: others take kernels that are several times as slow."""


class Linear(nn.Linear):
    """`nn.Linear` with sizes rounded up by zeros where they are not `ALIGNED`."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O]."""
        return linear(x, self.weight, self.bias)


class Convolution(nn.Conv2d):
    """`nn.Conv2d` for images of one size, as one product of what each output pixel sees.

    `weight` is the matrix of that product, [O, K]: position by position of the kernel, those left out that only ever
    see padding, and within a position channel by channel.
    """

    size: tuple[int, int]
    seen: list[tuple[int, int]]

    def adapt(self, size: tuple[int, int]) -> None:
        """Keep of the kernel what an image of `size` pixels lets it see."""
        self.size, self.seen = size, _seen(self, size)
        matrix = torch.stack([self.weight.detach()[:, :, i, j] for i, j in self.seen], 1).flatten(1)
        self.weight = nn.Parameter(matrix, self.weight.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, O, H', W']."""
        _check(x, self.size)
        out = linear(self._patches(x.permute(0, 2, 3, 1)), self.weight, self.bias)
        return out.permute(0, 3, 1, 2)

    def _patches(self, x: Tensor) -> Tensor:
        """What each output pixel sees, [B, H', W', K], of `x` [B, H, W, C]."""
        (rows, columns), (down, right), (top, left) = self.kernel_size, _pair(self.stride), _pair(self.padding)
        h, w = _outputs(self, self.size)
        if (rows, columns, top, left) == (down, right, 0, 0):
            whole = x[:, : h * rows, : w * columns].unflatten(2, (w, columns)).unflatten(1, (h, rows))
            return whole.transpose(2, 3).flatten(3)
        padded = functional.pad(x, (0, 0, left, left, top, top)) if top or left else x
        parts = [
            padded[:, i : i + down * (h - 1) + 1 : down, j : j + right * (w - 1) + 1 : right] for i, j in self.seen
        ]
        return torch.cat(parts, 3)


class Depthwise(nn.Conv2d):
    """A depthwise `nn.Conv2d` on images of one size, hardly larger than its kernel: a matrix [H W, H W] a channel.

    `weight` [C, P] holds the positions of the kernel that see the image.
    """

    size: tuple[int, int]
    spread: Tensor
    """[P, H W, H W]: 1 where that position leads from an input pixel to an output pixel."""

    def adapt(self, size: tuple[int, int]) -> None:
        """Keep of the kernel what an image of `size` pixels lets it see."""
        self.size, seen = size, _seen(self, size)
        weight = torch.stack([self.weight.detach()[:, 0, i, j] for i, j in seen], 1)
        self.weight = nn.Parameter(weight, self.weight.requires_grad)
        pixels = torch.cartesian_prod(*(torch.arange(length, device=weight.device) for length in size))
        offsets = pixels[:, None] - pixels + torch.tensor(_pair(self.padding), device=weight.device)
        positions = torch.tensor(seen, device=weight.device)
        spread = (offsets == positions[:, None, None]).all(3).to(weight.dtype)
        self.register_buffer("spread", spread, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same."""
        _check(x, self.size)
        pixels, flat = x.flatten(2), self.spread.flatten(1)
        if pixels.shape[2] <= LARGEST_SUMS:
            matrices = (self.weight[:, :, None] * flat).sum(1).unflatten(1, self.spread.shape[1:])
            out = (pixels[..., None] * matrices).sum(2)
        else:
            matrices = linear(self.weight, flat.T, None).unflatten(1, self.spread.shape[1:])
            out = torch.bmm(pixels.transpose(0, 1), matrices).transpose(0, 1)
        out = out.unflatten(2, self.size)
        return out if self.bias is None else out + self.bias[:, None, None]


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` in plain operations, which leave the memory format as it is; needs a momentum."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], normalised by the batch in training and by the running statistics in evaluation."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        if self.training:
            count = x.numel() // x.shape[1]
            if count == 1:  # as torch's own does, for the batch says nothing of a variance
                raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            with torch.no_grad():
                share = self.momentum
                self.running_mean.mul_(1 - share).add_(mean.detach(), alpha=share)
                self.running_var.mul_(1 - share).add_(variance.detach(), alpha=share * count / (count - 1))
        else:
            mean, variance = self.running_mean, self.running_var
        scale = torch.rsqrt(variance + self.eps) * self.weight
        centre = mean.detach()
        # What is subtracted is 0. By it the mean's gradient is a sum of the result's; a sum of what flows to `x`, which
        # goes on from there, would have that stored.
        shift = self.bias - (mean - centre) * scale
        return (x - centre[:, None, None]) * scale[:, None, None] + shift[:, None, None]


def replace_linear(layer: nn.Linear, shape: torch.Size) -> None:
    """Where a size is not `ALIGNED`; `shape`, of the input, is not needed."""
    if any(size % ALIGNED for size in layer.weight.shape):
        layer.__class__ = Linear


def replace_convolution(layer: nn.Conv2d, shape: torch.Size) -> None:
    """By a product where there is one group; where there is one a channel, if that keeps a small image's size."""
    size, padding = (shape[2], shape[3]), layer.padding
    if layer.padding_mode != "zeros" or isinstance(padding, str) or _pair(layer.dilation) != (1, 1):
        return
    if not _seen(layer, size):  # nothing but its bias comes out
        return
    same = tuple(2 * p + 1 for p in _pair(padding)) == layer.kernel_size and _pair(layer.stride) == (1, 1)
    if layer.groups == 1:
        layer.__class__ = Convolution
    elif layer.groups == layer.in_channels == layer.out_channels and same and size[0] * size[1] <= LARGEST_DENSE:
        layer.__class__ = Depthwise
    if isinstance(layer, Convolution | Depthwise):
        layer.adapt(size)


def replace_normalisation(layer: nn.BatchNorm2d, shape: torch.Size) -> None:
    """Where it has weights, running statistics and a momentum; whatever the `shape` of its input."""
    if layer.affine and layer.track_running_stats and layer.momentum is not None:
        layer.__class__ = BatchNorm2d


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`functional.linear` with sizes rounded up by zeros where they are not `ALIGNED`."""
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


def _check(x: Tensor, size: tuple[int, int]) -> None:
    if tuple(x.shape[2:]) != size:
        raise ValueError(
            f"image: expected {size[0]} x {size[1]} pixels, as the layer was made for, got {tuple(x.shape)}"
        )


def _outputs(layer: nn.Conv2d, size: tuple[int, int]) -> list[int]:
    """Pixels down and across of what `layer` makes of an image of `size`."""
    geometry = zip(size, layer.kernel_size, _pair(layer.stride), _pair(layer.padding), strict=True)
    return [(length + 2 * padding - kernel) // stride + 1 for length, kernel, stride, padding in geometry]


def _seen(layer: nn.Conv2d, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The positions of the kernel that lie on an image of `size` for some output."""
    strides, paddings, outputs = _pair(layer.stride), _pair(layer.padding), _outputs(layer, size)
    rows, columns = (
        [
            i
            for i in range(layer.kernel_size[d])
            if any(0 <= i - paddings[d] + strides[d] * o < size[d] for o in range(outputs[d]))
        ]
        for d in (0, 1)
    )
    return [(i, j) for i in rows for j in columns]
