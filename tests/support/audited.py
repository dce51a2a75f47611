"""Made-up papers for the tests of the audit: a consistent one from a simulated sweep, and ways to spoil it."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from replicate.audit.folder import DROPS, FIGURES, GRID, RATIOS
from replicate.audit.grid import on_grid
from replicate.audit.reported import (
    Bibliography,
    Campaign,
    DropRow,
    Experiment,
    Learner,
    Measured,
    Point,
    Printed,
    RatioRow,
    Recipe,
    Reported,
    StatedFigure,
    Work,
)
from replicate.estimate.published import argmax_wds, origin_slope, resamples, weighted_percentile
from replicate.landscape.landscape import Slice

Floats = NDArray[np.float64]

RHO, SEEDS, SD_PP, BETA = 50.0, 5, 0.15, 2.0
LRS = (2e-4, 6e-4, 2e-3)
KAPPAS = tuple(float(f"{k:.4g}") for k in np.logspace(-1, 1, 21))
SHOWN = (0.1, 0.2, 0.5, 2.0, 5.0, 10.0)
ARCHS, DATASETS = ("a", "b", "c"), ("x", "y")
STRONGER_ABOVE = {"x": 1.15, "y": 1.0}
"""On x too much weight decay costs more than too little."""


def printed(value: float, decimals: int) -> Printed:
    return Printed(f"{value:.{decimals}f}")


def measured(value: float, low: float, high: float, decimals: int) -> Measured:
    return Measured(*(printed(x, decimals) for x in (value, low, high)))


def stated(name: str, value: str, low: str = "", high: str = "") -> StatedFigure:
    ends = (Printed(low), Printed(high)) if low else (None, None)
    return StatedFigure(name, Measured(Printed(value), *ends))


def true_drop(dataset: str, kappas: Sequence[float] | Floats) -> Floats:
    """Accuracy lost, pp."""
    x = np.log(kappas)
    return np.asarray(BETA * x**2 * np.where(x > 0, STRONGER_ABOVE[dataset], 1.0))


def sweep(dataset: str, rng: np.random.Generator) -> list[Slice]:
    """One cell: 21 weight decays about the line at each learning rate, the middle learning rate the best."""
    out = []
    for i, lr in enumerate(LRS):
        wds = np.array([float(f"{k * RHO * lr:.6g}") for k in KAPPAS])
        mean = 75.0 - 3.0 * abs(i - 1) - true_drop(dataset, KAPPAS)
        scores = mean[:, None] + rng.normal(0, SD_PP, (len(wds), SEEDS))
        out.append(Slice(lr, wds, scores, np.zeros(scores.shape, dtype=bool)))
    return out


def _slopes(optima: Floats) -> Floats:
    logs = np.log(LRS) - np.mean(np.log(LRS))
    return np.asarray(np.log(optima) @ logs / (logs @ logs))


def ratio_row(arch: str, dataset: str, slices: list[Slice]) -> RatioRow:
    """A row of the table of ratios by the paper's pipeline; p from the interval by t with 20 degrees of freedom."""
    shares, probability = resamples(SEEDS)
    lrs = np.array(LRS)
    best = argmax_wds(slices, np.full((1, SEEDS), 1 / SEEDS))[0]
    drawn = argmax_wds(slices, shares)
    rhos, slopes = origin_slope(lrs, drawn), _slopes(drawn)
    rho = float(origin_slope(lrs, best[None])[0])
    ends = [weighted_percentile(rhos, probability, q) for q in (2.5, 97.5)]
    slope_ends = [weighted_percentile(slopes, probability, q) for q in (2.5, 97.5)]
    half = (ends[1] - ends[0]) / 2
    p = float(2 * stats.t.sf(abs(rho - RHO) * stats.t.ppf(0.975, 20) / half, 20)) if half else None
    r2 = 1 - ((best - rho * lrs) ** 2).sum() / ((best - best.mean()) ** 2).sum()
    return RatioRow(
        arch,
        dataset,
        measured(rho, *ends, 2),
        p=None if p is None else printed(p, 2),
        slope=measured(float(_slopes(best[None])[0]), *slope_ends, 3),
        r2=printed(r2, 3),
    )


def drop_rows() -> tuple[DropRow, ...]:
    """The table of drops, each with an interval of 0.3 pp and the p that belongs to it."""
    rows = []
    for dataset in DATASETS:
        for kappa in SHOWN:
            drop = float(true_drop(dataset, [kappa])[0])
            p = float(2 * stats.norm.sf(drop * 1.96 / 0.3))
            small = p < 0.001
            shown = Printed("0.001") if small else printed(p, 3)
            rows.append(DropRow(kappa, dataset, measured(drop, drop - 0.3, drop + 0.3, 1), p=shown, p_below=small))
    return tuple(rows)


