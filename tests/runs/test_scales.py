"""Scales: which runs each part consists of, counted, and what is left out with its reason."""

from __future__ import annotations

import dataclasses
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicate.data import catalogue
from replicate.paper.cells import Cell
from replicate.paper.claim import Part
from replicate.paper.protocol import ARCHITECTURES, DATASETS, LRS, SEEDS, WEIGHT_DECAYS
from replicate.paper.registry import CLAIMS
from replicate.runs import bracket, decay, needed, rounds, scales, schedule
from replicate.runs.bracket import Rounds
from replicate.runs.run import Point, Run
from replicate.runs.scales import NotTrained, Scale, points
from replicate.text import UsageError

GRIDS = ("paper", "unit", "ratio", "bracket")
ARCHS = tuple(a.name for a in ARCHITECTURES)
CONVOLUTIONAL = tuple(a.name for a in ARCHITECTURES if a.convolutional)
VARIANTS = ("main", "sgd", "batch-256", "batch-512", "batch-2048", "schedule-step", "schedule-linear", "long")
EVERY_PART = [Part(Cell(a, d), v, g) for a in ARCHS for d in DATASETS for v in VARIANTS for g in GRIDS]
CIFAR_CELL, IMAGENET_CELL = Cell("resnet50", "cifar100"), Cell("resnet50", "imagenet")


def trained(scale: Scale, parts: list[Part] = EVERY_PART) -> dict[Part, list[Point]]:
    """The points of every part that the scale trains."""
    found = {}
    for part in parts:
        try:
            found[part] = points(scale, part)
        except NotTrained:
            continue
    return found


def distinct(found: dict[Part, list[Point]]) -> dict[str, Run]:
    return {p.run.key: p.run for part in found.values() for p in part}


@pytest.fixture(params=list(scales.SCALES))
def scale(request: pytest.FixtureRequest) -> Scale:
    return scales.get(request.param)


def test_names() -> None:
    assert list(scales.SCALES) == [
        *(
            "smoke",
            "embedded",
            "probe",
            "fashion",
            "fashion-short",
            "cifar100",
            "cifar100-script",
            "cifar100-stem32",
            "imagenet",
        ),
        *("imagenet-script", "synthetic"),
    ]
    assert all(name == scale.name for name, scale in scales.SCALES.items())
    assert [name for name, scale in scales.SCALES.items() if not scale.probe] == ["cifar100", "imagenet"]


def test_unknown_scale() -> None:
    with pytest.raises(UsageError) as refused:
        scales.get("nonsense")
    assert str(refused.value) == f"scale: expected one of {', '.join(scales.SCALES)}; got 'nonsense'"


@pytest.mark.parametrize(("name", "cell"), [("cifar100", CIFAR_CELL), ("imagenet", IMAGENET_CELL)])
def test_the_papers_grid_is_240_runs_a_cell_and_the_line_30(name: str, cell: Cell) -> None:
    grid = points(scales.get(name), Part(cell, "main", "paper"))
    assert len({p.run.key for p in grid}) == len(grid) == 240
    assert {(p.lr, p.weight_decay, p.seed) for p in grid} == {
        (lr, wd, seed) for lr in LRS for wd in WEIGHT_DECAYS for seed in SEEDS
    }
    assert len(points(scales.get(name), Part(cell, "main", "unit"))) == 30


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "steps"), [("cifar100", 200, 128, 78_200), ("imagenet", 90, 1024, 112_680)]
)
def test_paper_scales_follow_the_protocol(name: str, epochs: int, batch: int, steps: int) -> None:
    for arch in ARCHS:
        run = points(scales.get(name), Part(Cell(arch, name), "main", "paper"))[0].run
        assert (run.epochs, run.warmup_epochs, run.batch_size) == (epochs, 10, batch)
        assert (run.optimizer, run.schedule, run.eval_every_epochs) == ("adamw", "cosine", 1)
        assert run.model.name == next(a.timm_name for a in ARCHITECTURES if a.name == arch)
        assert schedule.steps(run) == steps


