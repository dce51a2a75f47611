"""The families of claims in plain words: what is said, why the rule is what it is, in the order of a report."""

from __future__ import annotations

import re
from dataclasses import dataclass

from replicate.paper.protocol import ARCHITECTURES
from replicate.paper.registry import CELLS


@dataclass(frozen=True)
class Family:
    """One section of a report."""

    key: str
    title: str
    plain: str
    """The claim for somebody who has never heard of it."""
    why: str
    """Why the rule is what it is."""
    main: str
    """The kind of claim whose figures stand for the family's: see `kind`."""


FAMILIES = (
    Family(
        "rho",
        "The ratio",
        "AdamW pulls the weights towards zero by a factor 1 − ηλ at every step: η is the learning rate, λ the "
        "weight decay. The paper says that whatever the model and the data, the best λ is a tenth of η, so that ρ = "
        "λ*/η = 0.10.",
        "A factor 2 either way is the tolerance that the paper itself claims. The whole interval has to lie inside; "
        "that a test does not reject 0.10 shows nothing, for a test without data rejects nothing. Where accuracy is "
        "flat or best at the edge of what was run, the best λ is a range that may be open, never a number.",
        "rho",
    ),
    Family(
        "slope",
        "The slope",
        "If λ* is proportional to η, a plot of the logarithm of one against that of the other has slope b = +1. Two "
        "rivals say otherwise: b = 0, where λ* does not depend on η, and b = −1, where the product ηλ is what "
        "counts, for it sets over how many steps the weights average.",
        "[0.8, 1.2] holds every interval of the paper's Table 1, which reach from 0.84 to 1.19, and leaves out both "
        "rivals by far.",
        "slope",
    ),
    Family(
        "intercept",
        "The intercept",
        "Proportional means that the line of λ* against η passes through the origin: no part of the best weight "
        "decay is independent of the learning rate.",
        "An intercept that is not significant may still be large. So its share of the line's value at the middle "
        "learning rate is held against what would move that value by a factor 2.",
        "",
    ),
    Family(
        "r2",
        "The fit",
        "The proportional line is said to explain nearly all of how λ* varies over the learning rates.",
        "R² in the paper's own definition, at or above 0.90; the paper reports 0.94 to 0.97. It is asked with the "
        "uncertainty of every optimum, over the learning rates that have one.",
        "r2",
    ),
    Family(
        "universality",
        "One ratio for all",
        "The ratio is said to be the same for convolutional networks, transformers and mixers.",
        "A variance analysis that finds nothing does not show equality. So the largest ratio between two "
        "architectures' ratios has to stay below 2, interval and all.",
        "",
    ),
    Family(
        "deviation",
        "What a wrong ratio costs",
        "Away from 0.1η by a factor κ accuracy is said to drop: hardly within a factor 2, by 2 to 4 percentage "
        "points (pp) at a factor 5 to 10, about as the square of the logarithm.",
        "The drop has to lie within the paper's own interval of its Table 2, or within 0.5 pp where that is "
        "narrower. Runs are compared seed by seed; the six multiples are judged together, so each interval is a "
        "little wider.",
        "deviation/kappa",
    ),
    Family(
        "one_dim",
        "Tuning the learning rate alone",
        "If λ* = 0.1η, one need not search over both: the best of the six runs along that line comes within 0.3 pp "
        "of the best of the whole grid of 48, for an eighth of the price.",
        "The best of many noisy runs looks better than it is, and the more so the more there are. The interval "
        "allows for it, and its whole length has to lie below 0.3 pp.",
        "one-dim/gap",
    ),
    Family(
        "robust",
        "Batch size, schedule, length",
        "The ratio is said to stay 0.10 with other batch sizes, with other schedules of the learning rate and over "
        "300 epochs.",
        "The same rule as for the ratio: the interval within a factor 2 of 0.10.",
        "robust",
    ),
    Family(
        "sgd",
        "SGD is different",
        "With plain momentum SGD the same ratio is said to be twenty times smaller, 0.005.",
        "A factor 2 around 0.005; and SGD's ratio has to be below a fifth of AdamW's, interval and all.",
        "sgd/rho",
    ),
)

BY_KEY = {family.key: family for family in FAMILIES}

TITLES = {a.name: a.title for a in ARCHITECTURES}
DATASETS = {"cifar100": "CIFAR-100", "imagenet": "ImageNet"}
_CELLS = {cell.id: cell for cell in CELLS}
_KAPPA = re.compile(r"^deviation/(?P<dataset>\w+)/kappa-(?P<kappa>[\d.]+)$")


def cell_of(claim_id: str) -> str:
    """The cell a claim's id ends in, empty where it ends in none."""
    last = claim_id.rpartition("/")[2]
    return last if last in _CELLS else ""


def kind(claim_id: str) -> str:
    """The claim's id without its cell, data set and multiple: `rho`, `rho/reject`, `deviation/kappa`, …"""
    if cell_of(claim_id):
        return claim_id.rpartition("/")[0]
    if _KAPPA.match(claim_id):
        return "deviation/kappa"
    return "robust" if claim_id.startswith("robust/") else claim_id


def cell_title(cell: str) -> str:
    """`ViT-S/16 · CIFAR-100`; the id itself where the paper has no such cell."""
    known = _CELLS.get(cell)
    return cell if known is None else f"{TITLES[known.arch]} · {DATASETS[known.dataset]}"


def kappa_of(claim_id: str) -> tuple[str, float] | None:
    """Data set and multiple of a claim on Table 2; None for any other."""
    found = _KAPPA.match(claim_id)
    return None if found is None else (found["dataset"], float(found["kappa"]))
