"""Random searches on trained landscapes: how often each verdict, and how often intervals contain the truth.

    python benchmarks/random_search.py --searches 40

A search draws learning rates log-uniformly over those of a landscape, and weight decays log-uniformly from a tenth of
the law's smallest best weight decay to ten times its largest. A trial's score is that of a recorded run at the nearest
learning rate and the same distance from the optimum, corrected by interpolating the optimum's score over learning
rates.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.calibration import trained_studies
from replicate.calibration.rates import errs, place
from replicate.calibration.trained_rates import true_value
from replicate.estimate import surface
from replicate.judging.rule import decide
from replicate.judging.verdict import Evidence
from replicate.landscape.landscape import Landscape
from replicate.paper.registry import CLAIMS

NAMES = ("mlp-digits-adamw", "mlp-digits-sgd", "convnext_t-digits-adamw", "swin_t-digits-adamw")
SPAN = math.log(100)
"""ln of the range of weight decays drawn around one optimum: from a tenth of it to ten times as much."""


def search(name: str, law: str, trials: int, index: int) -> Landscape:
    """The `index`-th search; its random draws depend only on the arguments."""
    rng = np.random.default_rng([index, trials, *law.encode(), *name.encode()])
    of_law = trained_studies.LAWS[law]
    of_name = zip(trained_studies.curves(name), trained_studies.truths(name), strict=True)
    known = [(curve, true) for curve, true in of_name if true.known and true.interior]
    log_lrs = np.log([curve.lr for curve, _ in known])
    tops = [float(np.nanmax(np.nanmean(curve.scores, axis=1))) for curve, _ in known]
    ends = np.log([of_law(float(np.exp(x))) for x in (log_lrs[0], log_lrs[-1])])
    rows = []
    for trial in range(trials):
        x = rng.uniform(log_lrs[0], log_lrs[-1])
        wd = rng.uniform(min(ends) - SPAN / 2, max(ends) + SPAN / 2)
        i = int(np.abs(log_lrs - x).argmin())
        curve, true = known[i]
        at, scores = curve.with_finer()
        offset = wd - math.log(of_law(math.exp(x)))
        row = int(np.abs(at - true.place - offset).argmin())
        offset = float(at[row] - true.place)
        score = scores[row, int(rng.integers(scores.shape[1]))] - tops[i] + float(np.interp(x, log_lrs, tops))
        rows.append((math.exp(x), of_law(math.exp(x)) * math.exp(offset), trial, score))
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score"])
    return Landscape(name, law, frame.assign(diverged=frame["score"].isna()), chance_pp=10.0)


def tried(task: tuple[str, str, int, int]) -> dict[str, tuple[str, float, float, bool, bool]]:
    _, law, _, index = task
    found = surface.ridge(search(*task), np.random.default_rng(index))
    if found is None:
        return {}
    out = {}
    evidence = Evidence("sweep", probe=True)
    for quantity, of in (("slope", surface.slope(found)), ("rho", surface.ratio(found))):
        claim = next(claim for claim in CLAIMS if claim.quantity == quantity)
        margin, outcome = claim.margin, decide(claim, of, evidence).outcome
        lrs = found.lrs.tolist()
        truth = true_value(law, quantity, lrs)
        where = place(quantity, truth, margin, (trained_studies.LAWS[law](lr) / lr for lr in lrs))
        out[quantity] = (outcome.value, of.low, of.high, errs(outcome, where), of.low <= truth <= of.high)
    return out


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--searches", type=int, default=40)
    arguments.add_argument("--trials", type=int, action="append")
    arguments.add_argument("--law", action="append", choices=list(trained_studies.LAWS))
    arguments.add_argument("--landscape", action="append", choices=NAMES)
    arguments.add_argument("--processes", type=int, default=2)
    options = arguments.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    head = ("landscape", "law", "trials", "quantity", "replicated", "contradicted", "wrong", "covers", "width")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for name in options.landscape or NAMES:
            for law in options.law or ("0.1 η", "0.25 η", "η^1.25", "constant", "1/η"):
                for trials in options.trials or (60,):
                    found = pool.map(tried, [(name, law, trials, index) for index in range(options.searches)])
                    for quantity in ("slope", "rho"):
                        of = [one[quantity] for one in found if one]
                        rate = [f"{100 * np.mean([o[0] == w for o in of]):.0f}" for w in ("replicated", "contradicted")]
                        wrong, covers = (f"{100 * np.mean([o[i] for o in of]):.0f}" for i in (3, 4))
                        with np.errstate(divide="ignore", invalid="ignore"):
                            widths = [np.log(o[2]) - np.log(o[1]) if quantity == "rho" else o[2] - o[1] for o in of]
                        width = f"{np.median(np.nan_to_num(widths, nan=np.inf)):.2f}"
                        print(
                            f"| {name} | {law} | {trials} | {quantity} | {' | '.join([*rate, wrong, covers, width])} |"
                        )
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
