"""Times stacked training, the plain loop and training as the published script does, on equal models, data and batches.

    python benchmarks/training.py [--scale embedded] [--device cpu] [--arch resnet50 …] [--runs N] [--epochs N]
    python benchmarks/training.py --scale cifar100 --made-up --device cuda --alone 1 --epochs 1

The script's way is reimplemented: one process and one run at a time, images decoded and augmented one by one by loader
processes, `DataParallel`, automatic mixed precision with a gradient scaler, a float32 test pass after every epoch. On a
CPU, on which the script does not run, the parts that need a GPU are left out.

For each architecture: the number of lanes (runs per stack; by default on a GPU as many as in training); images trained
per second, summed over the runs of a stack; the speed-up over the other two ways; the share of the device's measured
rate at large matrix products; and hours for the architecture's 240 runs of the paper's grid at the scale's number of
epochs. Times are wall-clock, so run nothing else on the machine.
On a GPU a first, untimed stack compiles the step; its seconds are printed separately. `--made-up`: made-up images in
the format and size of CIFAR-100, for a machine without that data set.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).parents[1]))

from stacked import runs_of  # the benchmark beside this one

from replicate.data import catalogue
from replicate.runs import scales, schedule
from replicate.runs.run import Run
from replicate.train import models, solo
from replicate.train.compiled import can_compile
from replicate.train.contract import TooLarge
from replicate.train.stacked import FEWEST_LANES, LANES, How, train_stack
from tests.support import archives

RUNS_OF_AN_ARCHITECTURE = 240
PASSES = 3
"""Forward passes that a training step costs: a backward pass costs two."""


def shortened(runs: list[Run], epochs: int | None) -> list[Run]:
    """`runs` with `epochs` epochs; unchanged if `epochs` is None."""
    if epochs is None:
        return runs
    return [replace(run, epochs=epochs, warmup_epochs=min(run.warmup_epochs, epochs - 1)) for run in runs]


class Pictures(Dataset[tuple[Any, int]]):
    """A data set that yields one picture and label at a time, as the script reads it."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, change: Callable[[Any], Any]) -> None:
        low, high = float(images.min()), float(images.max())
        self.images = ((images - low) / (high - low) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
        self.labels, self.change = labels, change

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        pixels = self.images[index]
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return self.change(picture), int(self.labels[index])


def published_way(run: Run, device: str, workers: int, after_epoch: Callable[[], object] = lambda: None) -> None:
    """Train `run` as the script does; `after_epoch` is called when the device has finished an epoch."""
    split = catalogue.load(run.data)
    info = split.info
    plain = [transforms.ToTensor(), transforms.Normalize([0.5] * info.in_chans, [0.25] * info.in_chans)]
    augmented = [transforms.RandomCrop(info.image_size, padding=4), transforms.RandomHorizontalFlip()]
    train_set = Pictures(
        split.train_images, split.train_labels, transforms.Compose([*(augmented if run.augment else []), *plain])
    )
    test_set = Pictures(split.test_images, split.test_labels, transforms.Compose(plain))
    on_gpu = device != "cpu"
    keep: dict[str, Any] = {"num_workers": workers, "pin_memory": on_gpu, "persistent_workers": workers > 0}
    train_loader = DataLoader(train_set, run.batch_size, shuffle=True, **keep)
    test_loader = DataLoader(test_set, 2 * run.batch_size, **keep)
    model: nn.Module = models.build_seeded(run.model, info.num_classes, info.in_chans, info.image_size, run.seed)
    model = nn.DataParallel(model.to(device)) if on_gpu else model
    optimizer = torch.optim.AdamW(model.parameters(), run.lr, weight_decay=run.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.epochs)
    scaler = torch.amp.GradScaler(device, enabled=on_gpu)
    loss_of = nn.CrossEntropyLoss()
    for _ in range(run.epochs):
        model.train()
        for images, labels in train_loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            optimizer.zero_grad()
            with torch.autocast(device, enabled=on_gpu):
                loss = loss_of(model(images), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        schedule.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for images, labels in test_loader:
                right += int((model(images.to(device)).argmax(1) == labels.to(device)).sum())
        after_epoch()


def flops_of_a_step(run: Run) -> float:
    """Floating-point operations of one training step."""
    info = catalogue.info(run.data)
    model = models.build_seeded(run.model, info.num_classes, info.in_chans, info.image_size, run.seed)
    images = torch.zeros(run.batch_size, info.in_chans, info.image_size, info.image_size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(images)
    return float(PASSES * counter.get_total_flops())


def device_rate(device: str, seconds: float = 1.0) -> float:
    """Operations per second of large matrix products, in the dtype that training uses."""
    size, kind = (8192, torch.bfloat16) if device != "cpu" else (1024, torch.float32)
    a = torch.randn(size, size, device=device, dtype=kind)
    done, started = 0, 0.0
    for warm in (True, False):
        end = time.perf_counter() + (0.3 if warm else seconds)
        done, started = 0, time.perf_counter()
        while time.perf_counter() < end:
            a @ a
            if device != "cpu":
                torch.cuda.synchronize()
            done += 1
    return 2 * size**3 * done / (time.perf_counter() - started)


def seconds_of(work: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def seconds_of_stacks(runs: list[Run], device: str, how: How) -> tuple[float, int]:
    """Seconds to train `runs`, and the number of lanes, which is halved whenever memory runs out."""
    lanes = how.lanes or len(runs)
    parts = [runs[start : start + lanes] for start in range(0, len(runs), lanes)]
    try:
        how = replace(how, lanes=lanes)
        return seconds_of(lambda: [train_stack(part, device, how) for part in parts], device), lanes
    except TooLarge:
        if lanes == FEWEST_LANES:
            raise
    return seconds_of_stacks(runs, device, replace(how, lanes=max(FEWEST_LANES, lanes // 2)))


def main() -> None:
    # Before this process's first matrix product: torch may read the variable only once.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="embedded", choices=scales.SCALES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--arch", nargs="+")
    parser.add_argument("--runs", type=int, help=f"runs per stack (default: {LANES} on a GPU, else 32)")
    parser.add_argument("--alone", type=int, default=4, help="runs that are also trained alone (default: 4)")
    parser.add_argument("--epochs", type=int, help="epochs of the timed runs (default: the scale's)")
    parser.add_argument(
        "--workers", type=int, help="loader processes of the script's way (default: on a GPU 4, as the script, else 2)"
    )
    parser.add_argument("--made-up", action="store_true", help="use made-up images in place of CIFAR-100")
    asked = parser.parse_args()
    scale = scales.get(asked.scale)
    if scale.why_untrainable or not all(catalogue.info(spec).resident for _, spec in scale.data):
        parser.error(
            f"--scale {scale.name}: expected a scale whose images fit on a device and are trained in stacks, got "
            f"{scale.why_untrainable or 'streamed images'}; benchmarks/loader.py measures those"
        )
    unknown = sorted(set(asked.arch or ()) - dict(scale.models).keys())
    if unknown:
        parser.error(f"--arch: expected some of {', '.join(dict(scale.models))}, got {', '.join(unknown)}")
    if asked.made_up:
        folder = tempfile.TemporaryDirectory()
        os.environ["REPLICATE_DATA"] = str(archives.cifar100(Path(folder.name), train=50_000, test=10_000, classes=100))
    on_gpu = asked.device != "cpu"
    workers = asked.workers if asked.workers is not None else 4 if on_gpu else 2
    if not on_gpu:
        torch.set_num_threads(1)  # as in training: one run per core
    peak = device_rate(asked.device)
    name = torch.cuda.get_device_name(asked.device) if on_gpu else "a CPU core"
    print(f"{name}: {peak / 1e9:,.0f} GFLOP/s at large matrix products")
    print(f"{'':12}{'lanes':>7}{'img/s':>10}{'x plain':>10}{'x script':>10}{'share':>8}{'hours':>9}")
    hours = 0.0
    for arch in asked.arch or dict(scale.models):
        how = How(compiled=on_gpu and can_compile(), graph=on_gpu)
        runs = shortened(runs_of(scale, arch, asked.runs or (LANES if on_gpu else 32)), asked.epochs)
        run, some = runs[0], runs[:: max(1, len(runs) // asked.alone)]
        images = run.epochs * catalogue.train_size(run.data)
        how = replace(how, lanes=max(len(runs), FEWEST_LANES))
        if on_gpu:
            first, lanes = seconds_of_stacks(shortened(runs, 1), asked.device, how)
            print(f"{arch}: {first:.0f} s for the first epoch in {lanes} lanes, most of it compiling")
            how = replace(how, lanes=lanes)
        seconds, lanes = seconds_of_stacks(runs, asked.device, how)
        stacked = seconds / len(runs)
        plain = seconds_of(lambda: [solo.train(r, asked.device) for r in some], asked.device) / len(some)  # noqa: B023
        script = seconds_of(
            lambda: [published_way(r, asked.device, workers) for r in some[:2]],  # type: ignore[func-returns-value]  # noqa: B023
            asked.device,
        ) / min(2, len(some))
        work = flops_of_a_step(run) * schedule.steps(run)
        grid = RUNS_OF_AN_ARCHITECTURE * stacked * scale.epochs / run.epochs / 3600
        hours += grid
        print(
            f"{arch:12}{lanes:>7}{images / stacked:>10,.0f}{plain / stacked:>10.2f}{script / stacked:>10.2f}"
            f"{work / stacked / peak:>8.1%}{grid:>9.2f}",
            flush=True,
        )
    print(f"hours for the grid of all {len(asked.arch or scale.models)}: {hours:.1f} on one device")


if __name__ == "__main__":
    main()
