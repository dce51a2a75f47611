"""Storage, and time lost to preemption, for the paper's runs and 100 times as many on preemptible machines.

    python benchmarks/preemption.py [--run-hours 0.5] [--lanes 16] [--restart-seconds 180] [--bandwidth-gbps 8]

Computed from counted sizes, a seeded simulation, and assumptions that are options; no GPU was measured. Prints every
figure of docs/scale.md. `--listing` also times how long it takes to list a store.
"""

from __future__ import annotations

import argparse
import gzip
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "fixtures" / "recorded" / "probe" / "runs.jsonl.gz"

PARAMETERS = {
    "resnet50": 23_712_932,
    "vit_s16": 21_630_436,
    "convnext_t": 27_897_028,
    "mixer_s16": 17_278_596,
    "swin_t": 27_575_230,
}
"""Parameters of the models of scale cifar100, counted by tests/train/test_preemption.py."""
BYTES_PER_PARAMETER = 12
"""Bytes per parameter in a checkpoint: weight and two moments, float32."""
RUNS = {"the paper": 2_400, "100 times": 240_000}
INTERVALS_MINUTES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
MTBF_HOURS = (1.0, 2.0, 4.0, 8.0, 24.0)
"""Mean times between two preemptions of a machine."""
WARNED_SECONDS = 300.0
"""Seconds between two saves of a unit that gets a warning before preemption: the software's default interval."""
DEVICES = (8, 100, 1_000)
SHARDS = 256
FIGURES_OF_A_VALUE = 19
"""Characters per value of a run's history in its record, comma included."""


def overhead(
    work: float,
    interval: float,
    save: float,
    restart: float,
    mtbf: float,
    rng: np.random.Generator,
    units: int = 2000,
    warned: bool = False,
) -> float:
    """Share of time lost to preemptions, a Poisson process; mean over `units` simulated units, times in seconds.

    A unit needs `work`, and saves after each `interval` of work and at the end, which takes `save`. A preemption, which
    may also hit a save or restart, loses the work since the last save and costs `restart`. A unit that is `warned`
    saves once more before the preemption and loses nothing.
    """
    spent = np.zeros(units)
    ahead = rng.exponential(mtbf, units)  # until the next preemption
    left = work
    while left > 1e-9:
        piece = min(interval, left)
        left -= piece
        todo = np.full(units, piece + save)
        pending = np.ones(units, dtype=bool)
        while pending.any():
            hit = pending & (ahead < todo)
            safe = pending & ~hit
            spent[safe] += todo[safe]
            ahead[safe] -= todo[safe]
            pending[safe] = False
            spent[hit] += ahead[hit]
            todo[hit] = restart + (todo[hit] - ahead[hit] + save if warned else piece + save)
            ahead[hit] = rng.exponential(mtbf, int(hit.sum()))
    return float(spent.mean() / work - 1)


def expected_overhead(interval: float, save: float, restart: float, mtbf: float) -> float:
    """`overhead` in closed form, if work is a multiple of `interval`: Daly 2006, Future Gener. Comput. Syst. 22."""
    return mtbf * math.exp(restart / mtbf) * math.expm1((interval + save) / mtbf) / interval - 1


def best_interval(save: float, mtbf: float) -> float:
    """The interval between saves that loses least time, to first order (Young 1974, Daly 2006)."""
    return math.sqrt(2 * save * mtbf)


def lane_bytes(arch: str) -> int:
    """Bytes of one run of `arch` in a checkpoint, apart from a few numbers."""
    return BYTES_PER_PARAMETER * PARAMETERS[arch]


def record_bytes(values: int = 200) -> tuple[float, float]:
    """Mean bytes of a recorded run, and of a run with `values` evaluations in its history."""
    with gzip.open(RECORDED, "rb") as file:
        sizes = np.array([len(line) for line in file])
    return float(sizes.mean()), float(sizes.mean()) + FIGURES_OF_A_VALUE * (values - 2)


