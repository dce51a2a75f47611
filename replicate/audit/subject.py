"""The paper under audit: `replicate.paper`'s tables and protocol in the audit's terms."""

from __future__ import annotations

from functools import lru_cache

from replicate.audit import readings, reported
from replicate.audit.reported import Measured, Printed, Reported
from replicate.paper import protocol, tables
from replicate.paper.claim import Figure

IMAGE_SIZE = {"cifar100": 32, "imagenet": 224}


@lru_cache(maxsize=1)
def published() -> Reported:
    """The paper as published."""
    return Reported(
        name="2604.01145",
        grid=tuple((lr, protocol.WEIGHT_DECAYS) for lr in protocol.LRS),
        ratios=tuple(_ratio_row(row) for row in tables.TABLE_1),
        drops=tuple(_drop_row(row, dataset) for dataset in protocol.DATASETS for row in tables.TABLE_2),
        figures=(*(_figure(s) for s in tables.STATED), *readings.FIGURES),
        learners=tuple(reported.Learner(a.name, a.convolutional) for a in protocol.ARCHITECTURES),
        campaigns=tuple(_campaign(dataset) for dataset in protocol.DATASETS),
        experiments=_experiments(),
        bibliography=readings.BIBLIOGRAPHY,
        script=readings.SCRIPT,
        contradictions=readings.CONTRADICTIONS,
        cited_work=readings.CITED_WORK,
        recipes=readings.RECIPES,
        sectioned=True,
    )


def _number(value: float, decimals: int) -> Printed:
    return Printed(f"{value:.{decimals}f}")


def _measured(figure: Figure, decimals: int) -> Measured:
    if figure.low is None or figure.high is None:
        return Measured(_number(figure.value, decimals))
    return Measured(*(_number(x, decimals) for x in (figure.value, figure.low, figure.high)))


def _ratio_row(row: tables.RatioRow) -> reported.RatioRow:
    digits = tables.TABLE_1_DECIMALS
    return reported.RatioRow(
        row.cell.arch,
        row.cell.dataset,
        _measured(row.rho, digits["rho"]),
        p=_number(row.p_value, digits["p_value"]),
        slope=_measured(row.slope, digits["slope"]),
        r2=_number(row.r2, digits["r2"]),
        source=row.source,
    )


def _drop_row(row: tables.DeviationRow, dataset: str) -> reported.DropRow:
    drop, p = _measured(row.drop(dataset), tables.TABLE_2_DECIMALS), Printed(str(row.p_bound))
    return reported.DropRow(row.kappa, dataset, drop, p=p, p_below=row.p_direction == "below", source=row.source)


def _figure(stated: tables.Stated) -> reported.StatedFigure:
    figure = stated.figure
    if stated.direction == "between":  # printed as `low-high`
        low, high = stated.printed.split("-")
        measured = Measured(Printed(str(figure.value)), Printed(low), Printed(high))
    else:
        printed = Printed(stated.printed)
        decimals = len(stated.printed.partition(".")[2])
        ends = (None if x is None else _number(x, decimals) for x in (figure.low, figure.high))
        measured = Measured(printed, *ends)
    return reported.StatedFigure(stated.name, measured, figure.source)


RUNS_OF_GRID = len(protocol.LRS) * len(protocol.WEIGHT_DECAYS) * len(protocol.SEEDS)


def _campaign(dataset: str) -> reported.Campaign:
    return reported.Campaign(
        dataset,
        runs=len(protocol.ARCHITECTURES) * RUNS_OF_GRID,
        epochs=protocol.EPOCHS[dataset],
        warmup_epochs=protocol.WARMUP_EPOCHS,
        train_images=protocol.TRAIN_IMAGES[dataset],
        batch_size=protocol.BATCH_SIZE[dataset],
        image_size=IMAGE_SIZE[dataset],
        hours=Printed(tables.stated(f"compute/{dataset}").printed),
    )


def _experiments() -> tuple[reported.Experiment, ...]:
    """The robustness checks, each of which finds a best weight decay and so needs a grid of its own."""
    cnns = sum(a.convolutional for a in protocol.ARCHITECTURES)
    grids = {
        "three other batch sizes": len(protocol.ROBUST_BATCH_SIZES) - 1,
        "two other schedules": len(protocol.SCHEDULES) - 1,
        "300 epochs for two architectures": 2,
        f"SGD for {cnns} convolutional networks": cnns,
    }
    return tuple(reported.Experiment(what, RUNS_OF_GRID * number, "section 4.4") for what, number in grids.items())
