"""The mapping of verdict files from format 1, whose keys were phrases, to format 2, whose keys are names.

It is what shows that judging says the same as before; the classes name each phrase once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from replicate.store import strict

KIND = {
    **dict.fromkeys(("rho", "rho_rejects", "rho_sgd"), "ratio"),
    **dict.fromkeys(("hurts_pp", "zone_pp"), "terms"),
    "slope": "slope",
    "rho_pooled": "pooled-ratio",
    "max_ratio": "ratio-by-architecture",
    "growth_exponent": "growth",
    "asymmetry_pp": "asymmetry",
    "mean_gap_pp": "gaps",
    "gap_minus_seed_sd_pp": "gap-and-seed-noise",
    "cost_ratio": "run-counts",
}
"""Quantity → what its details are called now."""
SIDE = re.compile(r"(?P<dataset>.*), kappa (?P<near>\S+) to (?P<far>\S+)")
ENDS = ("value", "low", "high")


class _Published(msgspec.Struct, rename={"p_rho": "p_rho_0.10", "argmax": "argmax_wd"}):
    rho: float
    rho_low: float
    rho_high: float
    p_rho: float | None
    slope: float | None
    intercept: float | None
    intercept_p: float | None
    r2: float
    argmax: dict[str, float]


class _Gap(msgspec.Struct):
    gap_pp: float | None


class _Anova(msgspec.Struct, rename={"f": "F"}):
    f: float | None
    p: float
    df: tuple[int, int]


class _Set(msgspec.Struct):
    wds: list[float]
    flags: list[str]


class _Figure(msgspec.Struct, rename={"in_our_interval": "in our interval"}):
    value: float
    in_our_interval: bool


class _Prediction(msgspec.Struct, rename={"holds_our_value": "holds our value"}):
    interval: tuple[float, float]
    holds_our_value: bool


class _Band(msgspec.Struct):
    band: tuple[float, float]
    outcome: str


_WORDS = {
    "published": "the paper's method",
    "plug_in": "the paper's method (plug-in)",
    "cross_fitted": "cross-fitted over seeds",
    "anova": "ANOVA over architectures",
    "indistinguishable": "indistinguishable from the best",
    "rivals": "rival exponents",
    "papers_figure": "the paper's figure",
    "prediction": "prediction interval",
    "strict_band": "strict band",
    "disagreement": "where they differ",
}


class _Secondary(msgspec.Struct, rename=_WORDS):
    published: _Published | None = None
    plug_in: _Gap | None = None
    cross_fitted: _Gap | None = None
    anova: _Anova | None = None
    indistinguishable: dict[str, _Set] = {}
    rivals: dict[str, Any] | None = None
    papers_figure: _Figure | None = None
    prediction: _Prediction | None = None
    direction: str = ""
    strict_band: _Band | None = None
    disagreement: str = ""


@dataclass(frozen=True)
class _Side:
    exponent: float
    gamma: float
    gamma_interval: tuple[float, float]
    squared: dict[str, tuple[float | None, float | None, float | None]]


class _Claim(msgspec.Struct):
    estimate: dict[str, Any] | None
    secondary: _Secondary


class _File(msgspec.Struct):
    claims: list[dict[str, Any]]
    store: dict[str, Any]


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of format 1 as that of format 2; raises `strict.Malformed` where it is none of format 1."""
    file = strict.convert(data, _File)
    return {
        "trained_with": [],  # the first files lack it, and how long training took
        **data,
        "format": 2,
        "store": {"seconds": 0.0, **file.store},
        "claims": [_claim(claim) for claim in file.claims],
    }


def _claim(data: dict[str, Any]) -> dict[str, Any]:
    claim = strict.convert(data, _Claim)
    estimate = claim.estimate
    if estimate is not None:
        estimate = {**estimate, "details": _details(estimate.get("quantity"), estimate.get("details"))}
    return {**data, "estimate": estimate, "secondary": _secondary(claim.secondary)}


def _secondary(found: _Secondary) -> dict[str, Any]:
    out = strict.plain(msgspec.structs.asdict(found))
    for name in ("plug_in", "cross_fitted"):
        gap = getattr(found, name)
        out[f"{name}_gap_pp"] = None if gap is None else gap.gap_pp
    if found.published is not None:
        out["published"] = msgspec.structs.asdict(found.published)
        out["published"]["argmax"] = [{"lr": float(lr), "wd": wd} for lr, wd in found.published.argmax.items()]
    if found.anova is not None:
        out["anova"] = msgspec.structs.asdict(found.anova)
    out["indistinguishable"] = [
        {"lr": float(lr), "wds": one.wds, "flags": one.flags} for lr, one in found.indistinguishable.items()
    ]
    if found.papers_figure is not None:
        out["papers_figure"] = msgspec.structs.asdict(found.papers_figure)
    if found.prediction is not None:
        low, high = found.prediction.interval
        out["prediction"] = {"low": low, "high": high, "holds_our_value": found.prediction.holds_our_value}
    if found.strict_band is not None:
        low, high = found.strict_band.band
        out["strict_band"] = {"low": low, "high": high, "outcome": found.strict_band.outcome}
    return dict(out)


def _details(quantity: object, data: Any) -> dict[str, Any] | None:
    kind = KIND.get(str(quantity))
    found = strict.convert(data, dict[str, Any])
    if not found or kind is None:
        return None
    if kind == "growth":
        return {"kind": kind, "sides": [_side(name, side) for name, side in found.items()]}
    if kind == "gap-and-seed-noise":
        return {"kind": kind, **_gap_and_seed_noise(found)}
    if "ratios_together" in found:  # the first files lack a value at each learning rate
        rows = strict.convert(found["ratios_together"], list[dict[str, Any]])
        found["ratios_together"] = [{"value": None, **row} for row in rows]
    return {"kind": kind, **found}


def _side(name: str, data: Any) -> dict[str, Any]:
    at = SIDE.fullmatch(name)
    if at is None:
        raise strict.Malformed(f"details: expected a side such as `imagenet, kappa 5 to 10`, got {name!r:.60}")
    side = strict.convert(data, _Side)
    return {
        "dataset": at["dataset"],
        "near": float(at["near"]),
        "far": float(at["far"]),
        "exponent": side.exponent,
        "gamma": side.gamma,
        "gamma_interval": list(side.gamma_interval),
        **{f"squared_{form}": dict(zip(ENDS, ends, strict=True)) for form, ends in side.squared.items()},
    }


def _gap_and_seed_noise(found: dict[str, Any]) -> dict[str, Any]:
    mean = strict.convert(found.get("mean_gap_pp"), dict[str, Any])
    gaps = strict.convert(mean.get("details"), dict[str, list[float]])
    return {
        "mean_gap_pp": mean,
        "seed_sd_pp": found.get("seed_sd_pp"),
        "gaps_pp": gaps.get("gaps_pp", []),
        "seed_sd_by_the_paper": found.get("the paper's seed SD", ""),
    }
