"""The theory checks against algebra worked out independently, in both conventions of weight decay."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from replicate.audit.finding import CONSISTENT, DECISION_INCONSISTENT, NotStated
from replicate.audit.reported import Reported
from replicate.audit.subject import published
from replicate.audit.theory import equilibrium, inertness, quadratic, scale
from tests.support.audited import change_figure, made_up

PAPER = published()


class TestQuadratic:
    def test_fixed_point_against_linear_algebra(self) -> None:
        """theta = (P H + wd I)^-1 P H theta_0 in PyTorch's convention; wd/eta in place of wd in the other one."""
        hessian, preconditioner, minimum = quadratic.problem()
        pull = preconditioner @ hessian
        identity = np.eye(len(minimum))
        for eta in (0.02, 0.1):
            found = quadratic.fixed_point(hessian, preconditioner, minimum, eta, eta * 0.3)
            assert found == pytest.approx(np.linalg.solve(pull + 0.3 * identity, pull @ minimum), abs=1e-10)
            found = quadratic.fixed_point(hessian, preconditioner, minimum, eta, 0.01)
            assert found == pytest.approx(np.linalg.solve(pull + 0.01 / eta * identity, pull @ minimum), abs=1e-10)

    def test_preconditioner_is_the_inverse_root(self) -> None:
        hessian, preconditioner, _ = quadratic.problem()
        assert preconditioner @ preconditioner @ hessian == pytest.approx(np.eye(len(hessian)), abs=1e-10)

    def test_the_papers_fixed_point_uses_another_preconditioner(self) -> None:
        """I + wd H^-1, as section 3.5 has it, belongs to P = I; P = H^-1/2 gives I + wd H^-1/2."""
        hessian, preconditioner, minimum = quadratic.problem()
        wd, identity = 0.3, np.eye(len(minimum))
        theta = quadratic.fixed_point(hessian, preconditioner, minimum, 0.1, 0.1 * wd)
        root = np.linalg.inv(preconditioner) @ identity
        assert np.linalg.solve(identity + wd * np.linalg.inv(root), minimum) == pytest.approx(theta, abs=1e-9)
        assert np.abs(np.linalg.solve(identity + wd * np.linalg.inv(hessian), minimum) - theta).max() > 0.05

    def test_exponents(self) -> None:
        finding = quadratic.effective_l2(PAPER)
        assert finding.outcome == DECISION_INCONSISTENT
        assert list(finding.details["exponents"].values()) == pytest.approx([0, 1, -1, 0], abs=1e-6)
        assert quadratic.effective_l2(change_figure(PAPER, "theory/penalty-exponent", "0")).outcome == CONSISTENT

    def test_closed_form(self) -> None:
        finding = quadratic.l2_closed_form(PAPER)
        assert finding.outcome == CONSISTENT
        assert finding.details["largest relative difference"] < 1e-10


class TestScale:
    def test_gradient_against_differences(self) -> None:
        task, w = scale.problem()

        def loss(w: np.ndarray) -> float:
            margin = 4 * task.labels * (task.inputs @ (w / np.linalg.norm(w)))
            return float(np.log1p(np.exp(-margin)).mean())

        steps = 1e-6 * np.eye(len(w))
        numeric = [(loss(w + h) - loss(w - h)) / 2e-6 for h in steps]
        assert task.gradient(w) == pytest.approx(numeric, abs=1e-8)

    def test_gradient_of_a_scale_invariant_loss(self) -> None:
        """Orthogonal to the weights, and smaller by k at k times the weights."""
        task, w = scale.problem()
        assert task.gradient(w) @ w == pytest.approx(0, abs=1e-14)
        assert task.gradient(4 * w) * 4 == pytest.approx(task.gradient(w), rel=1e-14)

    def test_adamw_by_hand(self) -> None:
        """One step from zero moments is lr times the sign of the gradient, after the decay."""
        task, w = scale.problem()
        first = scale.adamw(task, w, 0.01, 0.5, 0.0, steps=1)[1]
        assert first == pytest.approx(w * (1 - 0.005) - 0.01 * np.sign(task.gradient(w)))
        unscaled = scale.adamw(task, w, 0.01, 0.5, 0.0, steps=1, scaled=False)[1]
        assert unscaled == pytest.approx(w * 0.5 - 0.01 * np.sign(task.gradient(w)))

    def test_which_scaling_is_a_symmetry(self) -> None:
        """Exactly, at factors without rounding: wd ~ 1/lr in PyTorch's convention, wd constant in the other one."""
        assert scale.largest_angle(-1) == 0
        assert scale.largest_angle(0, scaled=False) == 0
        assert min(scale.largest_angle(e) for e in (0, 1)) > 0.5
        assert min(scale.largest_angle(e, scaled=False) for e in (-1, 1)) > 0.2

    def test_norm_scales_along(self) -> None:
        task, w = scale.problem()
        base = scale.adamw(task, w, 0.002, 1.0, 1e-8)
        scaled = scale.adamw(task, 2 * w, 0.004, 0.5, 0.5e-8)
        assert (scaled == 2 * base).all()

    def test_finding(self) -> None:
        assert scale.balance(PAPER).outcome == DECISION_INCONSISTENT
        assert scale.balance(change_figure(PAPER, "theory/balance-exponent", "-1")).outcome == CONSISTENT
        assert scale.balance(change_figure(PAPER, "theory/balance-exponent", "0")).outcome == DECISION_INCONSISTENT


