"""AdamW on pure noise: the norm at which growth and decay balance, and how far each step then rotates the weights.

With gradients in random directions, steps lengthen the weights as a random walk does and decay shortens them, until
|w|^2 (1 - 2 lr wd) + lr^2 d = |w|^2, hence |w| = sqrt(lr d / (2 wd)); a step, averaged over 1 / (1 - beta_1) gradients,
rotates w by sqrt(2 lr wd (1 - beta_1) / (1 + beta_1)) radians (Kosson et al. 2023, table 2). The rotation depends only
on lr * wd, and the equilibrium takes about 1 / (2 lr wd) steps to reach.

A constant ratio wd = c lr keeps two things that a constant product lr wd does not: the norm, and the length of the
gradient, as AdamW normalises it, relative to that of the weights, sqrt(2 wd / lr) (Defazio 2025, arXiv 2506.02285; Chou
2025, arXiv 2512.08217).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from replicate.audit.finding import Check, Finding, from_checks
from replicate.audit.reported import Reported
from replicate.paper.protocol import ADAMW_BETAS

SIZE, STEPS = 1_000, 6_000
SETTINGS = ((0.001, 1.0), (0.004, 0.25), (0.002, 2.0))
"""(lr, wd): the first two have the same product, the first and the last the same ratio."""
RATIO = 600.0
"""wd / lr of the settings that follow the paper's rule."""
LRS = (0.001, 0.002, 0.003)
TOLERANCE = 0.05
"""Relative; a norm of 1,000 random numbers fluctuates by about 2 %."""


@dataclass(frozen=True)
class Walk:
    """Averages over the steps of AdamW on pure noise, in equilibrium."""

    norm: float
    """Root mean square, over steps, of the weights' norm."""
    turn: float
    """Mean rotation of the weights per step, radians."""
    gradient_share: float
    """Mean length of the normalised gradient, g / sqrt(v), divided by the length of the weights."""


def random_walk(
    lr: float, wd: float, size: int, steps: int, rng: np.random.Generator, start_share: float = 1.0
) -> Walk:
    """AdamW on pure noise, averaged over the second half of the steps, from `start_share` times the expected norm."""
    beta_1, beta_2 = ADAMW_BETAS
    expected = math.sqrt(lr * size / (2 * wd))
    w = rng.normal(size=size)
    w *= start_share * expected / np.linalg.norm(w)
    m, v = np.zeros(size), np.zeros(size)
    squares, turns, shares = [], [], []
    for t in range(1, steps + 1):
        g = rng.standard_normal(size)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        root = np.sqrt(v / (1 - beta_2**t))
        new = w * (1 - lr * wd) - lr / (1 - beta_1**t) * m / root
        if t > steps // 2:
            lengths = float(new @ new), float(w @ w)
            squares.append(lengths[0])
            turns.append(math.acos(min(float(new @ w) / math.sqrt(lengths[0] * lengths[1]), 1.0)))
            shares.append(float(np.linalg.norm(g / root)) / math.sqrt(lengths[1]))
        w = new
    return Walk(math.sqrt(float(np.mean(squares))), float(np.mean(turns)), float(np.mean(shares)))


def expected_norm(lr: float, wd: float, size: int = SIZE) -> float:
    return math.sqrt(lr * size / (2 * wd))


def expected_gradient_share(lr: float, wd: float) -> float:
    return math.sqrt(2 * wd / lr)


def expected_turn(lr: float, wd: float) -> float:
    beta_1 = ADAMW_BETAS[0]
    return math.sqrt(2 * lr * wd * (1 - beta_1) / (1 + beta_1))


@lru_cache(maxsize=1)
def walks() -> tuple[Walk, ...]:
    """A simulated random walk of the weights for each of `SETTINGS`, started away from the equilibrium norm."""
    rng = np.random.default_rng(0)
    return tuple(random_walk(lr, wd, SIZE, STEPS, rng, start_share=1.3) for lr, wd in SETTINGS)


