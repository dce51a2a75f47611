"""The settings of `ci/gpu` on a device: the scales whose models are compiled and projected, and the sample sizes."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from first_minutes.findings import Findings
from replicate.data import catalogue
from replicate.data.source import DATA_VARIABLE
from replicate.runs import scales
from replicate.runs.run import Run
from replicate.runs.scales import Scale

if TYPE_CHECKING:
    from replicate.train.stacked import How

CPU = "cpu"
STEPS = 12
"""Steps whose losses are compared with the plain loop's."""
NO_ROOM = 3
"""Exit status of a process that ran out of memory beside the others; it is then started again on its own."""


@dataclass(frozen=True)
class Trial:
    """The settings: full-size models on a GPU, or a rehearsal with small models on a CPU, which takes seconds."""

    device: str
    shapes: Scale
    """The scale whose models are compiled, compared and timed, and whose runs are recorded as evidence."""
    target: Scale
    """The scale of the paper's runs, whose cost is projected."""
    lanes: int
    replays: int
    script_images: int
    """Training images of a timed epoch as the script trains; there are a fifth as many test images, as in CIFAR-100."""
    workers: int
    """Loader processes when training as the script does."""
    fewer: int = 1
    """The made-up data sets have this many times fewer images than the real ones."""
    only: tuple[str, ...] = ()
    """Architectures to try; empty for all."""

    @property
    def rehearsed(self) -> bool:
        return self.device == CPU

    @property
    def architectures(self) -> list[str]:
        return [arch for arch, _ in self.shapes.models if not self.only or arch in self.only]

    def how(self) -> How:
        """How stacks are trained on the device: uncompiled on a CPU, where compiling takes minutes."""
        from replicate.train.compiled import can_compile
        from replicate.train.stacked import How

        if self.rehearsed:
            return How(lanes=self.lanes, products=True)
        return How(lanes=self.lanes, compiled=can_compile(), graph=True)

    def runs(self, arch: str) -> list[Run]:
        """The runs of a full stack, with enough epochs for the `STEPS` that are compared."""
        from stacked import runs_of  # the benchmark

        runs: list[Run] = runs_of(self.shapes, arch, self.lanes)
        steps_per_epoch = math.ceil(catalogue.train_size(runs[0].data) / runs[0].batch_size)
        epochs = max(runs[0].epochs, math.ceil(STEPS / steps_per_epoch))
        return [dataclasses.replace(run, epochs=epochs) for run in runs]


def on(device: str) -> Trial:
    """The trial for `device`."""
    if device == CPU:
        smoke = scales.get("smoke")
        return Trial(device, smoke, smoke, lanes=4, replays=10, script_images=32, workers=0, fewer=1000)
    from replicate.train.stacked import LANES

    shapes, target = scales.get("fashion-short"), scales.get("cifar100")
    return Trial(device, shapes, target, lanes=LANES, replays=100, script_images=3200, workers=4)


def made_up_images(folder: Path, tried: Trial) -> None:
    """Let this process and its children read made-up images in the real formats, which take the same time.

    The images are made, in seconds, unless an earlier call has made them.
    """
    from tests.support import archives

    if not folder.exists():
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        archives.cifar100(part, train=50_000 // tried.fewer, test=10_000 // tried.fewer, classes=100)
        archives.fashion(part / "fashion-mnist", 60_000 // tried.fewer, 10_000 // tried.fewer, compressed=False)
        part.rename(folder)
    os.environ[DATA_VARIABLE] = str(folder)


def of_process(description: str | None) -> tuple[Trial, Findings, argparse.Namespace]:
    """The command-line options of a process that `ci/gpu` started: `--device`, `--out`, perhaps architectures."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("arch", nargs="*")
    asked = parser.parse_args()
    return on(asked.device), Findings(asked.out), asked
