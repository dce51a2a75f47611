"""Calibration: the truths in closed form, where a truth lies, what is drawn, and the tables made of the rates."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from replicate.calibration import experiments, sources
from replicate.calibration import rates as calibration
from replicate.calibration.experiments import Experiment, FamilyRate
from replicate.calibration.measured import Measured, cell_rows, error, read, worst, write
from replicate.calibration.parallel import CHUNK, chunks, in_processes
from replicate.calibration.rates import (
    Judged,
    Rate,
    informative,
    landscape,
    place,
    rates,
    where,
    wrong_of_sets,
)
from replicate.calibration.sources import code
from replicate.calibration.studies import (
    GRIDS,
    SEED_COUNTS,
    SLOPES,
    Study,
    identified,
    power_studies,
    studies,
    thin,
    true_values,
)
from replicate.calibration.tables import markdown
from replicate.estimate import details
from replicate.estimate.straight_line import origin_r_squared
from replicate.judging.ratios import too_few
from replicate.judging.sweep_verdicts import QUANTITY_OF, JudgedCell, judge_sweep
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, REPLICATED
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import NOISES, SHAPES, Truth, ratio_grid
from replicate.paper.claim import Claim, Margin
from replicate.paper.protocol import LRS, RHO, WEIGHT_DECAYS
from replicate.paper.registry import CELLS, CLAIMS
from replicate.text import UsageError

INF = math.inf
RHO_MARGIN = Margin(0.05, 0.2)
SLOPE = Margin(0.8, 1.2)


def rate(**fields: object) -> Rate:
    """A rate of made-up numbers."""
    made = Rate(Study("slopes and shapes", Truth()), "slope", 1.0, SLOPE, 100, 0.7, 0.02, 0.28, 0.02, 0.72, 0.95, 0.3)
    return replace(made, **fields)  # type: ignore[arg-type]


# ---------------------------------------------------------------- where a truth lies


@pytest.mark.parametrize(
    ("quantity", "truth", "margin", "expected"),
    [
        ("slope", 1.0, SLOPE, "inside"),
        ("slope", 0.8, SLOPE, "inside"),  # the ends belong to it
        ("slope", 1.2, SLOPE, "inside"),
        ("slope", 1.23, SLOPE, "near"),  # a tenth of 0.4 is 0.04
        ("slope", 0.77, SLOPE, "near"),
        ("slope", 1.25, SLOPE, "outside"),
        ("slope", -1.0, SLOPE, "outside"),
        # The ratio is measured by its logarithm: a tenth of ln 4 is a factor 1.149.
        ("rho", 0.2 * 1.14, RHO_MARGIN, "near"),
        ("rho", 0.2 * 1.16, RHO_MARGIN, "outside"),
        ("rho", 0.05 / 1.14, RHO_MARGIN, "near"),
        ("rho", 0.05 / 1.16, RHO_MARGIN, "outside"),
        ("rho", 0.1, RHO_MARGIN, "inside"),
        # One-sided: a tenth of the finite end.
        ("gap_pp", -3.0, Margin(-INF, 0.3), "inside"),
        ("gap_pp", 0.32, Margin(-INF, 0.3), "near"),
        ("gap_pp", 0.34, Margin(-INF, 0.3), "outside"),
        ("r2", 1.0, Margin(0.9, INF), "inside"),
        ("r2", 0.82, Margin(0.9, INF), "near"),
        ("r2", 0.80, Margin(0.9, INF), "outside"),
    ],
)
def test_place(quantity: str, truth: float, margin: Margin, expected: str) -> None:
    assert place(quantity, truth, margin) == expected


def test_a_ratio_that_varies_is_outside_where_any_learning_rates_is() -> None:
    varying = Study("x", Truth(slope=0.0))
    assert where(varying, "rho", 0.1, RHO_MARGIN, LRS) == "outside"
    assert where(varying, "rho", 0.1, RHO_MARGIN, (1e-3,)) == "inside"
    assert where(varying, "slope", 1.0, SLOPE, LRS) == "inside"
    assert where(Study("x", Truth()), "rho", 0.1, RHO_MARGIN, LRS) == "inside"
    assert where(Study("x", Truth(slope=0.75)), "rho", 0.1, RHO_MARGIN, LRS) == "inside"


# ---------------------------------------------------------------- the truths of a study


@pytest.mark.parametrize("shape", ["table-2", "quadratic", "asymmetric"])
@pytest.mark.parametrize("rho", [0.02, 0.1, 1.0])
def test_a_proportional_truth(shape: str, rho: float) -> None:
    found = true_values(Study("x", Truth(rho=rho, shape=shape)))
    assert found["rho"] == pytest.approx(rho)
    assert found["slope"] == 1.0
    assert found["intercept_share"] == pytest.approx(0, abs=1e-3)
    assert found["r2"] == pytest.approx(1)


def test_a_constant_truth() -> None:
    found = true_values(Study("x", Truth(slope=0.0)))
    assert found["slope"] == 0.0
    assert found["intercept_share"] == pytest.approx(1, abs=1e-3)
    assert found["r2"] == -INF


def test_a_ratio_that_varies_is_that_of_the_learning_rates_it_is_averaged_over() -> None:
    study = Study("x", Truth(slope=-1.0))
    assert true_values(study)["rho"] == pytest.approx(0.1)
    lowest = true_values(study, LRS[:2])["rho"]
    assert lowest == pytest.approx(
        math.sqrt(study.truth.best_wd(LRS[0]) * study.truth.best_wd(LRS[1]) / LRS[0] / LRS[1])
    )
    assert lowest > 1
    cell = judge_sweep([landscape(study, 0)])[0]
    ratio = cell.measured["rho"]
    assert isinstance(ratio.details, details.Ratio)
    assert informative(ratio) == tuple(r.lr for r in ratio.details.per_lr if None not in (r.low, r.high))
    assert informative(too_few("rho", landscape(study, 0))) == LRS


@pytest.mark.parametrize("slope", [0.5, -0.5, -1.0])
def test_r2_of_other_truths_is_that_of_the_line_through_the_origin(slope: float) -> None:
    truth = Truth(slope=slope)
    best = np.array([[truth.best_wd(lr) for lr in LRS]])
    found = true_values(Study("x", truth))
    assert found["r2"] == pytest.approx(origin_r_squared(np.array(LRS), best)[0])
    assert found["r2"] < 0.9


def test_the_intercept_is_that_of_the_nearest_straight_line() -> None:
    """Slope 1/2: no other share of a straight line lies nearer to the optima in ln; a falling law's is over 1."""
    lrs = np.array(LRS)
    relative = lrs / np.exp(np.log(lrs).mean())
    best = np.log(relative) / 2

    def misfit(share: float) -> float:
        return float(np.var(best - np.log((1 - share) * relative + share)))

    found = true_values(Study("x", Truth(slope=0.5)))["intercept_share"]
    assert 0 < found < 1
    assert misfit(found) <= min(misfit(share) for share in np.linspace(0, 0.99, 1000)) + 1e-9
    assert true_values(Study("x", Truth(slope=-0.5)))["intercept_share"] > 1


