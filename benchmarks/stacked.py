"""Times stacked training and the plain loop: whole trainings of the same runs, alternately, in one process.

    python benchmarks/stacked.py [--scale embedded] [--device cpu] [--runs 32] [--lanes 8 16 32] [--rounds 2]

On a CPU, times are processor seconds, which a busy machine hardly changes; on a GPU, wall-clock seconds. A line shows
seconds per run trained alone, and the speed-up per run in stacks of each size.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.runs import scales
from replicate.runs.run import Run
from replicate.runs.stacks import stacks
from replicate.train import solo
from replicate.train.stacked import How, train_stack

SAMPLE = 4
"""One in this many runs is also trained alone."""


def runs_of(scale: scales.Scale, arch: str, count: int) -> list[Run]:
    """The first `count` runs of one seed of the paper's grid for `arch`, lowest weight decays first."""
    from replicate.paper.cells import Cell
    from replicate.paper.claim import Part

    found = [p.run for p in scales.points(scale, Part(Cell(arch, scale.data[0][0]), "main", "paper"))]
    return stacks(list(dict.fromkeys(found)), count)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="embedded", choices=scales.SCALES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=32)
    parser.add_argument("--lanes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--arch", nargs="+")
    asked = parser.parse_args()
    scale = scales.get(asked.scale)
    now = time.process_time if asked.device == "cpu" else time.perf_counter
    print(f"{'':12}{'alone':>10}" + "".join(f"{f'{n} lanes':>10}" for n in asked.lanes))
    for arch in asked.arch or dict(scale.models):
        runs = runs_of(scale, arch, asked.runs)
        best = dict.fromkeys([1, *asked.lanes], float("inf"))
        for _ in range(asked.rounds):
            some = runs[::SAMPLE]
            started = now()
            for run in some:
                solo.train(run, asked.device)
            best[1] = min(best[1], (now() - started) / len(some))
            for lanes in asked.lanes:
                started = now()
                train_stack(runs, asked.device, How(lanes=lanes))
                best[lanes] = min(best[lanes], (now() - started) / len(runs))
        ratios = "".join(f"{best[1] / best[lanes]:>10.2f}" for lanes in asked.lanes)
        print(f"{arch:12}{best[1]:>8.3f} s{ratios}", flush=True)


if __name__ == "__main__":
    main()
