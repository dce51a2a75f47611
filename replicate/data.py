"""Data sets by checksum: from a DataSpec to normalised arrays, the same on every machine and in every process."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from replicate.runs import DataSpec


class DataError(Exception):
    """A data set that cannot be had as asked; the message is one line that says what to do."""


@dataclass(frozen=True)
class Info:
    """What is known of a data set without loading it. `train_images` counts what may be trained on."""

    train_images: int
    num_classes: int
    in_chans: int
    image_size: int
    loadable: bool = False


DATASETS = {
    "digits": Info(1797, 10, 1, 8, loadable=True),
    "fashion": Info(60_000, 10, 1, 32),
    "cifar100": Info(50_000, 100, 3, 32),
    "imagenet": Info(1_281_167, 1000, 3, 224),
    "synthetic-cifar100": Info(50_000, 100, 3, 32),
    "synthetic-imagenet": Info(50_000, 1000, 3, 224),
}
"""`digits`: the 8 x 8 digits that come with scikit-learn, without a split of their own:
what is not trained on is test. `synthetic-…`: no images at all, see `replicate.world`."""

DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of the images as 1797 x 64 bytes followed by the labels as 1797 bytes."""

DIGITS_MEAN, DIGITS_STD = 0.3053, 0.3760
"""Of all pixels, as shares of the largest grey value: constants, so that the split cannot change the inputs."""


@dataclass(frozen=True)
class Split:
    """Images are float32 [N, C, H, W], normalised; labels int64 [N]. Read-only: one copy serves the whole process."""

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    """With the label noise that the spec asks for."""
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    info: Info


def info(spec: DataSpec) -> Info:
    """What is known of the data set that `spec` names, loadable or not."""
    if spec.name not in DATASETS:
        raise DataError(f"data set: expected one of {', '.join(DATASETS)}; got {spec.name!r}")
    return DATASETS[spec.name]


def train_size(spec: DataSpec) -> int:
    """How many images a run on `spec` trains on."""
    known = info(spec).train_images
    if spec.train_images is None:
        return known
    if not 0 < spec.train_images <= known:
        raise DataError(f"{spec.name}: expected train_images from 1 to {known}, got {spec.train_images}")
    return spec.train_images


def checksum(spec: DataSpec) -> str:
    """`sha256:…` of the verified source that `spec` is drawn from, for provenance."""
    _require_loadable(spec)
    _digits()
    return f"sha256:{DIGITS_SHA256}"


@lru_cache(maxsize=8)
def load(spec: DataSpec) -> Split:
    """The training and test images of `spec`; depends on the spec alone, not on any random number generator."""
    known = _require_loadable(spec)
    pixels, labels = _digits()
    size = train_size(spec)
    if size == len(labels):
        raise DataError(f"{spec.name}: expected train_images below {size}, so that some are left to test on")
    # A hash orders the images and draws the noise: the split cannot drift with a library's generator.
    order = np.argsort(_hashes(spec, "split", len(labels)), kind="stable")
    tested = len(labels) - size if spec.test_images is None else spec.test_images
    if not 0 < tested <= len(labels) - size:
        raise DataError(
            f"{spec.name}: expected test_images from 1 to the {len(labels) - size} left over, got {spec.test_images}"
        )
    shape = (-1, known.in_chans, known.image_size, known.image_size)
    images = ((pixels.reshape(shape) / np.float32(16) - DIGITS_MEAN) / DIGITS_STD).astype(np.float32)
    train, test = np.sort(order[:size]), np.sort(order[size : size + tested])
    split = Split(
        images[train],
        _noisy(labels[train], spec, known.num_classes),
        images[test],
        labels[test].astype(np.int64),
        known,
    )
    for array in (split.train_images, split.train_labels, split.test_images, split.test_labels):
        array.setflags(write=False)
    return split


def _noisy(labels: NDArray[np.uint8], spec: DataSpec, num_classes: int) -> NDArray[np.int64]:
    """`labels` with exactly the asked share (rounded) replaced by one of the other classes."""
    if not 0 <= spec.label_noise <= 1:
        raise DataError(f"{spec.name}: expected label_noise from 0 to 1, got {spec.label_noise}")
    noisy = labels.astype(np.int64)
    chosen = np.argsort(_hashes(spec, "noise", len(labels)), kind="stable")[: round(spec.label_noise * len(labels))]
    shift = 1 + _hashes(spec, "class", len(labels)) % np.uint64(num_classes - 1)
    noisy[chosen] = (noisy[chosen] + shift[chosen].astype(np.int64)) % num_classes
    return noisy


def _hashes(spec: DataSpec, what: str, count: int) -> NDArray[np.uint64]:
    """One 64-bit number an image, keyed by the split's seed and the use it is put to."""
    digests = (hashlib.sha256(f"{spec.split_seed}/{what}/{i}".encode()).digest()[:8] for i in range(count))
    return np.array([int.from_bytes(d, "big") for d in digests], dtype=np.uint64)


@lru_cache(maxsize=1)
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels [1797, 64] from 0 to 16 and labels [1797], from the file inside scikit-learn, verified.

    Read from the file because importing scikit-learn takes seconds, in every worker.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise DataError(
            "digits: expected scikit-learn, which carries the images; not installed: pip install scikit-learn"
        )
    path = Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if not path.is_file():
        raise DataError(f"digits: expected the images at {path}, found no file; install scikit-learn anew")
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float64).astype(np.uint8)
    pixels, labels = np.ascontiguousarray(table[:, :-1]), np.ascontiguousarray(table[:, -1])
    got = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if got != DIGITS_SHA256:
        raise DataError(
            f"digits: expected the images in {path} to have SHA-256 {DIGITS_SHA256}, got {got}; "
            "install scikit-learn anew"
        )
    return pixels, labels


def _require_loadable(spec: DataSpec) -> Info:
    known = info(spec)
    if not known.loadable:
        raise DataError(f"{spec.name}: cannot be loaded yet; use a scale on digits: --scale smoke, --scale embedded")
    return known
