"""Projects the cost of the paper's runs on this device from timed steps, and keeps the cost per run in the store."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from first_minutes.findings import Findings, Found
from first_minutes.trial import Trial
from replicate.data import catalogue
from replicate.paper.cells import Cell
from replicate.paper.claim import Part
from replicate.runs import scales
from replicate.runs.needed import runs_at
from replicate.runs.run import Run
from replicate.runs.scales import Scale
from replicate.runs.stacks import stacks
from replicate.store.store import open_store
from replicate.train.plan import costs


def project(tried: Trial, findings: Findings, store: Path) -> Found:
    """Write the hours for the paper's grid and for all runs of the target, and keep the cost per run in `store`.

    Only architectures whose steps, evaluation and augmentation have been timed are included.
    """
    found: Found = {"scale": tried.target.name, "lanes": tried.lanes, "architectures": {}}
    kept: dict[str, dict[str, float]] = {}
    for arch in tried.architectures:
        cost = _Cost.found(tried, findings, arch)
        if cost is None:
            continue
        for scale in dict.fromkeys((tried.shapes, tried.target)):
            runs = [run for run in runs_at(scale) if run.arch == arch]
            kept.setdefault(scale.name, {})[arch] = cost.seconds(runs, scale) / len(runs)
        grid, every = grid_of(tried.target, arch), [run for run in runs_at(tried.target) if run.arch == arch]
        beside = findings.good(f"{arch}/beside") or {}
        script = beside.get("script_run_seconds")
        seconds = cost.seconds(grid, tried.target)
        found["architectures"][arch] = {
            "grid_runs": len(grid),
            "grid_hours": seconds / 3600,
            "all_runs": len(every),
            "all_hours": cost.seconds(every, tried.target) / 3600,
            "script_grid_hours": None if script is None else len(grid) * script / 3600,
            "times_the_script": None if script is None else len(grid) * script / seconds,
        }
    parts = found["architectures"].values()
    whole = [part for part in parts if part["times_the_script"] is not None]
    found["complete"] = len(whole) == len(tried.architectures)
    for name in ("grid_runs", "grid_hours", "all_runs", "all_hours"):
        found[name] = sum(part[name] for part in parts)
    findings.put("projection", **found)
    opened = open_store(store)
    for scale_name, seconds_of in kept.items():
        costs.keep(opened.layout, scale_name, seconds_of)
    return found


def grid_of(scale: Scale, arch: str) -> list[Run]:
    """The distinct runs of the paper's grid of `arch`: 240 points, of which some share the run without decay."""
    part = Part(Cell(arch, scale.data[0][0]), "main", "paper")
    return list(dict.fromkeys(point.run for point in scales.points(scale, part)))


class _Cost:
    """The measured times of one architecture."""

    def __init__(self, lanes: int, step: float, evaluation: float, epoch_starts: dict[str, Any]) -> None:
        self._lanes, self._step, self._epoch_starts = lanes, step, epoch_starts
        self._evaluation = evaluation
        """Seconds per test image, for all runs of a stack together."""

    @classmethod
    def found(cls, tried: Trial, findings: Findings, arch: str) -> _Cost | None:
        """The times from the findings on `arch`; None if one is missing."""
        replays, evaluation, starts = (
            findings.good(f"{arch}/{piece}") for piece in ("replays", "evaluation", "augmentation")
        )
        if replays is None or evaluation is None or starts is None:
            return None
        an_image = evaluation["seconds"] / evaluation["images"]
        return cls(tried.lanes, replays["step_seconds"], an_image, starts["by_scale"])

    def seconds(self, runs: list[Run], scale: Scale) -> float:
        """Seconds to train `runs` of `scale` in stacks; a partly filled stack costs as much as a full one.

        An epoch's last, smaller batch counts as a full batch. Checkpoints, at most 1 %, are not included.
        """
        start = self._epoch_starts[scale.name]["seconds"]
        total = 0.0
        for stack in stacks(runs, self._lanes):
            run = stack[0]
            steps = run.epochs * math.ceil(catalogue.train_size(run.data) / run.batch_size)
            looks = math.ceil(run.epochs / run.eval_every_epochs) * catalogue.test_size(run.data)
            total += steps * self._step + run.epochs * start + looks * self._evaluation
        return total