def test_augmentation_follows_the_text_or_the_script() -> None:
    jitter, randaugment = ("color_jitter",), ("randaugment",)
    crops = {"cifar100": ("random_crop", "horizontal_flip"), "imagenet": ("random_resized_crop", "horizontal_flip")}
    for dataset, crop in crops.items():
        for a in ARCHITECTURES:
            part = Part(Cell(a.name, dataset), "main", "unit")
            text, script = (points(scales.get(name), part)[0].run for name in (dataset, f"{dataset}-script"))
            assert text.augment == crop + jitter + (randaugment if a.vision_transformer else ())
            assert script.augment == crop + (jitter if dataset == "imagenet" else ())
            changed = {"augment": text.augment, "batch_size": text.batch_size}
            assert dataclasses.replace(script, **changed) == text  # type: ignore[arg-type]
            assert script.batch_size == {"cifar100": 128, "imagenet": 256}[dataset]
    assert {a.name for a in ARCHITECTURES if a.vision_transformer} == {"vit_s16", "swin_t"}


def test_stem32_differs_in_the_models_alone() -> None:
    for arch in ARCHS:
        part = Part(Cell(arch, "cifar100"), "main", "unit")
        paper, stem32 = (points(scales.get(name), part)[0].run for name in ("cifar100", "cifar100-stem32"))
        assert paper.model != stem32.model
        assert dataclasses.replace(stem32, model=paper.model) == paper


def test_points_are_filed_under_what_the_run_does(scale: Scale) -> None:
    for part, found in trained(scale).items():
        where = [(p.lr, p.weight_decay, p.seed) for p in found]
        assert where == sorted(set(where)), part
        for p in found:
            assert (p.run.lr, p.run.seed, p.run.arch) == (p.lr, p.seed, part.cell.arch)
            assert p.run.data == dict(scale.data)[part.cell.dataset]
            assert p.run.weight_decay in (p.weight_decay, 0.0)


def test_points_are_the_same_each_time(scale: Scale) -> None:
    part = Part(Cell("vit_s16", scale.data[0][0]), "main", "bracket")
    again = dataclasses.replace(scale)
    assert points(scale, part) == points(again, part)
    points(scale, part).clear()
    assert points(scale, part)


@pytest.mark.slow
def test_thousands_of_runs_are_planned_in_no_time() -> None:
    scale = dataclasses.replace(scales.get("imagenet"), summary="not cached")
    started = time.process_time()
    found = trained(scale)
    assert len(distinct(found)) > 5000
    assert time.process_time() - started < 20  # 3 s; a guard against quadratic work, not a benchmark


def test_the_ratio_grid_holds_the_line(scale: Scale) -> None:
    for part, found in trained(scale).items():
        if part.grid == "unit":
            ratio = points(scale, dataclasses.replace(part, grid="ratio"))
            assert {(p.lr, p.weight_decay, p.seed) for p in found} <= {(p.lr, p.weight_decay, p.seed) for p in ratio}
            for p in found:
                assert p.weight_decay / p.lr == pytest.approx(0.005 if part.variant == "sgd" else 0.1, rel=5e-3)


def test_the_bracket_is_the_same_share_of_a_run_everywhere(scale: Scale) -> None:
    """Decay at lr * weight_decay * steps = c shrinks a weight by about exp(-c / 2), whatever the learning rate."""
    for part, found in trained(scale).items():
        if part.grid == "bracket":
            unit = 0.1 if part.variant == "sgd" else 1.0
            shares = {f"{p.lr * p.weight_decay * schedule.steps(p.run) / unit:.2g}" for p in found}
            assert shares == {f"{c:.2g}" for c in first_round(scale, found[0].run)}


def first_round(scale: Scale, run: Run) -> tuple[float, ...]:
    """What a bracket begins with; one in rounds has no weight decay beside."""
    if isinstance(scale.bracket, Rounds):
        return (0.0, *map(bracket.at, scale.bracket.within(schedule.steps(run)).start))
    return scale.bracket


def test_equal_points_of_two_grids_are_one_run() -> None:
    scale = scales.get("cifar100")
    paper = points(scale, Part(CIFAR_CELL, "main", "paper"))
    unit = points(scale, Part(CIFAR_CELL, "main", "unit"))
    shared = {p.run.key for p in paper} & {p.run.key for p in unit}
    at = {(p.lr, p.weight_decay) for p in unit if p.run.key in shared}
    # 0.1 * lr is on the paper's grid at 1e-2; where decay is inert the run is that of weight decay 0.
    assert at == {(5e-5, 5e-6), (1e-4, 1e-5), (3e-4, 3e-5), (1e-2, 1e-3)}


