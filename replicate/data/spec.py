"""What a run sees of a data set: its name and everything that selects and alters its examples."""

from __future__ import annotations

from dataclasses import dataclass

Number = int | float
"""A number of a run's record, read as it was written: 1 and 1.0 give a run different keys."""


@dataclass(frozen=True)
class DataSpec:
    """A data set and everything that selects and alters its examples."""

    name: str
    train_images: int | None = None
    """None: all of the training split."""
    label_noise: Number = 0.0
    """Share of the training labels replaced by another class, drawn from `split_seed`."""
    split_seed: int = 0
    test_images: int | None = None
    """None: the whole test split."""


def is_synthetic(dataset: str) -> bool:
    """Whether a data set of this name is a made-up world's, without images."""
    return dataset.startswith("synthetic-")
