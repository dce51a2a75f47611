"""CLAIMS: every trained claim of the paper with its figure, its runs and its rule, built from the paper's tables.

The statements and rules are this project's words; the figures are the paper's. Margins were fixed before any training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from replicate.paper.cells import Cell
from replicate.paper.claim import Claim, Figure, Margin, Part, registry_hash
from replicate.paper.protocol import LRS, ROBUST_BATCH_SIZES, SCHEDULES, SEEDS, WEIGHT_DECAYS
from replicate.paper.tables import TABLE_1, TABLE_2, stated

CELLS: tuple[Cell, ...] = tuple(row.cell for row in TABLE_1)
"""The paper's ten cells in the order of Table 1."""

SGD_CELLS = tuple(Cell(arch, "cifar100") for arch in ("resnet50", "convnext_t"))
"""The paper says three convolutional networks; two of its five architectures are."""

FACTOR_2 = Margin(0.05, 0.20)
"""The paper's own tolerance zone around 0.10."""
STRICT_RHO = Margin(0.08, 0.12)
"""The paper's interval for the pooled ratio."""
SMALLEST_DEVIATION_MARGIN_PP = 0.5
"""Table 2's intervals go down to 0.3 pp, less than one standard deviation over seeds; the margin does not."""

_POOLED_RATIO_RULE = "the interval of the pooled ratio lies within a factor 2 of 0.10"
_RATIO_RULE = (
    "the interval of the ratio lies within a factor 2 of 0.10; where the slope is not 1, a learning rate whose own "
    "ratio lies outside contradicts it"
)


def _parts(cells: Iterable[Cell], grids: Iterable[str], variant: str = "main") -> tuple[Part, ...]:
    grids = tuple(grids)
    return tuple(Part(cell, variant, grid) for cell in cells for grid in grids)


def _interval(figure: Figure) -> tuple[float, float]:
    if figure.low is None or figure.high is None:
        raise ValueError(f"expected a figure with an interval, got {figure}")
    return figure.low, figure.high


OPTIMUM = ("paper", "ratio", "bracket")
"""The grids that locate the best weight decay wherever the hypotheses put it."""


def _cell_claims() -> Iterable[Claim]:
    """The claims of Table 1 and its text that speak of one cell each."""
    p = stated("intercept/p").figure
    for row in TABLE_1:
        name, parts = row.cell.id, _parts([row.cell], OPTIMUM)
        yield Claim(
            id=f"rho/{name}", family="rho",
            statement=f"In {name} the best weight decay is about 0.10 times the learning rate.",
            source=row.source, quantity="rho", unit="", margin=FACTOR_2, strict=STRICT_RHO,
            rule=_RATIO_RULE, parts=parts, figure=row.rho,
        )  # fmt: skip
        yield Claim(
            id=f"rho/reject/{name}", family="rho",
            statement=f"In {name} a test at 5 % does not reject a ratio of 0.10.",
            source=row.source, quantity="rho_rejects", unit="", margin=FACTOR_2, strict=STRICT_RHO,
            rule="an interval that holds for all ten cells together and leaves out 0.10 contradicts it; one that holds "
            "0.10 counts only where it also lies within a factor 2 of it, for a p-value that is not significant shows "
            "nothing by itself",
            parts=parts, figure=Figure(row.p_value, None, None, "p", row.source),
        )  # fmt: skip
        yield Claim(
            id=f"slope/{name}", family="slope",
            statement=f"In {name} the best weight decay grows in proportion to the learning rate: log-log slope 1.",
            source=row.source, quantity="slope", unit="", margin=Margin(0.8, 1.2),
            rule="the interval of the slope lies in [0.8, 1.2], which holds every interval of Table 1",
            parts=parts, figure=row.slope,
        )  # fmt: skip
        yield Claim(
            id=f"intercept/{name}", family="intercept",
            statement=f"In {name} the line of best weight decay against learning rate passes through the origin.",
            source="section 4.1", quantity="intercept_share", unit="", margin=Margin(-1.0, 0.5),
            rule="the intercept's share of the line's value at the geometric mean learning rate lies in [-1, 0.5]: "
            "there the line is then within a factor 2 of the proportional one",
            parts=parts, figure=Figure(p.value, p.value, 1.0, "p", p.source),
        )  # fmt: skip
        yield Claim(
            id=f"r2/{name}", family="r2",
            statement=f"In {name} the proportional line explains nearly all variance of the best weight decay.",
            source=row.source, quantity="r2", unit="", margin=Margin(0.90, math.inf),
            rule="the interval of R squared lies at or above 0.90",
            parts=parts, figure=Figure(row.r2, None, None, "", row.source), direction="higher",
        )  # fmt: skip


