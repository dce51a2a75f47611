"""Printed figures, tests, intervals, counts, ranges: each check on figures that fit and on figures that do not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from replicate.audit import compute, counts, deviation, documents, intervals, one_dim, practice, significance
from replicate.audit.finding import CONSISTENT, DECISION_INCONSISTENT, INCONSISTENT, Check, Finding, NotStated, worst
from replicate.audit.flop_counts import FLOPS
from replicate.audit.reported import Measured, Point, Printed, RatioRow, Recipe, Reported, Work
from replicate.audit.subject import published
from tests.support.audited import change, change_drop, change_figure, made_up, measured, printed

PAPER = published()
MADE_UP = made_up(4)
"""Every figure of it follows from a simulated sweep."""


class TestPrinted:
    @pytest.mark.parametrize(
        ("text", "low", "high"),
        [
            ("0.10", 0.095, 0.105),
            ("0.1", 0.05, 0.15),
            ("1200", 1199.5, 1200.5),
            ("5e-5", 4.5e-5, 5.5e-5),
            ("1/6", 1 / 6, 1 / 6),
        ],
    )
    def test_rounding_interval(self, text: str, low: float, high: float) -> None:
        found = Printed.parse(text)
        assert (found.low, found.high) == pytest.approx((low, high))

    @given(st.floats(-1e3, 1e3), st.integers(0, 6))
    def test_what_is_printed_meets_what_it_was(self, value: float, decimals: int) -> None:
        assert printed(value, decimals).meets(value)

    @given(st.floats(-1e3, 1e3), st.integers(0, 6), st.floats(0.51, 5))
    def test_more_than_half_a_digit_off_does_not_meet(self, value: float, decimals: int, digits: float) -> None:
        found = printed(value, decimals)
        assert not found.meets(found.value + digits * 10.0**-decimals)

    @pytest.mark.parametrize("text", ["", "nan", "inf", "0,1", "a tenth", "1/0"])
    def test_no_number(self, text: str) -> None:
        with pytest.raises(ValueError, match=f"expected a number as printed, such as 0.10 or 1/6, got '{text}'"):
            Printed.parse(text)


def test_a_finding_says_what_would_mend_it() -> None:
    texts = {"id": "a", "source": "text", "claimed": "1", "recomputed": "2", "evidence": "e", "assumes": "a"}
    with pytest.raises(ValueError, match="a: expected an empty consistent_if if the outcome is consistent"):
        Finding(**texts, outcome=INCONSISTENT)
    with pytest.raises(
        ValueError, match="expected an outcome of consistent, inconsistent, decision-inconsistent; got 'x'"
    ):
        Finding(**texts, outcome="x", consistent_if="b")
    assert worst([]) == CONSISTENT
    assert worst([INCONSISTENT, DECISION_INCONSISTENT, CONSISTENT]) == DECISION_INCONSISTENT
    assert Check("a", "1", "2", holds=False, decides=True).outcome == DECISION_INCONSISTENT


class TestPValues:
    @given(st.integers(0, 10**6), st.sampled_from([4.0, 20.0, np.inf]))
    def test_a_true_row_is_never_flagged(self, seed: int, dof: float) -> None:
        """Estimate, interval and p of one t or normal distribution, rounded: always found to fit."""
        rng = np.random.default_rng(seed)
        rho, error = rng.normal(0.1, 0.01), rng.uniform(0.003, 0.02)
        half = stats.t.ppf(0.975, dof) * error
        p = 2 * stats.t.sf(abs(rho - 0.1) / error, dof)
        row = RatioRow("a", "x", measured(rho, rho - half, rho + half, 3), p=printed(p, 2))
        paper = change_figure(Reported("true", PAPER.grid, (row,)), "rho", "0.10")
        assert significance.p_value(paper, row).outcome == CONSISTENT

    def test_a_spoilt_p_is_flagged_at_a_stated_rate(self) -> None:
        """p doubled or halved, whichever stays below 1, at four digits of the ratio: nine times in ten."""
        rng = np.random.default_rng(0)
        seen = []
        for _ in range(300):
            rho, error = rng.normal(0.1, 0.01), rng.uniform(0.005, 0.02)
            p = 2 * stats.norm.sf(abs(rho - 0.1) / error)
            wrong = 2 * p if p < 0.4 else p / 2
            if abs(wrong - p) < 0.05:
                continue
            row = RatioRow("a", "x", measured(rho, rho - 1.96 * error, rho + 1.96 * error, 4), p=printed(wrong, 2))
            paper = change_figure(Reported("spoilt", PAPER.grid, (row,)), "rho", "0.10")
            seen.append(significance.p_value(paper, row).outcome != CONSISTENT)
        assert np.mean(seen) > 0.9

    def test_against_statsmodels(self) -> None:
        """Without rounding the range is one p: that of a t test on 21 values."""
        values = np.random.default_rng(0).normal(0.3, 1, 21)
        test = DescrStatsW(values)
        low, high = test.tconfint_mean()
        half = (high - low) / 2
        p = significance.p_range((abs(test.mean), abs(test.mean)), (half, half), 20)
        assert p == pytest.approx((test.ttest_mean(0)[1],) * 2, rel=1e-9)

    def test_a_p_on_the_other_side_of_5_percent_changes_a_decision(self) -> None:
        row = RatioRow("a", "x", Measured(Printed("0.150"), Printed("0.140"), Printed("0.160")), p=Printed("0.30"))
        paper = change_figure(Reported("spoilt", PAPER.grid, (row,)), "rho", "0.10")
        assert significance.p_value(paper, row).outcome == DECISION_INCONSISTENT

    def test_all_of_the_paper_fit_one_t_distribution_but_not_the_normal_one(self) -> None:
        assert all(significance.p_value(PAPER, row).outcome == CONSISTENT for row in PAPER.ratios)
        finding = significance.one_reference(PAPER)
        assert finding.outcome == CONSISTENT
        assert "9 to 100 degrees of freedom; 9 of them agree with the normal distribution" in finding.evidence

    def test_no_common_reference(self) -> None:
        row = PAPER.ratios[0]
        spoilt = change(PAPER, 0, p=Printed("0.50"))
        assert significance.one_reference(spoilt).outcome == INCONSISTENT
        assert significance.p_value(spoilt, dataclasses.replace(row, p=Printed("0.50"))).outcome == INCONSISTENT

    def test_interval_of_no_width_and_no_rounding(self) -> None:
        assert significance.p_range((0.1, 0.1), (0.0, 0.0), 4) == (0.0, 0.0)


class TestAnova:
    @given(st.floats(0.01, 8), st.integers(2, 6), st.integers(3, 60))
    def test_true_p(self, f: float, between: int, within: int) -> None:
        paper = Reported("true", PAPER.grid, PAPER.ratios)
        p = float(stats.f.sf(f, between, within))
        for name, text in (
            ("anova/f", f"{f:.2f}"),
            ("anova/p", f"{p:.2f}"),
            ("anova/df-between", f"{between}"),
            ("anova/df-within", f"{within}"),
        ):
            paper = change_figure(paper, name, text)
        assert significance.anova_p(paper).outcome == CONSISTENT

    @pytest.mark.parametrize(
        ("p", "outcome"), [("0.58", CONSISTENT), ("0.55", INCONSISTENT), ("0.03", DECISION_INCONSISTENT)]
    )
    def test_p_of_the_paper(self, p: str, outcome: str) -> None:
        assert significance.anova_p(change_figure(PAPER, "anova/p", p)).outcome == outcome

    def test_degrees_of_freedom(self) -> None:
        finding = significance.anova_df(PAPER)
        assert finding.outcome == INCONSISTENT
        assert "(4, 45) and the methods (4, 20)" in finding.evidence
        assert finding.details["p"] == pytest.approx({"(4, 45)": 0.583, "(4, 20)": 0.588, "(4, 5)": 0.614}, abs=1e-3)
        assert significance.anova_df(MADE_UP).outcome == CONSISTENT
        assert significance.anova_df(change_figure(PAPER, "anova/df-within/methods", "45")).outcome == CONSISTENT


class TestIntervals:
    def test_bootstrap_intervals_against_numpy(self) -> None:
        """Enumerated ends against percentiles of 20,000 drawn resamples, for one cell."""
        mean, low, high = (x[0] for x in intervals.bootstrap_intervals(5))
        values = np.random.default_rng(0).normal(size=(intervals.CELLS, 5))[0]
        drawn = np.random.default_rng(1).choice(values, size=(20_000, 5)).mean(axis=1)
        assert mean == pytest.approx(values.mean())
        assert (low, high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.05)

    def test_chance_of_symmetry_grows_with_coarser_print(self) -> None:
        chances = [
            intervals.chance_of_symmetry(measured(0.1, 0.1 - 0.018, 0.1 + 0.018, digits), 5) for digits in (2, 3, 4)
        ]
        assert chances[0] > chances[1] > chances[2]

    def test_true_papers(self) -> None:
        """Percentile bootstraps over five seeds are called unlikely no more often than the level says."""
        rng = np.random.default_rng(0)
        flagged = {"symmetry": 0, "widths": 0}
        for _ in range(40):
            rows = []
            for k in range(10):
                i = int(rng.integers(intervals.CELLS))
                mean, low, high = (0.1 + 0.01 * float(x[i]) for x in intervals.bootstrap_intervals(5))
                rows.append(RatioRow(f"a{k}", "x", measured(mean, low, high, 3)))
            paper = change_figure(Reported("true", PAPER.grid, tuple(rows)), "count/seeds", "5")
            for name in flagged:
                flagged[name] += getattr(intervals, name)(paper).outcome != CONSISTENT
        assert not any(flagged.values())

    def test_the_paper(self) -> None:
        symmetry, widths = intervals.symmetry(PAPER), intervals.widths(PAPER)
        assert symmetry.outcome == widths.outcome == INCONSISTENT
        assert symmetry.evidence.startswith("20 of 20 intervals")
        assert symmetry.details["probability"] < 1e-6
        assert max(widths.details["probability"].values()) < 1e-3

    def test_pooled(self) -> None:
        assert intervals.pooled(PAPER).outcome == INCONSISTENT
        assert "plus or minus [0.004, 0.0057]" in intervals.pooled(PAPER).evidence
        narrow = change_figure(PAPER, "rho", "0.103", "0.097", "0.109")
        assert intervals.pooled(narrow).outcome == CONSISTENT
        assert intervals.pooled(change_figure(PAPER, "rho", "0.13", "0.12", "0.14")).outcome == DECISION_INCONSISTENT


class TestCounts:
    def test_the_paper(self) -> None:
        finds = {"run-count": counts.run_count, "grid-count": counts.grid_count, "saving": counts.saving}
        found = {name: find(PAPER) for name, find in finds.items()}
        assert {f.outcome for f in found.values()} == {INCONSISTENT}
        wrong = {name: [c.printed for c in f.checks if not c.holds] for name, f in found.items()}
        assert wrong == {
            "run-count": ["1200", "1200", "1200"],
            "grid-count": ["48", "240"],
            "saving": ["6", "1/6", "1/6"],
        }
        assert "4,060 more" in counts.uncounted(PAPER).evidence
        assert counts.three_cnns(PAPER).outcome == INCONSISTENT

    @pytest.mark.parametrize(
        "find", [counts.run_count, counts.grid_count, counts.saving, counts.uncounted, counts.three_cnns]
    )
    def test_a_true_paper(self, find: Callable[[Reported], Finding]) -> None:
        assert find(MADE_UP).outcome == CONSISTENT

    @pytest.mark.parametrize(
        ("find", "name", "value"),
        [
            (counts.run_count, "runs/title", "945"),
            (counts.run_count, "count/weight-decays", "20"),
            (counts.grid_count, "cost/grid-points", "64"),
            (counts.saving, "cost/factor", "20"),
            (counts.saving, "cost/reduction", "95.0"),
            (counts.saving, "cost/share/abstract", "1/20"),
            (counts.uncounted, "runs/total", "945"),
            (counts.three_cnns, "count/cnns", "3"),
        ],
    )
    def test_a_spoilt_count(self, find: Callable[[Reported], Finding], name: str, value: str) -> None:
        assert find(change_figure(MADE_UP, name, value)).outcome == INCONSISTENT

    def test_nothing_stated(self) -> None:
        bare = Reported("bare", PAPER.grid, PAPER.ratios)
        with pytest.raises(NotStated, match="the figure count/seeds"):
            counts.saving(bare)
        with pytest.raises(NotStated, match="which architectures are convolutional"):
            counts.three_cnns(bare)


class TestDeviation:
    def test_the_paper(self) -> None:
        assert deviation.deviation_range(PAPER).outcome == INCONSISTENT
        assert "run from 2.1 to 3.8 pp; the abstract says 1.2 to 3.8" in deviation.deviation_range(PAPER).evidence
        assert deviation.tolerance_zone(PAPER).outcome == CONSISTENT
        growth = deviation.growth(PAPER)
        assert growth.outcome == DECISION_INCONSISTENT
        assert growth.details["exponent"] == pytest.approx([0.97, 0.53, 1.40], abs=0.01)
        asymmetry = deviation.asymmetry(PAPER)
        assert asymmetry.outcome == INCONSISTENT
        assert [c.what for c in asymmetry.checks if not c.holds] == ["imagenet, kappa 10 less 1/10"]

    @pytest.mark.parametrize(
        "find", [deviation.deviation_range, deviation.tolerance_zone, deviation.growth, deviation.asymmetry]
    )
    def test_a_true_paper(self, find: Callable[[Reported], Finding]) -> None:
        assert find(MADE_UP).outcome == CONSISTENT

    @pytest.mark.slow
    @given(st.floats(0.3, 3), st.floats(0, 0.69), st.floats(0.7, 1.5))
    def test_the_papers_own_curve_is_never_flagged(self, beta: float, gamma: float, above: float) -> None:
        """Drops on the curve of section 3.3, printed to a tenth, with intervals of half a point at least."""
        paper = MADE_UP
        for row in paper.drops:
            x = abs(math.log(row.kappa))
            drop = beta * (above if row.kappa > 1 else 1) * max(x - gamma, 0) ** 2
            paper = change_drop(paper, row.kappa, row.dataset, measured(drop, drop - 0.5, drop + 0.5, 1))
        assert deviation.growth(paper).outcome == CONSISTENT

    @pytest.mark.parametrize("exponent", [0.3, 0.6])
    def test_too_flat_a_growth_is_flagged(self, exponent: float) -> None:
        paper = MADE_UP
        for row in paper.drops:
            drop = 3 * abs(math.log(row.kappa)) ** exponent
            paper = change_drop(paper, row.kappa, row.dataset, measured(drop, drop - 0.3, drop + 0.3, 1))
        assert deviation.growth(paper).outcome == DECISION_INCONSISTENT

    def test_quadratic_misfit_by_hand(self) -> None:
        rows = [r for r in MADE_UP.drops if r.dataset == "y"]
        chi2, betas, gamma = deviation.quadratic_misfit(rows)
        assert chi2 < 1
        assert betas == pytest.approx((2.0, 2.0), abs=0.1)
        assert gamma == pytest.approx(0, abs=0.05)

    @pytest.mark.parametrize(("value", "outcome"), [("2.4", CONSISTENT), ("0.5", DECISION_INCONSISTENT)])
    def test_zone(self, value: str, outcome: str) -> None:
        assert deviation.tolerance_zone(change_figure(MADE_UP, "deviation/zone-drop", value)).outcome == outcome

    def test_a_bound_may_be_met_within_rounding(self) -> None:
        """1.2 may be 1.15, which is below 1.2; 1.3 may not."""
        paper = change_figure(MADE_UP, "deviation/zone-drop", "1.2")
        assert deviation.tolerance_zone(paper).outcome == CONSISTENT
        over = change_drop(paper, 2.0, "x", measured(1.3, 1.0, 1.6, 1))
        assert deviation.tolerance_zone(over).outcome == DECISION_INCONSISTENT

    def test_asymmetry_the_other_way(self) -> None:
        assert deviation.asymmetry(change_figure(MADE_UP, "asymmetry/y", "0")).outcome != CONSISTENT


class TestOneDim:
    def test_the_paper(self) -> None:
        assert one_dim.within_bound(PAPER).outcome == DECISION_INCONSISTENT
        assert one_dim.mean_gap(PAPER).outcome == CONSISTENT
        assert one_dim.noise_floor(PAPER).outcome == INCONSISTENT
        sign = one_dim.gap_sign(PAPER)
        assert sign.outcome == DECISION_INCONSISTENT
        assert sign.details["true gap at most"] < 0.06
        assert sign.details["probability of the reported gap under the claims"] < 0.03
        # What weight decay without any effect would give straddles the reported 0.18.
        assert sign.details["plug-in gap if neither lr nor wd matters"] < 0.18
        assert sign.details["plug-in gap if wd does not matter at the best lr"] > 0.18

    @pytest.mark.parametrize("find", [one_dim.within_bound, one_dim.mean_gap, one_dim.gap_sign, one_dim.noise_floor])
    def test_a_true_paper(self, find: Callable[[Reported], Finding]) -> None:
        assert find(MADE_UP).outcome == CONSISTENT

    def test_a_gap_of_0_is_consistent(self) -> None:
        assert one_dim.gap_sign(change_figure(PAPER, "one-dim/mean-gap", "0.02", "-0.07", "0.11")).outcome == CONSISTENT
        assert one_dim.within_bound(change_figure(PAPER, "one-dim/max-gap", "0.28")).outcome == CONSISTENT
        assert one_dim.noise_floor(change_figure(PAPER, "one-dim/max-gap", "0.24")).outcome == CONSISTENT

    def test_impossible_maximum(self) -> None:
        """Samuelson: ten values with this mean and interval cannot hold 0.9, nor a maximum below their mean."""
        assert one_dim.mean_gap(change_figure(PAPER, "one-dim/max-gap", "0.90")).outcome == INCONSISTENT
        assert one_dim.mean_gap(change_figure(PAPER, "one-dim/max-gap", "0.10")).outcome == INCONSISTENT

    def test_optimism_against_a_closed_form(self) -> None:
        """Expected maximum of two standard normals: 1 / sqrt(pi)."""
        rng = np.random.default_rng(0)
        draws = one_dim.gap_draws(np.zeros(2), np.zeros(1), math.sqrt(5.0), 5, 1, rng)
        assert draws.mean() == pytest.approx(1 / math.sqrt(math.pi), abs=0.03)


class TestPractice:
    def test_the_paper(self) -> None:
        assert practice.robust_range(PAPER).outcome == CONSISTENT
        assert practice.recipe_arithmetic(PAPER).outcome == CONSISTENT
        assert practice.baseline(PAPER).outcome == INCONSISTENT
        assert practice.recipes(PAPER).outcome == DECISION_INCONSISTENT

    def test_spoilt_and_mended(self) -> None:
        assert practice.robust_range(change_figure(PAPER, "robust/schedule/step", "0.13")).outcome == INCONSISTENT
        assert practice.recipe_arithmetic(change_figure(PAPER, "recipe/shrinkage-factor", "50")).outcome == INCONSISTENT
        assert practice.baseline(change_figure(PAPER, "robust/long/before", "0.11")).outcome == CONSISTENT
        near = dataclasses.replace(PAPER, recipes=(Recipe("A", 1e-3, 2e-4, "text"),))
        assert practice.recipes(near).outcome == CONSISTENT


class TestCompute:
    def test_the_paper(self) -> None:
        finding = compute.compute(PAPER)
        assert finding.outcome == INCONSISTENT
        assert [c.what for c in finding.checks if not c.holds] == ["imagenet, hours"]
        assert finding.details["imagenet"]["share of peak"] == pytest.approx(0.656, abs=0.001)
        assert finding.details["imagenet"]["hours at published rates"] == pytest.approx(18_476, rel=1e-3)

    def test_by_hand(self) -> None:
        cifar = PAPER.campaigns[0]
        assert compute.claimed_rate(cifar) == pytest.approx(1200 * 200 * 50_000 / (600.5 * 3600))

    @pytest.mark.parametrize(
        ("hours", "outcome"), [("20000", CONSISTENT), ("4800", INCONSISTENT), ("2000", DECISION_INCONSISTENT)]
    )
    def test_more_and_fewer_hours(self, hours: str, outcome: str) -> None:
        """2,000 hours would need more than the peak of the device."""
        imagenet = dataclasses.replace(PAPER.campaigns[1], hours=Printed(hours))
        assert compute.compute(dataclasses.replace(PAPER, campaigns=(imagenet,))).outcome == outcome

    @pytest.mark.parametrize(
        ("arch", "gmacs"),
        [("resnet50", 4.09), ("vit_s16", 4.6), ("convnext_t", 4.46), ("mixer_s16", 3.78), ("swin_t", 4.49)],
    )
    def test_operations_against_published_counts(self, arch: str, gmacs: float) -> None:
        """Multiply-adds of a forward pass, as timm and the papers of the models give them."""
        assert FLOPS[arch, 224].forward / 2e9 == pytest.approx(gmacs, rel=0.01)
        assert FLOPS[arch, 224].training / FLOPS[arch, 224].forward == pytest.approx(3, rel=0.03)


class TestDocuments:
    def test_the_paper(self) -> None:
        assert documents.script(PAPER).outcome == DECISION_INCONSISTENT
        assert documents.contradictions(PAPER).outcome == DECISION_INCONSISTENT
        assert documents.cited_work(PAPER).outcome == INCONSISTENT
        assert "Of 18 works cited 8 are not in the list of 10" in documents.references(PAPER).evidence

    @pytest.mark.parametrize(
        "find", [documents.script, documents.contradictions, documents.cited_work, documents.references]
    )
    def test_a_true_paper(self, find: Callable[[Reported], Finding]) -> None:
        assert find(MADE_UP).outcome == CONSISTENT

    def test_references(self) -> None:
        assert MADE_UP.bibliography is not None
        for spoilt in (
            dataclasses.replace(MADE_UP.bibliography, cited=(Work("A", 2001), Work("B", 2002))),
            dataclasses.replace(MADE_UP.bibliography, listed=(Work("A", 2001, 2003),)),
            dataclasses.replace(MADE_UP.bibliography, cited=()),
        ):
            assert documents.references(dataclasses.replace(MADE_UP, bibliography=spoilt)).outcome == INCONSISTENT

    def test_one_point_off(self) -> None:
        off = Point("epochs", "100", "90", "script", agrees=False)
        assert documents.script(dataclasses.replace(MADE_UP, script=(off,))).outcome == INCONSISTENT


class TestDecisions:
    def test_the_paper(self) -> None:
        assert significance.none_rejects(PAPER).outcome == CONSISTENT
        assert significance.slopes_hold_one(PAPER).outcome == CONSISTENT
        assert significance.drop_p(PAPER).outcome == CONSISTENT

    def test_spoilt(self) -> None:
        assert significance.none_rejects(change(PAPER, 3, p=Printed("0.04"))).outcome == DECISION_INCONSISTENT
        steep = Measured(Printed("1.30"), Printed("1.19"), Printed("1.41"))
        assert significance.slopes_hold_one(change(PAPER, 2, slope=steep)).outcome == DECISION_INCONSISTENT
        none = change_drop(PAPER, 0.1, "imagenet", measured(0.1, -0.6, 0.8, 1))
        assert significance.drop_p(none).outcome == DECISION_INCONSISTENT
        vague = change_drop(PAPER, 0.5, "cifar100", measured(0.6, 0.3, 0.9, 1), p=Printed("0.200"))
        assert significance.drop_p(vague).outcome == INCONSISTENT
