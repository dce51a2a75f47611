"""A cell: one architecture on one data set, the unit in which the paper reports results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Cell:
    """One architecture on one data set, under the paper's names."""

    arch: str
    dataset: str

    @property
    def id(self) -> str:
        return f"{self.arch}-{self.dataset}"
