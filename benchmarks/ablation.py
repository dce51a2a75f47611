"""What each rule and constant between scores and verdict does: left out, halved, doubled, on landscapes of known truth.

    python benchmarks/ablation.py --cells 40 [--only TEXT …]

A row says how often slope and ratio are replicated where the law is the paper's, at five seeds and weight decays a
factor 2.56 apart, over all trained landscapes of which twenty seeds are recorded; how often a verdict is wrong there
with laws just beyond the margins; how often a ratio of 0.24 is replicated on invented shapes; how often a verdict on
slope or ratio is wrong where a whole range of weight decays is best; and how often the 95 % intervals of the first
hold the truth.

With `--simulated N` a row is about every N-th of the calibration's simulated studies instead: how often a ratio and a
slope are decided, and how often wrongly.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.calibration import rates, studies, trained_rates, trained_studies
from replicate.calibration.trained import LANDSCAPES
from replicate.estimate import accuracy_curve, line_fit, optimum, plateau, power_law, rise_and_fall
from replicate.judging import rule
from replicate.judging.sweep_verdicts import judge_sweep
from replicate.judging.verdict import REPLICATED
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import Truth
from replicate.paper.registry import CLAIMS

SEEDS, EVERY = trained_rates.USUAL
BEYOND = {"rho": ("0.25 η", "0.04 η"), "slope": ("η^0.75", "η^1.25")}
INVENTED = ("asymmetric", "skewed", "tent")
RANGES = (("plateau", 0.1, 0.3), ("mesa", 0.1, 0.3), ("tolerance", 0.15, 1.0))
"""Shapes with a range of equally good weight decays, the ratio in its middle or at its end, and the noise, SD in pp."""
CONSTANTS = (
    "MISFIT",
    "APART",
    "SOFTENING",
    "OUTSIDE",
    "FLOOR",
    "PLATEAU",
    "LATE_FALL",
    "FLAT_TOP",
    "BREAKS",
    "RESOLUTION",
    "MAY_DRIFT",
)
MODULES = (accuracy_curve, line_fit, optimum, plateau, power_law, rise_and_fall)
"""Where constants are defined or imported."""


def without_shape() -> None:
    """Each learning rate has its own smooth curve, and no more."""
    fit = rise_and_fall.fit
    rise_and_fall.fit = lambda *of: (fit(*of)[0], -math.inf)


def without_process() -> None:
    """The rise and the fall are believed whatever the evidence says."""
    fit = rise_and_fall.fit
    rise_and_fall.fit = lambda *of: (fit(*of)[0], math.inf)


def without_softenings() -> None:
    """The process follows losses as they are."""
    vars(accuracy_curve)["SOFTENINGS"] = np.array([np.inf])


def without_lean() -> None:
    """Ratios are not widened to where straight sides would meet."""
    power_law._lean = lambda fit: (0.0, 0.0)


def without_sets() -> None:
    """Runs that cannot be told from the best are no set, however wide or near the grid's end."""
    optimum._unbounded = lambda table, *of: table


def without_plateaus() -> None:
    """Only a best run at the grid's end, or a flat top between runs, makes a range of optima."""
    optimum.PLATEAU = math.inf


def without_flat_tops() -> None:
    """Where a curve begins to fall on either side is not looked for."""
    vars(optimum)["FLAT_TOP"] = math.inf


def without_run_support() -> None:
    """The process alone chooses among the runs."""
    optimum._run_support = lambda points, fit, rng: np.ones(len(points.x))


def without_law_breaks() -> None:
    """A misfit is never one that matters."""
    line_fit.MISFIT_P = 0.0


def without_ratio_off() -> None:
    """The ratio of no single learning rate keeps the mean from replicating."""
    rule._off = lambda margin, found: found


def nothing() -> None:
    """The rules as they are."""


RULES: dict[str, Callable[[], None]] = {
    f.__name__.replace("_", " "): f
    for f in (
        nothing,
        without_shape,
        without_process,
        without_softenings,
        without_lean,
        without_sets,
        without_plateaus,
        without_flat_tops,
        without_run_support,
        without_law_breaks,
        without_ratio_off,
    )
}


@dataclass(frozen=True)
class Variant:
    """One change of the rules."""

    name: str
    times: float = 1.0
    """Factor of the constant called `name`; 1 where it names a rule."""

    @property
    def words(self) -> str:
        """How the table calls it."""
        return self.name if self.times == 1 else f"`{self.name}` x {self.times:g}"

    def apply(self) -> None:
        """To the modules of this process."""
        if self.times == 1.0:
            RULES[self.name]()
            return
        for module in MODULES:
            if hasattr(module, self.name):
                setattr(module, self.name, self.times * getattr(module, self.name))