def _pooled_ratio_claims() -> Iterable[Claim]:
    yield Claim(
        id="rho/overall", family="rho",
        statement="Over all ten cells together the best weight decay is 0.10 times the learning rate.",
        source="abstract", quantity="rho_pooled", unit="", margin=FACTOR_2, strict=STRICT_RHO,
        rule=_POOLED_RATIO_RULE,
        parts=_parts(CELLS, OPTIMUM), figure=stated("rho").figure,
    )  # fmt: skip
    f = stated("anova/f").figure
    yield Claim(
        id="universality/anova", family="universality",
        statement="The ratio is the same for all five architectures.",
        source=f.source, quantity="max_ratio", unit="times", margin=Margin(1.0, 2.0),
        rule="the interval of the largest ratio between two architectures' ratios stays below 2; "
        "the analysis of variance is reported beside it",
        parts=_parts(CELLS, OPTIMUM), figure=Figure(f.value, None, None, "F(4, 45)", f.source),
    )  # fmt: skip


def _deviation_claims() -> Iterable[Claim]:
    """Table 2 and what the text says about it."""
    for dataset in ("cifar100", "imagenet"):
        parts = _parts((c for c in CELLS if c.dataset == dataset), ("ratio",))
        for row in TABLE_2:
            drop = row.drop(dataset)
            low, high = _interval(drop)
            half = max(drop.value - low, high - drop.value, SMALLEST_DEVIATION_MARGIN_PP)
            half = round(half, 10)  # the table's digits, free of the subtraction's rounding
            yield Claim(
                id=f"deviation/{dataset}/kappa-{row.kappa:g}", family="deviation",
                statement=f"On {dataset}, {row.kappa:g} times the claimed best weight decay costs {drop.value:g} pp.",
                source=row.source, quantity="drop_pp", unit="pp",
                margin=Margin(round(drop.value - half, 10), round(drop.value + half, 10)),
                rule=f"the interval of the mean drop lies within {half:g} pp of the table",
                parts=parts, figure=drop, arguments=(("dataset", dataset), ("kappa", row.kappa)),
            )  # fmt: skip
        ends = [row.drop(dataset) for row in TABLE_2 if row.kappa in (0.1, 10.0)]
        smaller = min(ends, key=lambda drop: drop.value)
        yield Claim(
            id=f"deviation/{dataset}/hurts", family="deviation",
            statement=f"On {dataset} a weight decay ten times too small or too large costs clearly.",
            source=smaller.source, quantity="hurts_pp", unit="pp", margin=Margin(1.2, math.inf),
            rule="the interval of the smaller of the two drops at kappa 0.1 and 10 lies above 1.2 pp",
            parts=parts, figure=smaller, arguments=(("dataset", dataset),), direction="higher",
        )  # fmt: skip
    parts = _parts(CELLS, ("ratio",))
    zone, growth = stated("deviation/zone-drop").figure, stated("deviation/growth-exponent").figure
    yield Claim(
        id="deviation/tolerance-zone", family="deviation",
        statement="Within a factor 2 of the claimed best weight decay little is lost; beyond it more than 2 pp.",
        source=zone.source, quantity="zone_pp", unit="pp", margin=Margin(0.0, math.inf),
        rule="the smallest slack of these bounds, over both data sets, is not negative: drops at kappa 0.5 and 2 below "
        "1.2 pp, drops at kappa 0.1, 0.2, 5 and 10 above 2 pp",
        parts=parts, figure=zone, direction="higher",
    )  # fmt: skip
    yield Claim(
        id="deviation/log-quadratic", family="deviation",
        statement="Beyond the tolerance zone the loss grows about as the square of log kappa.",
        source=growth.source, quantity="growth_exponent", unit="", margin=Margin(1.5, 2.5),
        rule="the interval of the fitted exponent of growth lies in [1.5, 2.5]", parts=parts, figure=growth,
    )  # fmt: skip
    yield Claim(
        id="deviation/asymmetry", family="deviation",
        statement="On imagenet too much weight decay costs more than too little; on cifar100 that is weaker.",
        source="section 4.2", quantity="asymmetry_pp", unit="pp", margin=Margin(0.0, math.inf),
        rule="the interval of the mean of drop(kappa) - drop(1/kappa) over kappa 2, 5, 10 lies above 0 on imagenet, "
        "and cifar100's is smaller",
        parts=parts, direction="higher",
    )  # fmt: skip


