"""Verdict files of format 1: read as what was meant, whatever their keys were called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from replicate.estimate import details
from replicate.judging import verdict_file
from replicate.judging.verdict import BestAt, Outcome, Prediction, StrictBand
from replicate.judging.verdict_file import VerdictFile, VerdictFileError

SAVED = Path(__file__).parent / "data" / "format_1.json"
"""A claim of each quantity as the last version that wrote format 1 judged the recorded runs."""


def saved() -> dict[str, Any]:
    return dict(json.loads(SAVED.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def read() -> VerdictFile:
    return verdict_file.read(SAVED)


def test_all_that_has_its_old_name_is_there(read: VerdictFile) -> None:
    now = read.to_json()
    for was, found in zip(saved()["claims"], now["claims"], strict=True):
        assert {k: found[k] for k in was if k not in ("estimate", "secondary")} == {
            k: v for k, v in was.items() if k not in ("estimate", "secondary")
        }
        if was["estimate"] is not None:
            old, new = ({k: v for k, v in one["estimate"].items() if k != "details"} for one in (was, found))
            assert new == old
    assert {k: v for k, v in now.items() if k not in ("format", "claims")} == {
        k: v for k, v in saved().items() if k not in ("format", "claims")
    }


def test_no_number_of_the_details_is_lost(read: VerdictFile) -> None:
    for was, entry in zip(saved()["claims"], read.entries, strict=True):
        if was["estimate"] is None or not was["estimate"]["details"]:
            continue
        assert entry.verdict.estimate is not None
        kept = sorted(numbers(entry.verdict.estimate.to_json()["details"]))
        old = was["estimate"]["details"]
        if isinstance(entry.verdict.estimate.details, details.GapAndSeedNoise):
            assert set(numbers(old)) == set(kept)  # the level of both stands in the estimate as well
        else:
            assert sorted(numbers(old)) == kept


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [x for v in value.values() for x in numbers(v)]
    if isinstance(value, list):
        return [x for v in value for x in numbers(v)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_what_stands_beside_has_names(read: VerdictFile) -> None:
    beside = {e.id: e.verdict.secondary for e in read.entries}
    was = {c["id"]: c["secondary"] for c in saved()["claims"]}
    slope, old = beside["slope/resnet50-cifar100"], was["slope/resnet50-cifar100"]
    assert slope.published is not None
    assert slope.published.p_rho == old["the paper's method"]["p_rho_0.10"]
    assert slope.published.argmax[0] == BestAt(5e-4, old["the paper's method"]["argmax_wd"]["0.0005"])
    assert slope.rivals is not None
    assert list(slope.rivals.excluded) == old["rival exponents"]["excluded"]
    assert slope.indistinguishable[0].wds == tuple(old["indistinguishable from the best"]["0.0005"]["wds"])
    assert slope.disagreement == old["where they differ"]
    assert beside["rho/overall"].strict_band == StrictBand(0.08, 0.12, Outcome.INCONCLUSIVE)
    gap = beside["one-dim/gap/resnet50-cifar100"]
    assert gap.plug_in_gap_pp == was["one-dim/gap/resnet50-cifar100"]["the paper's method (plug-in)"]["gap_pp"]
    anova = beside["universality/anova"].anova
    assert anova is not None
    assert (anova.f, anova.df) == (was["universality/anova"]["ANOVA over architectures"]["F"], (4, 25))
    drop = was["deviation/cifar100/kappa-0.1"]["prediction interval"]
    assert beside["deviation/cifar100/kappa-0.1"].prediction == Prediction(*drop["interval"], drop["holds our value"])


def test_growth_has_its_sides() -> None:
    data = saved()
    claim = next(c for c in data["claims"] if c["id"] == "deviation/log-quadratic")
    side = {"exponent": 2.0, "gamma": 0.1, "gamma_interval": [0.0, 0.3]}
    squared = {"gamma": [0.2, None, 0.4], "beta_pp": [1.0, 0.5, 1.5]}
    claim["estimate"]["details"] = {"imagenet, kappa 0.2 to 0.1": {**side, "squared": squared}}
    (entry,) = (e for e in verdict_file.from_json(data, "saved").entries if e.id == claim["id"])
    assert entry.verdict.estimate is not None
    gamma = details.Value(value=0.2, low=None, high=0.4)
    beta = details.Value(value=1.0, low=0.5, high=1.5)
    expected = details.GrowthSide("imagenet", 0.2, 0.1, 2.0, 0.1, (0.0, 0.3), gamma, beta)
    assert entry.verdict.estimate.details == details.Growth((expected,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claims": 7}, "expected `array`, got `int`"),
        ({"store": []}, "expected `object`, got `array`"),
        ({"claims": [{"estimate": 3, "secondary": {}}]}, r"expected `object \| null`, got `int`"),
        ({"claims": [{"estimate": None, "secondary": {"the paper's method": 3}}]}, "expected `object"),
        (
            {"claims": [{"estimate": {"quantity": "growth_exponent", "details": {"x": {}}}, "secondary": {}}]},
            "a side such",
        ),
    ],
)
def test_what_is_none_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(
        VerdictFileError, match=f"^saved: expected a verdict file of format 1, got a bad field: .*{message}"
    ):
        verdict_file.from_json({**saved(), **change}, "saved")
