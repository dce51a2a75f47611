"""Convolutions, linear layers and batch normalisation in forms that a GPU computes fast for many copies of a model.

vmap turns a convolution over the copies (lanes) into a grouped convolution, for which no library has fast kernels. As
batched matrix products, the same sums run on tensor cores, and the compiler fuses the operations between the products.
Images are in channels-last format throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LARGEST_DENSE = 144
"""Largest image, in pixels, for which a depthwise convolution is faster as a product with a pixels x pixels matrix."""

LARGEST_SUMS = 4
"""Largest image, in pixels, for which `Depthwise` multiplies faster by elementwise products and sums than by `bmm`."""

ALIGNED = 8
"""Rows and columns of matrices are padded to multiples of this: otherwise kernels are several times slower."""


class Linear(nn.Linear):
    """`nn.Linear`, computed with sizes padded to multiples of `ALIGNED`, which is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O]."""
        return linear(x, self.weight, self.bias)


class Convolution(nn.Conv2d):
    """`nn.Conv2d` for images of a fixed size, as one matrix product with the input patch of each output pixel.

    `weight` is the matrix of that product, [O, K]. Its columns are ordered by position in the kernel, then by channel.
    Kernel positions that cover only padding, whatever the output pixel, are left out.
    """

    size: tuple[int, int]
    seen: list[tuple[int, int]]

    def adapt(self, size: tuple[int, int]) -> None:
        """Drop the kernel positions that never cover a pixel of an image of this `size`."""
        self.size, self.seen = size, _seen(self, size)
        matrix = torch.stack([self.weight.detach()[:, :, i, j] for i, j in self.seen], 1).flatten(1)
        self.weight = nn.Parameter(matrix, self.weight.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, O, H', W']."""
        _check(x, self.size)
        out = linear(self._patches(x.permute(0, 2, 3, 1)), self.weight, self.bias)
        return out.permute(0, 3, 1, 2)

    def _patches(self, x: Tensor) -> Tensor:
        """The input patch of each output pixel, [B, H', W', K], of `x` [B, H, W, C]."""
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
    """A depthwise `nn.Conv2d` on small images of a fixed size, as one matrix [H W, H W] per channel.

    `weight` [C, P] holds only the P kernel positions that cover a pixel of the image for some output pixel.
    """

    size: tuple[int, int]
    spread: Tensor
    """[P, H W, H W]: 1 where a position of the kernel connects an input pixel with an output pixel, else 0."""

    def adapt(self, size: tuple[int, int]) -> None:
        """Drop the kernel positions that never cover a pixel of an image of this `size`."""
        self.size, seen = size, _seen(self, size)
        weight = torch.stack([self.weight.detach()[:, 0, i, j] for i, j in seen], 1)
        self.weight = nn.Parameter(weight, self.weight.requires_grad)
        pixels = torch.cartesian_prod(*(torch.arange(length, device=weight.device) for length in size))
        offsets = pixels[:, None] - pixels + torch.tensor(_pair(self.padding), device=weight.device)
        positions = torch.tensor(seen, device=weight.device)
        spread = (offsets == positions[:, None, None]).all(3).to(weight.dtype)
        self.register_buffer("spread", spread, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
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
    """`nn.BatchNorm2d` written in elementary operations, which keep the memory format; needs a momentum."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], normalised by the batch's statistics in training and by the running ones in evaluation."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        if self.training:
            count = x.numel() // x.shape[1]
            if count == 1:  # as torch does, because a single value has no variance
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
        # `mean - centre` is 0 and only carries the gradient of the mean, as a sum over the gradient of the result. With
        # `x - mean` instead of `x - centre`, the compiler would have to store the gradient of that difference.
        shift = self.bias - (mean - centre) * scale
        return (x - centre[:, None, None]) * scale[:, None, None] + shift[:, None, None]


def replace_linear(layer: nn.Linear, shape: torch.Size) -> None:
    """Make `layer` a `Linear` if one of its sizes is not a multiple of `ALIGNED`, whatever the input's `shape`."""
    if any(size % ALIGNED for size in layer.weight.shape):
        layer.__class__ = Linear


def replace_convolution(layer: nn.Conv2d, shape: torch.Size) -> None:
    """Make `layer` a `Convolution` if it has one group, a `Depthwise` if it is depthwise and its images are small."""
    size, padding = (shape[2], shape[3]), layer.padding
    if layer.padding_mode != "zeros" or isinstance(padding, str) or _pair(layer.dilation) != (1, 1):
        return
    if not _seen(layer, size):  # no kernel position covers a pixel, so the layer returns only its bias
        return
    same = tuple(2 * p + 1 for p in _pair(padding)) == layer.kernel_size and _pair(layer.stride) == (1, 1)
    if layer.groups == 1:
        layer.__class__ = Convolution
    elif layer.groups == layer.in_channels == layer.out_channels and same and size[0] * size[1] <= LARGEST_DENSE:
        layer.__class__ = Depthwise
    if isinstance(layer, Convolution | Depthwise):
        layer.adapt(size)


def replace_normalisation(layer: nn.BatchNorm2d, shape: torch.Size) -> None:
    """Make `layer`, in place, the `BatchNorm2d` of this file if it has weights, running statistics and a momentum."""
    if layer.affine and layer.track_running_stats and layer.momentum is not None:
        layer.__class__ = BatchNorm2d


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`functional.linear` with sizes padded by zeros to multiples of `ALIGNED`."""
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
            f"image: expected {size[0]} x {size[1]} pixels, for which the layer was made, got shape {tuple(x.shape)}"
        )


def _outputs(layer: nn.Conv2d, size: tuple[int, int]) -> list[int]:
    """Height and width of the output of `layer` for an image of `size`."""
    geometry = zip(size, layer.kernel_size, _pair(layer.stride), _pair(layer.padding), strict=True)
    return [(length + 2 * padding - kernel) // stride + 1 for length, kernel, stride, padding in geometry]


def _seen(layer: nn.Conv2d, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The kernel positions that cover a pixel of an image of `size` for at least one output pixel."""
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
