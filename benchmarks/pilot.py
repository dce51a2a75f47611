"""Pilot trainings for the scales `embedded` and `probe`: which setting tells most about optima for its time.

    python benchmarks/pilot.py --setting digits-300 --store DIR

Each setting trains the bracket and no weight decay at six learning rates for each of the five families, with pilot
seeds that no scale uses. A row says of a family at how many learning rates the best weight decay is enclosed (95 %
interval within a factor 10), flat (no weight decay is told from another, within half a point), or neither; how wide
the intervals are; how far seeds differ; how much the best weight decay gains over none; and what a run costs. The
criterion is the last column, learning rates that are settled per core-minute of training: it does not look at which
way a claim falls. What is trained stays in the store, and a second start goes on.

    python benchmarks/pilot.py --scale embedded --store .replicate/store

trains nothing: it reads the stored and recorded runs of a scale, all grids together.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.data import catalogue
from replicate.data.spec import DataSpec
from replicate.estimate import by_rate, fits
from replicate.estimate.by_rate import RateRow, Where
from replicate.landscape import from_store
from replicate.landscape.landscape import Landscape
from replicate.paper.cells import Cell
from replicate.paper.claim import Part
from replicate.paper.protocol import RHO
from replicate.runs import rounds, scales
from replicate.runs.architectures import SMALL_MODELS_16
from replicate.runs.run import Run
from replicate.runs.scales import EMBEDDED, Scale
from replicate.store import recorded
from replicate.store.store import Store, open_store
from replicate.train.engine import local
from replicate.train.plan.plan import GRIDS

SEEDS = (900, 901, 902)
"""No scale uses these."""
LRS = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)
LRS_SGD = (1e-2, 2e-2, 3e-2, 6e-2, 0.1, 0.2)
BRACKET = (0.2, 0.5, 1.2, 3.0, 7.5, 19.0, 47.0, 120.0, 300.0)
SETTLED_FACTOR = 10.0
SETTLED_PP = 0.5


def _setting(name: str, data: DataSpec, **changes: Any) -> Scale:
    return replace(
        EMBEDDED,
        **{
            "name": name,
            "data": (("cifar100", data),),
            "seeds": SEEDS,
            "lrs": LRS,
            "lrs_sgd": LRS_SGD,
            "no_effect_below": 0.0,
            "bracket": BRACKET,
            "eval_every_epochs": 1000,
            **changes,
        },
    )


def _digits(images: int) -> DataSpec:
    return DataSpec("digits", train_images=images, label_noise=0.4)


def _fashion(images: int, wrong: float) -> DataSpec:
    return DataSpec("fashion-16", train_images=images, label_noise=wrong, test_images=2000)


SETTINGS = {
    setting.name: setting
    for setting in (
        _setting("digits-80", _digits(192), epochs=20, warmup_epochs=3, batch_size=48),
        _setting("digits-150", _digits(288), epochs=25, warmup_epochs=3, batch_size=48),
        _setting("digits-150-higher", _digits(288), epochs=25, warmup_epochs=3, batch_size=48, lrs=(*LRS[1:], 0.1)),
        _setting("digits-300", _digits(288), epochs=25, warmup_epochs=2, batch_size=24),
        *(
            _setting(
                f"fashion-{epochs}-{wrong:g}",
                _fashion(1024, wrong),
                models=SMALL_MODELS_16,
                epochs=epochs,
                warmup_epochs=max(epochs // 10, 1),
                batch_size=batch_size,
            )
            for epochs, batch_size in ((5, 16), (10, 32), (20, 64))
            for wrong in (0.4, 0.6)
        ),
    )
}


@dataclass(frozen=True)
class Told:
    """What the runs of one family at one setting tell."""

    rows: tuple[RateRow, ...]
    sd_pp: float
    """Between seeds, the median over all (learning rate, weight decay) within 10 points of the best there."""
    seconds: float
    """Core-seconds, all runs together."""
    runs: int

    def settled(self, row: RateRow) -> bool:
        if row.where in (Where.FLAT, Where.ANY_BELOW):
            return row.alike_loses <= SETTLED_PP
        return row.where is Where.INSIDE and row.high <= SETTLED_FACTOR * row.low


def runs_of(scale: Scale, arch: str, seeds: int, variant: str) -> list[Run]:
    """The bracket and no weight decay."""
    cell = Cell(arch, "cifar100")
    of_bracket = [point.run for point in scales.points(scale, Part(cell, variant, "bracket"))]
    chosen = scale.seeds[:seeds]
    none = [scales.make_run(scale, cell, variant, lr, 0.0, seed) for lr in scale.lrs for seed in chosen]
    return none + [run for run in of_bracket if run.seed in chosen]


def read(scale: Scale, arch: str, runs: list[Run], store: Store) -> Told:
    rows = []
    seconds = 0.0
    for run in runs:
        stored = store.read(run.key)
        assert stored is not None
        result = stored.result
        score = math.nan if result.diverged else float(result.accuracy_pp)
        rows.append((run.lr, run.weight_decay, run.seed, score, result.diverged))
        seconds += result.seconds
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score", "diverged"])
    chance_pp = 100 / catalogue.info(runs[0].data).num_classes
    return evaluate(Landscape(arch, runs[0].data.name, frame, chance_pp=chance_pp), seconds, len(rows))


def evaluate(landscape: Landscape, seconds: float, runs: int) -> Told:
    spreads, chance_pp = [], landscape.chance_pp
    for cut in landscape.slices():
        means = np.nanmean(np.where(np.isfinite(cut.scores), cut.scores, chance_pp), axis=1)
        near = means >= means.max() - 10
        if cut.scores.shape[1] > 1:
            spreads += list(np.nanstd(cut.scores[near], axis=1, ddof=1))
    rows = by_rate.rows(landscape, fits.line(landscape), RHO)
    return Told(rows, float(np.nanmedian(spreads or [math.nan])), seconds, runs)


def of_scale(scale: Scale, store: Store) -> None:
    """A line for each landscape of the scale whose runs are all there, and the settled ones of all."""
    everything: list[Told] = []
    for (cell, variant), landscape in from_store.all_landscapes(scale, store).items():
        keys = {
            p.run.key for grid in GRIDS for p in rounds.points(scale, Part(cell, variant, grid), store.result)
        } & store.keys()
        found = [store.read(key) for key in keys]
        seconds = sum(stored.result.seconds for stored in found if stored is not None)
        everything.append(evaluate(landscape, seconds, len(found)))
        print(f"{variant:12} {cell.arch:11} {line(everything[-1])}", flush=True)
    settled = sum(one.settled(row) for one in everything for row in one.rows)
    print(f"settled: {settled} of {sum(len(one.rows) for one in everything)}")


def line(told: Told) -> str:
    enclosed = [row for row in told.rows if row.where is Where.INSIDE and told.settled(row)]
    flat = [row for row in told.rows if row.where is not Where.INSIDE and told.settled(row)]
    widths = [row.high / row.low for row in enclosed]
    gains = [row.least.value for row in told.rows if row.least is not None]
    settled = len(enclosed) + len(flat)
    factor, gain = (float(np.median(some)) if some else math.nan for some in (widths, gains))
    return (
        f"{len(enclosed):9d} {len(flat):5d} {len(told.rows) - settled:8d} "
        f"{factor:7.1f} {told.sd_pp:6.2f} {gain:6.1f} "
        f"{told.seconds / told.runs:7.2f} {60 * settled / told.seconds:8.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=[*SETTINGS], action="append", help="may be repeated; all by default")
    parser.add_argument("--scale", help="read the runs of this scale instead of training a setting")
    parser.add_argument("--family", choices=[arch for arch, _ in EMBEDDED.models], action="append", help="as --setting")
    parser.add_argument("--store", default=".replicate/pilot", help="where what was trained stays (%(default)s)")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many pilot seeds (%(default)s)")
    parser.add_argument("--variant", choices=["main", "sgd"], default="main")
    parser.add_argument("--rows", action="store_true", help="each learning rate's row, too")
    arguments = parser.parse_args()
    below = recorded.of_scale(arguments.scale) if arguments.scale else {}
    store = open_store(arguments.store, below=below)
    print(f"{'setting':12} {'family':11} enclosed  flat  neither  factor     sd   gain  s a run  settled a core-minute")
    if arguments.scale:
        of_scale(scales.get(arguments.scale), store)
        return
    for name in arguments.setting or SETTINGS:
        setting = SETTINGS[name]
        families = ["resnet50", "convnext_t"] if arguments.variant == "sgd" else [arch for arch, _ in setting.models]
        for arch in families:
            if arguments.family and arch not in arguments.family:
                continue
            runs = runs_of(setting, arch, arguments.seeds, arguments.variant)
            local.ensure(store, runs)
            found = read(setting, arch, runs, store)
            print(f"{name:12} {arch:11} {line(found)}", flush=True)
            if arguments.rows:
                for row in found.rows:
                    print(
                        f"    lr {row.lr:<7g} {row.where.value:10} best {row.best_wd} {row.best_score:.1f}  "
                        f"[{row.low:.3g}, {row.high:.3g}]  settled {found.settled(row)}"
                    )


if __name__ == "__main__":
    main()
