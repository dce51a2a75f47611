"""Scale-invariant losses: how must weight decay change with the learning rate to leave the trajectory unchanged?

Weights in front of a normalisation enter the loss by their direction alone: f(k w) = f(w), so the gradient at k w is
that at w divided by k. AdamW's normalised step u = m / (sqrt(v) + epsilon) is then the same at k w as at w if epsilon
is divided by k as well. It follows from

    w <- w - lr u - lr wd w
    k w <- k w - (k lr) u - (k lr)(wd / k)(k w)

that (lr, wd, w_0, epsilon) -> (k lr, wd / k, k w_0, epsilon / k) multiplies the trajectory by k: same directions, same
loss, same accuracy at every step. The balance of optimisation and decay is kept by wd proportional to 1 / lr (lr * wd
constant), not by wd proportional to lr. If decay is not multiplied by lr, the same argument requires a constant wd.
(van Laarhoven 2017; Li and Arora 2020; Wang and Aitchison 2024; Kosson et al. 2023.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from replicate.audit.finding import Check, Finding, from_checks
from replicate.audit.reported import Floats, Reported
from replicate.paper.protocol import ADAMW_BETAS

LR, WD, EPSILON = 0.002, 1.0, 1e-8
STEPS = 600
FACTORS = (2.0, 4.0)
"""Powers of two, which scale floating-point numbers without rounding: an exact symmetry gives an angle of exactly 0."""
EXPONENTS = {"wd proportional to 1/lr": -1, "wd constant": 0, "wd proportional to lr": 1}


@dataclass(frozen=True)
class Problem:
    """Logistic regression on the direction of the weights."""

    inputs: Floats
    """[N, d]"""
    labels: Floats
    """[N], -1 or 1"""

    def gradient(self, w: Floats) -> Floats:
        """Gradient of the mean log loss with the logits 4 * inputs . w / |w|."""
        norm = float(np.linalg.norm(w))
        direction = w / norm
        margin = 4 * self.labels * (self.inputs @ direction)
        outer = -(self.inputs.T @ (4 * self.labels / (1 + np.exp(margin)))) / len(self.labels)
        return np.asarray((outer - direction * (direction @ outer)) / norm)


def problem(size: int = 12, examples: int = 60, seed: int = 0) -> tuple[Problem, Floats]:
    """A problem with noisy labels, and initial weights [size]."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(examples, size))
    labels = np.sign(inputs @ rng.normal(size=size) + rng.normal(size=examples))
    return Problem(inputs, labels), rng.normal(size=size)


def adamw(
    problem: Problem, start: Floats, lr: float, wd: float, epsilon: float, steps: int = STEPS, scaled: bool = True
) -> Floats:
    """AdamW's weights at every step, [steps + 1, d]; `scaled`: decay is multiplied by lr."""
    beta_1, beta_2 = ADAMW_BETAS
    w, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    path = [w]
    for t in range(1, steps + 1):
        g = problem.gradient(w)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        u = m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
        w = w - lr * u - (lr if scaled else 1.0) * wd * w
        path.append(w)
    return np.stack(path)


def angle(a: Floats, b: Floats) -> float:
    """Largest angle, radians, between two trajectories at equal steps."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    # atan2 of half sums and differences keeps small angles that arccos loses.
    return float((2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))).max())


@lru_cache(maxsize=16)
def largest_angle(exponent: int, scaled: bool = True) -> float:
    """Largest angle (radians), over k in FACTORS, between the runs with (lr, wd) and with (k lr, k^exponent wd)."""
    task, start = problem()
    wd = WD if scaled else WD * LR
    base = adamw(task, start, LR, wd, EPSILON, scaled=scaled)
    return max(
        angle(base, adamw(task, k * start, k * LR, wd * k**exponent, EPSILON / k, scaled=scaled)) for k in FACTORS
    )


def balance(paper: Reported) -> Finding:
    """`theory/constant-ratio-preserves-balance`: how far trajectories deviate if wd is scaled with a power of lr."""
    claimed = paper.figure("theory/balance-exponent")
    value = int(claimed.value.value)
    angles = {name: largest_angle(e) for name, e in EXPONENTS.items()}
    other = {name: largest_angle(e, scaled=False) for name, e in EXPONENTS.items()}
    own = next(name for name, e in EXPONENTS.items() if e == value)
    exact = min(angles, key=lambda name: angles[name])
    kept, found = angles[own] < 1e-9, f"deviates by {angles[own]:.2g} rad"
    each = ", ".join(f"{name} {x:.2g}" for name, x in angles.items())
    return from_checks(
        [Check(own, "keeps the balance", found, holds=kept, source=claimed.source, decides=True)],
        claimed=f"{own} keeps the balance of optimisation and regularisation",
        evidence=f"With lr, initial weights and epsilon scaled to match, the trajectory's direction over {STEPS} steps "
        f"deviates by (radians) {each}; {exact} keeps it exactly{'' if own == exact else f', {own} does not'}.",
        assumes="a loss that depends only on the direction of the weights, as before a normalisation; AdamW with "
        f"the paper's betas in float64; factors {', '.join(f'{k:g}' for k in FACTORS)}",
        consistent_if="the balance meant is that of a penalty, and decay is not multiplied by the learning rate",
        details={"angle, PyTorch's convention": angles, "angle, decay not multiplied by lr": other},
    )
