"""A decisive verdict tried again: what is altered, on landscapes whose answer is known, and by another path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from replicate.judging import claim_verdicts, how_sure
from replicate.judging.how_sure import Alteration, Judged, alterations, of_verdicts
from replicate.judging.select import Landscapes
from replicate.judging.verdict import CONTRADICTED, Altered, Evidence, HowSure, Trial
from replicate.landscape.landscape import Landscape
from replicate.paper.registry import claim

HURTS = claim("deviation/cifar100/hurts")
SLOPE = claim("slope/resnet50-cifar100")
CELL = SLOPE.cells[0]
EVIDENCE = Evidence("made", probe=True)


def landscape(lost_pp: float, odd_seed_pp: float = 0.0) -> Landscape:
    """Three learning rates, four seeds; κ = 0.1 and 10 lose `lost_pp`, in seed 3 `odd_seed_pp` more."""
    rows = []
    for lr in (0.001, 0.003, 0.01):
        for kappa in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
            for seed in range(4):
                noise = 0.05 * np.sin(97 * lr * 1e3 + 13 * kappa + 7 * seed)
                lost = (lost_pp + odd_seed_pp * (seed == 3)) * abs(np.log10(kappa))
                score = 70 - lost + noise
                rows.append((lr, kappa * 0.1 * lr, seed, score, score + 0.5 * seed, False))
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score", "best", "diverged"])
    return Landscape("resnet50", "cifar100", frame)


def hurts(found: Landscape) -> Judged:
    landscapes: Landscapes = {(CELL, "main"): found}
    return Judged(HURTS, landscapes, claim_verdicts.judge(HURTS, landscapes, EVIDENCE))


def test_each_alteration_alters_that_alone() -> None:
    found = landscape(0.0)
    frame = found.frame
    assert set(Alteration(Altered.SEED, 2).of(found).frame["seed"]) == {0, 1, 3}
    assert set(Alteration(Altered.LR, 0.003).of(found).frame["lr"]) == {0.001, 0.01}
    even, odd = (Alteration(Altered.WDS, half).of(found).frame for half in how_sure.HALVES)
    assert len(even) + len(odd) == len(frame)
    assert not set(zip(even["lr"], even["wd"], strict=True)) & set(zip(odd["lr"], odd["wd"], strict=True))
    assert odd.groupby("lr")["wd"].nunique().tolist() == [4, 4, 4]
    best = Alteration(Altered.BEST_EPOCH).of(found).frame
    assert best["score"].tolist() == frame["best"].tolist()
    assert Alteration(Altered.LEVEL, 0.99).of(found).frame.equals(frame)
    assert (Alteration(Altered.LEVEL, 0.99).level, Alteration(Altered.SEED, 2).level) == (0.99, 0.95)


def test_no_decay_is_never_left_out_and_a_diverged_run_has_no_best_epoch() -> None:
    frame = landscape(0.0).frame
    frame.loc[frame["wd"] < 2e-5, "wd"] = 0.0
    frame = frame.drop_duplicates(["lr", "wd", "seed"]).reset_index(drop=True)
    frame.loc[0, ["score", "diverged"]] = [np.nan, True]
    found = replace(landscape(0.0), frame=frame)
    for half in how_sure.HALVES:
        assert (Alteration(Altered.WDS, half).of(found).frame["wd"] == 0).sum() == (frame["wd"] == 0).sum()
    assert np.isnan(Alteration(Altered.BEST_EPOCH).of(found).frame.loc[0, "score"])


def test_what_is_tried() -> None:
    """Where the claim names the weight decays itself, half of them are no other look at it."""
    landscapes: Landscapes = {(CELL, "main"): landscape(0.0)}
    kinds = [one.kind for one in alterations(HURTS, landscapes)]
    assert kinds == [Altered.SEED] * 4 + [Altered.LR] * 3 + [Altered.BEST_EPOCH] + [Altered.LEVEL] * 2
    assert [one.kind for one in alterations(SLOPE, landscapes)].count(Altered.WDS) == 2
    assert alterations(claim("one-dim/cost"), {}) == ()
    without = replace(landscape(0.0), frame=landscape(0.0).frame.drop(columns="best"))
    assert Altered.BEST_EPOCH not in [one.kind for one in alterations(HURTS, {(CELL, "main"): without})]


def test_a_verdict_that_rests_on_nothing_in_particular_survives() -> None:
    judged = hurts(landscape(0.0))
    (found,) = of_verdicts([judged], processes=1)
    assert judged.verdict.outcome == CONTRADICTED
    assert found is not None
    assert len(found.trials) == 10
    assert replace(judged.verdict, how_sure=found).survives is True


def test_a_verdict_that_rests_on_one_seed_does_not() -> None:
    """Seed 3 alone loses nothing; what is left without it must be what the rule says of the three others."""
    judged = hurts(landscape(2.0, odd_seed_pp=-2.0))
    others = judged.landscapes[CELL, "main"].frame
    others = others[others["seed"] != 3]
    by_hand = claim_verdicts.judge(HURTS, {(CELL, "main"): replace(landscape(0.0), frame=others)}, EVIDENCE)
    found = how_sure.outcome(HURTS, judged.landscapes, EVIDENCE, Alteration(Altered.SEED, 3))
    assert found == by_hand.outcome
    assert found != judged.verdict.outcome


def test_what_is_not_decisive_is_not_tried() -> None:
    judged = hurts(landscape(1.2))
    assert judged.verdict.outcome not in ("replicated", "contradicted")
    assert of_verdicts([judged], processes=1) == [None]
    assert judged.verdict.survives is None


def test_an_alteration_that_leaves_nothing_is_no_trial() -> None:
    one_rate = landscape(0.0).frame.query("lr == 0.001")
    landscapes: Landscapes = {(CELL, "main"): replace(landscape(0.0), frame=one_rate)}
    assert how_sure.outcome(HURTS, landscapes, EVIDENCE, Alteration(Altered.LR, 0.001)) is None


@pytest.mark.slow
def test_several_processes_say_the_same() -> None:
    judged = [hurts(landscape(0.0)), hurts(landscape(2.0, odd_seed_pp=-2.0))]
    assert of_verdicts(judged, processes=2) == of_verdicts(judged, processes=1)


def test_survives_by_its_trials() -> None:
    verdict = hurts(landscape(0.0)).verdict
    sure = HowSure((Trial(Altered.SEED, "0", verdict.outcome), Trial(Altered.LR, "0.01", CONTRADICTED)))
    assert replace(verdict, how_sure=sure).survives is True
    assert sure.changed(verdict.outcome) == ()
