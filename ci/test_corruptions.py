"""Corrupts a store's files 1,000 times: every corruption is noticed, and no wrong record is accepted. A minute.

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
