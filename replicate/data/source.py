"""The folder of the data sets, the arrays that reading a data set returns, and the error if it cannot be read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from replicate.text import UsageError

if TYPE_CHECKING:  # most commands read no images and need no NumPy from this module
    import numpy as np
    from numpy.typing import NDArray

DATA_VARIABLE = "REPLICATE_DATA"
DATA_FOLDER = "~/.cache/replicate/data"
"""Where data sets are looked for by default; `--data` and the environment variable `REPLICATE_DATA` take precedence."""


class DataError(UsageError):
    """A data set cannot be used as requested; the message is one line that says what to do."""


@dataclass(frozen=True)
class Arrays:
    """A data set with its two splits: images uint8 [N, C, H, W], labels int64 [N]."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    checksum: str
    """The hash of the files' contents, after the name of the hash and a colon."""


LONGEST_NAME = "cifar-100-python/train-images-idx3-ubyte.gz"
"""The longest path that is read below the folder of all data sets: tried first, as systems limit path lengths."""


def root() -> Path:
    """The folder of all data sets; raises `DataError` if it cannot be read."""
    return expanded(os.environ.get(DATA_VARIABLE) or DATA_FOLDER)


def expanded(folder: str) -> Path:
    """`folder` with `~` or `~user` expanded; raises `DataError` if the folder cannot be read."""
    try:
        found = Path(folder).expanduser()
        (found / LONGEST_NAME).exists()
    except RuntimeError:
        raise DataError(
            f"data folder {folder!r}: expected an existing user after ~, got an unknown one; give the full path"
        ) from None
    except OSError as error:
        given = folder if len(folder) <= 60 else f"{folder[:60]}…"
        raise DataError(
            f"data folder {given!r}: expected a readable folder, got: {error.strerror}; name another one with --data"
        ) from None
    return found
