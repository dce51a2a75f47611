"""Loads the data set that a `DataSpec` names, as arrays or a list of files; every machine gets the same images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replicate.data import cifar100, digits, fashion, imagenet, source
from replicate.data.imagenet import Listing
from replicate.data.source import Arrays, DataError
from replicate.data.spec import DataSpec
from replicate.paper.protocol import CHANNEL_MEAN, CHANNEL_STD, IMAGENET_GPUS

__all__ = ["DATASETS", "DataError", "Info", "Split", "checksum", "files", "info", "load", "prepare", "published"]


@dataclass(frozen=True)
class Info:
    """The properties of a data set that are known without loading it."""

    train_images: int
    num_classes: int
    in_chans: int
    image_size: int
    loadable: bool = False
    resident: bool = True
    """Whether all images fit in a device's memory, so that runs can be trained together; else files are streamed."""
    test_images: int | None = None
    """Number of published test images; None if there are none: then the images not trained on are the test images."""
    parts: int = 1
    """Number of parts of each batch: batch normalisation sees one part at a time, as in training on several GPUs."""
    mean: tuple[float, ...] = ()
    """Mean of each channel over the training split, divided by 255; empty for `digits` and for synthetic data."""
    std: tuple[float, ...] = ()


_PAPER: dict[str, Any] = {
    name: {"loadable": True, "mean": CHANNEL_MEAN[name], "std": CHANNEL_STD[name]} for name in ("cifar100", "imagenet")
}
_FASHION: dict[str, Any] = {"loadable": True, "test_images": 10_000, "mean": fashion.MEAN, "std": fashion.STD}
DATASETS = {
    "digits": Info(1797, 10, 1, 8, loadable=True),
    "fashion": Info(60_000, 10, 1, 32, **_FASHION),
    "fashion-16": Info(60_000, 10, 1, 16, **_FASHION),
    "cifar100": Info(50_000, 100, 3, 32, test_images=10_000, **_PAPER["cifar100"]),
    "imagenet": Info(
        1_281_167, 1000, 3, 224, resident=False, test_images=50_000, parts=IMAGENET_GPUS, **_PAPER["imagenet"]
    ),
    "synthetic-cifar100": Info(50_000, 100, 3, 32),
    "synthetic-imagenet": Info(50_000, 1000, 3, 224),
}
"""`digits` is published without a split: the images that are not trained on are the test images. The `synthetic-…`
data sets have no images: `replicate.landscape.world` makes up their accuracies."""

TITLES = {"cifar100": "CIFAR-100", "fashion": "Fashion-MNIST", "fashion-16": "Fashion-MNIST", "imagenet": "ImageNet"}


@dataclass(frozen=True)
class Split:
    """The images that a `DataSpec` selects, [N, C, H, W], and their labels [N]: read-only, as all callers share them.

    Images are float32 and normalised for `digits`, otherwise uint8, to be normalised with `info.mean` and `info.std`.
    """

    train_images: NDArray[np.float32] | NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    """Training labels, of which the fraction `label_noise` of the `DataSpec` is wrong."""
    test_images: NDArray[np.float32] | NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    info: Info


def info(spec: DataSpec) -> Info:
    """The properties of the data set that `spec` names; raises `DataError` if no data set has that name."""
    if spec.name not in DATASETS:
        raise DataError(f"data set: expected one of {', '.join(DATASETS)}; got {spec.name!r}")
    return DATASETS[spec.name]


def train_size(spec: DataSpec) -> int:
    """The number of training images of a run on `spec`; raises `DataError` if the data set has fewer images."""
    known = info(spec).train_images
    if spec.train_images is None:
        return known
    if not 0 < spec.train_images <= known:
        raise DataError(f"{spec.name}: expected train_images from 1 to {known}, got {spec.train_images}")
    return spec.train_images


def test_size(spec: DataSpec) -> int:
    """The number of test images of a run on `spec`."""
    if spec.test_images is not None:
        return spec.test_images
    known = info(spec)
    return known.train_images - train_size(spec) if known.test_images is None else known.test_images


def prepare(spec: DataSpec) -> None:
    """Make sure that this machine has the data set of `spec`, downloading it if possible; raises `DataError` if not."""
    _require_loadable(spec)
    needed: dict[str, Callable[[], object]] = {
        "digits": digits.read,
        "fashion": fashion.prepare,
        "fashion-16": fashion.prepare,
        "cifar100": cifar100.prepare,
        "imagenet": imagenet.prepare,
    }
    needed[spec.name]()


def checksum(spec: DataSpec) -> str:
    """The checksum of this machine's copy of the data set of `spec`; raises `DataError` if it cannot be read."""
    _require_loadable(spec)
    if spec.name == "digits":
        digits.read()
        return f"sha256:{digits.SHA256}"
    return imagenet.read().checksum if spec.name == "imagenet" else _arrays(spec.name, source.root()).checksum


def published(name: str, checksum: str | None) -> bool:
    """Whether `checksum` is the published checksum of the data set `name`; False if none is published."""
    if name == "imagenet":  # no hash is published: only the numbers of classes and files are compared
        return (checksum or "").endswith(f", {imagenet.PUBLISHED}")
    known = {
        "cifar100": cifar100.PUBLISHED,
        "fashion": fashion.PUBLISHED,
        "fashion-16": fashion.PUBLISHED,
        "digits": f"sha256:{digits.SHA256}",
    }
    return checksum is not None and checksum == known.get(name)


