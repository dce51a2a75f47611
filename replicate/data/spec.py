"""The part of a run's record that describes its data."""

from __future__ import annotations

from dataclasses import dataclass

Number = int | float
"""A number in a run's record, never converted between int and float, because 1 and 1.0 give different keys."""


@dataclass(frozen=True)
class DataSpec:
    """The name of a data set, which of its images are used, and how many labels are made wrong."""

    name: str
    train_images: int | None = None
    """Number of training images; None for the whole training split."""
    label_noise: Number = 0.0
    """Fraction of the training labels that are replaced by another class; `split_seed` determines which."""
    split_seed: int = 0
    test_images: int | None = None
    """Number of test images; None for the whole test split."""


def is_synthetic(dataset: str) -> bool:
    """Whether `dataset` is the name of a made-up data set without images."""
    return dataset.startswith("synthetic-")
