"""Sweeps of the kinds that people have: what may be said of one or two seeds, and of decay that does nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from replicate.estimate import fits, power_law
from replicate.judging.sweep_verdicts import judge_sweep
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, REPLICATED
from replicate.landscape.landscape import Landscape

LRS = (6e-4, 2e-3, 6e-3)
WDS = (0.02, 0.06, 0.2, 0.6, 2.0, 6.0)
QUANTITIES = ("rho", "slope", "intercept", "r2")


def table(rows: Sequence[tuple[float, float, int, float]], noise_sd: float | None = None) -> Landscape:
    """Losses by learning rate, weight decay and seed."""
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score"]).assign(diverged=False)
    frame["score"] *= -1
    return Landscape("model", "text", frame, metric="loss", noise_sd=noise_sd)


def timescale(seeds: int, noise_sd: float | None = None) -> Landscape:
    """The loss of a language model whose best λ · η is 0.0012, with seeds 0.002 apart."""
    rng = np.random.default_rng(1)
    rows = []
    for lr in LRS:
        best = math.log(0.0012 / lr)
        wds = [wd for wd in WDS if abs(math.log(wd) - best) < 3.6]
        level = rng.normal(0, 0.002, (len(wds), seeds))
        rows += [
            (lr, wd, seed, 3.2 + 0.02 * (math.log(wd) - best) ** 2 + float(level[i, seed]))
            for i, wd in enumerate(wds)
            for seed in range(seeds)
        ]
    return table(rows, noise_sd)


@pytest.mark.parametrize(("seeds", "noise_sd"), [(1, 0.002), (2, None), (2, 0.002)])
def test_one_seed_whose_noise_is_known_or_two_seeds_tell_what_falls_with_the_learning_rate(
    seeds: int, noise_sd: float | None
) -> None:
    judged = judge_sweep([timescale(seeds, noise_sd)])[0]
    assert judged.outcomes["slope"] == judged.outcomes["rho"] == CONTRADICTED
    slope = judged.measured["slope"]
    assert slope.low < -1 < slope.high < 0
    fit = fits.line(timescale(seeds, noise_sd))
    assert fit is not None and all(fit.informative)


def test_one_seed_of_unknown_noise_is_not_called_flat() -> None:
    fit = fits.line(timescale(1))
    assert fit is not None
    assert "flat" not in power_law.ratio(fit).settle


def test_losses_that_fall_to_the_end_of_the_grid_ask_for_more_decay() -> None:
    """At two learning rates; at the third the optimum is passed."""
    falling, passed = (3.45, 3.37, 3.32, 3.30), (3.33, 3.29, 3.27, 3.30)
    rows = [
        (lr, wd, 0, loss)
        for lr, losses in ((5e-4, falling), (7e-4, falling), (1e-3, passed))
        for wd, loss in zip((0.05, 0.1, 0.2, 0.4), losses, strict=True)
    ]
    fit = fits.line(table(rows))
    assert fit is not None
    settle = power_law.ratio(fit).settle
    assert "weight decays above 0.4 at lr 0.0005 and 0.0007" in settle
    assert "flat" not in settle and "0.001" not in settle and "a second seed" in settle


def nothing(seed: int) -> Landscape:
    """One seed, six learning rates, three weight decays that do nothing; images are counted, noise grows with η."""
    rng = np.random.default_rng(seed)
    lrs = np.geomspace(1e-4, 0.1, 6)
    rows = []
    for i, lr in enumerate(lrs):
        sd = 0.02 * 2.5**i
        for wd in (1e-8, 8e-8, 6e-7):
            accuracy = np.round((95 + rng.normal(0, sd)) * 6.86) / 6.86
            rows.append((float(lr), wd, 0, -float(accuracy)))
    return table(rows)


@pytest.mark.slow
def test_of_sweeps_in_which_decay_does_nothing_hardly_any_is_decided() -> None:
    """With one seed and a noise that differs a hundredfold between learning rates: at most 2 %."""
    decided = 0
    for seed in range(50):
        outcomes = judge_sweep([nothing(seed)])[0].outcomes
        decided += any(outcomes[name] in (REPLICATED, CONTRADICTED) for name in QUANTITIES)
        assert {outcomes[name] for name in QUANTITIES} <= {REPLICATED, CONTRADICTED, INCONCLUSIVE}
    assert decided <= 1
