"""The answer in words: what a person with a sweep reads first."""

from __future__ import annotations

import dataclasses
import math

import pytest

from replicate.estimate.by_rate import Loss, RateRow, Where
from replicate.estimate.missing_runs import NextRun
from replicate.estimate.next_runs import Plan
from replicate.judging.answer import Answer, Setting
from replicate.judging.sweep_verdicts import JudgedCell
from replicate.judging.verdict import INCONCLUSIVE, NOT_RUN, REPLICATED
from replicate.report import answer
from replicate.report.answer import place
from tests.support.verdicts import made_cell

ROW = RateRow(
    lr=0.001,
    where=Where.INSIDE,
    best_wd=0.3,
    best_score=71.234,
    low=0.2,
    high=0.61,
    alike=(0.3,),
    alike_loses=0.0,
    least=Loss(0.0, 3.14, 0.2),
    tenth=Loss(0.03, 0.8, 0.2),
    tenfold=None,
    by_rule=Loss(1e-4, 2.9, 0.21),
    smallest=0.0,
    largest=1.0,
    runs=21,
    seeds=3,
    diverged=1,
)


def cell(*rows: RateRow, settings: tuple[Setting, ...] = (), metric: str = "accuracy", **changes: object) -> JudgedCell:
    best = max(rows, key=lambda row: row.best_score or -math.inf)
    found = Answer(rows, best, settings, "made up", steps=None, constant=None)
    made = made_cell(rho=REPLICATED, slope=INCONCLUSIVE)
    return dataclasses.replace(made, answer=dataclasses.replace(found, **changes), metric=metric)  # type: ignore[arg-type]


def test_a_row_has_what_its_headings_say() -> None:
    one = cell(ROW)
    (shown,) = answer.table(one)
    assert dict(zip(answer.heads(one), shown, strict=True)) == {
        "lr": "0.001",
        "best λ": "0.3",
        "95 %": "0.2 to 0.61",
        "where": "inside",
        "accuracy": "71.23",
        "no decay": "3.1 ± 0.2",
        "λ/10": "0.8 ± 0.2",
        "10 λ": "—",
        "0.1 lr": "2.9 ± 0.2",
        "runs": "21, 1 diverged",
        "seeds": "3",
    }


def test_a_loss_is_shown_as_it_was_measured_and_decay_over_a_training_where_steps_are_known() -> None:
    row = dataclasses.replace(ROW, best_score=-2.345678, least=Loss(0.02, 0.1, 0.0))
    one = cell(row, metric="loss", steps=1000.0)
    shown = dict(zip(answer.heads(one), answer.table(one)[0], strict=True))
    assert (shown["loss"], shown["ηλ · steps"], shown["no decay"]) == ("2.346", "0.3", "0 (λ 0.02)")
    assert "The best loss of all, 2.346, is at learning rate 0.001 with weight decay 0.3." in answer.paragraph(one)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            Where.ANY_BELOW,
            "At learning rate 0.001 weight decay hardly matters up to 0.3, including none: the means of these runs "
            "differ by at most 0.21 pp, which is not distinguishable from 0.",
        ),
        (Where.FLAT, "weight decay hardly matters: means differ by at most 0.21 pp, not distinguishable from 0."),
        (Where.ABOVE, "the best weight decay may be larger than all that were run."),
        (Where.BELOW, "the best weight decay may lie between 0 and the next one that was run."),
        (Where.OPEN, "The best runs have weight decay 0.3 at learning rate 0.001. How near the optimum is to these is"),
        (Where.UNKNOWN, "there are too few weight decays to locate the best one."),
    ],
)
def test_what_is_said_where_the_best_is_not_inside(where: Where, expected: str) -> None:
    row = dataclasses.replace(ROW, where=where, alike=(0.0, 0.1, 0.3), alike_loses=0.21)
    assert expected in answer.paragraph(cell(row))
    assert expected not in answer.paragraph(cell(ROW))


def test_decay_is_called_unnecessary_only_where_none_was_run() -> None:
    row = dataclasses.replace(ROW, where=Where.ANY_BELOW, alike=(1e-6, 0.3))
    assert "hardly matters up to 0.3, down to the smallest that was run: the means" in answer.paragraph(cell(row))


def test_what_to_set() -> None:
    settings = (
        Setting(0.001, True, 0.2, 0.61),
        Setting(0.0003, False, 0.5, 2.0),
        Setting(0.002, False, 0.0, 0.4),
        Setting(0.004, False, 0.1, math.inf),
        Setting(1.0, False, 0.0, math.inf, "too far away", asked=True),
        Setting(2.0, False, 0.0, math.inf, "nobody asked"),
    )
    said = answer.headline(cell(ROW, settings=settings))
    assert said == (
        "To set: at learning rate 0.001 (the best): weight decay 0.2 to 0.61; at 0.0003 (not run): 0.5 to 2; at 0.002 "
        "(not run): at most 0.4; at 0.004 (not run): at least 0.1; at 1 (not run): unknown, too far away."
    )
    assert "To set" not in answer.paragraph(cell(ROW, settings=settings))