def load(spec: DataSpec) -> Split:
    """Load the training and test images that `spec` selects; raises `DataError` if the data set is not available."""
    known = _require_loadable(spec)
    if not known.resident:
        raise DataError(f"{spec.name}: expected a data set that fits in memory, got one that is streamed from files")
    return _load(spec, source.root())


@lru_cache(maxsize=8)
def _load(spec: DataSpec, root: Path) -> Split:
    if spec.name == "digits":
        split = _digits(spec)
    else:
        found, known = _arrays(spec.name, root), info(spec)
        train, test = _chosen(spec, len(found.train_labels), len(found.test_labels))
        split = Split(
            found.train_images[train],
            _noisy(found.train_labels[train], spec, known.num_classes),
            found.test_images[test],
            found.test_labels[test],
            known,
        )
    for array in (split.train_images, split.train_labels, split.test_images, split.test_labels):
        array.setflags(write=False)
    return split


def files(spec: DataSpec) -> Listing:
    """The files and labels that `spec` selects from a streamed data set; raises `DataError` if it is not available."""
    known = _require_loadable(spec)
    if known.resident:
        raise DataError(f"{spec.name}: expected a data set that is streamed from files, got one that fits in memory")
    found = imagenet.read()
    train, test = _chosen(spec, len(found.train_labels), len(found.test_labels))
    return replace(
        found,
        train_paths=found.train_paths[train],
        train_labels=_noisy(found.train_labels[train], spec, known.num_classes),
        test_paths=found.test_paths[test],
        test_labels=found.test_labels[test],
    )


@lru_cache(maxsize=2)
def _arrays(name: str, root: Path) -> Arrays:
    """Both splits of the whole data set `name`. `root`, the folder read from, only serves as part of the cache key."""
    return {"cifar100": cifar100.read, "fashion": fashion.read, "fashion-16": fashion.halved}[name]()


def _digits(spec: DataSpec) -> Split:
    """The digits, split by a hash of each image's number: the images that are not trained on are the test images."""
    known = info(spec)
    pixels, labels = digits.read()
    size = train_size(spec)
    if size == len(labels):
        raise DataError(f"{spec.name}: expected train_images below {size}, to leave test images, got {size}")
    # Hashes choose the split and the wrong labels: unlike a random generator, no library's new version changes them.
    order = np.argsort(_hashes(spec, "split", len(labels)), kind="stable")
    tested = len(labels) - size if spec.test_images is None else spec.test_images
    if not 0 < tested <= len(labels) - size:
        raise DataError(
            f"{spec.name}: expected test_images from 1 to {len(labels) - size} (not trained on), got {spec.test_images}"
        )
    shape = (-1, known.in_chans, known.image_size, known.image_size)
    images = ((pixels.reshape(shape) / np.float32(16) - digits.MEAN) / digits.STD).astype(np.float32)
    train, test = np.sort(order[:size]), np.sort(order[size : size + tested])
    return Split(
        images[train],
        _noisy(labels[train], spec, known.num_classes),
        images[test],
        labels[test].astype(np.int64),
        known,
    )


def _chosen(spec: DataSpec, train: int, test: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the images that `spec` selects from `train` and `test` images: all or those with the lowest hashes."""
    trained = train_size(spec)
    if trained > train or (spec.train_images is None and trained != train):
        raise DataError(
            f"{spec.name}: expected {trained} training images, found {train} in {source.root()}; get the whole data set"
        )
    tested = test if spec.test_images is None else spec.test_images
    if not 0 < tested <= test:
        raise DataError(f"{spec.name}: expected test_images from 1 to {test}, got {spec.test_images}")

    def lowest(use: str, wanted: int, of: int) -> NDArray[np.int64]:
        if wanted == of:
            return np.arange(of)
        return np.sort(np.argsort(_hashes(spec, use, of), kind="stable")[:wanted])

    return lowest("split", trained, train), lowest("test", tested, test)


def _noisy(labels: NDArray[np.uint8] | NDArray[np.int64], spec: DataSpec, num_classes: int) -> NDArray[np.int64]:
    """`labels` with a fraction `spec.label_noise` of them (to the nearest count) replaced by another class."""
    if not 0 <= spec.label_noise <= 1:
        raise DataError(f"{spec.name}: expected label_noise from 0 to 1, got {spec.label_noise}")
    noisy = labels.astype(np.int64)
    if not spec.label_noise:
        return noisy
    chosen = np.argsort(_hashes(spec, "noise", len(labels)), kind="stable")[: round(spec.label_noise * len(labels))]
    shift = 1 + _hashes(spec, "class", len(labels)) % np.uint64(num_classes - 1)
    noisy[chosen] = (noisy[chosen] + shift[chosen].astype(np.int64)) % num_classes
    return noisy


def _hashes(spec: DataSpec, what: str, count: int) -> NDArray[np.uint64]:
    """A 64-bit hash of each image number below `count`, different for each `spec.split_seed` and purpose `what`."""
    digests = (hashlib.sha256(f"{spec.split_seed}/{what}/{i}".encode()).digest()[:8] for i in range(count))
    return np.array([int.from_bytes(d, "big") for d in digests], dtype=np.uint64)


def _require_loadable(spec: DataSpec) -> Info:
    known = info(spec)
    if not known.loadable:
        raise DataError(f"{spec.name}: expected images to train on, got none; use `replicate synthesize` for results")
    return known
