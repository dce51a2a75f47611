"""Lists the files of ImageNet as torchvision's ImageFolder does: `train/<class>/*.JPEG` and `val/<class>/*.JPEG`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from replicate.data import source
from replicate.data.source import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The endings of image files, as listed in torchvision.datasets.folder."""

CLASSES, TRAIN_IMAGES, TEST_IMAGES = 1000, 1_281_167, 50_000
PUBLISHED = f"{CLASSES} classes, {TRAIN_IMAGES} + {TEST_IMAGES} images"
"""The end of `Listing.checksum` for the published data: only these numbers are compared, as no hash is published."""


@dataclass(frozen=True)
class Listing:
    """The image files of both splits. Paths [N] are relative to `folder`; they are bytes because a million strings are
    slow to share with loader processes. Labels, int64 [N], number the class folders in order of their names."""

    folder: Path
    train_paths: NDArray[np.bytes_]
    train_labels: NDArray[np.int64]
    test_paths: NDArray[np.bytes_]
    test_labels: NDArray[np.int64]
    checksum: str
    """Hash of all file names, followed by the numbers of classes and of training and test images."""


def prepare() -> None:
    """Raise `DataError` if the folders are missing."""
    _folder(source.root())


def read() -> Listing:
    """All image files, sorted by name; raises `DataError` if a folder is missing or the splits' classes differ."""
    return _listing(_folder(source.root()))


def _folder(root: Path) -> Path:
    for folder in (root / "imagenet", root):
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            return folder
    raise DataError(
        f"imagenet: expected train/ and val/ with a folder of images for each class in {root / 'imagenet'}, found "
        "none; get ILSVRC2012 from image-net.org and unpack it there, or name the folder of train/ and val/ with --data"
    )


@lru_cache(maxsize=2)
def _listing(folder: Path) -> Listing:
    classes = _names(folder / "train", directories=True)
    if _names(folder / "val", directories=True) != classes or not 0 < len(classes) <= CLASSES:
        raise DataError(
            f"imagenet: expected 1 to {CLASSES} class folders, the same in {folder / 'train'} and {folder / 'val'}, "
            f"got {len(classes)} and {len(_names(folder / 'val', directories=True))} folders; sort the images by class"
        )
    train_paths, train_labels = _split(folder, "train", classes)
    test_paths, test_labels = _split(folder, "val", classes)
    digest = hashlib.sha256(b"\n".join([*train_paths, *test_paths])).hexdigest()
    counts = f"{len(classes)} classes, {len(train_paths)} + {len(test_paths)} images"
    return Listing(folder, train_paths, train_labels, test_paths, test_labels, f"names sha256:{digest}, {counts}")


def _split(folder: Path, split: str, classes: list[str]) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    paths: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = _names(folder / split / name, directories=False)
        paths += [f"{split}/{name}/{file}".encode() for file in found]
        labels += [label] * len(found)
    return np.array(paths, dtype=np.bytes_), np.array(labels, dtype=np.int64)


def _names(folder: Path, directories: bool) -> list[str]:
    """The sorted names of the folders in `folder` if `directories`, else of the image files in it."""
    with os.scandir(folder) as entries:
        if directories:
            return sorted(entry.name for entry in entries if entry.is_dir())
        return sorted(entry.name for entry in entries if entry.name.lower().endswith(EXTENSIONS))