def _one_dim_claims() -> Iterable[Claim]:
    """Tuning the learning rate alone, with weight decay 0.1 times it."""
    bound, mean = stated("one-dim/gap").figure, stated("one-dim/mean-gap").figure
    largest, seed_sd = stated("one-dim/max-gap").figure, stated("one-dim/seed-sd").figure
    for cell in CELLS:
        yield Claim(
            id=f"one-dim/gap/{cell.id}", family="one_dim",
            statement=f"In {cell.id} the six points of the claimed line come within 0.3 pp of the full grid's best.",
            source=bound.source, quantity="gap_pp", unit="pp", margin=Margin(-math.inf, bound.value),
            rule="the interval of the gap, freed of the optimism of a maximum over noisy means, lies below 0.3 pp",
            parts=_parts([cell], ("paper", "unit")), figure=bound, direction="lower",
        )  # fmt: skip
    parts = _parts(CELLS, ("paper", "unit"))
    yield Claim(
        id="one-dim/mean-gap", family="one_dim",
        statement="The gap between the claimed line and the full grid is 0.18 pp on average over the ten cells.",
        source=mean.source, quantity="mean_gap_pp", unit="pp", margin=Margin(*_interval(mean)),
        rule="the interval of the mean gap lies within the paper's interval", parts=parts, figure=mean,
    )  # fmt: skip
    yield Claim(
        id="one-dim/max-gap", family="one_dim",
        statement="No cell's gap is larger than about a third of a percentage point.",
        source=largest.source, quantity="max_gap_pp", unit="pp", margin=Margin(-math.inf, 0.5),
        rule="the interval of the largest gap lies below 0.5 pp", parts=parts, figure=largest, direction="lower",
    )  # fmt: skip
    yield Claim(
        id="one-dim/below-seed-noise", family="one_dim",
        statement="The mean gap is smaller than the standard deviation between seeds.",
        source=seed_sd.source, quantity="gap_minus_seed_sd_pp", unit="pp", margin=Margin(-math.inf, 0.0),
        rule="the interval of mean gap minus standard deviation over seeds lies below 0; "
        "whether that deviation is 0.25 to 0.40 pp is reported beside it",
        parts=parts, figure=seed_sd, direction="lower",
        arguments=tuple(zip(("seed_sd_low_pp", "seed_sd_high_pp"), _interval(seed_sd), strict=True)),
    )  # fmt: skip
    line_runs, grid_runs = len(LRS) * len(SEEDS), len(LRS) * len(WEIGHT_DECAYS) * len(SEEDS)
    stated_ratio = stated("cost/line-runs").figure.value / stated("cost/grid-runs").figure.value
    yield Claim(
        id="one-dim/cost", family="one_dim",
        statement="Searching the claimed line takes 30 runs where the full grid takes 240.",
        source="section 4.3", quantity="cost_ratio", unit="", margin=Margin(stated_ratio - 1e-9, stated_ratio + 1e-9),
        rule="runs on the line over runs on the grid, counted from the protocol, is 1/8", parts=(),
        figure=Figure(stated_ratio, None, None, "", "section 4.3"),
        arguments=(("grid_runs", grid_runs), ("line_runs", line_runs)), direction="lower",
    )  # fmt: skip


