"""Runs: keys that miss nothing, and weight decay that cannot act."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicate.data.spec import DataSpec
from replicate.paper.cells import Cell
from replicate.paper.protocol import ARCHITECTURES, KAPPAS, LRS, RHO, WEIGHT_DECAYS
from replicate.runs import scales
from replicate.runs.run import ModelSpec, Run, point, weight_decay_is_inert
from replicate.store.record import run_from_record
from replicate.train.solo import train

RUN = Run(
    arch="vit_s16",
    model=ModelSpec("class:VisionTransformer", (("depth", 1), ("dims", (8, 16)))),
    data=DataSpec("digits", train_images=32),
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.1,
    seed=0,
    schedule="cosine",
    epochs=4,
    warmup_epochs=1,
    batch_size=16,
)

OTHER = {str: "other", int: 7, float: 0.77, type(None): 7, tuple: ("other",)}


def small(arch: str, lr: float, weight_decay: float) -> Run:
    """A run of 6 steps, its learning rate chosen freely."""
    run = scales.make_run(scales.SMOKE, Cell(arch, "cifar100"), "main", lr, weight_decay, seed=0)
    return dataclasses.replace(run, data=DataSpec("digits", train_images=32, test_images=100))


def test_the_key_is_pinned() -> None:
    """A change here orphans every store; raise RESULT_VERSION only where results change."""
    assert RUN.key == "e8c6013e6e3fee4569e4b172"


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Run)])
def test_every_field_changes_the_key(field: str) -> None:
    value = getattr(RUN, field)
    if dataclasses.is_dataclass(value):
        for inner in dataclasses.fields(value):
            changed = dataclasses.replace(value, **{inner.name: OTHER[type(getattr(value, inner.name))]})
            assert dataclasses.replace(RUN, **{field: changed}).key != RUN.key, inner.name
    else:
        assert dataclasses.replace(RUN, **{field: OTHER[type(value)]}).key != RUN.key


def test_equal_runs_have_equal_keys_and_records_come_back() -> None:
    assert dataclasses.replace(RUN).key == RUN.key
    whole_numbers = dataclasses.replace(RUN, lr=1, weight_decay=0)
    for run in (RUN, whole_numbers):
        again = run_from_record(json.loads(json.dumps(run.record())))
        assert again == run and again.key == run.key
    assert dataclasses.replace(RUN, lr=1.0, weight_decay=0.0).key != whole_numbers.key


@given(st.floats(1e-6, 1.0), st.floats(1e-12, 1e3))
def test_inert_exactly_where_the_shrinkage_rounds_to_1(lr: float, weight_decay: float) -> None:
    assert weight_decay_is_inert(lr, weight_decay) == bool(np.float32(1 - lr * weight_decay) == 1)


def test_zero_is_not_called_inert() -> None:
    assert not weight_decay_is_inert(1e-3, 0.0)


def test_no_positive_weight_decay_of_the_papers_grid_is_inert() -> None:
    assert not any(weight_decay_is_inert(lr, wd) for lr in LRS for wd in WEIGHT_DECAYS)


def test_at_the_claimed_ratio_decay_is_inert_at_half_of_the_papers_learning_rates() -> None:
    assert [lr for lr in LRS if weight_decay_is_inert(lr, RHO * lr)] == [5e-5, 1e-4, 3e-4]
    assert all(weight_decay_is_inert(1e-4, kappa * RHO * 1e-4) for kappa in KAPPAS)


def test_points_keep_their_weight_decay_and_share_the_run_that_measures_them() -> None:
    inert = point(dataclasses.replace(RUN, weight_decay=1e-6))
    assert (inert.weight_decay, inert.run.weight_decay) == (1e-6, 0.0)
    assert inert.run == point(dataclasses.replace(RUN, weight_decay=0.0)).run
    assert point(RUN).run is RUN


def test_sgd_shares_nothing() -> None:
    """Its decay is added to the gradient, where it may act however small."""
    run = dataclasses.replace(RUN, optimizer="sgd", weight_decay=1e-6)
    assert point(run).run is run


@pytest.mark.parametrize("arch", [a.name for a in ARCHITECTURES])
def test_a_run_whose_decay_is_inert_is_bit_for_bit_the_run_without_decay(arch: str) -> None:
    lr = 1e-2
    inert = 2.9e-8 / lr
    assert weight_decay_is_inert(lr, inert)
    assert not weight_decay_is_inert(lr, 1e-6 / lr)
    without, tiny, acting = (train(small(arch, lr, wd)) for wd in (0.0, inert, 1e-6 / lr))
    assert (tiny.train_loss, tiny.history) == (without.train_loss, without.history)
    assert acting.train_loss != without.train_loss