def test_a_flat_truth_has_a_gap_and_nothing_else() -> None:
    found = true_values(Study("x", Truth(depth=0.0), "paper+line"))
    assert found.pop("gap_pp") == 0
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize(
    ("shape", "slope", "rho", "quantity", "expected"),
    [
        ("mesa", 1.0, 0.1, "rho", (0.02, 0.5)),
        ("mesa", 1.0, 0.1, "slope", (1 - 2 * math.log(5) / math.log(200), 1 + 2 * math.log(5) / math.log(200))),
        # Through an end of the range at the smallest learning rate and the other end at the largest.
        ("mesa", 1.0, 0.1, "intercept_share", (-0.0868, 0.6965)),
        ("mesa", 0.0, 0.1, "rho", (math.inf, -math.inf)),  # its ends lie less than the learning rates' 200 apart
        ("plateau", 1.0, 0.04, "rho", (1e-5, 0.04)),
        ("plateau", 0.0, 0.1, "rho", (1e-5, 0.1 * math.sqrt(5e-5 * 1e-2) / 1e-2)),
        ("plateau", -1.0, 0.1, "slope", (-6.0, 6.0)),
        ("tolerance", 1.0, 0.1, "slope", (1 - 2 * math.log(2) / math.log(200), 1 + 2 * math.log(2) / math.log(200))),
        ("tolerance", 0.5, 0.1, "r2", (-math.inf, 1.0)),
        ("tolerance", 0.0, 0.1, "r2", (-math.inf, 0.59)),
        ("mesa", -1.0, 0.1, "r2", (-math.inf, -0.647)),
    ],
)
def test_what_a_range_of_best_weight_decays_allows(
    shape: str, slope: float, rho: float, quantity: str, expected: tuple[float, float]
) -> None:
    found = identified(Study("a", Truth(shape=shape, slope=slope, rho=rho)), quantity)
    assert found is not None
    assert found == pytest.approx(expected, rel=0.02, abs=0.011)
    assert identified(Study("a", Truth(shape=shape, slope=slope, rho=rho, depth=0.0)), quantity) is None
    assert identified(Study("a", Truth(slope=slope, rho=rho)), quantity) is None


@pytest.mark.parametrize(
    ("allowed", "wrong"),
    [
        ((0.02, 0.5), 0.7),  # either verdict is
        ((0.06, 0.19), 0.4),
        ((0.047, 0.21), 0.4),  # a little over the edge
        ((0.001, 0.004), 0.3),
        ((math.inf, -math.inf), 0.3),
    ],
)
def test_what_is_wrong_where_a_range_of_values_is_true(allowed: tuple[float, float], wrong: float) -> None:
    assert wrong_of_sets("rho", allowed, Margin(0.05, 0.20), 0.3, 0.4) == pytest.approx(wrong)