def _robustness_claims() -> Iterable[Claim]:
    """The ratio under other batch sizes, schedules and training lengths."""
    resnet, vit = Cell("resnet50", "imagenet"), Cell("vit_s16", "imagenet")
    for size in ROBUST_BATCH_SIZES:
        # 1024 is the protocol's batch size on ImageNet, so those runs are the main ones.
        variant = "main" if size == 1024 else f"batch-{size}"
        yield Claim(
            id=f"robust/batch/{size}", family="robust",
            statement=f"ResNet-50 on imagenet at batch size {size}, learning rate scaled along, keeps the ratio 0.10.",
            source="section 4.4", quantity="rho", unit="", margin=FACTOR_2, strict=STRICT_RHO, rule=_RATIO_RULE,
            parts=_parts([resnet], OPTIMUM, variant), figure=stated("robust/batch").figure,
        )  # fmt: skip
    for schedule in SCHEDULES:
        variant = "main" if schedule == "cosine" else f"schedule-{schedule}"
        yield Claim(
            id=f"robust/schedule/{schedule}", family="robust",
            statement=f"ResNet-50 on imagenet under a {schedule} schedule keeps the ratio 0.10.",
            source="section 4.4", quantity="rho", unit="", margin=FACTOR_2, strict=STRICT_RHO, rule=_RATIO_RULE,
            parts=_parts([resnet], OPTIMUM, variant), figure=stated(f"robust/schedule/{schedule}").figure,
        )  # fmt: skip
    yield Claim(
        id="robust/long", family="robust",
        statement="300 instead of 90 epochs on imagenet hardly move the ratio of ResNet-50 and ViT-S/16.",
        source="section 4.4", quantity="rho_pooled", unit="", margin=FACTOR_2, strict=STRICT_RHO,
        rule=_POOLED_RATIO_RULE,
        parts=_parts([resnet, vit], OPTIMUM, "long"), figure=stated("robust/long").figure,
    )  # fmt: skip


def _sgd_claims() -> Iterable[Claim]:
    """The ratio under SGD with momentum."""
    figure = stated("sgd/rho").figure
    for cell in SGD_CELLS:
        yield Claim(
            id=f"sgd/rho/{cell.id}", family="sgd",
            statement=f"In {cell.id} under SGD with momentum the best weight decay is 0.005 times the learning rate.",
            source=figure.source, quantity="rho_sgd", unit="", margin=Margin(0.0025, 0.01),
            strict=Margin(0.003, 0.007), rule="the interval of the ratio lies within a factor 2 of 0.005",
            parts=_parts([cell], OPTIMUM, "sgd"), figure=figure,
        )  # fmt: skip
    yield Claim(
        id="sgd/differs", family="sgd",
        statement="Under SGD the ratio is far smaller than under AdamW.",
        source=figure.source, quantity="sgd_ratio", unit="", margin=Margin(0.0, 0.2),
        rule="the interval of SGD's ratio over AdamW's lies below 0.2",
        parts=_parts(SGD_CELLS, OPTIMUM) + _parts(SGD_CELLS, OPTIMUM, "sgd"),
        figure=Figure(0.05, None, None, "", "section 4.4 (0.005 over 0.10)"), direction="lower",
    )  # fmt: skip


def _build() -> tuple[Claim, ...]:
    per_cell = list(_cell_claims())
    order = ("rho", "slope", "intercept", "r2", "universality", "deviation", "one_dim", "robust", "sgd")
    claims = [
        *(c for c in per_cell if c.quantity == "rho"), *_pooled_ratio_claims(),
        *(c for c in per_cell if c.quantity != "rho"),
        *_deviation_claims(), *_one_dim_claims(), *_robustness_claims(), *_sgd_claims(),
    ]  # fmt: skip
    return tuple(sorted(claims, key=lambda c: order.index(c.family)))  # stable: within a family as built


CLAIMS: tuple[Claim, ...] = _build()
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(c.family for c in CLAIMS))
"""In the paper's order; claims/test_<family>.py holds each."""
REGISTRY_HASH: str = registry_hash(CLAIMS)

_BY_ID = {c.id: c for c in CLAIMS}


def claim(claim_id: str) -> Claim:
    """The claim called `claim_id`."""
    if claim_id not in _BY_ID:
        raise KeyError(f"no claim is called {claim_id!r}; replicate.paper.registry.CLAIMS lists the {len(CLAIMS)} ids")
    return _BY_ID[claim_id]


def family(name: str) -> tuple[Claim, ...]:
    """The claims of one family, in the paper's order."""
    found = tuple(c for c in CLAIMS if c.family == name)
    if not found:
        raise KeyError(f"no family is called {name!r}; there are {', '.join(FAMILIES)}")
    return found
