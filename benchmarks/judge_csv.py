"""Times `replicate judge` on a CSV of a hundred cells in a new process, with imports and reading.

    python benchmarks/judge_csv.py [--cells 100] [--rounds 3]

A process that only imports numpy and pandas is timed too: no program that reads a CSV with them can be faster. The
ratio of the two times carries over to other machines, the seconds do not.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.landscape.synthetic import Truth, bracket_grid, draw

ROOT = Path(__file__).parents[1]


def timed(command: list[str], rounds: int) -> tuple[float, float]:
    """Shortest wall-clock and processor time of `command`, s."""
    wall = cpu = float("inf")
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        wall = min(wall, time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = min(cpu, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if done.returncode not in (0, 1):  # 1 means that a claim is contradicted
            raise SystemExit(f"{' '.join(command)}: expected exit 0 or 1, got {done.returncode}\n{done.stderr}")
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    truths = [Truth(slope=b, rho=rho) for b in (1.0, 0.0, -1.0, 0.5) for rho in (0.05, 0.1, 0.3)]
    frames = []
    for i in range(asked.cells):
        truth = truths[i % len(truths)]
        made = draw(truth, bracket_grid(truth), np.random.default_rng(i)).frame
        frames.append(made.rename(columns={"score": "accuracy"}).assign(arch=f"arch-{i}", dataset="made up"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sweeps.csv")
        table = pd.concat(frames).drop(columns="diverged")
        table.to_csv(path, index=False)
        wall, cpu = timed([sys.executable, "-m", "replicate", "judge", str(path), "--json"], asked.rounds)
    floor_wall, floor_cpu = timed([sys.executable, "-c", "import numpy, pandas"], asked.rounds)
    print(f"{asked.cells} cells, {len(table):,} runs: {wall:.2f} s by the clock, {cpu:.2f} s of a core")
    print(f"importing numpy and pandas alone: {floor_wall:.2f} s by the clock, {floor_cpu:.2f} s of a core")
    print(f"ratio: {cpu / floor_cpu:.1f} times the import")


if __name__ == "__main__":
    main()