def made_up(seed: int = 0) -> Reported:
    """A paper whose every figure follows from a simulated sweep in which its claim is true."""
    rng = np.random.default_rng(seed)
    cells = {(a, d): sweep(d, rng) for a in ARCHS for d in DATASETS}
    rows = tuple(ratio_row(a, d, slices) for (a, d), slices in cells.items())
    grid = tuple((lr, tuple(cells["a", "x"][i].wds.tolist())) for i, lr in enumerate(LRS))
    paper = Reported("made-up", grid, rows, drop_rows())
    return dataclasses.replace(paper, figures=_figures(paper, cells), **_material(paper))


def _figures(paper: Reported, cells: dict[tuple[str, str], list[Slice]]) -> tuple[StatedFigure, ...]:
    rhos = np.array([row.rho.value.value for row in paper.ratios])
    halves = np.array([sum(row.rho.half_width) / 2 for row in paper.ratios])
    pooled = float(np.sqrt((halves**2).sum()) / len(halves))
    # The analysis of variance is of one ratio a cell and seed.
    one_seed = np.eye(SEEDS)
    groups = [
        np.concatenate([origin_slope(np.array(LRS), argmax_wds(cells[a, d], one_seed)) for d in DATASETS])
        for a in ARCHS
    ]
    f, _ = stats.f_oneway(*groups)
    f = float(f"{f:.2f}")
    within = len(ARCHS) * len(DATASETS) * SEEDS - len(ARCHS)
    p = float(stats.f.sf(f, len(ARCHS) - 1, within))
    gaps = np.array([_gap(slices) for slices in cells.values()])
    error = gaps.std(ddof=1) / math.sqrt(len(gaps)) * 1.96
    points, one = len(LRS) * len(KAPPAS), len(ARCHS) * len(LRS) * len(KAPPAS) * SEEDS
    line, full = len(LRS) * SEEDS, points * SEEDS
    beyond = [float(row.drop.value.text) for row in paper.drops if row.kappa not in (0.5, 2.0)]
    inside = [float(row.drop.value.text) for row in paper.drops if row.kappa in (0.5, 2.0)]
    mean = float(rhos.mean())
    return (
        stated("rho", "5e1", f"{mean - pooled:.2f}", f"{mean + pooled:.2f}"),
        stated("count/seeds", str(SEEDS)),
        stated("count/architectures", str(len(ARCHS))),
        stated("count/learning-rates", str(len(LRS))),
        stated("count/weight-decays", str(len(KAPPAS))),
        stated("count/cnns", "2"),
        stated("runs/per-dataset", str(one)),
        stated("runs/total", str(2 * one)),
        stated("runs/title", str(2 * one)),
        stated("cost/grid-points", str(points)),
        stated("cost/grid-runs", str(full)),
        stated("cost/line-runs", str(line)),
        stated("cost/reduction", f"{100 * (1 - line / full):.1f}"),
        stated("cost/factor", f"{full / line:.0f}"),
        stated("cost/share/abstract", f"1/{full // line}"),
        stated("anova/f", f"{f:.2f}"),
        stated("anova/p", f"{p:.2f}"),
        stated("anova/df-between", str(len(ARCHS) - 1)),
        stated("anova/df-within", str(within)),
        stated("anova/df-between/methods", str(len(ARCHS) - 1)),
        stated("anova/df-within/methods", str(within)),
        stated("deviation/factor-2", "2", f"{min(beyond):.1f}", f"{max(beyond):.1f}"),
        stated("deviation/zone", "1", "0.5", "2.0"),
        stated("deviation/zone-drop", f"{max(inside) + 0.1:.1f}"),
        stated("deviation/beyond-zone-drop", f"{min(beyond) - 0.1:.1f}"),
        stated("asymmetry/x", "0"),
        stated("one-dim/mean-gap", f"{gaps.mean():.2f}", f"{gaps.mean() - error:.2f}", f"{gaps.mean() + error:.2f}"),
        stated("one-dim/max-gap", f"{gaps.max():.2f}"),
        stated("one-dim/gap", f"{math.ceil(10 * gaps.max() + 1) / 10:.1f}"),
        stated("one-dim/seed-sd", "0.15", "0.14", f"{max(0.16, gaps.max() + 0.02):.2f}"),
        stated("sgd/rho", f"{RHO / 5:g}"),
        stated("theory/penalty-exponent", "0"),
        stated("theory/balance-exponent", "-1"),
        stated("robust/schedule/cosine", f"{mean:.1f}"),
        stated("recipe/learning-rate", "1e-3"),
        stated("recipe/weight-decay", "0.05"),
        stated("recipe/ratio", "50"),
    )