def listing_seconds(counts: Sequence[int]) -> NDArray[np.float64]:
    """Seconds of `Store.keys` on stores of `counts` empty records, in this machine's temporary folder."""
    sys.path.insert(0, str(ROOT))
    from replicate.store.store import open_store

    found = []
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder, "store"))
        made = 0
        for count in counts:
            for i in range(made, count):
                path = store.layout.record(f"{i * 2654435761 % 2**32:08x}{i:016x}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            made = count
            taken = []
            for _ in range(5):
                began = time.perf_counter()
                assert len(store.keys()) == count
                taken.append(time.perf_counter() - began)
            found.append(min(taken))
    return np.array(found)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 10 else f"{share:.0f} times"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-hours", type=float, default=0.5, help="device-hours of a CIFAR-100 run (assumed: 0.5)")
    parser.add_argument("--long-hours", type=float, default=4.0, help="of an ImageNet run (assumed: 4)")
    parser.add_argument("--lanes", type=int, default=16, help="runs in a stack (assumed: 16)")
    parser.add_argument("--restart-seconds", type=float, default=180.0, help="to come back (assumed: 180)")
    parser.add_argument("--bandwidth-gbps", type=float, default=8.0, help="to the store, of a machine (assumed: 8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--listing", action="store_true", help="also time the listing of a store; writes many files")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    stack_hours = options.lanes * options.run_hours
    bandwidth = options.bandwidth_gbps * 1e9 / 8
    largest = options.lanes * max(lane_bytes(arch) for arch in PARAMETERS)
    save = largest / bandwidth

    print("## Units\n")
    rows = []
    for name, runs in RUNS.items():
        half = runs // 2
        hours = half * (options.run_hours + options.long_hours)
        rows.append([name, f"{runs:,}", f"{math.ceil(half / options.lanes):,}", f"{half:,}", f"{hours:,.0f}"])
    print(table(("", "runs", f"stacks of {options.lanes} (CIFAR-100)", "single runs (ImageNet)", "device-hours"), rows))

    print("\n## Records\n")
    small, large = record_bytes()
    print(f"{small:.0f} bytes on average in probe; with 200 evaluations about {large:.0f}\n")
    rows = []
    for devices in DEVICES:
        hourly = devices / options.run_hours
        rows.append([f"{devices:,}", f"{hourly:,.0f}", f"{hourly * large / 1e6:.2f} MB"])
    print(table(("devices", "records an hour", "bytes an hour"), rows))
    print(f"\na folder of {RUNS['100 times']:,} records: {RUNS['100 times'] * large / 1e9:.1f} GB, "
          f"{RUNS['100 times'] / SHARDS:.0f} files in each of {SHARDS} folders")  # fmt: skip

    print("\n## Checkpoints\n")
    rows = []
    for arch in PARAMETERS:
        lane = lane_bytes(arch)
        stack = options.lanes * lane
        rows.append([arch, f"{PARAMETERS[arch] / 1e6:.1f} M", f"{lane / 1e6:.0f} MB", f"{stack / 1e9:.1f} GB",
                     f"{stack / bandwidth:.1f} s"])  # fmt: skip
    print(table(("", "parameters", "a lane", f"a stack of {options.lanes}", "to save it"), rows))
    print()
    rows = [
        [f"{devices:,}", *(f"{devices * largest / (60 * minutes) / 1e9:.2f} GB/s" for minutes in INTERVALS_MINUTES)]
        for devices in DEVICES
    ]
    print(table(("devices, all saving every", *(f"{minutes:g} min" for minutes in INTERVALS_MINUTES)), rows))

    print(f"\n## Lost to preemptions: a stack of {stack_hours:g} h that saves in {save:.1f} s\n")
    rows = []
    for mtbf in MTBF_HOURS:
        lost = [
            overhead(3600 * stack_hours, 60 * minutes, save, options.restart_seconds, 3600 * mtbf, rng)
            for minutes in INTERVALS_MINUTES
        ]
        warned = overhead(
            3600 * stack_hours, WARNED_SECONDS, save, options.restart_seconds, 3600 * mtbf, rng, warned=True
        )
        best = f"{best_interval(save, 3600 * mtbf) / 60:.1f} min"
        rows.append([f"{mtbf:g} h", *map(percent, lost), best, percent(warned)])
    intervals = (f"{m:g} min" for m in INTERVALS_MINUTES)
    header = ("preempted every", *intervals, "best: √(2·C·MTBF)", "5 min, warned")
    print(table(header, rows))

    print("\n## Lost to preemptions: if a run saved nothing\n")
    rows = [
        [
            f"{mtbf:g} h",
            *(
                percent(overhead(3600 * hours, 3600 * hours, 0.0, options.restart_seconds, 3600 * mtbf, rng, 50_000))
                for hours in (options.run_hours, options.long_hours)
            ),
        ]
        for mtbf in MTBF_HOURS
    ]
    print(table(("preempted every", f"of {options.run_hours:g} h", f"of {options.long_hours:g} h"), rows))

    if options.listing:
        print("\n## Listing a store, on this machine\n")
        counts = list(RUNS.values())
        seconds = listing_seconds(counts)
        rows = [[f"{n:,}", f"{1e3 * s:.1f} ms", f"{s / seconds[0]:.0f}"] for n, s in zip(counts, seconds, strict=True)]
        print(table(("records", "seconds", "ratio"), rows))


if __name__ == "__main__":
    main()