@pytest.mark.parametrize("shape", ["quadratic", "table-2", "kinked"])
def test_the_gap_in_closed_form(shape: str) -> None:
    """Best weight decay equal to the learning rate: the line is ten times off everywhere, and at 1e-3 and 1e-2 the
    paper's grid holds the best one."""
    found = true_values(Study("x", Truth(rho=1.0, shape=shape, lr_drop_pp=0.0), "paper+line"))
    assert found["gap_pp"] == pytest.approx(float(SHAPES[shape](np.log(10.0))))


def test_the_gap_counts_the_accuracy_that_is_lost_for_a_worse_learning_rate() -> None:
    """Best weight decay 0.1 throughout: the line does best where the drift has already cost something."""
    truth = Truth(rho=0.1 / Truth(rho=1.0, slope=0.0).best_wd(1e-3), slope=0.0, shape="quadratic")
    lines = [-(np.log(lr / 1e-3) ** 2) - 0.62 * np.log(0.1 * lr / 0.1) ** 2 for lr in LRS]
    line = max(lines)
    assert LRS[lines.index(line)] == 1e-2
    assert true_values(Study("x", truth, "paper+line"))["gap_pp"] == pytest.approx(-line)


def test_where_the_line_is_on_the_grid_there_is_no_gap() -> None:
    assert true_values(Study("x", Truth(), "paper+line"))["gap_pp"] == pytest.approx(0, abs=1e-12)


# ---------------------------------------------------------------- the studies


def test_the_studies_cover_what_they_should() -> None:
    found = studies()
    assert len({(s.group, s.label, s.seeds) for s in found}) == len(found)
    assert {s.truth.slope for s in found} >= set(SLOPES)
    assert {s.truth.shape for s in found} >= set(SHAPES) - {"plateau"}  # which has no best weight decay
    assert {s.seeds for s in found} == set(SEED_COUNTS)
    assert {s.grid for s in found} == set(GRIDS)
    assert {s.truth.noise for s in found} == set(NOISES)
    assert any(s.missing for s in found)
    assert any(s.diverged_factor for s in found)
    assert any(s.truth.depth == 0 for s in found)


@pytest.mark.slow
def test_every_margin_has_a_true_rival_outside_it() -> None:
    """A rule that is never tried on a false claim has no rate of false replication."""
    margins = {c.quantity: c.margin for c in reversed(CLAIMS)}
    truths = [true_values(s) for s in studies()]
    for quantity in QUANTITY_OF.values():
        places = {place(quantity, t[quantity], margins[quantity]) for t in truths if not math.isnan(t[quantity])}
        assert {"inside", "outside"} <= places, quantity


def test_power_is_asked_of_the_claim_and_of_the_rival() -> None:
    found = power_studies()
    assert len({(s.group, s.label, s.seeds) for s in found}) == len(found)
    assert {s.truth.slope for s in found if s.group == "power"} == {1.0, -1.0}


def test_grids() -> None:
    lr = 3e-3
    assert Study("x", Truth(), "paper").wds(lr) == WEIGHT_DECAYS
    assert Study("x", Truth(), "paper+line").wds(lr) == (*WEIGHT_DECAYS, 3e-4)
    np.testing.assert_allclose(Study("x", Truth(), "ratio").wds(lr), RHO * lr * np.array([0.1, 0.2, 0.5, 1, 2, 5, 10]))
    for factor in (2.0, 3.0, 10.0):
        wds = Study("x", Truth(rho=1.0), factor=factor).wds(lr)
        np.testing.assert_allclose(np.diff(np.log(wds)), math.log(factor), rtol=1e-3)
        assert min(wds) < lr < max(wds)
    with pytest.raises(ValueError, match=r"grid: expected one of bracket, paper, ratio, paper\+line; got 'square'"):
        Study("x", Truth(), "square").wds(lr)


def test_labels_tell_studies_apart() -> None:
    assert Study("x", Truth()).label == "b = 1, rho = 0.1, table-2, bracket"
    assert Study("x", Truth(depth=0), "paper").label == "b = 1, rho = 0.1, flat, paper"
    odd = Study("x", Truth(noise="student", noise_sd_pp=0.4), missing=0.15, diverged_factor=10.0, factor=2.0)
    assert odd.label.endswith("bracket, student, SD 0.4, 15 % missing, diverged corner, factor 2")


