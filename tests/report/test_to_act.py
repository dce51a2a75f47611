"""What the reports say first: what to act on, the rival laws' predictions, how sure, and the matrix on the terminal."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from replicate.estimate.by_rate import Loss, Where
from replicate.judging import verdict_file
from replicate.judging.practice import InPractice, Law
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, REPLICATED, Altered, HowSure, Trial
from replicate.judging.verdict_file import VerdictFile
from replicate.report import headline, html, markdown, rivals, terminal
from replicate.report.wording import sure_text
from replicate.text import interval
from tests.support.verdicts import made_file

LAWS = (
    Law("coupled", 1, 50.0, 20.0, 90.0, excluded=True, supported=False),
    Law("independent", 0, None, 0.0, math.inf, excluded=False, supported=False),
    Law("timescale", -1, 4.0, 2.0, 8.0, excluded=False, supported=True),
)
COSTLY = InPractice(
    "swin_t-cifar100", "swin_t on digits", 0.01, 70.0, 0.5, 0.2, 1.5, Where.INSIDE, (0.3, 0.9),
    Loss(0.0, 5.0, 0.5), Loss(0.001, 4.0, 0.5), 200.0, LAWS,
)  # fmt: skip
FREE = replace(
    COSTLY, cell="vit_s16-cifar100", trained="vit_s16 on digits", where=Where.ANY_BELOW, alike=(0.0, 0.9), by_rule=None,
    low=0.0, laws=tuple(replace(law, excluded=False, supported=False) for law in LAWS),
)  # fmt: skip


def whole(*practice: InPractice) -> VerdictFile:
    """A file of more than `terminal.FEW` judged claims."""
    cells = [f"{arch}-cifar100" for arch in ("resnet50", "vit_s16", "convnext_t", "mixer_s16", "swin_t")]
    names = [f"{kind}/{cell}" for kind in ("rho", "slope", "intercept", "one-dim/gap") for cell in cells]
    finite = {n: INCONCLUSIVE for n in names if not n.startswith("one-dim")}
    more = {"rho/overall": REPLICATED, "one-dim/mean-gap": REPLICATED, "sgd/rho/resnet50-cifar100": CONTRADICTED}
    kappas = {f"deviation/cifar100/kappa-{k}": CONTRADICTED for k in ("0.1", "0.2", "0.5", "2", "5", "10")}
    return replace(made_file({**finite, **more, **kappas}), practice=practice)


def test_what_the_rule_costs_and_what_to_set_instead() -> None:
    said = headline.to_act(whole(COSTLY, FREE))
    assert "λ = 0.1η costs 4 pp of accuracy on Swin-T on digits, " in said
    assert ", is not distinguishable from the best λ on ViT-S/16" in said
    assert "Swin-T on digits at η = 0.01: λ from 0.2 to 1.5" in said
    assert "any λ up to 0.9" in said
    assert "λ* = 0.1η did not hold in 2" in said  # by its exponent in one, by its constant in both
    assert "λ* = c / (η · steps) was the only one to hold in 1" in said
    assert headline.to_act(whole()) == ""


def test_a_cost_within_its_error_is_none() -> None:
    small = replace(COSTLY, by_rule=Loss(0.001, 0.9, 0.5))
    assert "costs" not in headline.to_act(whole(replace(small, alike=(0.0001, 0.9))))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (Where.ABOVE, "λ ≥ 0.2 (best run: 0.5, the largest)"),
        (Where.FLAT, "any λ from 0.3 up to 0.9 (best run: 0.5)"),
        (Where.INSIDE, "λ from 0.2 to 1.5"),
    ],
)
def test_what_to_set(where: Where, said: str) -> None:
    assert f"at η = 0.01: {said}." in headline.to_act(whole(replace(COSTLY, where=where)))


def test_predictions_have_the_measured_constant_and_what_came_of_them() -> None:
    """c = 4 over 200 steps at η = 0.01: λ* = 4 / (0.01 · 200) = 2."""
    coupled, independent, timescale = rivals.predictions(whole(COSTLY))
    assert coupled.predicts == "b = +1, λ* = 0.1η, so 0.001 at η = 0.01; measured 50 · η"
    assert independent.predicts == "b = 0; these runs do not bound its constant"
    assert timescale.predicts == "b = −1, λ* = c / (η · 200) with c = 4 (2 to 8), so 2 at η = 0.01"
    assert [one.held for one in (coupled, independent, timescale)] == [
        "did not hold",
        "undecided",
        "only this one held",
    ]


@pytest.mark.parametrize(
    ("low", "high", "held"), [(0.03, 0.15, "undecided"), (0.01, 0.04, "did not hold"), (0.3, math.inf, "did not hold")]
)
def test_the_papers_law_holds_only_with_its_constant(low: float, high: float, held: str) -> None:
    coupled = Law("coupled", 1, None, low, high, excluded=False, supported=False)
    (found, *_) = rivals.predictions(whole(replace(COSTLY, laws=(coupled, *LAWS[1:]))))
    assert found.held == held


def test_both_sides_are_named_with_their_sources() -> None:
    page = html.render(whole(COSTLY))
    for source in ("2506.02285", "2512.08217", "2405.13698", "2505.13738", "2604.01145"):
        assert source in page


def test_the_file_keeps_what_to_act_on_and_how_sure() -> None:
    file = whole(COSTLY, FREE)
    sure = HowSure((Trial(Altered.SEED, "1", INCONCLUSIVE), Trial(Altered.LEVEL, "0.99", CONTRADICTED)))
    file = replace(file, entries=tuple(replace(e, verdict=replace(e.verdict, how_sure=sure)) for e in file.entries))
    assert verdict_file.from_json(file.to_json(), "made") == file


def test_how_sure_in_words() -> None:
    verdict = next(e.verdict for e in whole().entries if e.verdict.outcome == CONTRADICTED)
    trials = (
        Trial(Altered.SEED, "1", INCONCLUSIVE), Trial(Altered.SEED, "4", INCONCLUSIVE),
        Trial(Altered.LR, "0.01", CONTRADICTED), Trial(Altered.BEST_EPOCH, "", REPLICATED),
    )  # fmt: skip
    said = sure_text(replace(verdict, how_sure=HowSure(trials)))
    assert said == "same in 1 of 4 trials: inconclusive without seed 1 or 4; replicated by the best epoch"
    assert sure_text(replace(verdict, how_sure=HowSure(trials[2:3]))) == "same in all 1 trials"
    assert sure_text(verdict) == ""


@pytest.mark.parametrize("width", [40, 80, 160])
def test_many_claims_are_a_matrix_on_the_terminal(width: int) -> None:
    file = whole(COSTLY)
    lines = [line.text for line in terminal.summary(file, width, listed=False)]
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    columns = " " * (4 if width >= 80 else 2)
    assert f"ratio              {columns.join('IIIII')}" in text
    assert f"CIFAR-100          {columns.join('CCCCCC')}" in text
    assert "best λ may be" not in text
    listed = "\n".join(line.text for line in terminal.summary(file, width))
    assert "ratio              I" in listed
    assert "may be" in listed


def test_a_verdict_that_does_not_survive_has_a_question_mark() -> None:
    file = whole()
    sure = HowSure((Trial(Altered.SEED, "1", INCONCLUSIVE),))
    entries = tuple(
        replace(e, verdict=replace(e.verdict, how_sure=sure)) if e.verdict.outcome == CONTRADICTED else e
        for e in file.entries
    )
    unsure = replace(file, entries=entries)
    assert "C?" in "\n".join(line.text for line in terminal.summary(unsure, 80, listed=False))
    assert "C?" in html.render(unsure)
    assert "How sure" in html.render(unsure)
    assert "How sure" not in html.render(file)
    assert "same in 0 of 1 trials: inconclusive without seed 1" in markdown.render(unsure)


def test_open_intervals() -> None:
    assert interval(-math.inf, 1) == "(−∞, 1]"