class TestEquilibrium:
    def test_formulas_by_hand(self) -> None:
        assert equilibrium.expected_norm(0.02, 0.5, 100) == pytest.approx(math.sqrt(2))
        assert equilibrium.expected_turn(0.02, 0.5) == pytest.approx(math.sqrt(0.02 * 0.1 / 1.9))

    @pytest.mark.parametrize("start", [0.5, 2.0])
    def test_reached_from_either_side(self, start: float) -> None:
        walk = equilibrium.random_walk(0.01, 0.5, 400, 2_000, np.random.default_rng(0), start)
        assert walk.norm == pytest.approx(equilibrium.expected_norm(0.01, 0.5, 400), rel=0.1)
        assert walk.turn == pytest.approx(equilibrium.expected_turn(0.01, 0.5), rel=0.1)
        # Gradients of unit variance, so their length is sqrt(d): |g| / |w| = sqrt(2 wd / lr), whatever d.
        assert walk.gradient_share == pytest.approx(math.sqrt(400) / walk.norm, rel=0.05)
        assert walk.gradient_share == pytest.approx(equilibrium.expected_gradient_share(0.01, 0.5), rel=0.1)

    def test_finding(self) -> None:
        assert equilibrium.equilibrium(PAPER).outcome == CONSISTENT

    def test_what_a_constant_ratio_keeps(self) -> None:
        """Norm and gradient share stay, the rotation grows in proportion to the learning rate."""
        assert equilibrium.constant_ratio(PAPER).outcome == CONSISTENT
        first, *_, last = equilibrium.along_ratio()
        assert last.norm == pytest.approx(first.norm, rel=0.05)
        assert last.turn / first.turn == pytest.approx(equilibrium.LRS[-1] / equilibrium.LRS[0], rel=0.05)

    def test_a_ratio_that_is_not_constant_would_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same check on weights of another norm: along a constant product it does not hold."""
        monkeypatch.setattr(equilibrium, "along_ratio", lambda: (*equilibrium.walks()[:2], equilibrium.walks()[0]))
        assert equilibrium.constant_ratio(PAPER).outcome != CONSISTENT


class TestInertness:
    def test_schedule_sum_by_hand(self) -> None:
        """Two warm-up steps of four give 1/2 + 1, cosine 1 + 1/2."""
        assert inertness.schedule_sum(4, 2, 1) == pytest.approx(0.5 + 1 + 1 + 0.5)

    def test_close_to_the_integral(self) -> None:
        """Warm-up and cosine each average one half."""
        assert inertness.schedule_sum(200, 10, 391) == pytest.approx(200 * 391 / 2, rel=1e-3)

    def test_the_paper(self) -> None:
        finding = inertness.inertness(PAPER)
        assert finding.outcome == DECISION_INCONSISTENT
        decay = finding.details["cifar100"]["wd x sum of lr at kappa 1"]
        assert decay[0.01] == pytest.approx(0.1 * 1e-4 * 200 * 391 / 2, rel=1e-3)
        effects = finding.details["cifar100"]["change of the weights"]
        assert effects[10.0][1e-3] == pytest.approx(1 - math.exp(-9 * decay[1e-3]))
        assert [lr for lr, x in effects[10.0].items() if x < 0.01] == [5e-5, 1e-4, 3e-4]

    def test_longer_training_is_felt(self) -> None:
        long = tuple(dataclasses.replace(c, epochs=20_000, batch_size=5_000) for c in made_up(4).campaigns)
        assert inertness.inertness(dataclasses.replace(made_up(4), campaigns=long)).outcome == CONSISTENT


@pytest.mark.parametrize(
    "find",
    [
        quadratic.effective_l2,
        quadratic.l2_closed_form,
        scale.balance,
        equilibrium.equilibrium,
        equilibrium.constant_ratio,
        inertness.inertness,
    ],
)
def test_a_paper_without_this_theory(find: object) -> None:
    assert callable(find)
    with pytest.raises(NotStated):
        find(Reported("bare", PAPER.grid, PAPER.ratios))
