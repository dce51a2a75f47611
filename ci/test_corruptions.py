"""1,000 corruptions of a store's files, one after the other: every one noticed, no wrong record believed. A minute.

pytest ci/test_corruptions.py
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from replicate.store.store import open_store
from tests.support.corruption import KINDS, check_noticed, filled

EACH = 250


@pytest.mark.parametrize("kind", KINDS)
def test_every_corruption_is_noticed(tmp_path: Path, kind: str) -> None:
    store = open_store(tmp_path / "store")
    stored = filled(store)
    rng = random.Random(kind)
    for _ in range(EACH):
        check_noticed(store, stored, kind, rng)
