"""Small data sets of made-up images in the formats of the real ones."""

from __future__ import annotations

import gzip
import pickle
import struct
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from replicate.data import fashion as fashion_mnist


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes bytes as Python 2 wrote its texts, which is what the published CIFAR pickles hold."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_text(self, text: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    dispatch[bytes] = save_text


def python2_pickle(value: Any) -> bytes:
    """`value` as Python 2 and the numpy of its days wrote it."""
    file = BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def coloured(count: int, classes: int, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noise, [count, 3, size, size], brighter in the half and colour that tell its label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    images = rng.integers(0, 128, size=(count, 3, size, size), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label % 3, : size // 2] += np.uint8(100 if label % 2 else 0)
    return images, labels


def cifar100(folder: Path, train: int = 64, test: int = 32, classes: int = 6) -> Path:
    """`folder` with `cifar-100-python` in it, as torchvision unpacks it."""
    inside = folder / "cifar-100-python"
    inside.mkdir(parents=True)
    for seed, (name, count) in enumerate((("train", train), ("test", test))):
        images, labels = coloured(count, classes, 32, seed)
        entry = {
            b"filenames": [b"made_up_%d.png" % i for i in range(count)],
            b"batch_label": b"made up",
            b"fine_labels": [int(label) for label in labels],
            b"coarse_labels": [int(label) // 5 for label in labels],
            b"data": images.reshape(count, 3072),
        }
        (inside / name).write_bytes(python2_pickle(entry))
    return folder


def fashion(folder: Path, train: int = 64, test: int = 32, compressed: bool = True) -> Path:
    """`folder` with the four idx files of Fashion-MNIST in it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in fashion_mnist.FILES:
        count = train if name.startswith("train") else test
        shape = (count, 28, 28) if "images" in name else (count,)
        array = rng.integers(256 if len(shape) == 3 else 10, size=shape, dtype=np.uint8)
        blob = b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()
        (folder / (f"{name}.gz" if compressed else name)).write_bytes(gzip.compress(blob) if compressed else blob)
    return folder


def imagenet(folder: Path, train: int = 8, test: int = 4, classes: int = 3) -> Path:
    """`folder` with `imagenet/train` and `imagenet/val`: JPEG files by class, no two of one shape."""
    for seed, (split, count) in enumerate((("train", train), ("val", test))):
        rng = np.random.default_rng(seed)
        for label in range(classes):
            inside = folder / "imagenet" / split / f"n0000000{label}"
            inside.mkdir(parents=True)
            for i in range(count):
                height, width = 240 + 7 * i, 300 - 11 * i + 5 * label
                small = rng.integers(0, 128, size=(8, 8, 3), dtype=np.uint8)
                small[:4, :, label % 3] += 100
                image = Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)
                image.save(inside / f"made_up_{i}.JPEG", quality=90)
    return folder
