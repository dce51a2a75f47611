"""Augmentation of many images at once on their device, each with its own random parameters, as in torchvision.

An augmentation is two functions. `draw` draws the parameters for `count` images, one row each, from a generator on the
CPU, so that draws do not depend on the device. `apply` applies them to byte images [N, C, H, W] on any device. Where
torchvision's kernel takes a single parameter per batch, images with equal parameters are processed together; otherwise
the same arithmetic is done with one parameter per image. torchvision's kernels for tensors differ from its kernels for
PIL images, which the published script uses, by at most two of 255 levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from replicate.paper.protocol import COLOR_JITTER, RANDAUGMENT_MAGNITUDE

PADDING = 4
"""Black pixels on each side before a random crop: as in the published script."""

CROP_SCALE, CROP_RATIO, CROP_TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
"""torchvision's defaults for a random resized crop: share of the area, width / height, tries before a centre crop."""

RANDAUGMENT_OPERATIONS, RANDAUGMENT_BINS = 2, 31
"""torchvision's defaults: operations per image, and number of magnitudes."""


@dataclass(frozen=True)
class Augmentation:
    """How to draw parameters [count, …] on the CPU, and how to apply them to `count` images."""

    draw: Callable[[Generator, int], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]


def _draw_crop(generator: Generator, count: int) -> Tensor:
    """Top and left edge [count, 2] within the padded image."""
    return torch.randint(2 * PADDING + 1, (count, 2), generator=generator)


def _crop(images: Tensor, corners: Tensor) -> Tensor:
    n, _, height, width = images.shape
    padded = functional.pad(images, (PADDING,) * 4)
    corners = corners.to(images.device)
    rows = corners[:, :1] + torch.arange(height, device=images.device)
    columns = corners[:, 1:] + torch.arange(width, device=images.device)
    which = torch.arange(n, device=images.device)
    # Index tensors around a slice put the channels last, which is the memory format we want.
    return padded[which[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _draw_flip(generator: Generator, count: int) -> Tensor:
    """Whether to flip [count]."""
    return torch.rand(count, generator=generator) < 0.5


def _flip(images: Tensor, flipped: Tensor) -> Tensor:
    return torch.where(flipped.to(images.device)[:, None, None, None], images.flip(3), images)


def _draw_jitter(generator: Generator, count: int) -> Tensor:
    """Factors of brightness, contrast and saturation, then the order in which to apply them: [count, 6]."""
    factors = 1 + COLOR_JITTER * (2 * torch.rand(count, 3, generator=generator, dtype=torch.float64) - 1)
    order = torch.rand(count, 3, generator=generator, dtype=torch.float64).argsort(1)
    return torch.cat([factors, order], 1)


def _jitter(images: Tensor, drawn: Tensor) -> Tensor:
    factors, order = drawn[:, :3], drawn[:, 3:].long()
    adjustments = (_brightness, _contrast, _saturation)
    for turn in range(3):

        def adjusted(which: int, rows: Tensor, some: Tensor) -> Tensor:
            factor = factors[rows, which].float().to(some.device)
            return adjustments[which](some, factor[:, None, None, None])

        images = _by_code(images, order[:, turn], adjusted)
    return images


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp_(0, 255).to(torch.uint8)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _grey(images).mean((1, 2, 3), keepdim=True), factor)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _grey(images), factor) if images.shape[1] == 3 else images


