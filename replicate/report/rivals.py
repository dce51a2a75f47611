"""The rival laws of the best weight decay: the argument for each, its predictions here, and whether they held."""

from __future__ import annotations

import math
from dataclasses import dataclass

from replicate.judging.practice import InPractice, Law
from replicate.judging.reasons import number, span
from replicate.judging.rule import position
from replicate.judging.verdict import CONTRADICTED
from replicate.judging.verdict_file import VerdictFile
from replicate.paper.protocol import RHO
from replicate.paper.registry import FACTOR_2
from replicate.report.families import TITLES


@dataclass(frozen=True)
class Case:
    """The argument for a law, with its sources."""

    law: str
    says: str
    why: str
    sources: str


CASES = {
    "coupled": Case(
        "λ* = 0.1η",
        "the best λ grows in proportion to η: b = +1",
        "At a constant λ/η the norm at which the weights of normalised layers settle, √(ηd/2λ), and the share of the "
        "gradient in them, √(2λ/η), do not depend on η (theory/constant-ratio-keeps-norm in the audit).",
        "2604.01145; for decay per step proportional to η² also Defazio 2025, arXiv 2506.02285, within a schedule, and "
        "Chou 2025, arXiv 2512.08217",
    ),
    "independent": Case(
        "λ* constant",
        "the best λ does not depend on η: b = 0",
        "In PyTorch's convention the fixed point of AdamW has the penalty λ, independent of η (theory/effective-l2).",
        "Loshchilov and Hutter 2019, arXiv 1711.05101",
    ),
    "timescale": Case(
        "λ* = c / (η · steps)",
        "only the product ηλ matters, over a training ηλ · steps = c: b = −1",
        "The weights are a moving average of their updates over 1/(ηλ) steps, and a step turns them by √(2ηλ) "
        "(theory/equilibrium-norm).",
        "Wang and Aitchison 2024, arXiv 2405.13698; Kosson et al. 2023, arXiv 2305.17212; Bergsma et al. 2025, arXiv "
        "2505.13738, where c depends on the length of training",
    ),
}


@dataclass(frozen=True)
class Prediction:
    """What a law predicts in one cell, and whether it held."""

    cell: str
    law: str
    predicts: str
    here: str
    held: str


def predictions(file: VerdictFile) -> list[Prediction]:
    """The predictions of all laws, cell by cell."""
    slopes = {e.id.rpartition("/")[2]: e.verdict.estimate for e in file.entries if e.family == "slope"}
    out = []
    for one in file.practice:
        slope = slopes.get(one.cell)
        here = "—" if slope is None else f"b {_bounded(slope.low, slope.high)}"
        model, _, data = one.trained.partition(" on ")
        name = f"{TITLES.get(model, model)} on {data}"
        out += [Prediction(name, CASES[law.name].law, _predicts(law, one), here, _held(law)) for law in one.laws]
    return out


def _predicts(law: Law, one: InPractice) -> str:
    """The law with its constant from the runs: `λ* = 4 (2.8 to 7.1) / (η · 240), so 0.56 at η = 0.03`."""
    exponent = f"b = {'+' if law.exponent > 0 else ''}{law.exponent}".replace("-", "−")
    if law.name == "coupled":
        measured = "" if law.constant is None else f"; measured {number(law.constant)} · η"
        return f"{exponent}, λ* = 0.1η, so {number(RHO * one.lr)} at η = {one.lr:g}{measured}"
    if law.constant is None:
        return f"{exponent}; these runs do not bound its constant"
    ends = f"{number(law.constant)} ({span(law.low, law.high)})"
    if law.name == "independent":
        return f"{exponent}, λ* = {ends} at every η"
    steps = one.steps or math.nan
    here = f"{number(law.constant / one.lr / steps)} at η = {one.lr:g}"
    return f"{exponent}, λ* = c / (η · {steps:g}) with c = {ends}, so {here}"


def _fails(law: Law) -> bool:
    """Whether the runs exclude the law's exponent or, for the paper's law, its constant 0.1 within a factor 2."""
    return law.excluded or (law.name == "coupled" and position(law.low, law.high, FACTOR_2) == CONTRADICTED)


def _held(law: Law) -> str:
    return "did not hold" if _fails(law) else "only this one held" if law.supported else "undecided"


def _bounded(low: float, high: float) -> str:
    return "not bounded" if math.isinf(low) and math.isinf(high) else span(low, high)


def summary(file: VerdictFile) -> str:
    """One sentence on the number of cells in which each law was excluded or singled out; empty if nothing is known."""
    if not file.practice:
        return ""
    parts = []
    for name, case in CASES.items():
        laws = [law for one in file.practice for law in one.laws if law.name == name]
        out, alone = sum(map(_fails, laws)), sum(law.supported and not _fails(law) for law in laws)
        said = [f"did not hold in {out}"] * (out > 0) + [f"was the only one to hold in {alone}"] * (alone > 0)
        parts.append(f"{case.law} {' and '.join(said)}" if said else f"{case.law} is undecided in all")
    return f"Of {len(file.practice)} cells: {'; '.join(parts)}; all other predictions are undecided."
