"""The paper as data: every figure where it stands, every claim once, and a hash that notices any change of a rule."""

from __future__ import annotations

import dataclasses
import math

import pytest

from replicate.paper import protocol
from replicate.paper.cells import Cell
from replicate.paper.claim import Claim, Figure, Margin, Part, registry_hash
from replicate.paper.registry import CELLS, CLAIMS, FAMILIES, REGISTRY_HASH, claim, family
from replicate.paper.tables import STATED, TABLE_1, TABLE_2, stated

CELL_IDS = [
    f"{arch}-{dataset}"
    for arch in ("resnet50", "vit_s16", "convnext_t", "mixer_s16", "swin_t")
    for dataset in ("cifar100", "imagenet")
]
KAPPAS = ("0.1", "0.2", "0.5", "2", "5", "10")
# Written out independently of the registry's code: the list that a reader of the paper would make.
EXPECTED_IDS = {
    *(
        f"{what}/{cell}"
        for what in ("rho", "rho/reject", "slope", "intercept", "r2", "one-dim/gap")
        for cell in CELL_IDS
    ),
    *(f"deviation/{dataset}/kappa-{k}" for dataset in ("cifar100", "imagenet") for k in KAPPAS),
    *(f"deviation/{dataset}/hurts" for dataset in ("cifar100", "imagenet")),
    *("deviation/tolerance-zone", "deviation/log-quadratic", "deviation/asymmetry"),
    *("rho/overall", "universality/anova"),
    *("one-dim/mean-gap", "one-dim/max-gap", "one-dim/below-seed-noise", "one-dim/cost"),
    *(f"robust/batch/{size}" for size in (256, 512, 1024, 2048)),
    *(f"robust/schedule/{name}" for name in ("cosine", "step", "linear")),
    *("robust/long", "sgd/rho/resnet50-cifar100", "sgd/rho/convnext_t-cifar100", "sgd/differs"),
}


def test_every_claim_is_there_once() -> None:
    ids = [c.id for c in CLAIMS]
    assert len(ids) == len(set(ids)) == 94
    assert set(ids) == EXPECTED_IDS


def test_families_hold_every_claim_and_follow_the_id() -> None:
    assert sum(len(family(name)) for name in FAMILIES) == len(CLAIMS)
    for c in CLAIMS:
        assert c.family == c.id.split("/")[0].replace("-", "_")


def test_unknown_names_are_refused_by_name() -> None:
    with pytest.raises(KeyError, match="no claim is called 'rho/nothing'"):
        claim("rho/nothing")
    with pytest.raises(KeyError, match="no family is called 'nothing'; there are rho, slope"):
        family("nothing")
    with pytest.raises(KeyError, match="no number stated in the paper's text is called 'nothing'"):
        stated("nothing")


@pytest.mark.parametrize("c", CLAIMS, ids=lambda c: c.id)
def test_claim_is_complete(c: Claim) -> None:
    assert c.statement
    assert c.statement.endswith(".")
    assert c.rule
    assert not c.rule.endswith(".")
    assert c.source
    assert c.direction in ("", "higher", "lower")
    assert (c.direction == "higher") >= math.isinf(c.margin.high)
    assert (c.direction == "lower") >= math.isinf(c.margin.low)
    assert len(set(c.parts)) == len(c.parts)
    for part in c.parts:
        assert part.cell in CELLS
        assert part.grid in ("paper", "unit", "ratio", "bracket")
    assert hash(c) == hash(dataclasses.replace(c))


OTHER_QUANTITY = {"rho_rejects", "intercept_share", "max_ratio", "zone_pp", "gap_minus_seed_sd_pp"}
"""Claims whose rule measures something else than the figure that the paper prints (a p, an F, a bound)."""


@pytest.mark.parametrize("c", [c for c in CLAIMS if c.figure and c.quantity not in OTHER_QUANTITY], ids=lambda c: c.id)
def test_the_papers_own_figure_lies_inside_its_margin(c: Claim) -> None:
    assert c.figure is not None
    assert c.margin.low <= c.figure.value <= c.margin.high
    if c.strict is not None:
        assert c.strict.low <= c.figure.value <= c.strict.high
        assert c.margin.low <= c.strict.low
        assert c.strict.high <= c.margin.high


@pytest.mark.parametrize(
    ("claim_id", "low", "high"),
    [
        ("rho/vit_s16-imagenet", 0.05, 0.20),
        ("slope/swin_t-cifar100", 0.8, 1.2),
        ("deviation/cifar100/kappa-0.1", 2.8, 4.0),
        ("deviation/cifar100/kappa-0.5", 0.1, 1.1),  # the table's +-0.3 widened to the least margin, 0.5
        ("deviation/imagenet/kappa-10", 2.8, 4.4),
        ("one-dim/gap/mixer_s16-imagenet", -math.inf, 0.3),
        ("one-dim/mean-gap", 0.09, 0.27),
        ("sgd/rho/resnet50-cifar100", 0.0025, 0.01),
    ],
)
def test_margins(claim_id: str, low: float, high: float) -> None:
    assert claim(claim_id).margin == Margin(low, high)


