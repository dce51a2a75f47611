"""What each learning rate says by itself: where its best weight decay lies, and what others lose."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from replicate.estimate import by_rate, fits, power_law
from replicate.estimate.by_rate import RateRow, Where
from replicate.landscape.landscape import Landscape

WDS = (0.0, 0.001, 0.01, 0.1, 1.0, 10.0)
NOISE = 0.2


def rows_of(means: dict[float, tuple[float, ...]], seeds: int = 3, ratio: float = 0.1) -> tuple[RateRow, ...]:
    """One row a learning rate of `means` at `WDS`."""
    landscape = made(means, seeds)
    return by_rate.rows(landscape, fits.line(landscape), ratio)


def made(means: dict[float, tuple[float, ...]], seeds: int = 3) -> Landscape:
    rng = np.random.default_rng(0)
    rows = [
        (lr, wd, seed, mean + NOISE * rng.standard_normal())
        for lr, of_lr in means.items()
        for wd, mean in zip(WDS, of_lr, strict=True)
        for seed in range(seeds)
    ]
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score"])
    return Landscape("a", "b", frame.assign(diverged=frame["score"] < 0))


@pytest.mark.parametrize(
    ("means", "where"),
    [
        ((60, 62, 66, 70, 64, 50), Where.INSIDE),
        ((60, 60, 61, 63, 66, 70), Where.ABOVE),
        ((70, 70, 70, 70, 60, 40), Where.ANY_BELOW),
        ((70, 66, 62, 58, 54, 50), Where.BELOW),
        ((70, 70, 70, 70, 70, 70), Where.FLAT),
    ],
)
def test_where_the_best_weight_decay_lies(means: tuple[float, ...], where: Where) -> None:
    rows = rows_of({0.001: means, 0.01: (60, 62, 66, 70, 64, 50)})
    assert [row.where for row in rows] == [where, Where.INSIDE]
    assert (rows[0].low > 0, math.isfinite(rows[0].high)) == {
        Where.INSIDE: (True, True),
        Where.ABOVE: (True, False),
        Where.ANY_BELOW: (False, True),
        Where.BELOW: (False, True),
        Where.FLAT: (False, False),
    }[where]


def test_weight_decays_without_effect_lose_what_none_at_all_loses() -> None:
    """Equal scores up to 0.01 are one measurement, which tells of each of these weight decays, 0.1 η among them."""
    landscape = made({0.001: (60, 62, 66, 70, 64, 50), 0.01: (60, 60, 60, 63, 70, 50)})
    frame = landscape.frame
    none = frame[frame["wd"] == 0].set_index(["lr", "seed"])["score"]
    small = (frame["lr"] == 0.01) & (frame["wd"] <= 0.01)
    same = [none[lr, seed] for lr, seed in zip(frame["lr"], frame["seed"], strict=True)]
    landscape = dataclasses.replace(landscape, frame=frame.assign(score=frame["score"].mask(small, same)))
    fit = fits.line(landscape)
    row = by_rate.rows(landscape, fit, 0.1)[1]
    assert row.least is not None and row.by_rule is not None
    assert (row.least.wd, row.by_rule.wd) == (0.0, 0.001)
    assert row.least.value == row.by_rule.value == pytest.approx(10, abs=1)
    assert row.least.error == row.by_rule.error > 0


def test_runs_that_all_have_the_same_score_are_called_equal() -> None:
    landscape = made({0.001: (70,) * 6, 0.01: (60, 62, 66, 70, 64, 50)})
    same = landscape.frame["lr"] == 0.001
    landscape = dataclasses.replace(
        landscape, frame=landscape.frame.assign(score=landscape.frame["score"].mask(same, 70.0))
    )
    rows = by_rate.rows(landscape, fits.line(landscape), 0.1)
    assert [row.where for row in rows] == [Where.EQUAL, Where.INSIDE]
    assert (rows[0].best_score, rows[0].least, rows[0].high) == (70.0, None, math.inf)


def test_a_single_seed_is_not_called_flat() -> None:
    (row,) = rows_of({0.001: (60, 62, 66, 70, 69, 67)}, seeds=1)
    assert row.where in (Where.OPEN, Where.INSIDE, Where.ABOVE)
    assert row.best_wd == 0.1


def test_losses_are_differences_of_means_and_lie_between_runs_on_a_straight_line() -> None:
    (row,) = rows_of({0.5: (60, 62, 66, 70, 64, 50)}, seeds=40)
    assert (row.best_wd, row.smallest, row.largest, row.runs, row.seeds, row.diverged) == (0.1, 0, 10, 240, 40, 0)
    assert row.least is not None and row.tenth is not None and row.tenfold is not None and row.by_rule is not None
    error = NOISE * math.sqrt(2 / 40)
    assert row.least.value == pytest.approx(10, abs=4 * error)
    assert row.tenth.value == pytest.approx(4, abs=4 * error)
    assert row.tenfold.value == pytest.approx(6, abs=4 * error)
    share = math.log(0.05 / 0.01) / math.log(10)  # 0.1 times 0.5 lies between two runs
    assert row.by_rule.value == pytest.approx(4 * (1 - share), abs=4 * error)
    assert row.tenth.error == pytest.approx(error, rel=0.3)


def test_beyond_the_runs_no_loss_is_said_and_the_best_run_loses_nothing() -> None:
    (row,) = rows_of({0.001: (60, 62, 66, 68, 69, 70)}, ratio=0.1)
    assert row.tenfold is None  # above the largest
    assert row.by_rule is None  # below the smallest
    (row,) = rows_of({1.0: (60, 62, 66, 70, 64, 50)}, ratio=0.1)
    assert row.by_rule is not None and (row.by_rule.value, row.by_rule.error) == (0, 0)


def test_a_learning_rate_with_too_few_weight_decays_or_that_diverged_is_accounted_for() -> None:
    whole = made({0.001: (60, 62, 66, 70, 64, 50), 0.01: (60, 62, -1, -1, -1, -1), 0.1: (-1,) * 6})
    rows = by_rate.rows(whole, fits.line(whole), 0.1)
    assert [row.where for row in rows] == [Where.INSIDE, Where.UNKNOWN, Where.UNKNOWN]
    assert [row.diverged for row in rows] == [0, 12, 18]
    assert (rows[1].best_wd, rows[2].best_wd, rows[2].best_score) == (0.001, None, None)
    best = by_rate.best_of(rows)
    assert best is not None and best.lr == 0.001
    assert by_rate.best_of(rows[2:]) is None


@pytest.mark.parametrize("exponent", [1, 0, -1])
def test_what_the_law_says_of_a_learning_rate_that_was_not_run(exponent: int) -> None:
    lrs = (0.001, 0.003, 0.01, 0.03)
    rng = np.random.default_rng(1)
    rows = []
    for lr in lrs:
        truth = 0.01 * (lr / 0.005) ** exponent
        for wd in truth * 2.5 ** np.arange(-4.0, 4.5):
            for seed in range(4):
                rows.append((lr, wd, seed, 70 - 1.5 * math.log(wd / truth) ** 2 + NOISE * rng.standard_normal()))
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score"]).assign(diverged=False)
    fit = fits.line(Landscape("a", "b", frame))
    assert fit is not None
    for lr in (0.0005, 0.005, 0.05):
        low, high = power_law.place(fit, lr)
        assert low < math.log(0.01) + exponent * math.log(lr / 0.005) < high
    near, far = (np.ptp(power_law.place(fit, lr)) for lr in (0.005, 0.5))
    assert near < far < math.inf


def test_where_optima_are_bounded_on_one_side_so_is_what_the_law_says() -> None:
    fit = fits.line(made(dict.fromkeys((0.001, 0.003, 0.01), (60, 60, 61, 63, 66, 70))))
    assert fit is not None
    assert power_law.place(fit, 0.005)[1] == math.inf
