"""From a store to verdicts, without training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from replicate.data import cifar100
from replicate.data.spec import DataSpec
from replicate.judging import store_verdicts
from replicate.judging.verdict import INCONCLUSIVE, NOT_RUN, REPLICATED
from replicate.judging.verdict_file import verdict_from_json, verdict_to_json
from replicate.landscape.from_store import missing_runs
from replicate.paper.registry import CLAIMS, claim
from replicate.runs import scales
from replicate.runs.needed import runs_for
from replicate.runs.result import Result
from replicate.store.store import open_store

SMOKE = scales.get("smoke")


def test_missing_runs_are_named(tmp_path: Path) -> None:
    verdict = store_verdicts.judge(claim("rho/resnet50-cifar100"), SMOKE, open_store(tmp_path / "store"))
    need = len(runs_for([claim("rho/resnet50-cifar100")], SMOKE))
    assert verdict.outcome == NOT_RUN
    assert verdict.reason.startswith(f"{need} of {need} runs are not in the store (resnet50-cifar100: {need})")
    assert verdict.settle == "`replicate train --scale smoke`"
    assert (verdict.evidence.runs, verdict.evidence.runs_missing) == (0, need)


def test_what_the_scale_leaves_out_is_not_run(tmp_path: Path) -> None:
    verdict = store_verdicts.judge(
        claim("rho/resnet50-imagenet"), scales.get("cifar100"), open_store(tmp_path / "store")
    )
    assert verdict.outcome == NOT_RUN
    assert "ImageNet" in verdict.reason


def test_stored_runs_are_judged(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    rho = claim("rho/resnet50-cifar100")
    for run in runs_for([rho], SMOKE):
        store.put(run, Result(50.0, 50.0, False, 1.0, (50.0,), 0.1), {"device_model": "an abacus"})
    verdict = store_verdicts.judge(rho, SMOKE, store)
    assert verdict.outcome == INCONCLUSIVE  # every accuracy is the same
    assert verdict.evidence.cells == ("resnet50 on digits",)
    assert verdict.evidence.runs == len(runs_for([rho], SMOKE))
    assert verdict.evidence.seeds == len(SMOKE.seeds)
    assert not verdict.evidence.synthetic

    file = store_verdicts.judge_all(CLAIMS, SMOKE, "a test", store)
    assert [e.id for e in file.entries] == [c.id for c in CLAIMS]
    assert file.outcomes["one-dim/cost"] == REPLICATED
    assert file.counts[NOT_RUN] > 0
    assert file.store_runs == verdict.evidence.runs
    assert file.trained == ("resnet50 on digits",)
    assert file.devices == ("an abacus",)
    assert file.probe
    assert not file.synthetic


PUBLISHED = {"data_checksum": cifar100.PUBLISHED}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("provenance", "spec", "note"),
    [
        (PUBLISHED, DataSpec("cifar100"), ""),
        ({"data_checksum": "md5:00+11"}, DataSpec("cifar100"), "not the published CIFAR-100"),
        ({}, DataSpec("cifar100"), "not the published CIFAR-100"),
        (PUBLISHED, DataSpec("cifar100", train_images=64), "not the published CIFAR-100"),
        (PUBLISHED, DataSpec("cifar100", test_images=64), "not the published CIFAR-100"),
        (PUBLISHED, DataSpec("cifar100", label_noise=0.1), "not the published CIFAR-100"),
    ],
)
def test_only_the_published_images_speak_for_the_paper(
    provenance: dict[str, str], spec: DataSpec, note: str, tmp_path: Path
) -> None:
    """One run that was trained on others is enough to make a verdict a probe."""
    scale = dataclasses.replace(scales.get("cifar100"), data=(("cifar100", spec),))
    store, slope = open_store(tmp_path / "store"), claim("sgd/rho/resnet50-cifar100")
    altered = runs_for([slope], scale)[7]
    while missing := missing_runs(slope, scale, store):
        for run in missing:
            store.put(run, Result(50.0, 50.0, False, 1.0, (50.0,), 0.1), provenance if run == altered else PUBLISHED)
    verdict = store_verdicts.judge(slope, scale, store)
    assert verdict.evidence.note == note and verdict.evidence.probe == bool(note)
    kind = f"probe: {note}" if note else "paper protocol"
    assert verdict.evidence.label == f"cifar100 ({kind})"
    assert verdict_from_json(json.loads(json.dumps(verdict_to_json(verdict)))).evidence == verdict.evidence
    file = store_verdicts.judge_all([slope], scale, "a test", store)
    assert file.probe == bool(note)


def test_digits_have_no_paper_to_speak_for(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    rho = claim("rho/resnet50-cifar100")
    for run in runs_for([rho], SMOKE):
        store.put(run, Result(50.0, 50.0, False, 1.0, (50.0,), 0.1), {})
    assert store_verdicts.judge(rho, SMOKE, store).evidence.label == "smoke (probe)"


def test_what_the_runs_were_trained_with(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    runs = runs_for([claim("rho/resnet50-cifar100")], SMOKE)
    new = {"versions": {"torch": "2.11.0", "python": "3.12.1"}, "trainer": "stacked", "precision": "bfloat16"}
    old = {"versions": {"torch": "2.6.0", "python": "3.12.1"}}
    result = Result(50.0, 50.0, False, 1.0, (50.0,), 0.1)
    stored = [store.put(run, result, way, durable=False) for run, way in zip(runs, (old, new, new), strict=False)]
    assert store_verdicts.trained_with(stored) == (
        "python 3.12.1, torch 2.11.0; stacked, bfloat16: 2 runs",
        "python 3.12.1, torch 2.6.0; solo, float32: 1 run",
    )