def test_counted_claim_needs_no_runs_and_the_others_do() -> None:
    assert [c.id for c in CLAIMS if not c.parts] == ["one-dim/cost"]
    arguments = dict(claim("one-dim/cost").arguments)
    assert (arguments["line_runs"], arguments["grid_runs"]) == (30, 240)


def test_main_runs_serve_the_robustness_claims_that_are_the_protocol() -> None:
    main = {Part(Cell("resnet50", "imagenet"), "main", grid) for grid in ("paper", "ratio", "bracket")}
    assert set(claim("robust/batch/1024").parts) == set(claim("robust/schedule/cosine").parts) == main
    assert {p.variant for p in claim("robust/batch/256").parts} == {"batch-256"}
    assert {p.cell.arch for p in claim("robust/long").parts} == {"resnet50", "vit_s16"}


def test_sgd_claims_are_about_the_convolutional_networks() -> None:
    convolutional = {a.name for a in protocol.ARCHITECTURES if a.convolutional}
    assert {c.arch for c in claim("sgd/differs").cells} == convolutional


def test_table_1() -> None:
    assert [row.cell.id for row in TABLE_1] == CELL_IDS
    assert [row.rho.value for row in TABLE_1] == [0.098, 0.103, 0.105, 0.112, 0.094, 0.101, 0.108, 0.096, 0.102, 0.107]
    assert [row.p_value for row in TABLE_1] == [0.82, 0.71, 0.58, 0.18, 0.47, 0.91, 0.38, 0.64, 0.83, 0.44]
    assert [row.slope.value for row in TABLE_1] == [1.02, 0.98, 1.04, 1.01, 0.97, 1.03, 1.06, 0.95, 1.01, 1.03]
    assert [row.r2 for row in TABLE_1] == [0.97, 0.96, 0.95, 0.96, 0.97, 0.95, 0.94, 0.96, 0.96, 0.95]
    for row in TABLE_1:
        for figure in (row.rho, row.slope):  # every interval of the table is symmetric to its last digit
            assert figure.low is not None
            assert figure.high is not None
            assert figure.value - figure.low == pytest.approx(figure.high - figure.value, abs=1e-9)
        assert row.source == row.rho.source == f"Table 1, row {row.number}"


def test_table_2() -> None:
    assert {row.kappa for row in TABLE_2} == set(protocol.KAPPAS) - {1.0}
    assert [row.cifar100.value for row in TABLE_2] == [3.4, 2.1, 0.6, 0.7, 2.3, 3.1]
    assert [row.imagenet.value for row in TABLE_2] == [3.8, 2.5, 0.8, 1.2, 3.1, 3.6]
    for row in TABLE_2:
        for figure in (row.drop("cifar100"), row.drop("imagenet")):
            assert figure.unit == "pp"
            assert figure.low is not None
            assert figure.high is not None
            assert figure.value - figure.low == pytest.approx(figure.high - figure.value, abs=1e-9)


def test_figures_of_the_text() -> None:
    names = [s.name for s in STATED]
    assert len(names) == len(set(names))
    for s in STATED:
        assert s.direction in ("equal", "about", "below", "above", "between")
        assert s.figure.source
        assert (s.direction == "between") <= (s.figure.low is not None)
    assert stated("rho").figure == Figure(0.10, 0.08, 0.12, "", "abstract")
    assert stated("rho").printed == "0.10"
    assert stated("one-dim/seed-sd").figure.value == 0.325


def test_hash_is_stable() -> None:
    assert registry_hash(CLAIMS) == REGISTRY_HASH
    assert len(REGISTRY_HASH) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"margin": Margin(0.05, 0.21)},
        {"strict": None},
        {"rule": "something else"},
        {"statement": "Something else."},
        {"figure": None},
        {"parts": ()},
        {"quantity": "slope"},
        {"arguments": (("kappa", 2.0),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_of_a_claim_changes_the_hash(change: dict[str, object]) -> None:
    changed = dataclasses.replace(CLAIMS[0], **change)  # type: ignore[arg-type]
    assert registry_hash((changed, *CLAIMS[1:])) != REGISTRY_HASH
    assert registry_hash(CLAIMS[1:]) != REGISTRY_HASH


def test_margin_must_have_an_inside() -> None:
    with pytest.raises(ValueError, match=r"expected a margin with low < high, got \(1, 1\)"):
        Margin(1, 1)
