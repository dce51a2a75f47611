"""Landscapes: bad tables refused by name, ragged ones spread out with holes."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate.landscape.landscape import Landscape
from tests.support.landscapes import changed, sweep


def frame(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["lr", "wd", "seed", "score", "diverged"])


def test_missing_columns_are_named() -> None:
    message = r"landscape a-d: expected columns \('lr', 'wd', .*\), missing \['wd', 'diverged'\]"
    with pytest.raises(ValueError, match=message):
        Landscape("a", "d", pd.DataFrame({"lr": [1.0], "seed": [0], "score": [70.0]}))


def test_repeated_runs_are_named() -> None:
    message = "landscape a-d: expected one row per run, got lr=0.001 wd=0.1 seed=3 more than once; drop or average"
    with pytest.raises(ValueError, match=message):
        Landscape(
            "a", "d", frame((1e-3, 0.1, 3, 70.0, False), (1e-3, 0.1, 4, 70.0, False), (1e-3, 0.1, 3, 71.0, False))
        )


def test_slices_by_hand() -> None:
    landscape = Landscape(
        "a",
        "d",
        frame(
            (1e-2, 0.1, 7, 60.0, False),
            (1e-3, 0.3, 2, 71.0, False),
            (1e-3, 0.0, 7, 72.0, False),
            (1e-3, 0.3, 7, 73.0, False),
            (1e-2, 0.3, 2, math.nan, True),
        ),
    )
    assert landscape.seeds == (2, 7)
    first, second = landscape.slices()
    assert (first.lr, second.lr) == (1e-3, 1e-2)
    assert first.wds.tolist() == [0.0, 0.3]
    np.testing.assert_array_equal(first.scores, [[math.nan, 72], [71, 73]])
    assert not first.diverged.any()
    # The seed axis is the same everywhere; a missing run is not a diverged one.
    np.testing.assert_array_equal(second.scores, [[math.nan, 60], [math.nan, math.nan]])
    assert second.diverged.tolist() == [[False, False], [True, False]]


def test_the_score_of_a_diverged_run_is_not_looked_at() -> None:
    (cut,) = Landscape("a", "d", frame((1e-3, 0.1, 0, 99.9, True), (1e-3, 0.3, 0, 70.0, False))).slices()
    assert math.isnan(cut.scores[0, 0])


def test_no_rows_have_no_slices() -> None:
    empty = Landscape("a", "d", frame())
    assert empty.slices() == []
    assert empty.seeds == ()


def test_seeds_may_be_words() -> None:
    landscape = Landscape("a", "d", frame((1e-3, 0.1, "second", 70.0, False), (1e-3, 0.1, "first", 71.0, False)))
    assert landscape.seeds == ("first", "second")
    assert landscape.slices()[0].scores.tolist() == [[71.0, 70.0]]


def test_further_columns_do_no_harm() -> None:
    table = frame((1e-3, 0.1, 0, 70.0, False)).assign(best=71.0)
    assert Landscape("a", "d", table).slices()[0].scores.tolist() == [[70.0]]


def test_rows_keep_their_place_whatever_the_index() -> None:
    landscape = sweep({1e-3: {0.0: [70, 71], 0.1: [72, 73]}, 1e-2: {0.1: [74, 75]}})
    picked = changed(landscape, landscape.frame[landscape.frame["seed"] == 1])
    assert [s.scores.tolist() for s in picked.slices()] == [[[71.0], [73.0]], [[75.0]]]


CELLS = st.tuples(st.sampled_from([1e-4, 1e-3, 0.3]), st.sampled_from([0.0, 1e-9, 0.1, 3.0]), st.integers(0, 3))


@given(st.dictionaries(CELLS, st.floats(0, 100), min_size=1, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_slices_hold_every_row_once_in_any_order(scores: dict[tuple[float, float, int], float], random: Random) -> None:
    rows = [(*cell, score, False) for cell, score in scores.items()]
    random.shuffle(rows)
    landscape = Landscape("a", "d", frame(*rows))
    found = {
        (cut.lr, wd, landscape.seeds[j]): cut.scores[i, j]
        for cut in landscape.slices()
        for i, wd in enumerate(cut.wds)
        for j in range(cut.scores.shape[1])
        if np.isfinite(cut.scores[i, j])
    }
    assert found == scores
    for cut in landscape.slices():
        assert (np.diff(cut.wds) > 0).all()
    assert [c.lr for c in landscape.slices()] == sorted({lr for lr, _, _ in scores})
