"""Launches, bytes and modelled times of the training steps of the paper's models on a GPU, without having one.

    python benchmarks/lowered.py [--arch resnet50 …] [--steps train update …] [--shallow] [--json]

For each architecture, stacked as on a GPU at the shapes of `cifar100`: the passes of a training step, the same for the
last, smaller batch of an epoch, a batch of the evaluation, and the update by AdamW and by SGD. Then GPU-hours of the
paper's grid and of all runs that the claims need, in stacks as they are formed on a GPU.

All numbers are modelled: bytes and operations are Inductor's for an H100, the rates are in `imagined_gpu.py`. Left out
are augmentation, checkpoints, compiling and batch selection. `--shallow`: models with only as many blocks as show each
kind, for a test. Each architecture is lowered in a process of its own, which takes minutes on a core.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from imagined_gpu import Lowering, NotHere, Work, imagine  # the module beside this one

from replicate.data import catalogue
from replicate.paper.cells import Cell
from replicate.paper.claim import Part
from replicate.runs import scales, schedule
from replicate.runs.needed import runs_at
from replicate.runs.run import ModelSpec, Run
from replicate.runs.stacks import stacks
from replicate.train import models, optim, setting
from replicate.train.engine.missing import MOST_RUNS
from replicate.train.lanes import Lanes
from replicate.train.products import as_products
from replicate.train.stacked import LANES

SCALE = scales.get("cifar100")

STEPS = ("train", "last", "evaluation", "adamw", "sgd", "uncompiled")
"""Forward and backward pass of a full batch and of an epoch's last batch; an evaluation batch; the updates; and the
passes of a full batch in eager mode, where Mixer's backward pass takes fewer operations."""

SHALLOW = {
    "resnet50": ModelSpec("resnet50", (("layers", (1, 2, 1, 1)),)),
    "vit_s16": ModelSpec("vit_small_patch16_224", (("depth", 2),)),
    "convnext_t": ModelSpec("convnext_tiny", (("depths", (1, 2, 1, 1)),)),
    "mixer_s16": ModelSpec("class:MlpMixer", (("patch_size", 16), ("embed_dim", 512), ("num_blocks", 2))),
    "swin_t": ModelSpec("swin_tiny_patch4_window7_224", (("depths", (2, 1, 1, 1)),)),
}
"""The paper's models with few blocks: one pair of equal blocks in a row, and one block of every other kind."""

UNUSABLE = 2
"""Exit status if the installed versions cannot lower graphs without a GPU."""


def grid(arch: str) -> list[Run]:
    """The runs of `arch` in the paper's grid."""
    points = scales.points(SCALE, Part(Cell(arch, SCALE.data[0][0]), "main", "paper"))
    return list(dict.fromkeys(point.run for point in points))


def lower(arch: str, steps: Sequence[str], shallow: bool = False) -> dict[str, Work]:
    """Name in `STEPS` → work, for the `steps` of `arch`; `imagine` must have been called."""
    run = grid(arch)[0]
    info, count = catalogue.info(run.data), catalogue.train_size(run.data)
    spec = SHALLOW[arch] if shallow else run.model
    model = models.build_seeded(spec, info.num_classes, info.in_chans, info.image_size, run.seed).to("meta")
    example = torch.empty(1, info.in_chans, info.image_size, info.image_size)
    lanes = Lanes(as_products(model, example), LANES, setting.compute_dtype(run))
    leaves = lanes.leaves

    def shown(images: int) -> tuple[Tensor, Tensor]:
        shape = (images, info.in_chans, info.image_size, info.image_size)
        labels = torch.empty(images, dtype=torch.int64, device="meta")
        return torch.empty(shape, device="meta").contiguous(memory_format=torch.channels_last), labels

    def update(optimizer: str) -> Lowering:
        gradients, now = train.gradients(leaves), torch.empty(3, LANES, device="meta")
        moments = optim.zeros(optimizer, lanes.weights)
        return Lowering(optim.update, lanes.weights, moments, lanes.copies, gradients, now)

    def evaluation() -> Lowering:
        lanes.right(())  # sets evaluation mode
        images, labels = shown(setting.EVALUATION_BATCH)
        return Lowering(lanes.hits, [leaf.detach() for leaf in leaves], images.to(setting.compute_dtype(run)), labels)

    train = Lowering(lanes.losses, leaves, *shown(run.batch_size))
    last = count % run.batch_size or run.batch_size
    makers: dict[str, Callable[[], Work]] = {
        "train": lambda: train.compiled(),
        "last": lambda: Lowering(lanes.losses, leaves, *shown(last)).compiled(),
        "adamw": lambda: update("adamw").compiled(),
        "sgd": lambda: update("sgd").compiled(),
        "uncompiled": lambda: train.uncompiled(),
        "evaluation": lambda: evaluation().compiled(),  # last, because models stay in evaluation mode
    }
    return {name: make() for name, make in makers.items() if name in steps}