def equilibrium(paper: Reported) -> Finding:
    """`theory/equilibrium-norm`: norm and rotation of a random walk, started off equilibrium, against formulas."""
    paper.figure("theory/balance-exponent")  # raises NotStated for a paper without this theory
    checks, turns, errors = [], [], []
    for (lr, wd), walk in zip(SETTINGS, walks(), strict=True):
        turns.append(walk.turn)
        found = ("norm", walk.norm, expected_norm(lr, wd)), ("rotation", walk.turn, expected_turn(lr, wd))
        for name, value, formula in found:
            errors.append(abs(value / formula - 1))
            what = f"{name} at lr {lr:g}, wd {wd:g}"
            fits = errors[-1] < TOLERANCE
            checks.append(Check(what, f"{formula:.4g}", f"{value:.4g}", holds=fits, source="section 3.5"))
    return from_checks(
        checks,
        claimed="norm sqrt(lr d / 2 wd), rotation sqrt(2 lr wd (1 - beta_1) / (1 + beta_1))",
        evidence=f"Norm and rotation of AdamW on pure noise agree with the formulas to {100 * max(errors):.1f} %; two "
        f"settings with the same lr x wd rotate by {turns[0]:.4f} and {turns[1]:.4f} rad per step, two with the same "
        f"wd / lr by {turns[0]:.4f} and {turns[2]:.4f}: the product sets the rotation, not the ratio.",
        assumes=f"gradients of independent normal noise in {SIZE:,} dimensions; {STEPS:,} steps, of which the second "
        "half is averaged",
        consistent_if="gradients have a persistent direction",
        details={"rotation": {f"lr {lr:g}, wd {wd:g}": turn for (lr, wd), turn in zip(SETTINGS, turns, strict=True)}},
    )


@lru_cache(maxsize=1)
def along_ratio() -> tuple[Walk, ...]:
    """A simulated random walk of the weights at each of LRS with wd = RATIO lr, started away from the equilibrium."""
    rng = np.random.default_rng(1)
    return tuple(random_walk(lr, RATIO * lr, SIZE, STEPS, rng, start_share=1.3) for lr in LRS)


def constant_ratio(paper: Reported) -> Finding:
    """`theory/constant-ratio-keeps-norm`: with wd = c lr, norm and gradient share are the same at every lr."""
    source = paper.figure("theory/balance-exponent").source
    found = along_ratio()
    norms, shares = [w.norm for w in found], [w.gradient_share for w in found]
    formulas = expected_norm(LRS[0], RATIO * LRS[0]), expected_gradient_share(LRS[0], RATIO * LRS[0])
    checks = []
    for name, values, formula in (("norm", norms, formulas[0]), ("gradient over weights", shares, formulas[1])):
        for lr, value in zip(LRS, values, strict=True):
            fits = abs(value / formula - 1) < TOLERANCE
            what = f"{name} at lr {lr:g}, wd {RATIO * lr:g}"
            checks.append(Check(what, f"{formula:.4g}", f"{value:.4g}", holds=fits, source=source))
    # The first two SETTINGS have the same product.
    one_product = max(walks()[1].norm / walks()[0].norm, walks()[0].norm / walks()[1].norm)
    factor = LRS[-1] / LRS[0]
    return from_checks(
        checks,
        claimed="a constant wd / lr keeps the weights' norm and its ratio to the gradient's, whatever lr",
        evidence=f"Over a factor {factor:g} in lr at the same wd / lr, norms differ by {_spread(norms)} and the ratio "
        f"of gradient to weights by {_spread(shares)}, as the formulas predict; at the same lr x wd the norm changes "
        f"by a factor {one_product:.2g} over a factor {SETTINGS[1][0] / SETTINGS[0][0]:g} in lr. So a constant ratio "
        "keeps something that a constant product does not. But at a constant ratio a step rotates the weights by "
        f"{found[0].turn:.2g} to {found[-1].turn:.2g} rad, in proportion to lr: nothing here says which of the two "
        "gives the best accuracy.",
        assumes="as in theory/equilibrium-norm, with training long enough to reach the equilibrium, about "
        "1 / (2 lr wd) steps; a norm matters only through what is not scale-invariant, such as epsilon or layers "
        "without a normalisation after them",
        consistent_if="gradients have a persistent direction",
        details={"rotation": {f"lr {lr:g}": walk.turn for lr, walk in zip(LRS, found, strict=True)}},
    )


def _spread(values: list[float]) -> str:
    """By how much the largest of `values` exceeds the smallest, as in `1.2 %`."""
    return f"{100 * (max(values) / min(values) - 1):.1f} %"
