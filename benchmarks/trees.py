"""Times stacked training in two checkouts of this repository, alternately: is one slower than the other?

    git worktree add ../before COMMIT
    python benchmarks/trees.py ../before [--arch resnet50 …] [--rounds 2]

Each turn runs each checkout's `benchmarks/stacked.py` in a process of its own, so each trains with its own code. A line
shows core-seconds per run in stacks, in the other checkout (there) and in this one (here), the shortest of all turns,
and the ratio here / there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.runs.scales import EMBEDDED

HERE = Path(__file__).parents[1]
LANES = 32


def seconds(tree: Path, arch: str) -> float:
    """Core-seconds of one run of `arch` in stacks, trained by the code in `tree`."""
    command = [sys.executable, "benchmarks/stacked.py", "--arch", arch, "--lanes", str(LANES), "--rounds", "1"]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{tree}: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    _, alone, _, times_as_fast = done.stdout.splitlines()[-1].split()
    return float(alone) / float(times_as_fast)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("there", type=Path, help="the other checkout")
    parser.add_argument("--arch", nargs="+", default=[arch for arch, _ in EMBEDDED.models])
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    print(f"{'':12}{'there':>10}{'here':>10}{'share':>8}")
    for arch in asked.arch:
        turns = [(seconds(asked.there.resolve(), arch), seconds(HERE, arch)) for _ in range(asked.rounds)]
        there, here = (min(times) for times in zip(*turns, strict=True))
        print(f"{arch:12}{there:>8.3f} s{here:>8.3f} s{here / there:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
