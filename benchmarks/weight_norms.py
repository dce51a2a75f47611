"""Compares weight norms of kept models over (η, λ) with the equilibrium norm √(η d / 2 λ): a use of `--keep-models`.

    python benchmarks/weight_norms.py [--store DIR] [--out FILE.svg]

Trains a small perceptron on digits at 3 learning rates × 5 weight decays, as one stack, keeping the models; about a
minute on two cores. Models that the store already has are not trained. Prints a table and, with `--out`, draws it.

The equilibrium norm is the limit of training forever at the peak learning rate. The table also has the norm that the
same argument gives for the actual schedule and initial norm: step by step |w|² ← (1 - η λ)² |w|² + η² d.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import replicate
from replicate.audit.theory.equilibrium import expected_norm
from replicate.cli.output import columns
from replicate.data.spec import DataSpec
from replicate.report.figures.canvas import COLOURS, canvas, log_ticks, number
from replicate.report.figures.document import document
from replicate.runs import schedule
from replicate.runs.run import ModelSpec, Run
from replicate.runs.schedule import factors
from replicate.store.model_file import Keep
from replicate.store.store import open_store
from replicate.train import models
from replicate.train.engine import local
from replicate.train.kept_models import ModelStore

LRS = (1e-3, 3e-3, 1e-2)
WDS = (0.1, 0.3, 1.0, 3.0, 10.0)
BY_LR = ("ours", "claimed", "constant")
"""Colours of the learning rates."""


@dataclass(frozen=True)
class Norm:
    """The norm of all weights of one model, measured and by theory."""

    run: Run
    accuracy_pp: float
    measured: float
    equilibrium: float
    on_schedule: float


def run(lr: float, wd: float) -> Run:
    """A perceptron with 64 hidden units for 40 epochs."""
    model = ModelSpec("class:Mlp", (("hidden", (64,)),))
    return Run(
        "mlp",
        model,
        DataSpec("digits", train_images=1437),
        "adamw",
        lr,
        wd,
        0,
        "cosine",
        40,
        1,
        32,
        eval_every_epochs=40,
    )


def norms(store: Path) -> list[Norm]:
    """The norms of the models in `store`; models that it lacks are trained first."""
    runs = [run(lr, wd) for lr in LRS for wd in WDS]
    local.ensure(open_store(store, keep=Keep.ALL), runs, processes=1)
    opened = replicate.open_store(store)
    return [
        _norm(one, opened) for one in runs if (stored := opened.get(one)) is not None and not stored.result.diverged
    ]


def _norm(one: Run, store: ModelStore) -> Norm:
    stored = store.get(one)
    assert stored is not None
    weights = list(store.model(one).parameters())
    count = sum(p.numel() for p in weights)
    square = sum(float(p.detach().double().square().sum()) for p in models.of_run(one).parameters())
    steps = schedule.steps(one)
    for factor in factors(one.schedule, steps, steps * one.warmup_epochs // one.epochs):
        lr = one.lr * factor
        square = (1 - lr * one.weight_decay) ** 2 * square + lr**2 * count
    measured = math.sqrt(sum(float(p.detach().double().square().sum()) for p in weights))
    equilibrium = expected_norm(one.lr, one.weight_decay, count)
    return Norm(one, stored.result.accuracy_pp, measured, equilibrium, math.sqrt(square))


def table(found: list[Norm]) -> str:
    """The norms as text, one row per model."""
    rows = [
        (
            *(f"{n.run.lr:g}", f"{n.run.weight_decay:g}", f"{n.accuracy_pp:.1f}", f"{n.measured:.2f}"),
            *(f"{n.equilibrium:.2f}", f"{n.measured / n.equilibrium:.2f}", f"{n.on_schedule:.2f}"),
        )
        for n in found
    ]
    head = ("η", "λ", "accuracy", "|w|", "√(ηd/2λ)", "ratio", "on the schedule")
    return columns(head, rows)


def picture(found: list[Norm]) -> str:
    """An SVG of measured against equilibrium norm, one colour per learning rate, with the line of equality."""
    alt = "Norm of the kept models against the equilibrium norm, by learning rate"
    with canvas(420, 330, alt) as drawn:
        ax = drawn.axes(60, 12, 20, 48)
        at = [math.log10(x) for n in found for x in (n.measured, n.equilibrium)]
        low, high = min(at) - 0.1, max(at) + 0.1
        ax.plot([low, high], [low, high], color=COLOURS["muted"], linewidth=0.8)
        for lr, colour in zip(LRS, BY_LR, strict=True):
            mine = [n for n in found if n.run.lr == lr]
            x = [math.log10(n.equilibrium) for n in mine]
            ax.plot(x, [math.log10(n.measured) for n in mine], "o-", color=COLOURS[colour], label=f"η = {number(lr)}")
        ax.set_xlim(low, high)
        ax.set_ylim(low, high)
        log_ticks(ax, "x", low, high)
        log_ticks(ax, "y", low, high)
        ax.set_xlabel("equilibrium norm √(ηd/2λ)")
        ax.set_ylabel("norm of the kept model")
        ax.legend(frameon=False, loc="upper left")
    return document([("weight norms, perceptron on digits", drawn.svg)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", type=Path, metavar="DIR", help="keep the runs in this store (default: discard them)")
    parser.add_argument("--out", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = norms(options.store or Path(folder, "store"))
    local.close()
    print(table(found))
    if options.out is not None:
        options.out.write_text(picture(found), encoding="utf-8")


if __name__ == "__main__":
    main()
