"""Batches of augmented images and their labels on a device, the same for every trainer.

Batches depend only on a run's data, seed, batch size and augmentation, so the runs of a stack share their batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from replicate.data import catalogue, source
from replicate.data.spec import DataSpec
from replicate.runs.run import Run
from replicate.train import augment, setting
from replicate.train.batches import Batch, Normalisation, check
from replicate.train.stream import Streamed

CHUNK, CHUNK_ON_GPU = 4096, 32768
"""Number of images that are augmented at once: few enough to fit in memory beside a stack, and on a GPU enough for the
launches of each chunk's small kernels to take little of the time."""


class Resident:
    """Inputs from a data set that fits in the device's memory as a whole.

    All images of an epoch are augmented at its start, overwriting the images of the previous epoch. A step then takes
    its batch by index from memory at a fixed address, as a CUDA graph requires.
    """

    def __init__(self, run: Run, device: str) -> None:
        check(run)
        self.info = catalogue.info(run.data)
        self._run, self._device = run, device
        self._source, self.labels, self._test_images, self.test_labels = _on_device(run.data, device, source.root())
        self.images = self._source.clone() if run.augment else self._source
        """The augmented images of the current epoch, [N, C, H, W]."""
        self.normalise = Normalisation(self.info, device)
        self.steps_per_epoch = math.ceil(len(self.labels) / run.batch_size)

    def start(self, epoch: int) -> list[Tensor]:
        """Fill `images` with the augmented images of `epoch`; returns the image indices of each batch, in order."""
        seed, count = self._run.seed, len(self.labels)
        draws = [
            (augment.AUGMENTATIONS[name], augment.AUGMENTATIONS[name].draw(setting.generator(seed, name, epoch), count))
            for name in self._run.augment
        ]
        chunk = CHUNK if self._device == "cpu" else CHUNK_ON_GPU
        for a in range(0, count if draws else 0, chunk):
            images = self._source[a : a + chunk]
            for augmentation, drawn in draws:
                images = augmentation.apply(images, drawn[a : a + chunk])
            self.images[a : a + chunk] = images
        order = torch.randperm(count, generator=setting.generator(seed, "order", epoch))
        return list(order.to(self._device).split(self._run.batch_size))

    def batch(self, index: Tensor) -> Batch:
        """The training images at `index`, not yet normalised."""
        return self.images[index], self.labels[index]

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The augmented batches of `epoch`, from batch number `first` (from 0) on; the last batch may be smaller."""
        return map(self.batch, self.start(epoch)[first:])

    def test_batches(self, size: int) -> Iterator[Batch]:
        """The test images, normalised, `size` at a time."""
        for images, labels in zip(self._test_images.split(size), self.test_labels.split(size), strict=True):
            yield self.normalise(images), labels


Inputs = Resident | Streamed


def open_inputs(run: Run, device: str) -> Inputs:
    """The inputs of `run` on `device`, resident or streamed as its data set demands."""
    return Resident(run, device) if catalogue.info(run.data).resident else Streamed(run, device)


@lru_cache(maxsize=8)
def _on_device(spec: DataSpec, device: str, root: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, then test images and labels, on `device`; cached per data folder `root`."""
    split = catalogue.load(spec)

    def images(array: NDArray[np.float32] | NDArray[np.uint8]) -> Tensor:
        return torch.tensor(array, device=device).to(memory_format=torch.channels_last)

    def labels(array: NDArray[np.int64]) -> Tensor:
        return torch.tensor(array, device=device)

    return images(split.train_images), labels(split.train_labels), images(split.test_images), labels(split.test_labels)