class TestEmbedded:
    scale = scales.EMBEDDED

    def test_counts(self) -> None:
        found = trained(self.scale)
        main = distinct({part: p for part, p in found.items() if part.variant == "main"})
        sgd = distinct({part: p for part, p in found.items() if part.variant == "sgd"})
        assert len(main) == 5 * 132
        assert len(sgd) == 2 * 102
        assert {run.arch for run in main.values()} == set(ARCHS)
        assert {run.arch for run in sgd.values()} == set(CONVOLUTIONAL)
        assert len(points(self.scale, Part(CIFAR_CELL, "main", "paper"))) == 5 * 8 * 3

    def test_enough_test_images(self) -> None:
        split = catalogue.load(self.scale.data[0][1])
        assert len(split.test_labels) >= 1200
        assert {len(split.train_labels) % self.scale.batch_size} == {0}

    def test_the_bracket_may_reach_far_to_both_sides(self) -> None:
        """As far as decay does anything, and as far as it leaves something of a weight at each step."""
        part = Part(CIFAR_CELL, "main", "bracket")
        of_one = [p for p in rounds.possible(self.scale, part) if p.lr == 1e-2 and p.seed == 0]
        shares = [p.lr * p.weight_decay * schedule.steps(p.run) for p in of_one]
        assert shares == pytest.approx([0.0, *(3.0**k for k in range(-4, 5))], rel=5e-3)
        assert all(p.lr * p.weight_decay < 1 for p in of_one)

    @pytest.mark.parametrize(
        ("part", "reason"),
        [
            (Part(IMAGENET_CELL, "main", "paper"), "scale embedded trains nothing for ImageNet"),
            (Part(CIFAR_CELL, "long", "paper"), "scale embedded does not train the variant long"),
            (Part(CIFAR_CELL, "batch-256", "paper"), "scale embedded does not train the variant batch-256"),
            (
                Part(Cell("vit_s16", "cifar100"), "sgd", "paper"),
                "with SGD the paper trained only convolutional networks; vit_s16 is not one",
            ),
        ],
    )
    def test_left_out(self, part: Part, reason: str) -> None:
        with pytest.raises(NotTrained) as left_out:
            points(self.scale, part)
        assert str(left_out.value) == reason


class TestProbe:
    scale = scales.PROBE

    def test_every_claim_is_trained_for(self) -> None:
        assert needed.split(CLAIMS, self.scale)[1] == {}

    def test_each_data_set_has_its_own_models_length_and_seeds(self) -> None:
        digits, fashion = (points(self.scale, Part(cell, "main", "unit")) for cell in (CIFAR_CELL, IMAGENET_CELL))
        assert (len({p.seed for p in digits}), len({p.seed for p in fashion})) == (10, 5)
        assert [{schedule.steps(p.run) for p in part} for part in (digits, fashion)] == [{300}, {320}]
        vit = [points(self.scale, Part(Cell("vit_s16", d), "main", "unit"))[0].run for d in DATASETS]
        assert [dict(run.model.arguments)["patch_size"] for run in vit] == [4, 8]

    def test_sgd_has_learning_rates_of_its_own(self) -> None:
        sgd = {p.lr for p in points(self.scale, Part(CIFAR_CELL, "sgd", "unit"))}
        assert sgd == set(self.scale.lrs_sgd)
        assert {p.lr for p in points(self.scale, Part(CIFAR_CELL, "main", "unit"))} == set(self.scale.lrs)

    @pytest.mark.parametrize("variant", ["main", "sgd"])
    def test_no_run_has_a_weight_decay_without_effect(self, variant: str) -> None:
        """Points below a hundredth share the run without weight decay, all others have a run of their own."""
        part, least = Part(CIFAR_CELL, variant, "ratio"), self.scale.no_effect_below
        shares = {}
        for p in points(self.scale, part):
            share = decay.share(p.run, p.weight_decay)
            assert p.run.weight_decay == (p.weight_decay if share >= least else 0)
            shares[share] = p.run.weight_decay
        assert {0, 1} == {int(wd > 0) for share, wd in shares.items() if share > 0}

    def test_a_run_costs_what_it_looks_at(self) -> None:
        parts = [Part(CIFAR_CELL, "main", "unit"), *(Part(IMAGENET_CELL, v, "unit") for v in ("main", "long"))]
        runs = [points(self.scale, part)[0].run for part in parts]
        costs = {(run.data.name, run.epochs): scales.relative_cost(self.scale, run) for run in runs}
        fashion = 1024 * 256 * 20 / (288 * 64 * 25)
        assert costs == pytest.approx(
            {("digits", 25): 1.0, ("fashion-16", 20): fashion, ("fashion-16", 67): fashion * 67 / 20}
        )