def variants() -> list[Variant]:
    """All that are tried."""
    return [Variant(name) for name in RULES] + [Variant(name, times) for name in CONSTANTS for times in (0.5, 2.0)]


def judged(landscape: Landscape) -> rates.Judged:
    """By the rules of this process."""
    return rates.of_cell(judge_sweep([landscape])[0])


def row(task: tuple[Variant, tuple[str, ...], int]) -> tuple[str, ...]:
    """A row of the table."""
    variant, names, cells = task
    variant.apply()
    margins = {claim.quantity: claim.margin for claim in CLAIMS}
    right: dict[str, list[bool]] = {"slope": [], "rho": []}
    wrong: list[bool] = []
    covered: list[bool] = []
    for name in names:
        for i in range(cells):
            found = judged(trained_studies.cell(name, trained_rates.PAPERS, SEEDS, EVERY, i))
            for quantity in right:
                truth = trained_rates.true_value(trained_rates.PAPERS, quantity, found.informative)
                low, high = found.intervals[quantity]
                right[quantity].append(found.verdicts[quantity] == REPLICATED)
                covered.append((low is None or low <= truth) and (high is None or high >= truth))
            for quantity, laws in BEYOND.items():
                for law in laws:
                    other = judged(trained_studies.cell(name, law, SEEDS, EVERY, i))
                    at = trained_rates.where(law, quantity, other.informative, margins[quantity])
                    wrong.append(rates.errs(other.verdicts[quantity], at))
    of_invented = []
    for shape in INVENTED:
        study = studies.Study("ablation", Truth(shape=shape, rho=0.24), seeds=SEEDS)
        of_invented += [judged(rates.landscape(study, i)).verdicts["rho"] == REPLICATED for i in range(cells)]
    of_ranges = []
    for shape, rho, noise_sd_pp in RANGES:
        study = studies.Study("ablation", Truth(shape=shape, rho=rho, noise_sd_pp=noise_sd_pp), seeds=SEEDS)
        found_of = rates.summaries(study, [judged(rates.landscape(study, i)) for i in range(cells)])
        of_ranges += [rate.wrong for rate in found_of if rate.quantity in right]
    shares = (right["slope"], right["rho"], wrong, of_invented, of_ranges, covered)
    return variant.words, *(f"{100 * np.mean(share):.1f} %" for share in shares)


def simulated_row(task: tuple[Variant, int, int]) -> tuple[str, ...]:
    """A row of the table of simulated studies."""
    variant, every, cells = task
    variant.apply()
    decided: dict[str, list[float]] = {"rho": [], "slope": []}
    wrong: dict[str, list[float]] = {"rho": [], "slope": []}
    for study in studies.studies()[::every]:
        for rate in rates.summaries(study, [judged(rates.landscape(study, i)) for i in range(cells)]):
            if rate.quantity in decided:
                decided[rate.quantity].append(rate.decisive)
                wrong[rate.quantity].append(rate.wrong)
    shares = (decided["rho"], decided["slope"], wrong["rho"], wrong["slope"])
    return variant.words, *(f"{100 * np.nanmean(share):.1f} %" for share in shares)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=40, metavar="N", help="of each kind (default 40)")
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="changes whose name has one of these")
    parser.add_argument("--simulated", type=int, metavar="N", help="judge every N-th simulated study instead")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    arguments = parser.parse_args()
    wanted = [v for v in variants() if v.name == "nothing" or any(text in v.name for text in arguments.only)]
    if arguments.simulated:
        find: Callable[..., tuple[str, ...]] = simulated_row
        head: tuple[str, ...] = ("ratio decided", "slope decided", "ratio wrong", "slope wrong")
        print(f"{arguments.cells} landscapes of {len(studies.studies()[:: arguments.simulated])} studies.\n")
        tasks: list[tuple[Any, ...]] = [(variant, arguments.simulated, arguments.cells) for variant in wanted]
    else:
        find = row
        head = ("slope replicated", "ratio replicated", "wrong, trained", "wrong, invented", "wrong, ranges", "covers")
        names = tuple(name for name in LANDSCAPES if trained_rates.studies(name))
        print(f"{arguments.cells} cells of each kind, of {', '.join(names)}.\n")
        tasks = [(variant, names, arguments.cells) for variant in wanted]
    print("| change | " + " | ".join(head) + " |\n" + "|---" * (len(head) + 1) + "|")
    with multiprocessing.get_context("spawn").Pool(arguments.processes, maxtasksperchild=1) as pool:
        for cells in pool.imap(find, tasks):
            print("| " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
