"""Fixed points on a quadratic: to which penalty is decoupled decay equivalent, and how does it depend on the rate?

The paper's own simplified update (section 3.5) about a minimum theta_0 that is not at the origin, L = 1/2 (theta -
theta_0)' H (theta - theta_0), preconditioner P = H^(-1/2), gradient g = H (theta - theta_0):

    theta <- theta - eta P g - eta wd theta                                  (PyTorch: decay is multiplied by eta)

At a fixed point eta (P g + wd theta) = 0, and eta divides out: P g = -wd theta, which is the minimum of
L + wd/2 theta' P^(-1) theta, here theta = (H^(1/2) + wd I)^(-1) H^(1/2) theta_0. So the coefficient of the penalty is
wd, independent of eta. The paper's decay term, eta wd theta, is the gradient of eta wd/2 |theta|^2; as the loss's
gradient is multiplied by eta too, the penalty is wd/2 |theta|^2 (P left out). The paper writes wd/(2 eta) |theta|^2 and
so divides by eta once too often. (Its fixed point also has H^(-1) where its preconditioner gives H^(-1/2).) The
coefficient is wd/eta under the other convention, in which decay is not multiplied by eta:

    theta <- theta - eta P g - wd theta

That is the update of Loshchilov and Hutter (2019), whose proposition 3 gives wd/eta for a fixed preconditioner.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from replicate.audit.finding import Check, Finding, from_checks
from replicate.audit.reported import Floats, Reported

ETAS = (0.01, 0.02, 0.05, 0.1, 0.2)
WD = 0.3
"""Weight decay; if it varies with eta, its value at the geometric mean of ETAS."""
STEPS = 20_000
TOLERANCE = 0.01
"""Exponents are fitted to exact values, so a hundredth is far above any rounding error."""


def problem(size: int = 8, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Hessian with eigenvalues from 0.1 to 10, its inverse square root, and the minimum of the loss without penalty."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    eigenvalues = np.geomspace(0.1, 10, size)
    hessian = (basis * eigenvalues) @ basis.T
    return hessian, (basis / np.sqrt(eigenvalues)) @ basis.T, rng.normal(size=size)


def fixed_point(
    hessian: Floats, preconditioner: Floats, minimum: Floats, eta: float, decay: float, steps: int = STEPS
) -> Floats:
    """The limit of the iteration theta <- theta - eta P g - decay theta, started at the origin."""
    theta = np.zeros_like(minimum)
    pull = eta * preconditioner @ hessian
    for _ in range(steps):
        step = pull @ (theta - minimum) + decay * theta
        theta = theta - step
        if float(np.abs(step).max()) < 1e-15:
            break
    return theta


def penalty(hessian: Floats, preconditioner: Floats, minimum: Floats, theta: Floats) -> float:
    """The c for which theta minimises L + c/2 theta' P^(-1) theta, which means -P g = c theta."""
    pull = -preconditioner @ hessian @ (theta - minimum)
    return float(pull @ theta / (theta @ theta))


def exponent(x: Floats, y: Floats) -> float:
    """Slope of ln y on ln x."""
    return round(float(np.polyfit(np.log(x), np.log(y), 1)[0]), 9) + 0.0  # no -0


def penalty_exponent(wd_of: Callable[[float], float], decay_is_scaled: bool) -> float:
    """Exponent of eta in the penalty for weight decay `wd_of(eta)`; `decay_is_scaled`: decay is multiplied by eta."""
    hessian, preconditioner, minimum = problem()
    found = []
    for eta in ETAS:
        decay = wd_of(eta) * (eta if decay_is_scaled else 1.0)
        theta = fixed_point(hessian, preconditioner, minimum, eta, decay)
        found.append(penalty(hessian, preconditioner, minimum, theta))
    return exponent(np.array(ETAS), np.array(found))


@lru_cache(maxsize=1)
def penalty_exponents() -> dict[str, float]:
    """Fixed wd or wd proportional to lr, in PyTorch's or the other convention → exponent of lr in the penalty."""
    middle = float(np.exp(np.mean(np.log(ETAS))))
    return {
        "fixed wd, PyTorch's convention": penalty_exponent(lambda eta: WD, True),
        "wd proportional to lr, PyTorch's convention": penalty_exponent(lambda eta: WD * eta / middle, True),
        "fixed wd, decay not multiplied by lr": penalty_exponent(lambda eta: WD * middle, False),
        "wd proportional to lr, decay not multiplied by lr": penalty_exponent(lambda eta: WD * eta, False),
    }


def effective_l2(paper: Reported) -> Finding:
    """`theory/effective-l2`: the exponent of the learning rate in the effective penalty."""
    claimed = paper.figure("theory/penalty-exponent")
    exponents = dict(penalty_exponents())
    found, along, unscaled, _ = exponents.values()
    printed, value, what = claimed.value.text, claimed.value.value, "exponent of lr in the penalty at fixed wd"
    fits = abs(found - value) < TOLERANCE
    return from_checks(
        [Check(what, printed, f"{found:.4f}", holds=fits, source=claimed.source, decides=True)],
        claimed=f"effective penalty wd x lr^{value:g}",
        evidence=f"On a quadratic with the paper's own update the penalty at the fixed point grows as lr^{found:.2f} "
        f"at fixed wd (the paper says lr^{value:g}), and as lr^{along:.2f} with wd proportional to lr; "
        f"lr^{unscaled:.2f} holds only if decay is not multiplied by lr.",
        assumes=f"a quadratic in {len(problem()[2])} dimensions, curvatures from 0.1 to 10, five learning rates, "
        "float64, iterated to convergence",
        consistent_if="decay is not multiplied by the learning rate, unlike in the update that the paper gives and in "
        "PyTorch's AdamW",
        details={"exponents": exponents},
    )


@lru_cache(maxsize=1)
def closed_form_error() -> float:
    """Largest relative difference of gradient descent with L2 from (H + wd I)^-1 H theta_0."""
    hessian, _, minimum = problem()
    identity = np.eye(len(minimum))
    worst = 0.0
    for eta in (0.05, 0.1):
        for wd in (0.01, 0.1, 1.0):
            # The L2 term's gradient wd theta is part of the gradient, so it is multiplied by eta.
            theta = fixed_point(hessian, identity, minimum, eta, eta * wd)
            exact = np.linalg.solve(hessian + wd * identity, hessian @ minimum)
            worst = max(worst, float(np.abs(theta - exact).max() / np.abs(exact).max()))
    return worst


def l2_closed_form(paper: Reported) -> Finding:
    """`theory/l2-closed-form`: gradient descent with L2 converges to the textbook minimum (Goodfellow, 7.1.1)."""
    paper.figure("theory/penalty-exponent")  # raises NotStated for a paper without this theory
    worst = closed_form_error()
    what, form, small = "largest relative difference", "(H + wd I)^-1 H theta_0", worst < 1e-9
    return from_checks(
        [Check(what, form, f"{worst:.1g}", holds=small, source="section 2", decides=True)],
        claimed=f"the minimum with L2 is {form}",
        evidence=f"Gradient descent with L2 converges to within {worst:.1g} of the closed form, for two learning rates "
        "and three weight decays.",
        assumes="a quadratic, float64",
        consistent_if="the Hessian is a different one",
        details={what: worst},
    )
