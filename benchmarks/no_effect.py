"""From which share of the weights on weight decay changes the accuracy of the recorded runs of `probe`.

Read with them are runs of the same kind at weight decays that the scale does not train any more, because of this table
(`fixtures/recorded/no-effect`).

    python benchmarks/no_effect.py

A row: all runs whose weight decay alone would take away a share of the weights in that band over the training. Each is
compared with the run of the same seed and learning rate without weight decay: the mean difference with its standard
error (over learning rates and seeds), its standard deviation, and the share of runs whose accuracy is the same to the
last digit. Beside them the standard deviation between seeds without weight decay.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.runs import decay
from replicate.store import recorded
from replicate.store.record import run_from_record

BANDS = (0, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)


def differences() -> pd.DataFrame:
    """Family, learning rate, seed, share and accuracy with weight decay (`score`) and without it (`none`), in pp."""
    stored = [*recorded.of_scale("probe").values(), *recorded.of_scale("no-effect").values()]
    runs = [(run_from_record(one.run), one.result) for one in stored]
    table = pd.DataFrame(
        [
            (
                f"{run.arch}, {run.optimizer}, {run.data.name}",
                run.lr,
                run.seed,
                decay.share(run, run.weight_decay),
                result.accuracy_pp,
            )
            for run, result in runs
            if not result.diverged
        ],
        columns=["family", "lr", "seed", "share", "score"],
    )
    keys = ["family", "lr", "seed"]
    none = table[table.share == 0].rename(columns={"score": "none"})[[*keys, "none"]]
    return table.merge(none, on=keys)


def main() -> None:
    table = differences()
    between = table[table.share == 0].groupby(["family", "lr"]).score.std().groupby("family").median()
    print(f"{'family':26} {'share of the weights':>20}  runs  mean ± SE, pp     sd  same, %  sd of seeds")
    for family, of_family in table[table.share > 0].groupby("family"):
        for low, high in pairwise(BANDS):
            some = of_family[(of_family.share >= low) & (of_family.share < high)]
            if some.empty:
                continue
            change = (some.score - some.none).to_numpy()
            # A seed's runs at one learning rate share the run without weight decay, so they count as one.
            pairs = (some.score - some.none).groupby([some.lr, some.seed]).mean()
            error = float(pairs.std() / np.sqrt(len(pairs)))
            print(
                f"{family:26} {f'{100 * low:g} to {100 * high:g} %':>20} {len(some):5d} "
                f"{change.mean():6.2f} ± {error:.2f} {change.std():10.2f} {100 * np.mean(change == 0):8.0f} "
                f"{between[family]:12.2f}"
            )


if __name__ == "__main__":
    main()
