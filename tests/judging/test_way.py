"""The way of a claim to its verdict: which modules are called with it, one after the other, and none of them twice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from replicate.judging import store_verdicts
from replicate.paper.claim import Claim
from replicate.paper.registry import claim
from replicate.store.store import Store, open_store
from tests.support import five_seeds

WAY = (
    "judging.store_verdicts",  # the claim and the store
    "landscape.from_store",  # its landscapes
    "runs.needed",
    "judging.claim_verdicts",
    "judging.select",  # those it speaks of
    "judging.quantities",  # the estimate of its quantity
    "judging.rule",  # the verdict
    "judging.secondary",  # what stands beside
)


def way(judge: Callable[[], object]) -> list[str]:
    """The modules of this package whose functions get a claim as an argument, in the order of the calls."""
    found: list[str] = []

    def called(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_globals.get("__name__", "")
        code = frame.f_code
        if event != "call" or not name.startswith("replicate.") or name == "replicate.paper.claim":
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(isinstance(frame.f_locals.get(n), Claim) for n in names):
            module = name.removeprefix("replicate.")
            if not found or found[-1] != module:
                found.append(module)

    sys.setprofile(called)
    try:
        judge()
    finally:
        sys.setprofile(None)
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("store") / "store", below=five_seeds.ALL)


@pytest.mark.slow
@pytest.mark.parametrize(
    "claim_id",
    ["rho/resnet50-cifar100", "rho/reject/vit_s16-cifar100", "deviation/cifar100/kappa-0.1", "one-dim/mean-gap"],
)
def test_a_claims_way_is_straight(claim_id: str, store: Store) -> None:
    assert tuple(way(lambda: store_verdicts.judge(claim(claim_id), five_seeds.SCALE, store))) == WAY
