"""The registry: CLAIMS, every claim of the paper that needs training, with its figure, runs, margin and rule.

Statements and rules are in this project's words, figures are the paper's. Margins were fixed before any training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from replicate.paper.cells import Cell
from replicate.paper.claim import Claim, Figure, Margin, Part, registry_hash
from replicate.paper.protocol import LRS, ROBUST_BATCH_SIZES, SCHEDULES, SEEDS, WEIGHT_DECAYS
from replicate.paper.tables import TABLE_1, TABLE_2, stated

CELLS: tuple[Cell, ...] = tuple(row.cell for row in TABLE_1)
"""The paper's ten cells in the order of Table 1."""

SGD_CELLS = tuple(Cell(arch, "cifar100") for arch in ("resnet50", "convnext_t"))
"""The paper says three convolutional networks, but only two of its five architectures are convolutional."""

FACTOR_2 = Margin(0.05, 0.20)
"""The paper's own tolerance zone around 0.10."""
STRICT_RHO = Margin(0.08, 0.12)
"""The paper's interval for the ratio pooled over all cells."""
SMALLEST_DEVIATION_MARGIN_PP = 0.5
"""Some of Table 2's intervals are narrower, down to 0.3 pp, which is less than one standard deviation over seeds."""

OPTIMUM = ("paper", "ratio", "bracket")
"""The grids that together locate the best weight decay under the claim and under its rivals."""


def _parts(cells: Iterable[Cell], grids: Iterable[str] = OPTIMUM, variant: str = "main") -> tuple[Part, ...]:
    grids = tuple(grids)
    return tuple(Part(cell, variant, grid) for cell in cells for grid in grids)


def _interval(figure: Figure) -> tuple[float, float]:
    if figure.low is None or figure.high is None:
        raise ValueError(f"expected a figure with an interval, got {figure}")
    return figure.low, figure.high


@dataclass(frozen=True)
class _Rule:
    """The margin and rule that all claims on a quantity share."""

    margin: Margin
    words: str
    strict: Margin | None = None
    direction: str = ""
    """As in `Claim`; needed only for a two-sided margin, since a one-sided margin implies the direction."""
    unit: str = ""


_RULES = {
    "rho": _Rule(
        FACTOR_2,
        "the interval of the ratio lies within a factor 2 of 0.10; where the slope is not 1, a learning rate whose own "
        "ratio lies outside contradicts it",
        strict=STRICT_RHO,
    ),
    "rho_rejects": _Rule(
        FACTOR_2,
        "an interval that holds for all ten cells together and leaves out 0.10 contradicts it; one that holds "
        "0.10 counts only where it also lies within a factor 2 of it, for a p-value that is not significant shows "
        "nothing by itself",
        strict=STRICT_RHO,
    ),
    "rho_pooled": _Rule(FACTOR_2, "the interval of the pooled ratio lies within a factor 2 of 0.10", strict=STRICT_RHO),
    "slope": _Rule(
        Margin(0.8, 1.2), "the interval of the slope lies in [0.8, 1.2], which holds every interval of Table 1"
    ),
    "intercept_share": _Rule(
        Margin(-1.0, 0.5),
        "the intercept's share of the line's value at the geometric mean learning rate lies in [-1, 0.5]: "
        "there the line is then within a factor 2 of the proportional one",
    ),
    "r2": _Rule(Margin(0.90, math.inf), "the interval of R squared lies at or above 0.90"),
    "max_ratio": _Rule(
        Margin(1.0, 2.0),
        "the interval of the largest ratio between two architectures' ratios stays below 2; "
        "the analysis of variance is reported beside it",
        unit="times",
    ),
    "hurts_pp": _Rule(
        Margin(1.2, math.inf), "the interval of the smaller of the two drops at kappa 0.1 and 10 lies above 1.2 pp"
    ),
    "zone_pp": _Rule(
        Margin(0.0, math.inf),
        "the smallest slack of these bounds, over both data sets, is not negative: drops at kappa 0.5 and 2 below "
        "1.2 pp, drops at kappa 0.1, 0.2, 5 and 10 above 2 pp",
    ),
    "growth_exponent": _Rule(Margin(1.5, 2.5), "the interval of the fitted exponent of growth lies in [1.5, 2.5]"),
    "asymmetry_pp": _Rule(
        Margin(0.0, math.inf),
        "the interval of the mean of drop(kappa) - drop(1/kappa) over kappa 2, 5, 10 lies above 0 on imagenet, "
        "and cifar100's is smaller",
    ),
    "gap_pp": _Rule(
        Margin(-math.inf, stated("one-dim/gap").figure.value),
        "the interval of the gap, freed of the optimism of a maximum over noisy means, lies below 0.3 pp",
    ),
    "mean_gap_pp": _Rule(
        Margin(*_interval(stated("one-dim/mean-gap").figure)),
        "the interval of the mean gap lies within the paper's interval",
    ),
    "max_gap_pp": _Rule(Margin(-math.inf, 0.5), "the interval of the largest gap lies below 0.5 pp"),
    "gap_minus_seed_sd_pp": _Rule(
        Margin(-math.inf, 0.0),
        "the interval of mean gap minus standard deviation over seeds lies below 0; "
        "whether that deviation is 0.25 to 0.40 pp is reported beside it",
    ),
    "rho_sgd": _Rule(
        Margin(0.0025, 0.01), "the interval of the ratio lies within a factor 2 of 0.005", strict=Margin(0.003, 0.007)
    ),
    "sgd_ratio": _Rule(Margin(0.0, 0.2), "the interval of SGD's ratio over AdamW's lies below 0.2", direction="lower"),
}
"""Quantity → rule. The rules of `drop_pp` and `cost_ratio` depend on figures and are made with the claims."""


