"""Verdict files of format 1: still read, and by a written mapping the same as what judging says today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from replicate.judging import store_verdicts, verdict_file
from replicate.judging.verdict_file import VerdictFile, VerdictFileError
from replicate.paper.registry import CLAIMS, REGISTRY_HASH, claim
from replicate.runs import scales
from replicate.runs.needed import runs_for, split
from replicate.store import recorded, strict
from replicate.store.store import open_store
from tests.support import five_seeds, format_1

SAVED = Path(__file__).parent / "data" / "format_1.json"
"""A claim of each quantity as the last version that wrote format 1 judged the recorded runs."""
FILES = ("estimate", "secondary")


def saved() -> dict[str, Any]:
    return dict(json.loads(SAVED.read_text(encoding="utf-8")))


OF_TODAY = ("how_sure", "provisional")
"""Fields of a verdict that files of format 1 do not have."""


@pytest.fixture(scope="module")
def read() -> VerdictFile:
    return verdict_file.read(SAVED)


def test_what_is_read_is_what_was_written(read: VerdictFile) -> None:
    now = read.to_json()
    assert now.pop("practice") == []  # of today's files only
    for was, found in zip(saved()["claims"], now["claims"], strict=True):
        assert [found.pop(name) for name in OF_TODAY] == [None, None]
        assert {k: v for k, v in found.items() if k not in FILES} == {k: v for k, v in was.items() if k not in FILES}
        if was["estimate"] is not None:
            old, new = ({k: v for k, v in one["estimate"].items() if k != "details"} for one in (was, found))
            assert new == old
    whole = ("format", "claims")
    assert {k: v for k, v in now.items() if k not in whole} == {k: v for k, v in saved().items() if k not in whole}


@pytest.mark.slow
def test_verdicts_of_today_say_what_those_of_format_1_said(tmp_path: Path) -> None:
    """The same claim by claim and field by field; not the same numbers, for the rules have changed since."""
    store = open_store(tmp_path / "store", below=five_seeds.ALL)
    mapped = strict.convert(format_1.upgraded(saved()), verdict_file.StoredFile)
    for was in mapped.claims:
        verdict = store_verdicts.judge(claim(was.id), five_seeds.SCALE, store)
        now = strict.plain(verdict_file.stored_verdict(verdict))
        del now["evidence"]["look"]
        for name in OF_TODAY:
            del now[name]
        assert (now["id"], now["margin"]) == (was.id, strict.plain(was)["margin"])
        assert [one for one in new_fields(now, strict.plain(was)) if "details" not in one] == [], was.id


def new_fields(now: Any, was: Any, where: str = "") -> list[str]:
    """The fields that `now` has and `was` has not."""
    if not (isinstance(now, dict) and isinstance(was, dict)):
        return []
    new = [f"{where}.{k}" for k in now.keys() - was.keys()]
    return new + [found for k in now.keys() & was.keys() for found in new_fields(now[k], was[k], f"{where}.{k}")]


def test_the_registry_is_the_one_whose_verdicts_are_saved() -> None:
    """A change of a claim or rule is meant to be seen: see `Where things go` in CONTRIBUTING.md."""
    judged_by = verdict_file.read(recorded.path_of("probe").with_name("verdicts.json")).registry_hash
    assert judged_by == REGISTRY_HASH, "claims or rules have changed: say so in the changelog, then ci/expected --save"


def test_the_keys_are_those_of_the_recorded_runs() -> None:
    """A change of what a run's key is made from would orphan them all."""
    scale = scales.get("probe")
    needed = {run.key for run in runs_for(split(CLAIMS, scale)[0], scale)}
    assert recorded.of_scale(scale.name).keys() <= needed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claims": 7}, "expected `array`, got `int`"),
        ({"store": []}, "expected `object`, got `array`"),
        ({"claims": [{"estimate": 3, "secondary": {}}]}, r"\$\.claims\[0\]\.estimate: expected"),
        ({"claims": [3]}, "expected `object`, got `int`"),
    ],
)
def test_what_is_none_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    start = "^saved: expected a verdict file of format 1, got a bad field: "
    with pytest.raises(VerdictFileError, match=f"{start}.*{message}"):
        verdict_file.from_json({**saved(), **change}, "saved")
