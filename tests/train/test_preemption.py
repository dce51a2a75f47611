"""docs/scale.md and the script behind it: the simulation against theory, the counts against the models."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from replicate.data import catalogue
from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.needed import runs_for, split
from replicate.train import models, stacked

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("preemption", ROOT / "benchmarks" / "preemption.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("mtbf", [3600.0, 4 * 3600.0])
@pytest.mark.parametrize("interval", [120.0, 600.0, 3600.0])
def test_the_simulation_agrees_with_dalys_closed_form(script: ModuleType, mtbf: float, interval: float) -> None:
    rng = np.random.default_rng(1)
    found = script.overhead(8 * 3600.0, interval, 5.0, 180.0, mtbf, rng)
    assert found == pytest.approx(script.expected_overhead(interval, 5.0, 180.0, mtbf), rel=0.1)


def test_nothing_is_lost_where_nothing_happens(script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    assert script.overhead(3600.0, 600.0, 0.0, 180.0, 1e15, rng) == pytest.approx(0, abs=1e-9)
    assert script.overhead(3600.0, 600.0, 6.0, 180.0, 1e15, rng) == pytest.approx(6 / 600)


def test_a_warning_leaves_the_restart(script: ModuleType) -> None:
    """To first order: saving, and at each preemption once more and the restart."""
    found = script.overhead(8 * 3600.0, 300.0, 5.0, 180.0, 24 * 3600.0, np.random.default_rng(0), 20_000, warned=True)
    assert found == pytest.approx(5 / 300 + 185 / (24 * 3600), rel=0.05)


@pytest.mark.parametrize("mtbf", [3600.0, 8 * 3600.0])
def test_the_least_is_lost_at_youngs_and_dalys_interval(script: ModuleType, mtbf: float) -> None:
    """An independent check of the simulation: no other of many intervals loses noticeably less."""
    save = 5.0
    best = script.best_interval(save, mtbf)
    assert best == pytest.approx(math.sqrt(2 * save * mtbf))

    def lost(interval: float) -> float:
        work = round(8 * 3600.0 / interval) * interval
        return float(script.overhead(work, interval, save, 180.0, mtbf, np.random.default_rng(2), 4000))

    at_best = lost(best)
    for factor in (0.25, 0.5, 2, 4):
        assert lost(best * factor) > at_best


@pytest.mark.slow
def test_parameters_are_those_of_the_models(script: ModuleType) -> None:
    scale = scales.get("cifar100")
    found = {}
    for run in runs_for(split(CLAIMS, scale)[0], scale):
        if run.arch not in found:
            info = catalogue.info(run.data)
            with torch.device("meta"):
                model = models.build(run.model, info.num_classes, info.in_chans, info.image_size)
            found[run.arch] = sum(p.numel() for p in model.parameters())
    assert found == script.PARAMETERS


def test_a_lane_takes_twelve_bytes_a_parameter(script: ModuleType) -> None:
    """The weights and both moments of a real stack are nearly all that its checkpoint holds."""
    scale = scales.get("smoke")
    run = next(r for r in runs_for(split(CLAIMS, scale)[0], scale) if r.arch == "vit_s16" and r.optimizer == "adamw")
    stack = stacked._Stack([run, run], "cpu", stacked.How())
    info = catalogue.info(run.data)
    parameters = sum(
        p.numel() for p in models.build(run.model, info.num_classes, info.in_chans, info.image_size).parameters()
    )
    sizes = [t.nbytes for t in tensors(stack.state())]
    assert sum(sizes) == pytest.approx(2 * script.BYTES_PER_PARAMETER * parameters, rel=0.02)


def tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for one in inner for tensor in tensors(one)]


@pytest.mark.slow
def test_every_table_of_the_document_is_printed_by_the_script(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    script.main([])
    printed = capsys.readouterr().out.splitlines()
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8").splitlines()
    tables = [line for line in text if line.startswith("|")]
    assert len(tables) > 20
    assert [line for line in tables if line not in printed] == []
    assert len(text) < 120
