"""Times `replicate plan`, the start of offline judging and `replicate fsck` on a store of 100,000 runs.

    python benchmarks/large_store.py [--runs 100000] [--folder DIR]

Each command is also timed on a store that holds only the runs of the scale. The ratio of the two times carries over to
other machines, the seconds do not. The runs are made up; `--folder` keeps the stores for later calls.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.needed import runs_for, split
from replicate.runs.result import Result
from replicate.store.store import open_store

ROOT = Path(__file__).parents[1]
SCALE = scales.get("embedded")


def fill(path: Path, count: int) -> int:
    """Store the scale's runs and copies with other seeds, `count` in all; returns how many runs the scale has."""
    store = open_store(path)
    known = store.keys()
    needed = runs_for(split(CLAIMS, SCALE)[0], SCALE)
    others = (dataclasses.replace(run, seed=run.seed + 1000 * i) for i in itertools.count(1) for run in needed)
    for run in itertools.islice(itertools.chain(needed, others), max(count, len(needed))):
        if run.key not in known:
            accuracy = int(run.key[:6], 16) / 2**24 * 100
            result = Result(accuracy, accuracy, False, 1.0, (accuracy / 3, accuracy), 0.5)
            store.put(run, result, {"made up": True}, durable=False)
    return len(needed)


def timed(arguments: list[str]) -> float:
    """Wall-clock seconds of `python -m …`."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1 means that a claim is contradicted
        raise SystemExit(f"{' '.join(arguments)}: expected exit 0 or 1, got {done.returncode}\n{done.stdout[-2000:]}")
    return time.perf_counter() - started


def timed_start(arguments: list[str], sign: str) -> float:
    """Wall-clock seconds of `python -m …` until it prints a line with `sign`."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        seen = any(sign in line for line in process.stdout)
        seconds = time.perf_counter() - started
        process.terminate()
    if not seen:
        raise SystemExit(f"{' '.join(arguments)}: expected a line with {sign!r}, got none")
    return seconds


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=100_000)
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        top = given.folder or Path(temporary)
        started = time.perf_counter()
        needed = fill(top / "small", 0)
        fill(top / "large", given.runs)
        print(f"{given.runs} runs in one store, {needed} in the other; made in {time.perf_counter() - started:.0f} s")
        commands = {
            "plan": ["replicate", "plan", "--scale", SCALE.name, "--json", "--store"],
            "offline judge, start": ["pytest", "claims/", "--scale", SCALE.name, "--offline", "--report",
                                     str(top / "report"), "--store"],
            "offline judge, one claim": ["pytest", "claims/", "--scale", SCALE.name, "--offline", "-q", "-k",
                                         "cost", "--report", str(top / "report"), "--store"],
            "fsck": ["replicate", "fsck", "--store"],
        }  # fmt: skip
        print(f"{'':26}{'small':>9}{'large':>9}  ratio")
        for name, command in commands.items():
            time_it = partial(timed_start, sign="selected, runs:") if "start" in name else timed
            small, large = (time_it([*command, str(top / size)]) for size in ("small", "large"))
            print(f"{name:26}{small:7.1f} s{large:7.1f} s{large / small:7.1f}")


if __name__ == "__main__":
    main()
