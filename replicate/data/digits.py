"""The 8 x 8 digits that come with scikit-learn: 1797 images without a train and test split."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from replicate.data.source import DataError

SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Digest of the images as 1797 x 64 bytes followed by the labels as 1797 bytes."""

MEAN, STD = 0.3053, 0.3760
"""Mean and standard deviation of the pixels of all images, whatever the split, divided by the largest value, 16."""


@lru_cache(maxsize=1)
def read() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels [1797, 64] from 0 to 16 and labels [1797]; raises `DataError` if the file is missing or altered.

    Both are read from the file inside scikit-learn, because importing scikit-learn takes seconds in every worker.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise DataError(
            "digits: expected scikit-learn, which contains the images, got none installed; pip install scikit-learn"
        )
    path = Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if not path.is_file():
        raise DataError(f"digits: expected the images at {path}, found no file; reinstall scikit-learn")
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float64).astype(np.uint8)
    pixels, labels = np.ascontiguousarray(table[:, :-1]), np.ascontiguousarray(table[:, -1])
    got = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if got != SHA256:
        raise DataError(
            f"digits: expected the images in {path} to have SHA-256 {SHA256}, got {got}; reinstall scikit-learn"
        )
    return pixels, labels