def _gap(slices: list[Slice]) -> float:
    """Best mean of the grid less best mean of the line, whose runs were trained anew with the same seeds."""
    best = max(float(cut.scores.mean(axis=1).max()) for cut in slices)
    middle = KAPPAS.index(1.0)
    return best - max(float(cut.scores[middle].mean()) for cut in slices)


def _material(paper: Reported) -> dict[str, Any]:
    one = len(ARCHS) * len(LRS) * len(KAPPAS) * SEEDS
    protocol = {"runs": one, "epochs": 100, "warmup_epochs": 5, "train_images": 50_000, "batch_size": 128}
    learners = (Learner("resnet50", True), Learner("convnext_t", True), Learner("vit_s16", False))
    return {
        "learners": learners,
        "campaigns": tuple(
            Campaign(d, **protocol, image_size=size, hours=Printed(hours))
            for d, size, hours in (("x", 32, "300"), ("y", 224, "1000"))
        ),
        "experiments": (Experiment("none", 0, "text"),),
        "bibliography": Bibliography((Work("A", 2001),), (Work("A", 2001, 2001),)),
        "script": (Point("epochs", "100", "100", "script", agrees=True),),
        "contradictions": (Point("decay", "lr x wd", "lr x wd", "text", agrees=True),),
        "cited_work": (Point("A 2001", "one thing", "the same", "text", agrees=True),),
        "recipes": (Recipe("A", 1e-3, 0.05, "text"),),
    }


def change(paper: Reported, row: int = 0, **fields: Any) -> Reported:
    """The paper with fields of one row of its table of ratios replaced."""
    rows = list(paper.ratios)
    rows[row] = dataclasses.replace(rows[row], **fields)
    return dataclasses.replace(paper, ratios=tuple(rows))


def change_figure(paper: Reported, name: str, value: str, low: str = "", high: str = "") -> Reported:
    """The paper with one figure of the text replaced or added."""
    others = tuple(f for f in paper.figures if f.name != name)
    return dataclasses.replace(paper, figures=(*others, stated(name, value, low, high)))


def change_drop(paper: Reported, kappa: float, dataset: str, drop: Measured, **fields: Any) -> Reported:
    """The paper with one drop replaced."""
    rows = tuple(
        dataclasses.replace(r, drop=drop, **fields) if (r.kappa, r.dataset) == (kappa, dataset) else r
        for r in paper.drops
    )
    return dataclasses.replace(paper, drops=rows)


def all_on_grid(paper: Reported) -> bool:
    return all(on_grid(paper, lr, k * paper.rho * lr) for lr, _ in paper.grid for k in (1.0, *paper.kappas))


def write_folder(paper: Reported, folder: Path) -> None:
    """Writes what `replicate.audit.folder` reads: grid, tables and figures, not what a folder cannot hold."""

    def texts(measured: Measured | None) -> list[str]:
        """Value and ends, each empty where there is none."""
        parts = (measured.value, measured.low, measured.high) if measured else (None, None, None)
        return [text(part) for part in parts]

    def text(printed: Printed | None) -> str:
        return "" if printed is None else printed.text

    def table(name: str, header: str, rows: Iterable[Iterable[object]]) -> None:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header.split())
        writer.writerows(rows)
        (folder / name).write_text(out.getvalue(), encoding="utf-8")

    folder.mkdir(parents=True, exist_ok=True)
    table(GRID, "lr wd", [(f"{lr:g}", f"{wd:g}") for lr, wds in paper.grid for wd in wds])
    rows = [[r.arch, r.dataset, *texts(r.rho), text(r.p), *texts(r.slope), text(r.r2)] for r in paper.ratios]
    table(RATIOS, "arch dataset rho rho_low rho_high p slope slope_low slope_high r2", rows)
    if paper.drops:
        rows = [[f"{d.kappa:g}", d.dataset, *texts(d.drop), "<" * d.p_below + text(d.p)] for d in paper.drops]
        table(DROPS, "kappa dataset drop low high p", rows)
    if paper.figures:
        rows = [[f.name, *texts(f.measured), f.source] for f in paper.figures]
        table(FIGURES, "name value low high source", rows)