@pytest.mark.parametrize("keep", [1, 7, 20])
def test_thin_keeps_about_so_many_from_all_over(keep: int) -> None:
    whole = studies()
    found = thin(whole, keep)
    assert keep <= len(found) <= 2 * keep
    assert [whole.index(s) for s in found] == list(range(0, len(whole), len(whole) // keep))


def test_thin_keeps_all_where_more_are_wanted() -> None:
    assert thin(studies(), 10**6) == studies()
    assert thin([], 5) == []


# ---------------------------------------------------------------- landscapes and rates


def test_a_landscape_depends_on_its_study_and_number_alone() -> None:
    study = Study("x", Truth(slope=-1.0), seeds=3, missing=0.1)
    assert landscape(study, 4).frame.equals(landscape(replace(study, group="y"), 4).frame)
    assert not landscape(study, 4).frame.equals(landscape(study, 5).frame)
    assert landscape(study, 4).synthetic


def test_a_landscape_is_what_its_study_says() -> None:
    study = Study("x", Truth(), "paper+line", seeds=3)
    frame = landscape(study, 0).frame
    assert sorted(frame["lr"].unique()) == sorted(LRS)
    assert sorted(frame["seed"].unique()) == [0, 1, 2]
    assert {float(wd) for wd in frame["wd"][frame["lr"] == 1e-4]} == {*WEIGHT_DECAYS, 1e-5}
    holes = landscape(replace(study, missing=0.15), 0).frame
    assert len(holes) / len(frame) == pytest.approx(0.85, abs=4 * math.sqrt(0.15 * 0.85 / len(frame)))


def test_the_diverged_corner_lies_above_the_best_weight_decay() -> None:
    study = Study("x", Truth(), seeds=1, diverged_factor=5.0)
    frame = landscape(study, 0).frame
    product = frame["lr"] * frame["wd"]
    assert (frame["diverged"] == (product > 5 * RHO * 1e-2 * 1e-2)).all()
    assert set(frame["lr"][frame["diverged"]]) == {1e-2}
    assert frame["score"].isna().equals(frame["diverged"])


TWO = [Study("a", Truth(rho=1.0), seeds=3), Study("b", Truth(depth=0.0), "paper+line", seeds=3)]


@pytest.mark.slow
def test_rates_of_two_landscapes_are_those_of_judging_them() -> None:
    seen: list[tuple[int, int]] = []
    found = {(r.study.group, r.quantity): r for r in rates(TWO, 2, 1, lambda done, total: seen.append((done, total)))}
    assert seen == [(1, 2), (2, 2)]
    # A gap is asked for where the line was run, and nowhere else.
    assert {q for g, q in found if g == "a"} == {"rho", "slope", "intercept_share", "r2"}
    assert {q for g, q in found if g == "b"} == set(QUANTITY_OF.values())
    for study in TWO:
        truth = true_values(study)
        cells = [judge_sweep([landscape(study, i)])[0] for i in (0, 1)]
        for name, quantity in QUANTITY_OF.items():
            if (study.group, quantity) not in found:
                continue
            r = found[study.group, quantity]
            outcomes = [c.outcomes[name] for c in cells]
            shares = [outcomes.count(o) / 2 for o in (REPLICATED, CONTRADICTED, INCONCLUSIVE)]
            assert [r.replicated, r.contradicted, r.inconclusive] == shares
            assert (r.n, r.study, r.decisive) == (2, study, shares[0] + shares[1])
            assert r.truth == truth[quantity] or math.isnan(truth[quantity])
            ends = [(c.measured[name].low, c.measured[name].high) for c in cells]
            if math.isnan(r.truth):
                assert math.isnan(r.wrong)
                assert math.isnan(r.coverage)
            else:
                inside = [lo <= r.truth <= hi for lo, hi in ends]
                assert r.coverage == np.mean(inside)
            if quantity == "rho" and np.isfinite(ends).all() and all(lo > 0 for lo, _ in ends):
                assert r.width == pytest.approx(np.median([math.log(hi / lo) for lo, hi in ends]))
    # Ten times the claimed ratio is seen, and right to contradict; on a flat landscape nothing may be decided.
    assert found["a", "rho"].contradicted == 1
    assert found["a", "rho"].wrong == 0
    assert error(found["b", "rho"]) == found["b", "rho"].decisive == 0
    assert found["b", "rho"].width == INF


# ---------------------------------------------------------------- cut off, and gone on with


def test_chunks_are_all_there_once() -> None:
    for n in (1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK):
        assert [i for start, stop in chunks(n) for i in range(start, stop)] == list(range(n))


def test_a_calibration_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was judged is taken from the folder; a file that was cut off is not; the rates are those of one go."""
    whole = rates(TWO, 2, 1)
    rates(TWO[:1], 2, 1, kept=tmp_path)
    (first,) = (tmp_path / code("replicate.calibration.rates")).iterdir()
    asked: list[str] = []
    real = calibration.judge_sweep

    def counted(landscapes: list[Landscape]) -> tuple[JudgedCell, ...]:
        asked.append("one")
        return real(landscapes)

    monkeypatch.setattr(calibration, "judge_sweep", counted)
    again = rates(TWO, 2, 1, kept=tmp_path)
    assert len(asked) == 2  # of the second study alone
    np.testing.assert_equal([astuple(r)[2:] for r in again], [astuple(r)[2:] for r in whole])
    first.write_bytes(first.read_bytes()[:40])
    np.testing.assert_equal([astuple(r)[2:] for r in rates(TWO, 2, 1, kept=tmp_path)], [astuple(r)[2:] for r in whole])
    assert len(asked) == 4


def test_answers_of_other_tasks_are_not_taken(tmp_path: Path) -> None:
    assert list(in_processes(math.sqrt, [4.0, 9.0], 1, tmp_path, kind=float)) == [2, 3]
    assert list(in_processes(math.sqrt, [9.0, 16.0], 1, tmp_path, kind=float)) == [3, 4]
    assert len(list((tmp_path / code("math")).iterdir())) == 3


def test_answers_that_cannot_be_kept_are_given(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert list(in_processes(math.sqrt, [4.0], 1, tmp_path / "file", kind=float)) == [2]


@pytest.mark.slow
def test_all_that_judging_loads_is_part_of_the_code() -> None:
    """Whatever the process that answers has loaded of this package, found by running it and not by reading it.

    One process loads first the one module, then the other, which loads the first as well.
    """
    both = ("replicate.calibration.rates", "replicate.calibration.experiments")
    assert both[0] in sources.closure(both[1])
    script = "import sys\n" + "\n".join(f"import {module}; print(*sys.modules)" for module in both)
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    packages = {name.rpartition(".")[0] for name in sources.SOURCES}
    for module, loaded in zip(both, said.splitlines(), strict=True):
        judging = {name for name in loaded.split() if name.startswith("replicate.") and name not in packages}
        assert judging <= set(sources.closure(module))
        assert {"replicate.judging.secondary", "replicate.judging.verdict"} <= judging


def test_a_change_anywhere_in_the_closure_changes_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "replicate.calibration.rates"
    before = sources.code(module)
    more = {"code": "\nCHANGED = 1", "comment": "\n# changed", "docstring": '\n"""Of an attribute."""'}
    for changed, name, kind in (
        (True, "replicate.judging.secondary", "code"),
        (True, module, "code"),
        (False, "replicate.train.solo", "code"),
        (False, module, "comment"),
        (False, module, "docstring"),
    ):
        monkeypatch.setattr(sources, "SOURCES", {**sources.SOURCES, name: sources.SOURCES[name] + more[kind]})
        sources.code.cache_clear()
        assert (sources.code(module) != before) is changed
        monkeypatch.undo()
    sources.code.cache_clear()


# ---------------------------------------------------------------- what counts as wrong


def judged(outcome: str, low: float, high: float, name: str = "slope") -> Judged:
    return Judged({name: outcome}, {name: (low, high)}, LRS)


@pytest.mark.parametrize(
    ("slope", "wrong"),
    [(1.0, 0.25), (1.22, 0.0), (0.0, 0.5)],  # inside: contradicted; near: either is right; outside: replicated
)
def test_what_counts_as_wrong(slope: float, wrong: float) -> None:
    cells = [
        judged(REPLICATED, 0.9, 1.1),
        judged(REPLICATED, 0.95, 1.2),
        judged(CONTRADICTED, -0.5, 0.5),
        judged(INCONCLUSIVE, -INF, INF),
    ]
    (found,) = calibration.summaries(Study("x", Truth(slope=slope)), cells)
    assert (found.replicated, found.contradicted, found.inconclusive, found.n) == (0.5, 0.25, 0.25, 4)
    assert found.wrong == wrong
    assert found.decisive == 0.75
    # An open interval holds everything.
    assert found.coverage == {1.0: 0.75, 1.22: 0.25, 0.0: 0.5}[slope]
    assert found.width == pytest.approx((0.25 + 1.0) / 2)


def test_every_decision_about_a_flat_landscape_is_wrong() -> None:
    cells = [judged(CONTRADICTED, -0.5, 0.5), judged(INCONCLUSIVE, -INF, INF)]
    (found,) = calibration.summaries(Study("x", Truth(depth=0.0)), cells)
    assert math.isnan(found.wrong)
    assert (found.decisive, error(found)) == (0.5, 0.5)


@pytest.mark.parametrize(("grid", "asked"), [("paper+line", True), ("paper", False), ("ratio", False)])
def test_a_gap_is_asked_for_on_the_grid_it_is_defined_on(grid: str, asked: bool) -> None:
    """Table 2's ratios hold the line too, but no grid of two dimensions."""
    cell = judged(REPLICATED, 0.0, 0.1, "one-dim/gap")
    assert bool(calibration.summaries(Study("x", Truth(), grid), [cell])) == asked


def test_a_quantity_that_no_landscape_was_judged_by_has_no_rate() -> None:
    assert calibration.summaries(Study("x", Truth()), []) == []


# ---------------------------------------------------------------- whole experiments


def claims_of(quantity: str) -> list[Claim]:
    return [c for c in experiments.CLAIMS_JUDGED if c.quantity == quantity]


def test_the_experiments_judge_every_claim_that_no_single_cell_answers() -> None:
    judged = {c.quantity for c in experiments.CLAIMS_JUDGED}
    of_cells = {"rho", "slope", "intercept_share", "r2", "gap_pp"}  # the studies' business
    assert judged == {c.quantity for c in CLAIMS} - of_cells - {"cost_ratio"}  # which is counted
    assert len({e.name for e in experiments.EXPERIMENTS}) == len(experiments.EXPERIMENTS)


def test_an_outcome_depends_on_experiment_seeds_and_number_alone() -> None:
    experiment = experiments.EXPERIMENTS[1]
    one, other = experiments.landscapes(experiment, 3, 4), experiments.landscapes(experiment, 3, 4)
    for grids in ("optimum", "ratio", "line"):
        for key, landscape_ in one[grids].items():
            assert landscape_.frame.equals(other[grids][key].frame)
            assert landscape_.synthetic
    assert not one["ratio"][CELLS[0], "main"].frame.equals(
        experiments.landscapes(experiment, 3, 5)["ratio"][CELLS[0], "main"].frame
    )


def test_a_claim_is_judged_on_the_grids_of_its_parts() -> None:
    made = experiments.landscapes(experiments.EXPERIMENTS[0], 2, 0)
    frames = {name: landscapes_[CELLS[0], "main"].frame for name, landscapes_ in made.items()}
    at = {name: set(zip(frame["lr"], frame["wd"], strict=True)) for name, frame in frames.items()}
    assert at["ratio"] == {(lr, wd) for lr in LRS for wd in ratio_grid(lr)}
    line = {(lr, float(f"{RHO * lr:.3g}")) for lr in LRS}
    assert at["line"] == {(lr, wd) for lr in LRS for wd in WEIGHT_DECAYS} | line
    assert at["optimum"] > at["ratio"] | at["line"]
    assert {c.quantity: experiments.grids_of(c) for c in experiments.CLAIMS_JUDGED} == {
        "rho_pooled": "optimum", "rho_rejects": "optimum", "max_ratio": "optimum", "rho_sgd": "optimum",
        "sgd_ratio": "optimum", "drop_pp": "ratio", "hurts_pp": "ratio", "zone_pp": "ratio", "growth_exponent": "ratio",
        "asymmetry_pp": "ratio", "mean_gap_pp": "line", "max_gap_pp": "line", "gap_minus_seed_sd_pp": "line",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("quantity", "experiment", "truth"),
    [
        ("rho_pooled", Experiment("x", ratios=(0.1, 0.2, 0.4, 0.8, 1.6)), 0.4),
        ("rho_rejects", Experiment("x", ratios=(0.3, 0.1, 0.1, 0.1, 0.1)), 0.3),
        ("max_ratio", Experiment("x", ratios=(0.1, 0.2, 0.05, 0.1, 0.1)), 4.0),
        ("rho_sgd", Experiment("x", ratios=(0.2,) * 5, sgd_ratio=0.5), 0.1),
        ("sgd_ratio", Experiment("x", sgd_ratio=0.25), 0.25),
        ("drop_pp", Experiment("x", Truth(shape="quadratic")), 0.62 * math.log(10) ** 2),
        ("hurts_pp", Experiment("x", Truth(shape="quadratic")), 0.62 * math.log(10) ** 2),
        ("zone_pp", Experiment("x", Truth(depth=0.0)), -2.0),
        ("growth_exponent", Experiment("x", Truth(shape="kinked")), 1.0),
        ("asymmetry_pp", Experiment("x", Truth(shape="quadratic")), 0.0),
        ("mean_gap_pp", Experiment("x", Truth(depth=0.0)), 0.0),
        ("max_gap_pp", Experiment("x", Truth(depth=0.0)), 0.0),
        ("gap_minus_seed_sd_pp", Experiment("x", Truth(depth=0.0)), -math.hypot(0.2, 0.3)),
    ],
)
def test_true_values(quantity: str, experiment: Experiment, truth: float) -> None:
    assert experiments.true_value(experiment, claims_of(quantity)[0]) == pytest.approx(truth, rel=5e-3, abs=1e-9)


def test_a_flat_experiment_has_no_ratio() -> None:
    flat = Experiment("x", Truth(depth=0.0))
    for c in experiments.CLAIMS_JUDGED:
        has_none = c.quantity in (*experiments.RATIOS, "growth_exponent")
        assert math.isnan(experiments.true_value(flat, c)) == has_none


@pytest.mark.parametrize(
    ("truth", "where"), [(0.1, "inside"), (0.06, "near"), (0.19, "near"), (0.04, "outside"), (0.22, "near")]
)
def test_only_010_itself_may_not_be_rejected(truth: float, where: str) -> None:
    one = Experiment("x", ratios=(truth,) * 5)
    assert experiments._place(one, claims_of("rho_rejects")[0], truth) == where
    assert experiments._place(one, claims_of("rho_pooled")[0], truth) == place("rho", truth, RHO_MARGIN)


def test_costs_in_closed_form() -> None:
    """ImageNet lopsided: its asymmetry is the mean of 0.75 ln² kappa; the zone's tightest bound is kappa 2's there."""
    lopsided = Experiment("x", Truth(shape="quadratic"), imagenet_shape="asymmetric")
    squares = np.mean([math.log(k) ** 2 for k in (2, 5, 10)])
    assert experiments.true_value(lopsided, claims_of("asymmetry_pp")[0]) == pytest.approx(0.75 * squares, rel=1e-6)
    smallest = 0.35 * math.log(5) ** 2 - 2.0
    assert experiments.true_value(lopsided, claims_of("zone_pp")[0]) == pytest.approx(smallest, rel=1e-6)


@pytest.mark.parametrize(
    ("shape", "truth", "where"),
    [
        ("tolerance", 2.0, "inside"),
        ("quartic", 4.0, "outside"),
        ("kinked", 1.0, "outside"),
        ("table-2", None, "outside"),
    ],
)
def test_growth_in_closed_form(shape: str, truth: float | None, where: str) -> None:
    c = claims_of("growth_exponent")[0]
    found = experiments.true_value(Experiment("x", Truth(shape=shape)), c)
    assert found == truth if truth else math.isnan(found)
    assert experiments._place(Experiment("x", Truth(shape=shape)), c, found) == where


def test_growth_about_another_ratio_has_no_exponent() -> None:
    """Some zone's edge gives 2 for a parabola about 0.195 seen from 0.10: nobody can say that it is wrong."""
    c = claims_of("growth_exponent")[0]
    off = Experiment("x", Truth(shape="quadratic"), ratios=(0.195,) * 5)
    assert math.isnan(experiments.true_value(off, c))
    low, high = experiments.growth_between(off, c)
    assert low < 2 < high


@pytest.mark.parametrize("quantity", ["rho_pooled", "rho_rejects", "max_ratio", "sgd_ratio"])
def test_no_number_pooled_from_a_law_that_breaks_may_be_replicated(quantity: str) -> None:
    broken = Experiment("x", breaks=(1e-3, 0.2))
    c = claims_of(quantity)[0]
    assert experiments._place(broken, c, experiments.true_value(broken, c)) == "outside"
    assert broken.of(CELLS[0], "main").off_times == 0.2
    assert broken.of(CELLS[0], "sgd").off_times == 1
    assert broken.of(CELLS[-1], "main").off_times == 1


@pytest.mark.slow
def test_experiment_rates_by_hand() -> None:
    """One outcome of noise-free landscapes: every verdict is right, every interval holds the truth."""
    truth = Truth(noise_sd_pp=1e-3, seed_sd_pp=1e-3, shape="quadratic")
    (found,) = [r for r in experiments.rates([Experiment("x", truth)], [3], 1, 1) if r.quantity == "drop_pp"]
    assert (found.claims, found.outcomes, found.seeds, found.experiment) == (12, 1, 3, "x")
    assert found.replicated + found.contradicted + found.inconclusive == pytest.approx(1)
    assert (found.wrong, found.any_wrong) == (0, 0)


def test_shares_over_verdicts_and_over_outcomes() -> None:
    outcomes = [
        [(REPLICATED, False, True), (CONTRADICTED, True, False)],
        [(INCONCLUSIVE, False, True), (INCONCLUSIVE, False, True)],
    ]
    found = experiments._summary(Experiment("x"), 5, "drop_pp", outcomes)
    assert (found.replicated, found.contradicted, found.inconclusive) == (0.25, 0.25, 0.5)
    assert (found.wrong, found.any_wrong, found.coverage, found.all_covered) == (0.25, 0.5, 0.75, 0.5)
    nothing = experiments._summary(Experiment("x"), 5, "rho_pooled", [[(CONTRADICTED, True, None)]])
    assert (nothing.wrong, nothing.any_wrong) == (1, 1)
    assert nothing.coverage is None
    assert nothing.all_covered is None


# ---------------------------------------------------------------- what was measured, and its tables


FAMILY = FamilyRate("all is well", 5, "drop_pp", 12, 100, 0.8, 0.02, 0.18, 0.01, 0.06, 0.97, 0.91)


def test_the_worst_error() -> None:
    flat = rate(wrong=math.nan, decisive=0.04)
    assert (error(rate()), error(flat)) == (0.02, 0.04)
    assert worst(Measured(cell_rows([rate(), flat]), (FAMILY,))) == 0.04
    assert worst(Measured()) == 0.0


def test_rows_are_strict_json() -> None:
    flat = rate(wrong=math.nan, decisive=0.04, coverage=math.nan, truth=math.nan, width=INF)
    first, second = json.loads(json.dumps(Measured(cell_rows([rate(), flat])).to_json(), allow_nan=False))["cells"]
    assert first == {
        "group": "slopes and shapes", "study": Study("", Truth()).label, "slope": 1.0, "factor": 3.0, "seeds": 5,
        "quantity": "slope", "truth": 1.0, "landscapes": 100, "replicated": 0.7, "contradicted": 0.02,
        "inconclusive": 0.28, "wrong": 0.02, "coverage": 0.95, "median_width": 0.3,
    }  # fmt: skip
    assert (second["truth"], second["coverage"], second["median_width"], second["wrong"]) == (None, None, None, 0.04)
    whole = Measured((), (replace(FAMILY, coverage=None),))
    (row,) = json.loads(json.dumps(whole.to_json(), allow_nan=False))["experiments"]
    assert (row["experiment"], row["seeds"], row["coverage"], row["all_covered"]) == ("all is well", 5, None, 0.91)


def test_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    measured = Measured(cell_rows([rate()]), (FAMILY,))
    write(path, measured)
    assert read(path) == measured
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "input data was truncated"),
        ("[]", "expected `object`, got `array`"),
        ("{}", "object missing required field `format`"),
        ('{"format": 99, "registry": "x", "cells": [], "experiments": []}', "format 99"),
        ('{"format": 1, "registry": "x", "cells": [{"group": 1}]}', "$.cells[0].group: expected `str`, got `int`"),
        ("\x00", "JSON is malformed: invalid character (byte 0)"),
    ],
)
def test_a_file_that_is_no_calibration(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read(path)
    assert str(refused.value) == (
        f"{path}: expected a calibration (format 1) written by `replicate calibrate --out`, got another file: {said}; "
        "run that command again"
    )


def test_markdown() -> None:
    flat = rate(study=Study("flat", Truth(depth=0.0), "paper", 3), wrong=math.nan, decisive=0.04, truth=math.nan)
    flat = replace(flat, coverage=math.nan)
    cells = cell_rows([rate(), rate(coverage=0.9), rate(coverage=0.97), flat])
    lines = markdown(Measured(cells, (FAMILY,))).splitlines()
    # Summary: the largest error; the smallest and the middle coverage of those that have one.
    assert "| slope | 4 | 4.0 % | — | 90.0 %, 95.0 % |" in lines
    label = Study("", Truth()).label
    assert f"| {label} | 5 | slope | 1 | 70.0 % | 2.0 % | 28.0 % | 2.0 % | 95.0 % |" in lines
    assert f"| {flat.study.label} | 3 | slope | none | 70.0 % | 2.0 % | 28.0 % | 4.0 % | — |" in lines
    assert "| drop_pp | 12 | 5 | 80.0 % | 2.0 % | 18.0 % | 1.0 % | 6.0 % | 97.0 % | 91.0 % |" in lines
    headings = [line for line in lines if line.startswith("#")]
    assert headings == [
        *("# Calibration", "## Summary", "## Whole experiments", "### All is well", "## Slopes and shapes", "## Flat"),
    ]


def test_markdown_of_power() -> None:
    """The claims are true at slope 1 and false elsewhere; a column a number of seeds."""
    studies_ = [Study("power", Truth(slope=b), seeds=n) for b in (1.0, -1.0) for n in (1, 5)]
    found = [rate(study=s, replicated=0.1 * i, contradicted=0.2 * i) for i, s in enumerate(studies_)]
    gap = rate(study=Study("power of the gap", Truth(depth=0.0), "paper+line", 7), quantity="gap_pp", replicated=0.66)
    lines = markdown(Measured(cell_rows([*found, gap]))).splitlines()
    assert "| b | factor | quantity | 1 seed | 5 seeds |" in lines
    assert "| 1 | 3 | slope | 0.0 % | 10.0 % |" in lines
    assert "| -1 | 3 | slope | 40.0 % | 60.0 % |" in lines
    assert "| gap_pp | 66.0 % |" in lines


def test_the_tables_name_the_command_that_made_them() -> None:
    cells, whole = cell_rows([rate()]), (FAMILY,)
    assert "    replicate calibrate --part cells --landscapes 100 --out docs/calibration.md\n" in markdown(
        Measured(cells)
    )
    parts = "--part cells --part experiments --landscapes 100 --outcomes 100"
    both = f"    replicate calibrate {parts} --out docs/calibration.md\n"
    assert both in markdown(Measured(cells, whole))
