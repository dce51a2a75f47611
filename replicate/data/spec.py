"""The part of a run's record that describes its data."""

from __future__ import annotations

from dataclasses import dataclass

Number = int | float
"""A number in a run's record, kept as it was written, because 1 and 1.0 give different keys."""


@dataclass(frozen=True)
class DataSpec:
    """The name of a data set, and how its examples are selected and altered."""

    name: str
    train_images: int | None = None
    """None: all of the training split."""
    label_noise: Number = 0.0
    """Share of the training labels that are replaced by another class, chosen by `split_seed`."""
    split_seed: int = 0
    test_images: int | None = None
    """None: the whole test split."""


def is_synthetic(dataset: str) -> bool:
    """Whether `dataset` is the name of a made-up data set without images."""
    return dataset.startswith("synthetic-")
