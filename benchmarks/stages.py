"""Reliability of verdicts from few seeds, provisional or by `--until settled`, on trained landscapes of known truth.

    python benchmarks/stages.py --cells 6

Cells have five seeds and every second weight decay, with the optima of all learning rates moved onto a law. The first
table counts final verdicts, by the 95 % interval of all five seeds, for each provisional verdict from the first three.
The second compares, by law, judging once with judging at two looks (at 99 % on few seeds; if inconclusive, at 96 % on
all five): right and wrong verdicts, verdicts settled at the first look, and the share of all runs that the two looks
need.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))


from replicate.calibration import trained_rates, trained_studies
from replicate.calibration.rates import errs, informative
from replicate.calibration.trained import LANDSCAPES
from replicate.judging import claim_verdicts
from replicate.judging.ratios import LEVEL
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, REPLICATED, Evidence, Outcome, Verdict
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim
from replicate.paper.registry import CLAIMS
from replicate.runs.looks import FIRST_LEVEL, FIRST_SEEDS, LAST_LEVEL
from replicate.runs.needed import STAGE_SEEDS

SEEDS, EVERY = trained_rates.USUAL
LAWS = ("0.1 η", "0.25 η", "√η", "constant", "1/η")
QUANTITIES = ("slope", "rho")
DECISIVE = {"inside": REPLICATED, "outside": CONTRADICTED}
OF_QUANTITY: dict[str, Claim] = {q: next(c for c in CLAIMS if c.quantity == q) for q in QUANTITIES}


@dataclass(frozen=True)
class Looked:
    """One claim on one cell: by (seeds, level), its verdict and whether the truth is inside its margin."""

    law: str
    quantity: str
    outcomes: dict[tuple[int, float], Outcome]
    places: dict[tuple[int, float], str]

    def at_looks(self, seeds: int) -> tuple[int, float]:
        """The seeds and the level of the final verdict if the first look has `seeds` seeds."""
        first = (seeds, FIRST_LEVEL)
        return (SEEDS, LAST_LEVEL) if self.outcomes[first] == INCONCLUSIVE else first

    def wrong(self, at: tuple[int, float]) -> bool:
        return errs(self.outcomes[at], self.places[at])

    def right(self, at: tuple[int, float]) -> bool:
        return self.outcomes[at] == DECISIVE.get(self.places[at])


def judged(claim: Claim, landscape: Landscape, level: float) -> Verdict:
    return claim_verdicts.decide(claim, {(claim.cells[0], "main"): landscape}, Evidence("", True), level)


def looked(task: tuple[str, str, int]) -> list[Looked]:
    """Both claims on the `index`-th cell of a landscape and law."""
    name, law, index = task
    whole = trained_studies.cell(name, law, SEEDS, EVERY, index)
    order = trained_studies.choice(name, law, SEEDS, EVERY, index).seeds
    found = []
    for quantity, claim in OF_QUANTITY.items():
        outcomes, places = {}, {}
        for seeds in sorted({*FEW, SEEDS}):
            frame = whole.frame[whole.frame["seed"].isin(order[:seeds])].reset_index(drop=True)
            of_few = replace(whole, frame=frame)
            ratio = judged(OF_QUANTITY["rho"], of_few, LEVEL).estimate
            assert ratio is not None
            place = trained_rates.where(law, quantity, informative(ratio), claim.margin)
            for level in (LEVEL, FIRST_LEVEL, LAST_LEVEL):
                outcomes[seeds, level] = judged(claim, of_few, level).outcome
                places[seeds, level] = place
        found.append(Looked(law, quantity, outcomes, places))
    return found


FEW = (FIRST_SEEDS, STAGE_SEEDS)
"""Numbers of seeds tried for the first look."""


def provisional(found: list[Looked]) -> Iterator[str]:
    """Table: quantity and provisional verdict → numbers of final verdicts."""
    head = ("claim", "provisional", "of", REPLICATED, CONTRADICTED, INCONCLUSIVE, "wrong")
    yield f"| {' | '.join(head)} |\n|{'---|' * len(head)}"
    first, last = (STAGE_SEEDS, LEVEL), (SEEDS, LEVEL)
    for quantity in QUANTITIES:
        for outcome in (REPLICATED, CONTRADICTED, INCONCLUSIVE):
            of = [one for one in found if one.quantity == quantity and one.outcomes[first] == outcome]
            became = Counter(one.outcomes[last] for one in of)
            counts = [f"{became[final]}" for final in (REPLICATED, CONTRADICTED, INCONCLUSIVE)]
            wrong = sum(one.wrong(first) for one in of)
            yield f"| {quantity} | {outcome} | {len(of)} | {' | '.join(counts)} | {wrong} |"


def two_looks(found: list[Looked]) -> Iterator[str]:
    """Table of one look against two, by law, quantity and number of seeds at the first look."""
    counted = ("right, one look", "wrong", "right, two looks", "wrong", "settled", "runs")
    head = ("law", "claim", "first look", "cells", *counted)
    yield f"| {' | '.join(head)} |\n|{'---|' * len(head)}"
    for law in (*LAWS, "all"):
        for quantity in QUANTITIES:
            of = [one for one in found if one.quantity == quantity and law in (one.law, "all")]
            for seeds in FEW:
                at = [one.at_looks(seeds) for one in of]
                whole = (SEEDS, LEVEL)
                share = [
                    np.mean([one.right(whole) for one in of]),
                    np.mean([one.wrong(whole) for one in of]),
                    np.mean([one.right(where) for one, where in zip(of, at, strict=True)]),
                    np.mean([one.wrong(where) for one, where in zip(of, at, strict=True)]),
                    np.mean([where[0] == seeds for where in at]),
                    np.mean([where[0] / SEEDS for where in at]),
                ]
                shown = " | ".join(f"{100 * value:.1f} %" for value in share)
                usual = " (`--until settled`)" if seeds == FIRST_SEEDS else ""
                yield f"| {law} | {quantity} | {seeds} seeds{usual} | {len(of)} | {shown} |"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cells", type=int, default=6, help="cells per landscape and law")
    arguments.add_argument("--processes", type=int, default=2)
    arguments.add_argument("--landscape", action="append", choices=list(LANDSCAPES))
    options = arguments.parse_args()
    names = [name for name in options.landscape or LANDSCAPES if trained_rates.studies(name)]
    tasks = [(name, law, index) for name in names for law in LAWS for index in range(options.cells)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        found = [one for of_cell in pool.imap(looked, tasks, chunksize=10) for one in of_cell]
    print(f"{len(names)} landscapes, {len(tasks)} cells\n")
    for table in (provisional, two_looks):
        print("\n".join(table(found)) + "\n")


if __name__ == "__main__":
    main()
