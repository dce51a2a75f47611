"""How often a ratio is replicated though one learning rate has another: the last of six, measured worse than the rest.

    python benchmarks/one_rate_off.py [--cells 20]

At all other learning rates the ratio is 0.1 and the noise of a run 0.3 pp; weight decays are a factor 3 apart. A
replicated ratio is right in the row in which the law holds, and wrong in the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.judging.sweep_verdicts import judge_sweep
from replicate.judging.verdict import REPLICATED
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import Truth, bracket_grid, draw
from replicate.paper.protocol import LRS

SEEDS = (3, 5, 10)


def landscape(index: int, seeds: int, ratio: float, noise_sd_pp: float) -> Landscape:
    """The last learning rate has the optimum `ratio` * lr and runs with the noise `noise_sd_pp`."""
    of_last = {LRS[-1]: Truth(rho=ratio, noise_sd_pp=noise_sd_pp)}
    frames = []
    for i, lr in enumerate(LRS):
        truth = of_last.get(lr, Truth())
        made = draw(truth, bracket_grid(truth), np.random.default_rng([index, seeds, i]), seeds=range(seeds))
        frames.append(made.frame[made.frame["lr"] == lr])
    return replace(made, frame=pd.concat(frames, ignore_index=True))


def with_bound(index: int, seeds: int) -> Landscape:
    """At the last learning rate nothing is lost up to 0.02 lr, and 10 pp at 0.1 lr."""
    made = landscape(index, seeds, 0.1, 0.3)
    frame = made.frame.copy()
    last = frame["lr"] == LRS[-1]
    x = np.log(frame.loc[last, "wd"] / LRS[-1] / 0.02)
    noise = np.random.default_rng([index, seeds]).normal(0, 0.3, last.sum())
    frame.loc[last, "score"] = frame["score"].max() - np.minimum(10 / np.log(5) * np.maximum(x, 0), 40) + noise
    return replace(made, frame=frame)


CASES: dict[str, Callable[[int, int], Landscape]] = {
    "law holds": lambda i, n: landscape(i, n, 0.1, 0.3),
    "law holds, last with noise 1.2 pp": lambda i, n: landscape(i, n, 0.1, 1.2),
    "last at 0.26 lr": lambda i, n: landscape(i, n, 0.26, 0.3),
    "last at 0.26 lr, noise 1.2 pp": lambda i, n: landscape(i, n, 0.26, 1.2),
    "last at 0.4 lr, noise 1.2 pp": lambda i, n: landscape(i, n, 0.4, 1.2),
    "last has only a bound, 0.02 lr": with_bound,
}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20, metavar="N", help="of each kind (default 20)")
    cells = parser.parse_args().cells
    print("| ratio replicated | " + " | ".join(f"{n} seeds" for n in SEEDS) + " |\n" + "|---" * (len(SEEDS) + 1) + "|")
    for words, make in CASES.items():
        counts = [
            sum(judge_sweep([make(i, seeds)])[0].outcomes["rho"] == REPLICATED for i in range(cells)) for seeds in SEEDS
        ]
        print(f"| {words} | " + " | ".join(f"{100 * count / cells:.0f} %" for count in counts) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
