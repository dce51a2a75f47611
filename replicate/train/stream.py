"""Images that are read during training: loader processes decode and crop them; the device augments and normalises.

The random numbers for each image come from a separate generator, keyed by seed, epoch and image, so that a result does
not depend on the number of loader processes or on which of them loads an image.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from replicate.data import catalogue
from replicate.runs.run import Run
from replicate.train import augment, cores, setting
from replicate.train.batches import Batch, Normalisation, check

MOST_WORKERS = 16
"""Largest number of loader processes for one device; more would only take memory."""

PREFETCHED = 4
"""Batches that each loader process prepares in advance."""

TEST_MARGIN = 256 / 224
"""Test images are scaled so that their shorter side is this many times the crop, then cropped at the centre, as in the
published script."""


class Streamed:
    """Inputs that are read from files by `workers` loader processes; None: as many as `workers_for` gives."""

    def __init__(self, run: Run, device: str, workers: int | None = None) -> None:
        check(run)
        self.info = catalogue.info(run.data)
        self._run, self._device = run, device
        self._files = catalogue.files(run.data)
        self._workers = workers_for(device) if workers is None else workers
        self.normalise = Normalisation(self.info, device)
        self.steps_per_epoch = math.ceil(len(self._files.train_labels) / run.batch_size)

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The augmented batches of `epoch`, from batch number `first` (from 0) on; the last batch may be smaller."""
        files, run = self._files, self._run
        later = tuple(name for name in run.augment if name != augment.RESIZED_CROP)
        where = files.folder, files.train_paths, files.train_labels, self.info.image_size
        images = TrainImages(*where, run.seed, epoch, later)
        order = torch.randperm(len(images), generator=setting.generator(run.seed, "order", epoch))
        for pixels, labels, *draws in self._loader(images, order[first * run.batch_size :], run.batch_size):
            pixels = self._moved(pixels)
            for name, drawn in zip(images.later, draws, strict=True):
                pixels = augment.AUGMENTATIONS[name].apply(pixels, drawn)
            yield pixels, self._moved(labels)

    def test_batches(self, size: int) -> Iterator[Batch]:
        """The test images, normalised, `size` at a time."""
        files = self._files
        images = TestImages(files.folder, files.test_paths, files.test_labels, self.info.image_size)
        for pixels, labels in self._loader(images, torch.arange(len(images)), size):
            yield self.normalise(self._moved(pixels)), self._moved(labels)

    def _loader(self, images: Files, order: Tensor, batch_size: int) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(
            images,
            batch_sampler=[batch.tolist() for batch in order.split(batch_size) if len(batch)],
            num_workers=self._workers,
            pin_memory=self._device != "cpu",
            prefetch_factor=PREFETCHED if self._workers else None,
            generator=torch.Generator(),  # only seeds the loader processes, which use generators of their own
        )

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, non_blocking=True)


def workers_for(device: str) -> int:
    """Number of loader processes for `device`: 0 for a CPU, busy training; else CPUs / GPUs, up to `MOST_WORKERS`."""
    if device == "cpu":
        return 0
    return max(1, min(MOST_WORKERS, cores.processors() // max(1, torch.cuda.device_count())))


@dataclass(frozen=True)
class Files(Dataset[tuple[Tensor, ...]]):
    """Images by their paths [N], relative to `folder`, with labels [N]."""

    folder: Path
    paths: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    size: int

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Image.Image:
        """The image at `index`, in colour."""
        with Image.open(self.folder / os.fsdecode(self.paths[index])) as image:
            return image.convert("RGB")


@dataclass(frozen=True)
class TrainImages(Files):
    """Each item: pixels [3, size, size] of a random crop, the label, and parameters of the augmentations in `later`."""

    seed: int
    epoch: int
    later: tuple[str, ...]
    """Names of the augmentations that are applied afterwards, on the device."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        crop = augment.resized_crop(self.read(index), self.size, self._generator(augment.RESIZED_CROP, index))
        draws = (augment.AUGMENTATIONS[name].draw(self._generator(name, index), 1)[0] for name in self.later)
        return vision.pil_to_tensor(crop), torch.tensor(self.labels[index]), *draws

    def _generator(self, name: str, index: int) -> torch.Generator:
        return setting.generator(self.seed, f"{name}/{self.epoch}", index)


class TestImages(Files):
    """Each item: pixels [3, size, size] of the centre of an image, and its label."""

    __test__ = False  # or pytest would take this class for a test

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        shorter = [round(TEST_MARGIN * self.size)]
        scaled = vision.resize(self.read(index), shorter, interpolation=InterpolationMode.BILINEAR)
        crop = vision.center_crop(scaled, [self.size, self.size])
        return vision.pil_to_tensor(crop), torch.tensor(self.labels[index])
