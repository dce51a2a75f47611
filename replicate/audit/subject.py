"""The paper under audit: `replicate.paper`'s tables and protocol in the audit's terms."""

from __future__ import annotations

from functools import lru_cache

from replicate.audit import readings
from replicate.audit.reported import (
    Campaign,
    DropRow,
    Experiment,
    Learner,
    Measured,
    Printed,
    RatioRow,
    Reported,
    StatedFigure,
)
from replicate.paper import protocol, tables
from replicate.paper.claim import Figure

IMAGE_SIZE = {"cifar100": 32, "imagenet": 224}


@lru_cache(maxsize=1)
def published() -> Reported:
    """The paper, as it was published."""
    return Reported(
        name="2604.01145",
        grid=tuple((lr, protocol.WEIGHT_DECAYS) for lr in protocol.LRS),
        ratios=tuple(_ratio_row(row) for row in tables.TABLE_1),
        drops=tuple(_drop_row(row, dataset) for dataset in protocol.DATASETS for row in tables.TABLE_2),
        figures=(*(_figure(s) for s in tables.STATED), *readings.FIGURES),
        learners=tuple(Learner(a.name, a.convolutional) for a in protocol.ARCHITECTURES),
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


def _ratio_row(row: tables.RatioRow) -> RatioRow:
    digits = tables.TABLE_1_DECIMALS
    return RatioRow(
        row.cell.arch, row.cell.dataset, _measured(row.rho, digits["rho"]), _number(row.p_value, digits["p_value"]),
        _measured(row.slope, digits["slope"]), _number(row.r2, digits["r2"]), row.source,
    )  # fmt: skip


def _drop_row(row: tables.DeviationRow, dataset: str) -> DropRow:
    drop = _measured(row.drop(dataset), tables.TABLE_2_DECIMALS)
    return DropRow(row.kappa, dataset, drop, Printed(str(row.p_bound)), row.p_direction == "below", row.source)


def _figure(stated: tables.Stated) -> StatedFigure:
    figure = stated.figure
    if stated.direction == "between":  # printed as `low-high`
        low, high = stated.printed.split("-")
        measured = Measured(Printed(str(figure.value)), Printed(low), Printed(high))
    else:
        printed = Printed(stated.printed)
        decimals = len(stated.printed.partition(".")[2])
        ends = (None if x is None else _number(x, decimals) for x in (figure.low, figure.high))
        measured = Measured(printed, *ends)
    return StatedFigure(stated.name, measured, figure.source)


def _campaign(dataset: str) -> Campaign:
    runs = len(protocol.ARCHITECTURES) * len(protocol.LRS) * len(protocol.WEIGHT_DECAYS) * len(protocol.SEEDS)
    return Campaign(
        dataset, runs, protocol.EPOCHS[dataset], protocol.WARMUP_EPOCHS, protocol.TRAIN_IMAGES[dataset],
        protocol.BATCH_SIZE[dataset], IMAGE_SIZE[dataset], Printed(tables.stated(f"compute/{dataset}").printed),
    )  # fmt: skip


def _experiments() -> tuple[Experiment, ...]:
    """The robustness checks, each of which finds a best weight decay and so needs a grid of its own."""
    grid = len(protocol.LRS) * len(protocol.WEIGHT_DECAYS) * len(protocol.SEEDS)
    cnns = sum(a.convolutional for a in protocol.ARCHITECTURES)
    return (
        Experiment("three other batch sizes", grid * (len(protocol.ROBUST_BATCH_SIZES) - 1), "section 4.4"),
        Experiment("two other schedules", grid * (len(protocol.SCHEDULES) - 1), "section 4.4"),
        Experiment("300 epochs for two architectures", grid * 2, "section 4.4"),
        Experiment(f"SGD for {cnns} convolutional networks", grid * cnns, "section 4.4"),
    )
