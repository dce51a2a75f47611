"""Reads CIFAR-100 as torchvision stores it: two Python 2 pickles in `cifar-100-python`, downloaded if missing.

A pickle can run code, so both are read with an unpickler that makes only arrays and plain values. Their checksum then
tells whether the images are the published ones (`replicate.data.catalogue.published`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import pickletools
import socket
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from replicate.data import source
from replicate.data.source import Arrays, DataError

FOLDER = "cifar-100-python"
URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
ARCHIVE = "cifar-100-python.tar.gz"
ARCHIVE_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
MD5 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}
"""MD5 of the two files, as listed in torchvision.datasets.CIFAR100."""

PUBLISHED = f"md5:{MD5['train']}+{MD5['test']}"
DOWNLOAD_SECONDS = 20.0
"""Seconds without data from the server after which a download is given up."""


def prepare() -> None:
    """Download the files if missing, once for all processes; raises `DataError` if the download fails."""
    root = source.root()
    if _folder(root) is None:
        _fetch(root)


def read() -> Arrays:
    """Both splits of CIFAR-100, images [N, 3, 32, 32]; raises `DataError` if the files are missing or damaged."""
    prepare()
    folder = _folder(source.root())
    assert folder is not None
    (train_images, train_labels, train), (test_images, test_labels, test) = (_split(folder / name) for name in MD5)
    return Arrays(train_images, train_labels, test_images, test_labels, f"md5:{train}+{test}")


def _folder(root: Path) -> Path | None:
    """The folder that has both files: torchvision's below `root`, or `root` itself; None if neither has them."""
    found = (folder for folder in (root / FOLDER, root) if all((folder / name).is_file() for name in MD5))
    return next(found, None)


@lru_cache(maxsize=8)
def _failure(root: Path) -> str:
    """Download the files into `root`, once per process; returns why the download failed, or an empty text."""
    from torchvision.datasets.utils import download_and_extract_archive  # here, because judging needs no PyTorch

    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SECONDS)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # torchvision prints, and standard output is for the command's JSON.
        with FileLock(root / f".{FOLDER}.lock"), contextlib.redirect_stdout(sys.stderr):
            if _folder(root) is None:
                download_and_extract_archive(URL, str(root), filename=ARCHIVE, md5=ARCHIVE_MD5)
    except (OSError, RuntimeError, EOFError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    finally:
        socket.setdefaulttimeout(patience)
    return ""


def _fetch(root: Path) -> None:
    why = _failure(root)
    if _folder(root) is None:
        raise DataError(
            f"cifar100: expected {FOLDER}/train and {FOLDER}/test in {root}, found none, and the download failed "
            f"({why or 'the archive lacks these files'}); unpack {URL} there, or name the files' folder with --data"
        )


def _split(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], str]:
    """Images, fine labels and MD5 of one file."""
    blob = path.read_bytes()
    try:
        _bounded(blob)
        entry = _Plain(io.BytesIO(blob), encoding="latin1").load()
        pixels, labels = entry["data"], np.asarray(entry["fine_labels"], dtype=np.int64)
        if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape == (len(labels), 3072)):
            raise ValueError("its data are not bytes [N, 3072] with one label each")
        if len(labels) and not 0 <= labels.min() <= labels.max() < 100:
            raise ValueError("a label is not from 0 to 99")
    except Exception as error:  # a pickle can fail in any way
        raise DataError(
            f"cifar100: expected a CIFAR-100 pickle at {path}, got {type(error).__name__}: "
            f"{' '.join(str(error).split())}; delete it and unpack {URL} again"
        ) from error
    # MD5 because only MD5 sums are published; the checksum identifies the data and does not guard against forgery.
    return pixels.reshape(-1, 3, 32, 32), labels, hashlib.md5(blob, usedforsecurity=False).hexdigest()


def _bounded(blob: bytes) -> None:
    """Raise UnpicklingError if unpickling `blob` could take far more memory than its size."""
    for code, argument, _ in pickletools.genops(blob):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) < len(blob):
            raise pickle.UnpicklingError(f"its memo index {argument} is out of range")


class _Plain(pickle.Unpickler):
    """An unpickler that rebuilds arrays of bytes and plain values; any other class or function is an error."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty
        if (module, name) == ("numpy", "ndarray"):
            return None  # only an argument of `_empty`; calling the real class could allocate any size
        if (module, name) == ("numpy", "dtype"):
            return _bytes_type
        if (module, name) == ("_codecs", "encode"):
            return _encoded
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")


def _empty(kind: None, shape: tuple[int, ...], code: Any) -> NDArray[np.uint8]:
    """Stands in for numpy's `_reconstruct`: an empty array, to be filled from the pickle."""
    return np.ndarray((0,), dtype=np.uint8)


def _bytes_type(code: str, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    """Stands in for `numpy.dtype`: bytes only; numpy 2.4 warns about the arguments that Python 2 gave it."""
    if code not in ("u1", "|u1"):
        raise pickle.UnpicklingError(f"it holds values of type {code!r}, not bytes")
    return np.dtype(np.uint8)


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """Stands in for `codecs.encode`, with which Python 3 pickles bytes for Python 2."""
    return text.encode("latin1")
