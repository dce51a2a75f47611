"""Where data sets are looked for, what reading one gives, and the one error where that is impossible."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from replicate.text import UsageError

if TYPE_CHECKING:  # the command line reads the names below, and most of its commands no images
    import numpy as np
    from numpy.typing import NDArray

DATA_VARIABLE = "REPLICATE_DATA"
DATA_FOLDER = "~/.cache/replicate/data"
"""Where data sets are looked for unless the variable, or `--data`, says otherwise."""


class DataError(UsageError):
    """A data set that cannot be had as asked; the message is one line that says what to do."""


@dataclass(frozen=True)
class Arrays:
    """A data set of two splits as read: images uint8 [N, C, H, W], labels int64 [N]."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    checksum: str
    """Hash of the files' contents, with the name of the hash in front."""


LONGEST_NAME = "cifar-100-python/train-images-idx3-ubyte.gz"
"""No file that is looked for below the folder has a longer one."""


def root() -> Path:
    """The folder of all data sets."""
    return expanded(os.environ.get(DATA_VARIABLE) or DATA_FOLDER)


def expanded(folder: str) -> Path:
    """`folder` with the home of `~` or `~user` put in."""
    try:
        found = Path(folder).expanduser()
        (found / LONGEST_NAME).exists()
    except RuntimeError:
        raise DataError(
            f"data folder {folder!r}: expected a user that exists after ~, got none of that name; name the folder whole"
        ) from None
    except OSError as error:
        given = folder if len(folder) <= 60 else f"{folder[:60]}…"
        raise DataError(
            f"data folder {given!r}: expected a folder that can be looked into, got: {error.strerror}; name another"
        ) from None
    return found
