"""The families of claims in plain words, in the order of a report: the claim, and why it is judged as it is."""

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
    """The claim, for readers who do not know it."""
    why: str
    """The reason for the rule."""
    main: str
    """The `kind` (id without cell, data set and multiple) of the claims whose figures stand for the family."""


FAMILIES = (
    Family(
        "rho",
        "The ratio",
        "AdamW multiplies the weights by 1 − ηλ at every step, where η is the learning rate and λ the weight decay. "
        "The paper says that the best λ is a tenth of η for every model and data set: ρ = λ*/η = 0.10.",
        "The paper itself claims a tolerance of a factor 2 either way. The whole interval has to lie inside it; a test "
        "that does not reject 0.10 shows nothing, since a test without data rejects nothing. If accuracy is flat, or "
        "best at the edge of what was run, the best λ is a range that may be open, and not a number.",
        "rho",
    ),
    Family(
        "slope",
        "The slope",
        "If λ* is proportional to η, the plot of log λ* against log η has slope b = +1. Two rivals say otherwise: "
        "b = 0, if λ* does not depend on η, and b = −1, if only the product ηλ matters, which sets over how many steps "
        "the weights average their updates.",
        "[0.8, 1.2] contains every interval of the paper's Table 1, from 0.84 to 1.19, and is far from both rivals.",
        "slope",
    ),
    Family(
        "intercept",
        "The intercept",
        "Proportional means that the line of λ* against η passes through the origin: no part of the best weight "
        "decay is independent of the learning rate.",
        "An intercept that is not significant may still be large. So its share of the line's value at the middle "
        "learning rate has to be too small to change that value by a factor 2.",
        "",
    ),
    Family(
        "r2",
        "The fit",
        "The proportional line is said to explain nearly all of how λ* varies over the learning rates.",
        "R² as the paper defines it, at or above 0.90; the paper reports 0.94 to 0.97. It is computed over the "
        "learning rates that have an optimum, with the uncertainty of each optimum.",
        "r2",
    ),
    Family(
        "universality",
        "One ratio for all",
        "The ratio is said to be the same for convolutional networks, transformers and mixers.",
        "An analysis of variance that finds no difference does not show equality. So the whole interval of the largest "
        "quotient of two architectures' ratios has to lie below 2.",
        "",
    ),
    Family(
        "deviation",
        "What a wrong ratio costs",
        "With λ = κ · 0.1η accuracy is said to drop: hardly for κ within a factor 2 of 1, by 2 to 4 percentage points "
        "(pp) at a factor 5 to 10, about as the square of log κ.",
        "The drop has to lie within the paper's own interval in Table 2, widened to 0.5 pp if it is narrower. Runs are "
        "compared seed by seed. The six multiples are judged together, so each interval is a little wider.",
        "deviation/kappa",
    ),
    Family(
        "one_dim",
        "Tuning the learning rate alone",
        "If λ* = 0.1η, there is no need to search over η and λ: the best of the six points on that line comes within "
        "0.3 pp of the best of the whole grid of 48, at an eighth of the cost.",
        "The best of many noisy runs looks better than it is, the more so the more runs there are. The interval allows "
        "for that, and all of it has to lie below 0.3 pp.",
        "one-dim/gap",
    ),
    Family(
        "robust",
        "Batch size, schedule, length",
        "The ratio is said to stay 0.10 with other batch sizes, with other schedules of the learning rate and over "
        "300 epochs.",
        "As for the ratio: the whole interval has to lie within a factor 2 of 0.10.",
        "robust",
    ),
    Family(
        "sgd",
        "SGD is different",
        "With plain momentum SGD the ratio is said to be twenty times smaller, 0.005.",
        "The ratio's interval has to lie within a factor 2 of 0.005, and the interval of SGD's over AdamW's below 1/5.",
        "sgd/rho",
    ),
)

BY_KEY = {family.key: family for family in FAMILIES}

TITLES = {a.name: a.title for a in ARCHITECTURES}
DATASETS = {"cifar100": "CIFAR-100", "imagenet": "ImageNet"}
_CELLS = {cell.id: cell for cell in CELLS}
_KAPPA = re.compile(r"^deviation/(?P<dataset>\w+)/kappa-(?P<kappa>[\d.]+)$")


def cell_of(claim_id: str) -> str:
    """The cell at the end of a claim's id; empty if there is none."""
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
    """`ViT-S/16 · CIFAR-100`; the id itself if the paper has no such cell."""
    known = _CELLS.get(cell)
    return cell if known is None else f"{TITLES[known.arch]} · {DATASETS[known.dataset]}"


def kappa_of(claim_id: str) -> tuple[str, float] | None:
    """Data set and kappa of a claim on Table 2; None for any other claim."""
    found = _KAPPA.match(claim_id)
    return None if found is None else (found["dataset"], float(found["kappa"]))