def _claim(
    name: str,
    statement: str,
    quantity: str,
    *,
    parts: tuple[Part, ...] = (),
    figure: Figure | None = None,
    source: str = "",
    rule: _Rule | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Claim:
    """A claim, with family, unit, rule and source filled in from its id, quantity and figure."""
    rule = rule or _RULES[quantity]
    one_sided = "higher" if math.isinf(rule.margin.high) else "lower" if math.isinf(rule.margin.low) else ""
    return Claim(
        id=name,
        family=name.partition("/")[0].replace("-", "_"),
        statement=statement,
        source=source or (figure.source if figure else ""),
        quantity=quantity,
        unit="pp" if quantity.endswith("_pp") else rule.unit,
        margin=rule.margin,
        rule=rule.words,
        parts=parts,
        figure=figure,
        arguments=tuple((arguments or {}).items()),
        strict=rule.strict,
        direction=rule.direction or one_sided,
    )


def _cell_claims() -> Iterable[Claim]:
    p = stated("intercept/p").figure
    p_of_the_line = Figure(p.value, low=p.value, high=1.0, unit="p", source=p.source)
    for row in TABLE_1:
        name, parts = row.cell.id, _parts([row.cell])
        statement = f"In {name} the best weight decay is about 0.10 times the learning rate."
        yield _claim(f"rho/{name}", statement, "rho", parts=parts, figure=row.rho)
        statement = f"In {name} a test at 5 % does not reject a ratio of 0.10."
        figure = Figure(row.p_value, low=None, high=None, unit="p", source=row.source)
        yield _claim(f"rho/reject/{name}", statement, "rho_rejects", parts=parts, figure=figure)
        statement = f"In {name} the best weight decay grows in proportion to the learning rate: log-log slope 1."
        yield _claim(f"slope/{name}", statement, "slope", parts=parts, figure=row.slope)
        statement = f"In {name} the line of best weight decay against learning rate passes through the origin."
        yield _claim(f"intercept/{name}", statement, "intercept_share", parts=parts, figure=p_of_the_line)
        statement = f"In {name} the proportional line explains nearly all variance of the best weight decay."
        figure = Figure(row.r2, low=None, high=None, unit="", source=row.source)
        yield _claim(f"r2/{name}", statement, "r2", parts=parts, figure=figure)


def _pooled_ratio_claims() -> Iterable[Claim]:
    statement = "Over all ten cells together the best weight decay is 0.10 times the learning rate."
    yield _claim("rho/overall", statement, "rho_pooled", parts=_parts(CELLS), figure=stated("rho").figure)
    statement, f = "The ratio is the same for all five architectures.", stated("anova/f").figure
    figure = Figure(f.value, low=None, high=None, unit="F(4, 45)", source=f.source)
    yield _claim("universality/anova", statement, "max_ratio", parts=_parts(CELLS), figure=figure)


def _deviation_claims() -> Iterable[Claim]:
    for dataset in ("cifar100", "imagenet"):
        parts, on = _parts((c for c in CELLS if c.dataset == dataset), ("ratio",)), {"dataset": dataset}
        for row in TABLE_2:
            drop = row.drop(dataset)
            low, high = _interval(drop)
            half = max(drop.value - low, high - drop.value, SMALLEST_DEVIATION_MARGIN_PP)
            half = round(half, 10)  # without the rounding error of the subtraction
            margin = Margin(round(drop.value - half, 10), round(drop.value + half, 10))
            rule = _Rule(margin, f"the interval of the mean drop lies within {half:g} pp of the table")
            name, arguments = f"deviation/{dataset}/kappa-{row.kappa:g}", {**on, "kappa": row.kappa}
            statement = f"On {dataset}, {row.kappa:g} times the claimed best weight decay costs {drop.value:g} pp."
            yield _claim(name, statement, "drop_pp", parts=parts, figure=drop, rule=rule, arguments=arguments)
        ends = [row.drop(dataset) for row in TABLE_2 if row.kappa in (0.1, 10.0)]
        smaller = min(ends, key=lambda drop: drop.value)
        statement = f"On {dataset} a weight decay ten times too small or too large costs clearly."
        yield _claim(f"deviation/{dataset}/hurts", statement, "hurts_pp", parts=parts, figure=smaller, arguments=on)
    parts, zone = _parts(CELLS, ("ratio",)), stated("deviation/zone-drop").figure
    statement = "Within a factor 2 of the claimed best weight decay little is lost; beyond it more than 2 pp."
    yield _claim("deviation/tolerance-zone", statement, "zone_pp", parts=parts, figure=zone)
    statement = "Beyond the tolerance zone the loss grows about as the square of log kappa."
    growth = stated("deviation/growth-exponent").figure
    yield _claim("deviation/log-quadratic", statement, "growth_exponent", parts=parts, figure=growth)
    statement = "On imagenet too much weight decay costs more than too little; on cifar100 that is weaker."
    yield _claim("deviation/asymmetry", statement, "asymmetry_pp", parts=parts, source="section 4.2")


def _one_dim_claims() -> Iterable[Claim]:
    grids = ("paper", "unit")
    bound, mean, largest, sd = (stated(f"one-dim/{name}").figure for name in ("gap", "mean-gap", "max-gap", "seed-sd"))
    for cell in CELLS:
        statement = f"In {cell.id} the six points of the claimed line come within 0.3 pp of the full grid's best."
        yield _claim(f"one-dim/gap/{cell.id}", statement, "gap_pp", parts=_parts([cell], grids), figure=bound)
    parts = _parts(CELLS, grids)
    statement = "The gap between the claimed line and the full grid is 0.18 pp on average over the ten cells."
    yield _claim("one-dim/mean-gap", statement, "mean_gap_pp", parts=parts, figure=mean)
    statement = "No cell's gap is larger than about a third of a percentage point."
    yield _claim("one-dim/max-gap", statement, "max_gap_pp", parts=parts, figure=largest)
    statement = "The mean gap is smaller than the standard deviation between seeds."
    ends = {"seed_sd_low_pp": sd.low, "seed_sd_high_pp": sd.high}
    yield _claim("one-dim/below-seed-noise", statement, "gap_minus_seed_sd_pp", parts=parts, figure=sd, arguments=ends)
    statement = "Searching the claimed line takes 30 runs where the full grid takes 240."
    ratio = stated("cost/line-runs").figure.value / stated("cost/grid-runs").figure.value
    words = "runs on the line over runs on the grid, counted from the protocol, is 1/8"
    rule = _Rule(Margin(ratio - 1e-9, ratio + 1e-9), words, direction="lower")
    figure = Figure(ratio, low=None, high=None, unit="", source="section 4.3")
    runs = {"grid_runs": len(LRS) * len(WEIGHT_DECAYS) * len(SEEDS), "line_runs": len(LRS) * len(SEEDS)}
    yield _claim("one-dim/cost", statement, "cost_ratio", figure=figure, rule=rule, arguments=runs)


def _robustness_claims() -> Iterable[Claim]:
    resnet, vit = Cell("resnet50", "imagenet"), Cell("vit_s16", "imagenet")
    for size in ROBUST_BATCH_SIZES:
        # 1024 is the protocol's batch size on ImageNet, so those runs are the main ones.
        parts = _parts([resnet], variant="main" if size == 1024 else f"batch-{size}")
        statement = f"ResNet-50 on imagenet at batch size {size}, learning rate scaled along, keeps the ratio 0.10."
        yield _claim(f"robust/batch/{size}", statement, "rho", parts=parts, figure=stated("robust/batch").figure)
    for schedule in SCHEDULES:
        parts = _parts([resnet], variant="main" if schedule == "cosine" else f"schedule-{schedule}")
        name = f"robust/schedule/{schedule}"
        statement = f"ResNet-50 on imagenet under a {schedule} schedule keeps the ratio 0.10."
        yield _claim(name, statement, "rho", parts=parts, figure=stated(name).figure)
    statement = "300 instead of 90 epochs on imagenet hardly move the ratio of ResNet-50 and ViT-S/16."
    parts = _parts([resnet, vit], variant="long")
    yield _claim("robust/long", statement, "rho_pooled", parts=parts, figure=stated("robust/long").figure)


def _sgd_claims() -> Iterable[Claim]:
    figure = stated("sgd/rho").figure
    for cell in SGD_CELLS:
        statement = f"In {cell.id} under SGD with momentum the best weight decay is 0.005 times the learning rate."
        yield _claim(f"sgd/rho/{cell.id}", statement, "rho_sgd", parts=_parts([cell], variant="sgd"), figure=figure)
    statement = "Under SGD the ratio is far smaller than under AdamW."
    parts = _parts(SGD_CELLS) + _parts(SGD_CELLS, variant="sgd")
    share = Figure(0.05, low=None, high=None, unit="", source="section 4.4 (0.005 over 0.10)")
    yield _claim("sgd/differs", statement, "sgd_ratio", parts=parts, figure=share, source=figure.source)


def _build() -> tuple[Claim, ...]:
    cells = list(_cell_claims())
    claims = [c for c in cells if c.quantity == "rho"]
    claims += [*_pooled_ratio_claims(), *(c for c in cells if c.quantity != "rho"), *_deviation_claims()]
    claims += [*_one_dim_claims(), *_robustness_claims(), *_sgd_claims()]
    if unknown := {c.family for c in claims} - set(FAMILIES):
        raise ValueError(f"expected the families of FAMILIES, got {', '.join(sorted(unknown))}; add them to FAMILIES")
    return tuple(sorted(claims, key=lambda c: FAMILIES.index(c.family)))  # stable: within a family as built


FAMILIES = ("rho", "slope", "intercept", "r2", "universality", "deviation", "one_dim", "robust", "sgd")
"""In the paper's order; the tests of each family are in claims/test_<family>.py."""


CLAIMS: tuple[Claim, ...] = _build()
REGISTRY_HASH: str = registry_hash(CLAIMS)

_BY_ID = {c.id: c for c in CLAIMS}


def claim(claim_id: str) -> Claim:
    """The claim called `claim_id`; raises KeyError if there is none."""
    if claim_id not in _BY_ID:
        raise KeyError(f"no claim is called {claim_id!r}; replicate.paper.registry.CLAIMS lists the {len(CLAIMS)} ids")
    return _BY_ID[claim_id]


def family(name: str) -> tuple[Claim, ...]:
    """The claims of the family `name`, in the paper's order; raises KeyError if there is none."""
    found = tuple(c for c in CLAIMS if c.family == name)
    if not found:
        raise KeyError(f"no family is called {name!r}; there are {', '.join(FAMILIES)}")
    return found
