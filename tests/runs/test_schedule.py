"""Learning-rate schedules: bounds, closed forms, and torch's own schedulers as the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replicate.paper.protocol import SCHEDULES
from replicate.runs.schedule import factor, factors

lengths = st.integers(1, 400).flatmap(lambda steps: st.tuples(st.just(steps), st.integers(0, steps - 1)))


@given(st.sampled_from(SCHEDULES), lengths)
def test_never_above_the_peak_and_never_zero(schedule: str, length: tuple[int, int]) -> None:
    found = factors(schedule, *length)
    assert len(found) == length[0]
    assert all(0 < f <= 1 for f in found)


@given(st.sampled_from(SCHEDULES), lengths)
def test_rises_to_the_peak_then_never_rises_again(schedule: str, length: tuple[int, int]) -> None:
    steps, warmup = length
    found = factors(schedule, steps, warmup)
    assert found[:warmup] == pytest.approx([(i + 1) / warmup for i in range(warmup)])
    if schedule != "step":  # whose first milestone may fall into a long warm-up
        assert found[warmup] == 1
    assert all(a >= b for a, b in zip(found[warmup:], found[warmup + 1 :], strict=False))


@pytest.mark.parametrize("warmup", [0, 7])
def test_cosine_is_torchs(warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40 - warmup)
    expected = []
    for _ in range(warmup, 40):
        expected.append(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
    assert factors("cosine", 40, warmup)[warmup:] == pytest.approx(expected)


def test_the_mean_over_steps_is_about_that_over_epochs() -> None:
    """The module's reason for stepping once a step: over the paper's 200 epochs both ways agree to a percent."""
    by_step = sum(factors("cosine", 200 * 391, 10 * 391)) / 391
    by_epoch = sum(factors("cosine", 200, 10))
    assert by_step == pytest.approx(by_epoch, rel=0.01)


def test_linear_falls_evenly() -> None:
    assert factors("linear", 6, 2) == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0.25])


def test_step_falls_where_the_paper_says() -> None:
    found = factors("step", 900, 0)
    assert found[299:301] == pytest.approx([1, 0.1])
    assert found[599:601] == pytest.approx([0.1, 0.01])
    assert found[799:801] == pytest.approx([0.01, 0.001])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_longer_runs_keep_the_shape(schedule: str) -> None:
    assert factors(schedule, 3000, 300)[1500] == pytest.approx(factors(schedule, 900, 90)[450])


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"^schedule: expected one of cosine, step, linear; got 'onecycle'$"):
        factor("onecycle", 0, 1, 0)
    message = (
        "^expected 0 <= step < steps and 0 <= warmup_steps < steps, got step={}, steps={}, warmup_steps={}$".format
    )
    with pytest.raises(ValueError, match=message(5, 5, 0)):
        factor("cosine", 5, 5, 0)
    with pytest.raises(ValueError, match=message(0, 5, 5)):
        factor("cosine", 0, 5, 5)