def lowered(arch: str, steps: Sequence[str], shallow: bool = False) -> dict[str, Work]:
    """`lower` in a process of its own. Raises `NotHere` if graphs cannot be lowered on this machine."""
    asked = [sys.executable, __file__, "--json", "--arch", arch, "--steps", *steps, *["--shallow"] * shallow]
    done = subprocess.run(asked, capture_output=True, text=True)
    if done.returncode == UNUSABLE:
        raise NotHere(done.stderr.strip().splitlines()[-1])  # torch's messages come before
    if done.returncode:
        raise RuntimeError(f"{' '.join(asked)}: exit {done.returncode}\n{done.stderr}")
    return {name: Work(**work) for name, work in json.loads(done.stdout)[arch].items()}


def hours(runs: Sequence[Run], steps: Mapping[str, Mapping[str, Work]]) -> float:
    """Hours of one GPU for `runs`, in stacks as formed if all are missing. `steps`: architecture → step → work."""
    return sum(_stack_seconds(stack[0], steps[stack[0].arch]) for stack in cut(runs)) / 3600


def cut(runs: Sequence[Run]) -> list[list[Run]]:
    """`runs` in the stacks of at most `LANES` runs in which a GPU trains them."""
    return [stack[i : i + LANES] for stack in stacks(runs, MOST_RUNS) for i in range(0, len(stack), LANES)]


def _stack_seconds(run: Run, steps: Mapping[str, Work]) -> float:
    count, tested = catalogue.train_size(run.data), catalogue.test_size(run.data)
    full, left = divmod(count, run.batch_size)
    an_epoch = full * steps["train"].seconds + bool(left) * steps["last"].seconds
    evaluations = math.ceil(run.epochs / run.eval_every_epochs) * math.ceil(tested / setting.EVALUATION_BATCH)
    passes = run.epochs * an_epoch + evaluations * steps["evaluation"].seconds
    return passes + schedule.steps(run) * steps[run.optimizer].seconds


def table(steps: Mapping[str, Mapping[str, Work]]) -> str:
    """The table of `steps` by architecture, as Markdown."""
    rows = ["| | GB products | GB kernels | GB update | launches | ms a step | ms evaluation |", "|---|" + "---|" * 6]
    total = 0.0
    for arch, of in steps.items():
        train, update = of["train"], of["adamw"]
        whole = train + update
        total += whole.seconds
        rows.append(
            f"| {arch} | {train.call_bytes / 1e9:.1f} | {train.kernel_bytes / 1e9:.1f} "
            f"| {(update.kernel_bytes + update.call_bytes) / 1e9:.1f} | {whole.launches:,} "
            f"| {1e3 * whole.seconds:.1f} | {1e3 * of['evaluation'].seconds:.1f} |"
        )
    return "\n".join([*rows, f"| sum | | | | | {1e3 * total:.1f} | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = list(dict(SCALE.models))
    parser.add_argument("--arch", nargs="+", default=known, choices=known)
    parser.add_argument("--steps", nargs="+", default=STEPS, choices=STEPS, help="steps in the JSON (default: all)")
    parser.add_argument("--shallow", action="store_true")
    parser.add_argument("--json", action="store_true", help="print only JSON, computed in this process")
    asked = parser.parse_args()
    if asked.json:
        try:
            imagine()
        except NotHere as why:
            sys.stderr.write(f"{why}\n")
            sys.exit(UNUSABLE)
        with setting.reproducible("cpu"):  # as in training: deterministic operations differ
            found = {arch: lower(arch, asked.steps, asked.shallow) for arch in asked.arch}
        print(json.dumps({arch: {name: asdict(work) for name, work in of.items()} for arch, of in found.items()}))
        return
    steps = {arch: lowered(arch, STEPS, asked.shallow) for arch in asked.arch}
    print(table(steps))
    if asked.shallow or asked.arch != known:
        return
    for what, runs in (("the paper's grid", [run for arch in known for run in grid(arch)]), ("all", runs_at(SCALE))):
        slots = LANES * len(cut(runs))
        print(
            f"\n{what}: {len(runs):,} runs, {hours(runs, steps):.1f} GPU-hours; "
            f"lanes that only fill up a stack: {1 - len(runs) / slots:.1%}"
        )


if __name__ == "__main__":
    main()
