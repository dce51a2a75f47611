"""Measures images per second of the loader of ImageNet-sized files by number of processes, and what a device needs.

    python benchmarks/loader.py [--images N] [--processes 1 2 …] [--side 500]

Made-up JPEGs of ImageNet's usual size are decoded, cropped and augmented as in training, but no model is trained. An
epoch is read once to warm the file cache; then it is timed in this process alone and with each number of loader
processes. For comparison: the images per second on which one A100 trains ResNet-50 in published measurements, the rate
that keeps such a device busy. Times are wall-clock, so run nothing else on the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.audit.compute import a100_rate
from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.needed import runs_for, split
from replicate.runs.run import Run
from replicate.train.cores import processors
from replicate.train.stream import Streamed

CLASSES = 4


def made(folder: Path, images: int, side: int) -> Path:
    """Make `images` training pictures, `side` pixels wide, and one test picture per class, in a folder per class."""
    rng = np.random.default_rng(0)
    for part, count in (("train", images), ("val", CLASSES)):
        for number in range(count):
            # Smooth, so that the JPEG is as large as a photograph's and not as noise's.
            coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((side, int(side * 0.75)), Image.Resampling.BICUBIC)
            path = folder / "imagenet" / part / f"n{number % CLASSES:08d}" / f"{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=90)
    return folder


def rate(run: Run, processes: int) -> float:
    """Images per second over an epoch's training batches."""
    loader = Streamed(run, "cpu", processes)
    done, started = 0, time.perf_counter()
    for pixels, _ in loader.batches(0):
        done += len(pixels)
    return done / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512, help="images per epoch (default: 512)")
    parser.add_argument("--side", type=int, default=500, help="pixels of a picture's longer side (default: 500)")
    parser.add_argument(
        "--processes", type=int, nargs="+", help="loader processes (default: 0, 1, 2, 4, … up to all processors)"
    )
    asked = parser.parse_args()
    there = processors()
    counts = asked.processes or [0, *(2**i for i in range(there.bit_length()) if 2**i <= there)]
    torch.set_num_threads(1)
    scale = scales.get("imagenet")
    runs = runs_for(split(CLAIMS, scale)[0], scale)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REPLICATE_DATA"] = str(made(Path(folder), asked.images, asked.side))
        print(f"{asked.images} pictures of {asked.side} pixels; {there} processors")
        print(f"{'':12}{'processes':>10}{'img/s':>9}{'a processor':>13}")
        for arch in ("resnet50", "vit_s16"):  # without RandAugment and with it
            run = next(run for run in runs if run.arch == arch)
            images = replace(run.data, train_images=asked.images, test_images=CLASSES)
            run = replace(run, batch_size=64, data=images)
            rate(run, 0)
            for count in counts:
                found = rate(run, count)
                print(f"{arch:12}{count:>10}{found:>9,.0f}{found / max(count, 1):>13,.0f}", flush=True)
    needs = a100_rate("resnet50")
    print(f"an A100 trains ResNet-50 on about {needs:,.0f} images a second (published; docs/audit.md)")


if __name__ == "__main__":
    main()
