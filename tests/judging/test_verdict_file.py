"""The verdict file: what is written is read back equal, and what is no verdict file is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicate.estimate.estimate import Estimate
from replicate.estimate.flags import Flag
from replicate.judging.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    OUTCOMES,
    REPLICATED,
    Evidence,
    Secondary,
    Verdict,
)
from replicate.judging.verdict_file import (
    VerdictFileError,
    changes,
    from_json,
    read,
    verdict_from_json,
    verdict_to_json,
    write,
)
from replicate.paper.claim import Margin
from replicate.paper.registry import CLAIMS, REGISTRY_HASH
from tests.support.estimates import any_details
from tests.support.verdicts import made_file, made_verdict

finite = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(0, 2**53)


@st.composite
def intervals(draw: st.DrawFn) -> tuple[float, float]:
    ends = sorted((draw(finite), draw(finite)))
    return (draw(st.sampled_from((ends[0], -math.inf))), draw(st.sampled_from((ends[1], math.inf))))


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    low, high = draw(intervals().filter(lambda ends: ends[0] < ends[1]))
    estimate = None
    if draw(st.booleans()):
        estimate = Estimate(
            draw(st.text()),
            draw(st.text()),
            draw(st.none() | finite),
            *draw(intervals()),
            draw(st.floats(0, 1)),
            draw(integers),
            draw(st.text()),
            tuple(draw(st.lists(st.sampled_from(Flag), max_size=2))),
            draw(st.text()),
            draw(st.none() | any_details()),
        )
    evidence = Evidence(
        draw(st.text()),
        draw(st.booleans()),
        tuple(draw(st.lists(st.text(), max_size=2))),
        draw(integers),
        draw(integers),
        draw(integers),
        draw(st.booleans()),
    )
    return Verdict(
        draw(st.sampled_from(CLAIMS)).id,
        draw(st.sampled_from(OUTCOMES)),
        draw(st.text(min_size=1)),
        Margin(low, high),
        evidence,
        estimate,
        draw(st.text()),
        draw(st.from_type(Secondary)),
    )


@given(verdicts())
def test_a_verdict_comes_back_equal_through_strict_json(verdict: Verdict) -> None:
    text = json.dumps(verdict_to_json(verdict), allow_nan=False)
    assert verdict_from_json(json.loads(text)) == verdict


def test_a_file_comes_back_equal(tmp_path: Path) -> None:
    file = made_file({"rho/overall": REPLICATED, "slope/vit_s16-imagenet": INCONCLUSIVE})
    file = dataclasses.replace(file, entries=(dataclasses.replace(file.entries[0], crashed="boom"), *file.entries[1:]))
    write(tmp_path / "new" / "verdicts.json", file)
    assert read(tmp_path / "new" / "verdicts.json") == file
    assert os.listdir(tmp_path / "new") == ["verdicts.json"]  # noqa: PTH208


def test_every_claim_is_in_the_file_in_the_registrys_order() -> None:
    data = made_file({"rho/overall": REPLICATED}).to_json()
    assert [c["id"] for c in data["claims"]] == [c.id for c in CLAIMS]
    assert data["format"] == 2
    assert data["registry"] == {"hash": REGISTRY_HASH, "claims": len(CLAIMS)}
    assert data["counts"] == {REPLICATED: 1, CONTRADICTED: 0, INCONCLUSIVE: 0, NOT_RUN: len(CLAIMS) - 1}
    assert data["probe"] is True


def test_open_ends_are_null() -> None:
    data = verdict_to_json(made_verdict("rho/overall", INCONCLUSIVE))
    assert (data["estimate"]["low"], data["estimate"]["high"]) == (0.05, None)
    one_sided = next(c for c in CLAIMS if c.id == "one-dim/max-gap")
    verdict = Verdict(one_sided.id, NOT_RUN, "no runs", one_sided.margin, Evidence("smoke", True))
    assert verdict_to_json(verdict)["margin"] == [None, 0.5]


def test_numpys_numbers_become_json_and_what_json_cannot_hold_is_named() -> None:
    made = made_verdict("rho/overall", REPLICATED)
    verdict = dataclasses.replace(made, secondary=Secondary(plug_in_gap_pp=np.float64(0.5)))
    assert verdict_to_json(verdict)["secondary"]["plug_in_gap_pp"] == 0.5
    verdict = dataclasses.replace(made, secondary=Secondary(direction=object()))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected numbers, texts, lists and mappings, got a object"):
        verdict_to_json(verdict)


GOOD = made_file({"rho/overall": REPLICATED}).to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected a verdict file, got text that is not JSON \(input data was truncated\); `pytest claims/"),
        ("nonsense", "got text that is not JSON"),
        ("[1, 2]", "expected a verdict file, got JSON without `format`"),
        ('{"claims": []}', "got JSON without `format`"),
        (
            '{"format": 3}',
            "expected verdict file format 1 or 2, got 3; read it with the version of replicate that",
        ),
        ('{"format": 1}', "expected a verdict file of format 1, got a bad field: .* missing required field `claims`"),
        ('{"format": 2}', "expected a verdict file of format 2, got a bad field: .* missing required field `registry`"),
        (json.dumps({**GOOD, "store": 3}), r"got a bad field: \$\.store: expected `object`, got `int`"),
        (json.dumps({**GOOD, "claims": [{**GOOD["claims"][0], "outcome": "maybe"}]}), "got a bad field: .*'maybe'"),
        (json.dumps({**GOOD, "claims": [{**GOOD["claims"][0], "margin": [2, 1]}]}), r"margin with low < high, got \(2"),
        (json.dumps({**GOOD, "claims": 7}), "got a bad field"),
    ],
)
def test_what_is_no_verdict_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "verdicts.json"
    path.write_text(text)
    with pytest.raises(VerdictFileError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(VerdictFileError, match="expected a verdict file, found no such file; `pytest claims/"):
        read(tmp_path / "none.json")
    with pytest.raises(VerdictFileError, match="got a folder; give the"):
        read(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VerdictFileError, match="got bytes that are not UTF-8"):
        read(tmp_path / "bytes")


def test_unknown_fields_are_not_an_error() -> None:
    claims = [{**c, "later": 1} for c in GOOD["claims"]]
    assert from_json({**GOOD, "later": 1, "claims": claims}, "name") == from_json(GOOD, "name")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "verdicts.json"
    write(path, made_file({}))
    before = path.read_bytes()

    def fails(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="disk full"):
        write(path, made_file({"rho/overall": REPLICATED}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["verdicts.json"]


def test_changes_are_of_the_selected_claims_alone() -> None:
    before = made_file({"rho/overall": REPLICATED, "one-dim/mean-gap": REPLICATED})
    now = {"rho/overall": CONTRADICTED, "one-dim/mean-gap": NOT_RUN, "slope/vit_s16-imagenet": INCONCLUSIVE}
    assert changes(before, now, ["rho/overall", "slope/vit_s16-imagenet"]) == [
        ("rho/overall", REPLICATED, CONTRADICTED),
        ("slope/vit_s16-imagenet", NOT_RUN, INCONCLUSIVE),
    ]
    assert changes(before, before.outcomes, before.outcomes) == []
