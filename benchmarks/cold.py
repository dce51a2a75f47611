"""Times `replicate train` on a whole scale from an empty store, in stacks and run by run, alternately.

    python benchmarks/cold.py [--scale embedded] [--processes 1] [--rounds 1]

Each turn trains every run of the scale with `--trainer solo` and with `--trainer stacked`, each into a new store, which
is deleted afterwards. Times include imports, reading data and writing records. Processor seconds are those of the
command and all its workers, so a busy machine affects only wall-clock time and caches; the shortest turn counts.
`--scale smoke`, whose runs have a few steps, only shows within minutes that the benchmark works.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.runs import scales
from replicate.runs.needed import runs_at
from replicate.store.store import open_store

ROOT = Path(__file__).parents[1]

WAYS = ("solo", "stacked")


@dataclass(frozen=True)
class Taken:
    """The time that training a scale took."""

    processor_seconds: float
    """Processor time of all processes together."""
    clock_seconds: float
    runs: int


def trained(scale: str, trainer: str, processes: int, store: Path) -> Taken:
    """Train `scale` into the new store `store` with `replicate train`; exits if that fails or trains too few runs."""
    command = [sys.executable, "-m", "replicate", "train", "--scale", scale, "--store", str(store)]
    command += ["--trainer", trainer, "--processes", str(processes)]
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    before, started = _processor_seconds(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    clock = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: expected exit 0, got {done.returncode}\n{done.stderr[-2000:]}")
    processor = _processor_seconds() - before
    opened = open_store(store, create=False, read_only=True)
    runs = len(opened.trainings())
    if runs != (wanted := len(runs_at(scales.get(scale), opened.result))):
        raise SystemExit(
            f"scale {scale}: expected {wanted} runs to train, got {runs}; choose a scale without recorded runs"
        )
    return Taken(processor, clock, runs)


def _processor_seconds() -> float:
    """Processor time of all ended descendants of this process."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="embedded", choices=scales.SCALES)
    parser.add_argument("--processes", type=int, default=1, help="stacks, or runs, to train at once (default: 1)")
    parser.add_argument("--rounds", type=int, default=1, help="turns, of which the shortest counts (default: 1)")
    asked = parser.parse_args()
    best: dict[str, Taken] = {}
    print(f"{'':12}{'runs':>7}{'processor':>12}{'clock':>12}")
    for turn in range(asked.rounds):
        for trainer in WAYS if turn % 2 == 0 else reversed(WAYS):
            with tempfile.TemporaryDirectory() as folder:
                taken = trained(asked.scale, trainer, asked.processes, Path(folder, "store"))
            print(
                f"{trainer:12}{taken.runs:>7}{taken.processor_seconds:>10.1f} s{taken.clock_seconds:>10.1f} s",
                flush=True,
            )
            known = best.get(trainer, taken)
            best[trainer] = Taken(
                min(taken.processor_seconds, known.processor_seconds),
                min(taken.clock_seconds, known.clock_seconds),
                taken.runs,
            )
    solo, stacked = (best[way] for way in WAYS)
    print(
        f"scale {asked.scale}, {asked.processes} at once: run by run takes "
        f"{solo.processor_seconds / stacked.processor_seconds:.2f} times the processor and "
        f"{solo.clock_seconds / stacked.clock_seconds:.2f} times the clock of stacks"
    )


if __name__ == "__main__":
    main()
