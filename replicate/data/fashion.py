"""Reads Fashion-MNIST's idx files, from the folders of torchvision or of Debian's package dataset-fashion-mnist."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from replicate.data import source
from replicate.data.source import Arrays, DataError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""The names of the files; a compressed file has `.gz` added."""

SYSTEM = Path("/usr/share/datasets/fashion-mnist")
"""Where the package dataset-fashion-mnist of Debian and Ubuntu puts the files."""

PUBLISHED = "sha256:14410854cf7a289477dcfc7df3f8ec24741e281cdcc425ede0d9a748ca630214"
"""Hash of the unpacked contents of the four files, concatenated in the order of `FILES`.

Computed from Debian's package. Compressed with the original gzip headers, its files have the MD5 sums listed in
torchvision.datasets.FashionMNIST.
"""

MEAN, STD = (0.2860,), (0.3530,)
"""Mean and standard deviation over the unpadded 28 x 28 pixels of the published training images, divided by 255."""

LARGEST_BYTES = 200_000_000
"""Limit for an unpacked file, since a small file can unpack to any size; the largest published file has 47 MB."""

PADDING = 2
"""Black pixels added on each side, from 28 x 28 to 32 x 32."""


def prepare() -> None:
    """Raise `DataError` if the files are missing."""
    _folder(source.root())


def halved() -> Arrays:
    """Both splits, images [N, 1, 16, 16]: each block of 2 x 2 pixels of the padded images averaged and rounded."""
    whole = read()
    return replace(whole, train_images=_halved(whole.train_images), test_images=_halved(whole.test_images))


def read() -> Arrays:
    """Both splits, images padded to [N, 1, 32, 32]; raises `DataError` if the files are missing or damaged."""
    folder = _folder(source.root())
    digest = hashlib.sha256()
    arrays = []
    for name in FILES:
        path = _file(folder, name)
        assert path is not None
        try:
            blob = path.read_bytes()
            blob = _unpacked(blob) if path.suffix == ".gz" else blob
            arrays.append(_idx(blob))
        except (OSError, ValueError, EOFError, zlib.error) as error:
            raise DataError(f"fashion: expected an idx file at {path}, got {error}; download it again") from error
        digest.update(blob)
    train_images, train_labels, test_images, test_labels = arrays
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        if images.shape != (len(labels), 28, 28) or (len(labels) and labels.max() > 9):
            raise DataError(
                f"fashion: expected 28 x 28 images with a label from 0 to 9 each in {folder}, got arrays of shapes "
                f"{images.shape} and {labels.shape}; download the files again"
            )
    return Arrays(
        train_images=_padded(train_images),
        train_labels=train_labels.astype(np.int64),
        test_images=_padded(test_images),
        test_labels=test_labels.astype(np.int64),
        checksum=f"sha256:{digest.hexdigest()}",
    )


def _folder(root: Path) -> Path:
    for folder in (root / "FashionMNIST" / "raw", root / "fashion-mnist", root, SYSTEM):
        if all(_file(folder, name) is not None for name in FILES):
            return folder
    raise DataError(
        f"fashion: expected {FILES[0]}.gz and the three other files of Fashion-MNIST in {root / 'fashion-mnist'} or "
        f"{SYSTEM}, found none; install the system package dataset-fashion-mnist, or name the files' folder with --data"
    )


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _unpacked(blob: bytes) -> bytes:
    with gzip.open(io.BytesIO(blob)) as file:
        found = file.read(LARGEST_BYTES + 1)
    if len(found) > LARGEST_BYTES:
        raise ValueError(f"more than {LARGEST_BYTES / 1e6:.0f} MB")
    return found


def _idx(blob: bytes) -> NDArray[np.uint8]:
    """The array in an idx file: bytes 0, 0, 8 (its type), number of dimensions; sizes as big-endian int32; the data."""
    if len(blob) < 4 or blob[:3] != b"\0\0\x08" or not blob[3]:
        raise ValueError("a header whose data type is not 8, the code for unsigned bytes")
    head = 4 + 4 * blob[3]
    shape = tuple(int(n) for n in np.frombuffer(blob[4:head], dtype=">u4"))
    if len(shape) != blob[3] or len(blob) != head + int(np.prod(shape, dtype=np.int64)):
        raise ValueError("a file that is cut off")
    return np.frombuffer(blob, dtype=np.uint8, offset=head).reshape(shape)


def _padded(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))[:, None]


def _halved(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    count, channels, height, width = images.shape
    blocks = images.reshape(count, channels, height // 2, 2, width // 2, 2)
    # In integers, to be the same on every machine; adding 2 before dividing by 4 rounds.
    return ((blocks.sum((3, 5), dtype=np.uint16) + 2) // 4).astype(np.uint8)
