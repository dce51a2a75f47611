"""AdamW on pure noise: the norm at which growth and decay balance, and how far a step then turns the weights.

With gradients that point anywhere, steps lengthen the weights as a random walk does and decay shortens them, until
|w|^2 (1 - 2 lr wd) + lr^2 d = |w|^2, hence |w| = sqrt(lr d / (2 wd)); a step, averaged over 1 / (1 - beta_1) gradients,
turns w by sqrt(2 lr wd (1 - beta_1) / (1 + beta_1)) (Kosson et al. 2023, table 2). The pace of learning depends on lr *
wd alone, and it takes about 1 / (2 lr wd) steps to get there.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from replicate.audit.finding import Check, Finding, from_checks
from replicate.audit.reported import Reported
from replicate.paper.protocol import ADAMW_BETAS

SIZE, STEPS = 1_000, 6_000
SETTINGS = ((0.001, 1.0), (0.004, 0.25), (0.002, 2.0))
"""(lr, wd): the first two have one product, the first and the last one ratio."""
TOLERANCE = 0.05
"""A norm of 1,000 random numbers fluctuates by about 2 %."""


def random_walk(
    lr: float, wd: float, size: int, steps: int, rng: np.random.Generator, start_share: float = 1.0
) -> tuple[float, float]:
    """Root mean square norm and mean angle a step of AdamW on pure noise, over the second half of the steps."""
    beta_1, beta_2 = ADAMW_BETAS
    expected = math.sqrt(lr * size / (2 * wd))
    w = rng.normal(size=size)
    w *= start_share * expected / np.linalg.norm(w)
    m, v = np.zeros(size), np.zeros(size)
    squares, turns = [], []
    for t in range(1, steps + 1):
        g = rng.standard_normal(size)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        new = w * (1 - lr * wd) - lr / (1 - beta_1**t) * m / np.sqrt(v / (1 - beta_2**t))
        if t > steps // 2:
            lengths = float(new @ new), float(w @ w)
            squares.append(lengths[0])
            turns.append(math.acos(min(float(new @ w) / math.sqrt(lengths[0] * lengths[1]), 1.0)))
        w = new
    return math.sqrt(float(np.mean(squares))), float(np.mean(turns))


def expected_norm(lr: float, wd: float, size: int = SIZE) -> float:
    return math.sqrt(lr * size / (2 * wd))


def expected_turn(lr: float, wd: float) -> float:
    beta_1 = ADAMW_BETAS[0]
    return math.sqrt(2 * lr * wd * (1 - beta_1) / (1 + beta_1))


@lru_cache(maxsize=1)
def walks() -> tuple[tuple[float, float], ...]:
    """Norm and rotation at each of SETTINGS, started away from the equilibrium."""
    rng = np.random.default_rng(0)
    return tuple(random_walk(lr, wd, SIZE, STEPS, rng, start_share=1.3) for lr, wd in SETTINGS)


def equilibrium(paper: Reported) -> Finding:
    """`theory/equilibrium-norm`: the random walk's norm and rotation against the formulas, started away from them."""
    paper.figure("theory/balance-exponent")  # a paper without this theory makes no such claim
    checks, turns, errors = [], [], []
    for (lr, wd), (norm, turn) in zip(SETTINGS, walks(), strict=True):
        turns.append(turn)
        for name, value, formula in (("norm", norm, expected_norm(lr, wd)), ("rotation", turn, expected_turn(lr, wd))):
            errors.append(abs(value / formula - 1))
            what = f"{name} at lr {lr:g}, wd {wd:g}"
            fits = errors[-1] < TOLERANCE
            checks.append(Check(what, f"{formula:.4g}", f"{value:.4g}", holds=fits, source="section 3.5"))
    return from_checks(
        checks,
        claimed="norm sqrt(lr d / 2 wd), rotation sqrt(2 lr wd (1 - beta_1) / (1 + beta_1))",
        evidence=f"Norm and rotation of AdamW on pure noise agree with the formulas to {100 * max(errors):.1f} %; two "
        f"settings with one lr x wd turn by {turns[0]:.4f} and {turns[1]:.4f} rad a step, two with one wd / lr by "
        f"{turns[0]:.4f} and {turns[2]:.4f}: the product sets the pace, not the ratio.",
        assumes=f"gradients of independent normal noise in {SIZE:,} dimensions, {STEPS:,} steps, the second half "
        "counted",
        consistent_if="gradients have a direction that lasts",
        details={"rotation": {f"lr {lr:g}, wd {wd:g}": turn for (lr, wd), turn in zip(SETTINGS, turns, strict=True)}},
    )