class TestSmoke:
    scale = scales.SMOKE

    def test_every_kind_of_run(self) -> None:
        found = trained(self.scale)
        assert {part.variant for part in found} == set(VARIANTS)
        assert {part.cell.dataset for part in found} == set(DATASETS)
        runs = distinct(found).values()
        assert {run.optimizer for run in runs} == {"adamw", "sgd"}
        assert {run.schedule for run in runs} == {"cosine", "step", "linear"}
        assert all(run.warmup_epochs < run.epochs for run in runs)
        assert max(schedule.steps(run) for run in runs) <= 24

    def test_the_two_data_sets_differ(self) -> None:
        one, other = dict(self.scale.data).values()
        assert not (catalogue.load(one).test_images == catalogue.load(other).test_images).all()

    def test_sgd_is_for_cifar(self) -> None:
        with pytest.raises(NotTrained, match=r"^the paper trained with SGD on CIFAR-100 alone$"):
            points(self.scale, Part(IMAGENET_CELL, "sgd", "paper"))

    @pytest.mark.parametrize("name", ["smoke", "imagenet"])
    def test_the_learning_rate_follows_the_batch(self, name: str) -> None:
        scale = scales.get(name)
        for size in (256, 512, 2048):
            for p in points(scale, Part(IMAGENET_CELL, f"batch-{size}", "unit")):
                assert p.run.batch_size == scale.batch_size * size / 1024
                assert p.lr * 1024 / size == pytest.approx(min(scale.lrs, key=lambda lr: abs(lr - p.lr * 1024 / size)))
                assert p.weight_decay == pytest.approx(0.1 * p.lr, rel=5e-3)

    def test_the_standard_batch_is_the_main_variant(self) -> None:
        main = points(self.scale, Part(IMAGENET_CELL, "main", "ratio"))
        assert points(self.scale, Part(IMAGENET_CELL, "batch-1024", "ratio")) == main
        assert points(self.scale, Part(IMAGENET_CELL, "schedule-cosine", "ratio")) == main

    @pytest.mark.parametrize(("name", "epochs"), [("smoke", 10), ("imagenet", 300)])
    def test_long_is_ten_thirds(self, name: str, epochs: int) -> None:
        run = points(scales.get(name), Part(IMAGENET_CELL, "long", "unit"))[0].run
        assert run.epochs == epochs
        assert run.warmup_epochs == scales.get(name).warmup_epochs


def test_scales_that_cannot_be_trained_say_so_in_one_line() -> None:
    for scale in scales.SCALES.values():
        loadable = all(catalogue.info(spec).loadable for _, spec in scale.data)
        assert bool(scale.why_untrainable) is not loadable
        assert "\n" not in scale.why_untrainable + scale.summary


def test_measured_rates_cover_the_architectures() -> None:
    for scale in (scales.SMOKE, scales.EMBEDDED):
        assert scale.seconds_per_run is not None
        assert [arch for arch, _ in scale.seconds_per_run] == list(ARCHS)
        assert all(0 < seconds < 2 for _, seconds in scale.seconds_per_run)


@given(st.sampled_from(EVERY_PART), st.floats(1e-6, 1.0))
def test_weight_decays_are_ascending_finite_and_of_three_digits(part: Part, lr: float) -> None:
    found = scales.weight_decays(scales.SMOKE, part, lr)
    assert list(found) == sorted(set(found))
    assert all(math.isfinite(wd) and wd >= 0 and float(f"{wd:.3g}") == wd for wd in found)


def test_unknown_grid_and_variant() -> None:
    with pytest.raises(ValueError, match=r"^grid: expected one of paper, unit, ratio, bracket; got 'fine'$"):
        points(scales.SMOKE, Part(CIFAR_CELL, "main", "fine"))
    with pytest.raises(ValueError, match=r"^variant: expected one of main, sgd, batch, schedule, long; got 'lion'$"):
        points(scales.SMOKE, Part(CIFAR_CELL, "lion", "paper"))
