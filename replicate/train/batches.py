"""Shared by resident and streamed inputs: the type of a batch, normalisation, and the check of augmentations."""

from __future__ import annotations

import torch
from torch import Tensor

from replicate.data import catalogue
from replicate.data.catalogue import Info
from replicate.runs.run import Run
from replicate.train import augment
from replicate.train.setting import TrainError

DTYPE = torch.float32
"""Type of normalised images."""

Batch = tuple[Tensor, Tensor]
"""Images [B, C, H, W], bytes before normalisation and floats after it, and labels int64 [B]."""


class Normalisation:
    """Scales byte images to mean 0 and standard deviation 1 per channel; float images are normalised already."""

    def __init__(self, info: Info, device: str) -> None:
        shape = (1, -1, 1, 1)
        self._mean = 255 * torch.tensor(info.mean, dtype=DTYPE, device=device).view(shape)
        self._std = 255 * torch.tensor(info.std, dtype=DTYPE, device=device).view(shape)

    def __call__(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:
            return images
        numbers = images.to(DTYPE).sub_(self._mean).div_(self._std)
        return numbers.contiguous(memory_format=torch.channels_last)


def check(run: Run) -> None:
    """Raise `TrainError` if `run` asks for an augmentation that does not work on its data."""
    info = catalogue.info(run.data)
    known = list(augment.AUGMENTATIONS) if info.resident else [augment.RESIZED_CROP, *augment.AUGMENTATIONS]
    for name in run.augment:
        if name not in known:
            raise TrainError(f"augmentation: expected some of {', '.join(known)} on {run.data.name}; got {name!r}")
    if run.augment and not info.mean:
        raise TrainError(
            f"augmentation: expected none on {run.data.name}, whose images are not uint8; got {run.augment[0]!r}"
        )
    if not info.resident and run.augment[:1] != (augment.RESIZED_CROP,):
        raise TrainError(
            f"augmentation: expected {augment.RESIZED_CROP} first on {run.data.name}, whose images differ in size; "
            f"got {', '.join(run.augment) or 'none'}"
        )
