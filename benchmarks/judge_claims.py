"""Times `pytest claims/` with all runs recorded, in one process and with `-n`, in new sessions, alternately.

    python benchmarks/judge_claims.py [--scale probe] [--rounds 3]

If no run is to be trained, `-n` starts no workers (`fixtures/plugin.py`). The last way starts two workers anyway, to
show whether that is still the right choice. Medians count, and all verdicts must be equal.

When `-n` always started workers, and now: medians of three turns on two cores that were busy with other work (so core
seconds say more than wall-clock seconds), without cached bytecode:

    one process     37 and 32 s by the clock    11.5 and 11.5 s of a core
    -n 2            73 and 33 s                 24.6 and 11.7 s
    -n 4            96 and 36 s                 33.0 and 12.5 s

Now, on an idle machine, one turn: 15.6, 13.8 and 13.6 s by the clock; with two workers anyway 20.3 s.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.runs import scales

ROOT = Path(__file__).parents[1]
WAYS = ("", "-n 2", "-n 4", "-d --tx 2*popen")


def judged(scale: str, way: str, select: str, folder: Path) -> tuple[float, float, dict[str, Any]]:
    """Wall-clock and core seconds of a session with all its processes, and its verdict file."""
    command = [sys.executable, "-m", "pytest", "claims/", "-q", "-p", "no:cacheprovider", "--offline", *way.split()]
    command += ["--scale", scale, "--store", str(folder / "none"), "--report", str(folder)]
    before, started = _core_seconds(), time.perf_counter()
    done = subprocess.run([*command, "-k", select], cwd=ROOT, capture_output=True, text=True)
    clock = time.perf_counter() - started
    if done.returncode not in (0, 1):  # 1 means that a claim is contradicted
        raise SystemExit(f"{' '.join(command)}: expected exit 0 or 1, got {done.returncode}\n{done.stdout[-2000:]}")
    file = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    del file["created"]
    return clock, _core_seconds() - before, file


def _core_seconds() -> float:
    """Processor time of all ended descendants of this process."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="probe", choices=scales.SCALES, help="a scale whose runs are recorded")
    parser.add_argument("--rounds", type=int, default=3, help="turns, of which the median counts (default: 3)")
    parser.add_argument("--select", default="", metavar="EXPRESSION", help="pytest's -k: which claims")
    asked = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    first: dict[str, Any] | None = None
    for _ in range(asked.rounds):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                clock, core, file = judged(asked.scale, way, asked.select, Path(folder))
            first = first or file
            if file != first:
                raise SystemExit(f"{way or 'one process'}: expected the verdicts of the first session, got others")
            taken[way].append((clock, core))
    for way, each in taken.items():
        clock, core = (statistics.median(of) for of in zip(*each, strict=True))
        print(f"{way or 'one process':18}{clock:>7.1f} s by the clock{core:>7.1f} s of a core")
    print(f"verdicts: the same in all {asked.rounds * len(WAYS)} sessions")


if __name__ == "__main__":
    main()
