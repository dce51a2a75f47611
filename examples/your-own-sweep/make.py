"""Makes sweep.csv beside this file: a made-up sweep of two models, laid out as a Weights & Biases export.

Nothing was trained: the accuracies are drawn from landscapes whose truth is known
(`replicate.landscape.synthetic`). The best weight decay of `made-up-cnn` is 0.1 times the learning rate, that of
`made-up-vit` is 0.003 at every learning rate.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from replicate.landscape.synthetic import CENTER_LR, Truth, draw

TRUTHS = {
    "made-up-cnn": Truth(rho=0.1, slope=1.0, noise_sd_pp=0.15, seed_sd_pp=0.15),
    "made-up-vit": Truth(rho=0.003 / CENTER_LR, slope=0.0, noise_sd_pp=0.15, seed_sd_pp=0.15, peak_pp=71.0),
}
LRS = (3e-4, 1e-3, 3e-3, 1e-2)
WDS = (0.0, 1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)
COLUMNS = (
    "Name", "State", "Runtime", "config.lr", "config.optimizer.weight_decay", "config.seed", "config.model",
    "config.dataset", "train/loss", "val/accuracy",
)  # fmt: skip


def rows() -> list[dict[str, str]]:
    """One a run; a run that crashed, and one that diverged, are among them, as in real life."""
    rng = np.random.default_rng(0)
    found = []
    for arch, truth in TRUTHS.items():
        for run in draw(truth, lambda lr: WDS, rng, lrs=LRS, seeds=(1, 2, 3)).frame.itertuples():
            values = (
                f"sweep-{len(found) + 1}", "finished", f"{1800 + rng.integers(120)}", f"{run.lr:g}", f"{run.wd:g}",
                str(run.seed), arch, "made-up-images", f"{rng.uniform(0.4, 0.6):.4f}", f"{run.score / 100:.4f}",
            )  # fmt: skip
            found.append(dict(zip(COLUMNS, values, strict=True)))
    found[5] |= {"State": "crashed", "val/accuracy": ""}
    found[131] |= {"val/accuracy": "NaN"}
    return found


def main(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("sweep.csv"))