def test_the_best_learning_rate_comes_first_unless_others_were_asked_for() -> None:
    settings = (Setting(0.0003, False, 0.5, 2.0), Setting(0.001, True, 0.2, 0.61))
    assert answer.headline(cell(ROW, settings=settings)).startswith("To set: at learning rate 0.001 (the best)")
    asked = tuple(dataclasses.replace(one, asked=True) for one in settings)
    assert answer.headline(cell(ROW, settings=asked)).startswith("To set: at learning rate 0.0003 (not run)")


def test_where_runs_do_not_tell_what_to_set_the_headline_says_so() -> None:
    assert answer.headline(cell(ROW)) == (
        "To set: unknown from these runs; the best of them is at learning rate 0.001 with weight decay 0.3."
    )
    assert answer.headline(cell(ROW, best=None)) == "To set: no run has a score."
    equal = dataclasses.replace(ROW, where=Where.EQUAL)
    assert answer.headline(cell(equal)) == "To set: unknown, because all runs have the same score."


def test_equal_scores_are_called_equal() -> None:
    equal = dataclasses.replace(ROW, where=Where.EQUAL)
    said = answer.paragraph(cell(equal))
    assert said.startswith("All runs have the same accuracy, 71.23 %, so they say nothing about weight decay.")
    assert answer.table(cell(equal))[0][2:4] == ("—", "equal")
    other = dataclasses.replace(equal, lr=0.01, best_score=60.0)
    said = answer.paragraph(cell(equal, other))
    assert (
        "At learning rates 0.001 and 0.01 all runs have the same accuracy, so they say nothing about weight decay."
        in said
    )


def test_what_the_papers_rule_costs() -> None:
    said = "The paper's rule, λ = 0.1 lr, that is 0.0001 at learning rate 0.001,"
    assert f"{said} would cost 2.9 ± 0.2 pp." in answer.paragraph(cell(ROW))
    beyond = dataclasses.replace(ROW, by_rule=None)
    said_of_zero = f"{said} lies between 0, which loses 3.1 ± 0.2 pp, and the smallest weight decay run there."
    assert said_of_zero in answer.paragraph(cell(beyond))
    beyond = dataclasses.replace(beyond, smallest=0.01)
    assert f"{said} lies outside the range of weight decays run there." in answer.paragraph(cell(beyond))
    same = dataclasses.replace(ROW, by_rule=Loss(1e-4, 0.0, 0.0))
    assert f"{said} costs nothing: it is the best run." in answer.paragraph(cell(same))


def test_runs_to_do_next_are_listed_by_learning_rate_and_weight_decay_with_their_rank() -> None:
    runs = (NextRun(0.01, 0.3, 1), NextRun(0.001, 0.3, 2), NextRun(0.001, 0.1, 1), NextRun(0.01, 0.3, 2))
    shown = answer.next_runs(cell(ROW, plan=Plan(runs, None, None)))
    assert shown == [("0.001", "0.1", "1", "3"), ("0.001", "0.3", "2", "2"), ("0.01", "0.3", "1, 2", "1")]


def test_a_sweep_in_which_everything_diverged() -> None:
    row = dataclasses.replace(ROW, where=Where.UNKNOWN, best_wd=None, best_score=None, least=None, tenth=None)
    one = cell(row, best=None)
    assert answer.paragraph(one).startswith("No run has a score. At learning rate 0.001 there are too few")
    assert answer.table(one)[0][1:3] == ("—", "—")


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.02, 0.0612, "0.02 to 0.061"), (0, 0.3, "≤ 0.3"), (0.02, math.inf, "≥ 0.02"), (0, math.inf, "not bounded")],
)
def test_a_place_as_text(low: float, high: float, text: str) -> None:
    assert place(low, high) == text


def test_remarks_say_why_only_where_interval_and_margin_do_not() -> None:
    made = made_cell(rho=INCONCLUSIVE, slope=NOT_RUN)
    said = list(answer.remarks(made))
    assert said == [
        "slope not run: made up.",
        "edge-high: the optimum of some learning rate may lie above all weight decays that were run.",
        "To settle rho: more.",
    ]
    assert next(iter(answer.remarks(made_cell(rho=REPLICATED)))) == "rho replicated: made up."


def test_the_title_names_what_all_runs_share_and_nothing_that_steers_a_terminal() -> None:
    made = dataclasses.replace(made_cell(), arch="a\x1b[31m", settings=(("epochs", "8"), ("model_size", "60m")))
    assert answer.title(made) == "a\ufffd[31m on b (epochs 8, model_size 60m)"
    assert answer.title(dataclasses.replace(made_cell(), arch="unnamed", dataset="unnamed")) == "this sweep"


def test_any_weight_decay_is_advised_only_where_small_ones_do_as_well() -> None:
    open_below = Setting(0.001, True, 0.0, 0.4, best_run=0.1)
    even = Setting(0.003, True, 0.0, 0.4, any_below=True)
    open_above = Setting(0.01, True, 0.2, math.inf, best_run=0.5)
    said = answer.headline(cell(ROW, settings=(open_below, even, open_above)))
    assert "at learning rate 0.001 (the best): weight decay at most 0.4 (best run: 0.1)" in said
    assert "at 0.003: any up to 0.4" in said
    assert "at 0.01: at least 0.2 (best run: 0.5)" in said