def _grey(images: Tensor) -> Tensor:
    """Luma, rounded down to whole levels: [N, 1, H, W]."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.unbind(1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_().unsqueeze(1)


def _blend(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    return (images * share + others * (1 - share)).clamp_(0, 255).to(torch.uint8)


def _draw_randaugment(generator: Generator, count: int) -> Tensor:
    """The index of each operation to apply, and whether its magnitude is negative: [count, operations, 2]."""
    which = torch.randint(len(RANDAUGMENT), (count, RANDAUGMENT_OPERATIONS), generator=generator)
    negative = torch.rand(count, RANDAUGMENT_OPERATIONS, generator=generator) < 0.5
    signed = torch.tensor([operation.signed for operation in RANDAUGMENT])
    return torch.stack([which, negative & signed[which]], 2)


def _randaugment(images: Tensor, drawn: Tensor) -> Tensor:
    share = RANDAUGMENT_MAGNITUDE / (RANDAUGMENT_BINS - 1)

    def augmented(code: int, rows: Tensor, some: Tensor) -> Tensor:
        which, negative = divmod(code, 2)
        return RANDAUGMENT[which].apply(some, -share if negative else share)

    for turn in range(RANDAUGMENT_OPERATIONS):
        images = _by_code(images, 2 * drawn[:, turn, 0] + drawn[:, turn, 1], augmented)
    return images


@dataclass(frozen=True)
class Operation:
    """An operation of RandAugment. `apply` takes images and a magnitude from 0 to 1, or from -1 to 1 if `signed`."""

    name: str
    apply: Callable[[Tensor, float], Tensor]
    signed: bool = True


def _affine(images: Tensor, move: Sequence[float] = (0, 0), shear: Sequence[float] = (0, 0)) -> Tensor:
    centre = None if any(move) else [0.0, 0.0]  # a shear leaves the first row and column where they are
    affine = partial(vision.affine, angle=0.0, scale=1.0, interpolation=InterpolationMode.NEAREST)
    return affine(images, translate=[int(m) for m in move], shear=list(shear), center=centre)


def _slope(share: float) -> float:
    """The angle in degrees whose tangent is 0.3 times `share`."""
    return math.degrees(math.atan(0.3 * share))


RANDAUGMENT = (
    Operation("Identity", lambda x, m: x, False),
    Operation("ShearX", lambda x, m: _affine(x, shear=(_slope(m), 0.0))),
    Operation("ShearY", lambda x, m: _affine(x, shear=(0.0, _slope(m)))),
    Operation("TranslateX", lambda x, m: _affine(x, move=(150 / 331 * x.shape[3] * m, 0))),
    Operation("TranslateY", lambda x, m: _affine(x, move=(0, 150 / 331 * x.shape[2] * m))),
    Operation("Rotate", lambda x, m: vision.rotate(x, 30 * m, interpolation=InterpolationMode.NEAREST)),
    Operation("Brightness", lambda x, m: vision.adjust_brightness(x, 1 + 0.9 * m)),
    Operation("Color", lambda x, m: vision.adjust_saturation(x, 1 + 0.9 * m)),
    Operation("Contrast", lambda x, m: vision.adjust_contrast(x, 1 + 0.9 * m)),
    Operation("Sharpness", lambda x, m: vision.adjust_sharpness(x, 1 + 0.9 * m)),
    Operation("Posterize", lambda x, m: vision.posterize(x, 8 - round(4 * m)), False),
    Operation("Solarize", lambda x, m: vision.solarize(x, 255 * (1 - m)), False),
    Operation("AutoContrast", lambda x, m: vision.autocontrast(x), False),
    Operation("Equalize", lambda x, m: vision.equalize(x), False),
)
"""The operations of torchvision.transforms.v2.RandAugment, in its order."""


def _by_code(images: Tensor, codes: Tensor, function: Callable[[int, Tensor, Tensor], Tensor]) -> Tensor:
    """Apply `function(code, rows, images)` once per distinct code, to all images of that code; keeps their order.

    `codes` [N] and `rows` (indices of these images) are on the CPU, to avoid waiting for a GPU to count the images.
    """
    order = codes.argsort(stable=True)
    found, counts = codes[order].unique_consecutive(return_counts=True)
    images = images[order.to(images.device)]
    groups = zip(found.tolist(), order.split(counts.tolist()), images.split(counts.tolist()), strict=True)
    done = torch.cat([function(code, rows, some) for code, rows, some in groups])
    return done[order.argsort().to(images.device)]


AUGMENTATIONS = {
    "random_crop": Augmentation(_draw_crop, _crop),
    "horizontal_flip": Augmentation(_draw_flip, _flip),
    "color_jitter": Augmentation(_draw_jitter, _jitter),
    "randaugment": Augmentation(_draw_randaugment, _randaugment),
}
"""Name, as in `Run.augment` → augmentation."""

RESIZED_CROP = "random_resized_crop"
"""Name of the augmentation that makes images of all sizes equally large; applied while images are read (`stream`)."""


def resized_crop(image: Image.Image, size: int, generator: Generator) -> Image.Image:
    """A random part of `image`, scaled to `size` x `size` pixels."""
    top, left, height, width = box(image.height, image.width, generator)
    resize = partial(vision.resized_crop, size=[size, size], interpolation=InterpolationMode.BILINEAR)
    return resize(image, top, left, height, width)


def box(height: int, width: int, generator: Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop of random area, aspect ratio and position, as in torchvision."""
    draws = torch.rand(2 * CROP_TRIES, generator=generator, dtype=torch.float64).tolist()
    low, high = (math.log(ratio) for ratio in CROP_RATIO)
    for area_draw, ratio_draw in zip(draws[::2], draws[1::2], strict=True):
        area = height * width * (CROP_SCALE[0] + (CROP_SCALE[1] - CROP_SCALE[0]) * area_draw)
        ratio = math.exp(low + (high - low) * ratio_draw)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (), generator=generator))
            left = int(torch.randint(width - w + 1, (), generator=generator))
            return top, left, h, w
    # The image is too wide or too high: take the largest part of its centre that has an allowed shape.
    w, h = width, height
    if width / height < CROP_RATIO[0]:
        h = round(width / CROP_RATIO[0])
    elif width / height > CROP_RATIO[1]:
        w = round(height * CROP_RATIO[1])
    return (height - h) // 2, (width - w) // 2, h, w
