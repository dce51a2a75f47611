"""Fits that several claims use, cached per process: line through the optima, draws of the gap, random searches."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from replicate.estimate import gap, surface
from replicate.estimate.line_fit import LineFit, fit_line
from replicate.estimate.optimum import optimum_curves
from replicate.estimate.surface import Ridge
from replicate.landscape.landscape import Floats, Landscape
from replicate.paper.protocol import WEIGHT_DECAYS


@dataclass(frozen=True)
class _ByContent:
    """A landscape as a cache key: equal rows make equal keys."""

    landscape: Landscape = field(compare=False)
    digest: bytes
    chance_pp: float
    noise_sd: float | None

    @classmethod
    def of(cls, landscape: Landscape) -> _ByContent:
        return cls(landscape, landscape.digest, landscape.chance_pp, landscape.noise_sd)

    def rng(self) -> np.random.Generator:
        """A generator seeded from the rows alone, so that the same landscape always gets the same verdict."""
        return np.random.default_rng(int.from_bytes(self.digest[:8], "little"))


@lru_cache(maxsize=64)  # some 4 MB each
def _line(key: _ByContent) -> LineFit | None:
    return fit_line(optimum_curves(key.landscape.slices(), key.rng()))


@lru_cache(maxsize=64)
def _ridge(key: _ByContent) -> Ridge | None:
    return surface.ridge(key.landscape, key.rng())


@lru_cache(maxsize=256)
def _gap_draws(key: _ByContent, grid: tuple[float, ...]) -> Floats | None:
    return gap.gap_draws(key.landscape, grid, key.rng())


def line(landscape: Landscape) -> LineFit | None:
    """Power laws (lines in ln-ln) through the optima; None if no learning rate has three usable weight decays."""
    return _line(_ByContent.of(landscape))


def ridge(landscape: Landscape) -> Ridge | None:
    """The best weight decays of a random search; None with too few trials or equal scores (`surface.ridge`)."""
    return _ridge(_ByContent.of(landscape))


def generator(landscape: Landscape) -> np.random.Generator:
    """A random generator seeded from the landscape's rows alone."""
    return _ByContent.of(landscape).rng()


def gap_draws(landscape: Landscape, grid: tuple[float, ...] = WEIGHT_DECAYS) -> Floats | None:
    """Draws [K] of the gap, the accuracy (pp) lost by tuning only the learning rate; None as in `gap.gap_draws`."""
    return _gap_draws(_ByContent.of(landscape), grid)
