"""The simulated pipeline against the paper's own in `replicate.estimate.published`, and what it says of papers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from replicate.audit import pipeline
from replicate.audit.finding import CONSISTENT, DECISION_INCONSISTENT, NotStated
from replicate.audit.pipeline import BEYOND, expected_drop, inside_table, median_range, on_truth, simulate
from replicate.audit.reported import Floats, Measured, Printed, Reported
from replicate.audit.subject import published
from replicate.estimate.published import published_fit
from replicate.landscape.landscape import Slice
from tests.support.audited import change, change_figure, made_up

PAPER = published()


@pytest.mark.parametrize("seeds", [2, 5])
def test_against_the_papers_pipeline(seeds: int) -> None:
    """The same draws through both: ratio, R², slope and interval agree in every cell."""
    grid = [(1e-3, (1e-4, 3e-4, 1e-3)), (3e-3, (0.0, 3e-4, 1e-3)), (1e-2, (3e-4, 1e-3, 3e-3, 1e-2))]
    cells = 40

    def lost(lr: float, wds: Floats) -> Floats:
        return np.abs(np.log((wds + 1e-5) / (0.1 * lr)))

    found = simulate(grid, lost, 0.8, seeds, cells, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    scores = [rng.normal(0, 0.8, (cells, len(w), seeds)) - lost(lr, np.array(w))[None, :, None] for lr, w in grid]
    for k in range(cells):
        slices = [
            Slice(lr, np.array(w), s[k], np.zeros(s[k].shape, dtype=bool))
            for (lr, w), s in zip(grid, scores, strict=True)
        ]
        fit = published_fit(slices)
        assert found.rho[k] == pytest.approx(fit.rho)
        assert found.r2[k] == pytest.approx(fit.r2, abs=1e-9)
        assert found.slope[k] == pytest.approx(math.nan if fit.slope is None else fit.slope, nan_ok=True, abs=1e-9)
        assert found.half_width[k] == pytest.approx((fit.rho_high - fit.rho_low) / 2, abs=1e-12)


class TestDrop:
    @pytest.mark.parametrize("beyond", BEYOND)
    def test_at_the_tables_kappas(self, beyond: str) -> None:
        kappas = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
        found = expected_drop(PAPER, "cifar100", np.log(kappas), beyond)
        assert found == pytest.approx([3.4, 2.1, 0.6, 0.0, 0.7, 2.3, 3.1])

    def test_beyond_the_table(self) -> None:
        x = np.array([-math.inf, math.log(0.01), math.log(100)])
        level, grow, mixed = (expected_drop(PAPER, "cifar100", x, beyond) for beyond in BEYOND)
        assert level == pytest.approx([3.4, 3.4, 3.1])
        assert grow[0] > grow[1] > 3.4
        assert grow[2] == mixed[2] == pytest.approx(3.1 + 0.8 / math.log(2) * math.log(10))
        assert mixed[:2] == pytest.approx([3.4, 3.4])

    def test_next_to_1(self) -> None:
        x = np.log([0.5, 0.7, 1.0, 1.5, 2.0, 5.0])
        straight = expected_drop(PAPER, "imagenet", x, "level")
        parabola = inside_table(PAPER, "imagenet", x, straight, "quadratic")
        flat = inside_table(PAPER, "imagenet", x, straight, "flat")
        assert inside_table(PAPER, "imagenet", x, straight, "straight") is straight
        assert parabola[[0, 2, 4, 5]] == pytest.approx(straight[[0, 2, 4, 5]])
        assert (parabola[[1, 3]] < straight[[1, 3]]).all()
        assert flat == pytest.approx([0, 0, 0, 0, 0, straight[5]])


def test_median_range() -> None:
    rng = np.random.default_rng(0)
    assert median_range(np.full(50, 3.0), 10, rng) == (3.0, 3.0)
    low, high = median_range(rng.normal(size=300), 10, rng)
    assert -1.8 < low < -0.5
    assert 0.5 < high < 1.8
    # An undefined slope counts as lower than any number.
    assert median_range(np.full(50, np.nan), 10, rng) == (-math.inf, -math.inf)


def test_the_paper() -> None:
    finding = on_truth(PAPER)
    assert finding.outcome == DECISION_INCONSISTENT
    for found in finding.details["ranges"].values():
        assert found["slope"][1] < 0.5  # the paper has 0.95 to 1.06
        assert found["r2"][1] < 0.8  # the paper has 0.94 to 0.97
        assert not found["rho"][0] <= 0.1025 <= found["rho"][1]
    assert finding.details["share of the ratio decided by each learning rate"][-1] == pytest.approx(0.908, abs=0.001)
    seen = finding.details["on a grid that holds the line"]
    assert seen["flat"] > 2 * 0.0185  # twice the paper's half width
    assert seen["table: slope"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("seed", [4, 6])
def test_a_true_paper(seed: int) -> None:
    assert on_truth(made_up(seed)).outcome == CONSISTENT


def test_a_spoilt_paper() -> None:
    paper = made_up(4)
    for i in range(len(paper.ratios)):
        paper = change(paper, i, slope=Measured(Printed("0.50")))
    assert on_truth(paper).outcome == DECISION_INCONSISTENT


def test_what_it_needs() -> None:
    for lacking, message in (
        (dataclasses.replace(PAPER, drops=()), "a table of accuracy drops"),
        (Reported("bare", PAPER.grid, PAPER.ratios, PAPER.drops), "the figure count/seeds"),
        (change_figure(PAPER, "count/seeds", "12"), "between 2 and 8 seeds"),
    ):
        with pytest.raises(NotStated, match=message):
            on_truth(lacking)
    with pytest.raises(NotStated, match="accuracy drops on digits"):
        pipeline.expected_drop(PAPER, "digits", np.zeros(1), "level")
