"""When verdicts come: against a walk through the training, run by run."""

from __future__ import annotations

import pytest

from replicate.paper.registry import CLAIMS, claim
from replicate.runs import looks, scales
from replicate.runs.needed import runs_for, split
from replicate.train.plan import milestones
from replicate.train.plan.plan import Rates

CIFAR = scales.get("cifar100")
RATES = Rates({arch: 3600.0 for arch, _ in CIFAR.models}, "test", "GPU")
UNKNOWN = Rates({}, "test", "GPU")


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_as_a_walk_through_the_training_finds(share: float) -> None:
    claims = [c for c in CLAIMS if c.id in ("slope/vit_s16-cifar100", "r2/swin_t-cifar100", "sgd/differs")]
    order = runs_for(claims, CIFAR)
    stored = {run.key for run in order[: int(share * len(order))]}
    found = milestones.of(claims, CIFAR, stored, RATES, until_settled=False)
    have, trained = set(stored), 0
    firsts: list[int] = []
    lasts: list[int] = []
    early, left = ({c.id: {r.key for r in runs_for([c], CIFAR, seeds=n)} for c in claims} for n in (3, None))
    for run in [None, *(run for run in order if run.key not in stored)]:
        if run is not None:
            trained += 1
            have.add(run.key)
        for reached, of in ((firsts, early), (lasts, left)):
            for name in [name for name, keys in of.items() if keys <= have]:
                reached.append(trained)
                del of[name]
    assert found.first_provisional == milestones.When(firsts[0], float(firsts[0]))
    assert (found.first_final, found.last) == tuple(milestones.When(n, float(n)) for n in (lasts[0], lasts[-1]))
    assert found.last_at_least == found.last


def test_two_looks_end_earlier_at_best_and_no_later_at_worst() -> None:
    once, twice = (milestones.of(CLAIMS, CIFAR, (), UNKNOWN, two) for two in (False, True))
    assert once.last == twice.last == milestones.When(len(runs_for(split(CLAIMS, CIFAR)[0], CIFAR)), None)
    first = len(runs_for(split(CLAIMS, CIFAR)[0], CIFAR, seeds=looks.FIRST_SEEDS))
    assert twice.last_at_least == milestones.When(first, None)
    assert once.first_final is not None and twice.first_final is not None
    assert twice.first_final.runs < once.first_final.runs


def test_few_seeds_and_nothing_to_train() -> None:
    smoke = scales.get("smoke")
    assert milestones.of(CLAIMS, smoke, (), UNKNOWN, until_settled=True).first_provisional is None
    nothing = milestones.of([claim("one-dim/cost")], CIFAR, (), RATES, until_settled=False)
    assert nothing == milestones.Milestones(None, None, None, None)
