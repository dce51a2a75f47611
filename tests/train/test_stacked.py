"""Stacked training against the plain loop, in float64 on shapes so small that rounding cannot hide a mistake."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch

from replicate.data.spec import DataSpec
from replicate.runs.run import ModelSpec, Run
from replicate.runs.stacks import stack_key, stacks
from replicate.train import compiled, models, optim, solo, stacked
from replicate.train.augment import AUGMENTATIONS
from replicate.train.checkpoint import Saver
from replicate.train.lanes import NORMALISATION
from replicate.train.products import Linear
from replicate.train.setting import TrainError
from replicate.train.stacked import How, OutOfMemory, train_stack
from tests.support import archives
from tests.support.processes import Killed, killed
from tests.support.stacked import MODELS, close, float64, forget_inputs, make, no_fallback, timeless

__all__ = ["float64", "no_fallback"]

pytestmark = pytest.mark.usefixtures("float64", "no_fallback")

AS_ON_A_GPU = pytest.mark.parametrize("products", [None, True], ids=["as on a CPU", "as on a GPU"])
"""What a GPU computes otherwise, on a CPU: matrix products, gradients side by side, all lanes evaluated at once."""


@AS_ON_A_GPU
@pytest.mark.parametrize("arch", MODELS)
def test_lanes_equal_solo(arch: str, products: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and running statistics to 1e-10 after 21 steps, whatever the optimiser, schedule and company."""
    runs = [
        make(arch, 3e-2, 0.3, epochs=7, optimizer="sgd"),
        make(arch, 3e-3, 0.0, epochs=7),
        make(arch, 3e-3, 10.0, epochs=7, schedule="linear"),
        make(arch, 1e-1, 0.1, epochs=7, optimizer="sgd", schedule="step"),
        make(arch, 1e-3, 30.0, epochs=7),
    ]
    modules, stacks = [], []
    build, stack = models.build_seeded, stacked._Stack
    monkeypatch.setattr(models, "build_seeded", lambda *a, **k: modules.append(build(*a, **k)) or modules[-1])
    alone = [solo.train(run) for run in runs]
    reference = modules[: len(runs)]
    monkeypatch.setattr(stacked, "_Stack", lambda *a: stacks.append(stack(*a)) or stacks[-1])
    together = train_stack(runs, how=How(products=products))
    assert [close(a, b) for a, b in zip(together, alone, strict=True)] == [True] * len(runs)
    lanes = stacks[0].lanes
    assert any(type(module) is Linear for module in lanes._template.modules()) == bool(products)
    for lane, index in enumerate(optim.order_of(runs)):
        for (a, b), weights in zip(lanes.slices, reference[index].parameters(), strict=True):
            assert weights.dtype == torch.float64
            assert (lanes.theta[lane, a:b] - weights.flatten()).abs().max() < 1e-10
        for name, statistic in lanes.statistics.items():
            assert (statistic[lane] - reference[index].state_dict()[name]).abs().max() < 1e-10
    assert bool(lanes.statistics) == (arch == "resnet50")
    assert len({r.train_loss for r in together}) == len(runs)


@pytest.mark.slow
@pytest.mark.parametrize("arch", MODELS)
def test_lanes_equal_solo_on_augmented_images(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour images of bytes, with every augmentation; their own differ from epoch to epoch and from plain ones."""
    monkeypatch.setenv("REPLICATE_DATA", str(archives.cifar100(tmp_path, train=20, test=30)))
    spec = DataSpec("cifar100", train_images=20)
    runs = [
        make(arch, lr, wd, optimizer=optimizer, data=spec, augment=tuple(AUGMENTATIONS))
        for lr, wd, optimizer in ((1e-2, 0.0, "adamw"), (3e-3, 3.0, "adamw"), (3e-2, 0.1, "sgd"))
    ]
    alone = [solo.train(run) for run in runs]
    together = train_stack(runs)
    assert [close(a, b) for a, b in zip(together, alone, strict=True)] == [True] * len(runs)
    plain = solo.train(dataclasses.replace(runs[0], augment=()))
    assert abs((plain.train_loss or 0) - (alone[0].train_loss or 0)) > 1e-6


@pytest.mark.parametrize("most", [2, 3, None])
def test_size_and_company_do_not_matter(most: int | None) -> None:
    runs = [make(lr=lr, weight_decay=wd) for lr, wd in itertools.product((1e-3, 1e-2, 3e-2), (0.0, 3.0))]
    whole = train_stack(runs)
    cut = train_stack(list(reversed(runs))[1:], how=How(lanes=most))
    assert [close(a, b) for a, b in zip(cut, list(reversed(whole))[1:], strict=True)] == [True] * 5


@pytest.mark.slow
def test_what_was_compiled_is_kept_for_stacks_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another seed, or fewer runs, which are filled up; another model is compiled anew, and torch told to forget."""
    built: list[object] = []
    forgotten: list[object] = []
    monkeypatch.setattr(compiled, "_kept", [])
    monkeypatch.setattr(torch, "compile", lambda function, **_: built.append(function) or function)
    monkeypatch.setattr(torch.compiler, "reset", lambda: forgotten.append(None))
    how = How(lanes=3, compiled=True)
    for arch, seed, lrs, compilations, resets in (
        ("resnet50", 3, (1e-3, 1e-2, 3e-2), 1, 0),
        ("resnet50", 4, (1e-3, 1e-2, 3e-2, 1e-4), 1, 0),
        ("vit_s16", 3, (1e-3,), 2, 1),
        ("resnet50", 3, (1e-3, 1e-2), 3, 2),
    ):
        runs = [make(arch, lr, seed=seed) for lr in lrs]
        found = train_stack(runs, how=how)
        assert [close(a, b) for a, b in zip(found, train_stack(runs), strict=True)] == [True] * len(runs)
        assert (len(built), len(forgotten)) == (3 * compilations, resets)
        assert not hasattr(compiled._kept[0].lanes, "theta")


def test_a_run_alone_is_given_a_twin() -> None:
    run = make()
    assert close(train_stack([run])[0], solo.train(run))


@AS_ON_A_GPU
@pytest.mark.parametrize("optimizer", optim.OPTIMIZERS)
def test_a_lane_that_diverges_does_not_touch_the_others(optimizer: str, products: bool | None) -> None:
    """It ends as alone, history included, and the others as without it."""
    bad = make(lr=1e200, optimizer=optimizer, eval_every_epochs=1)
    late = make(lr=1e4, weight_decay=1e4, optimizer=optimizer, eval_every_epochs=1)  # overflows after some steps
    good = [make(lr=lr, optimizer=optimizer, eval_every_epochs=1) for lr in (1e-3, 1e-2)]
    how = How(products=products)
    together = train_stack([bad, good[0], late, good[1]], how=how)
    assert [r.diverged for r in together] == [True, False, True, False]
    assert together[0].accuracy_pp == 10.0 and together[0].train_loss is None
    assert len(together[0].history) < len(together[2].history) < 4
    assert [close(a, b) for a, b in zip(together[1::2], train_stack(good, how=how), strict=True)] == [True, True]
    alone = [solo.train(run) for run in (bad, good[0], late, good[1])]
    assert [close(a, b) for a, b in zip(together, alone, strict=True)][:2] == [True, True]
    assert len(together[2].history) == len(alone[2].history) and alone[2].diverged


def test_frozen_lanes_stay_quiet() -> None:
    """All zeros after the epoch in which they diverged; with no lane left, training ends."""
    stack = stacked._Stack([make(lr=1e200), make(lr=1e200)], "cpu", How())
    assert [r.history for r in stack.train(Saver(), None)] == [(), ()]
    assert stack.taken == 3
    assert not stack.lanes.theta.any() and not stack.moments.first.any()


def test_decay_too_small_to_act_is_none() -> None:
    """In the type of the weights: the same bits as without decay."""
    results = train_stack([make(lr=1e-3, weight_decay=1e-14), make(lr=1e-3, weight_decay=0.0)])
    assert len(set(timeless(results))) == 1


def test_seconds_are_shared_out() -> None:
    results = train_stack([make(), make(lr=1e-3)])
    assert 0 < results[0].seconds == results[1].seconds


@AS_ON_A_GPU
@pytest.mark.parametrize("killed_at", [0, 1, 3, 8, 11])
def test_killed_and_resumed_gives_the_same_bits(
    killed_at: int, products: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in a step with a checkpoint after each, in three sessions; one lane has diverged by then."""
    runs = [make("resnet50", 1e-2, 0.1), make("resnet50", 1e200), make("resnet50", 1e-2, 0.3, optimizer="sgd")]
    how = How(checkpoints=tmp_path, checkpoint_seconds=0, products=products)
    expected = train_stack(runs, how=How(products=products))
    step, taken = stacked._Stack.step, []

    def mortal(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        if len(taken) == killed_at:
            stack.lanes.theta[0, :5] = 7.0  # what is in memory is lost
            raise Killed
        taken.append(stack.taken)
        return step(stack, index)

    monkeypatch.setattr(stacked._Stack, "step", mortal)
    for _ in range(2):
        with pytest.raises(Killed):
            train_stack(runs, how=how)
        killed_at += 1
        if killed_at > 11:
            break
    monkeypatch.setattr(stacked._Stack, "step", lambda s, i: taken.append(s.taken) or step(s, i))
    assert timeless(train_stack(runs, how=how)) == timeless(expected)
    assert taken == list(range(12))
    assert list(tmp_path.iterdir()) == []


def test_killed_and_resumed_on_augmented_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of an epoch, whose images are made anew from its draws."""
    monkeypatch.setenv("REPLICATE_DATA", str(archives.cifar100(tmp_path / "data", train=20, test=30)))
    spec = DataSpec("cifar100", train_images=20)
    runs = [make(lr=lr, data=spec, augment=tuple(AUGMENTATIONS)) for lr in (1e-3, 1e-2)]
    how = How(checkpoints=tmp_path / "checkpoints", checkpoint_seconds=0)
    expected = train_stack(runs)
    step = stacked._Stack.step

    def mortal(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        if stack.taken == 7:
            raise Killed
        return step(stack, index)

    monkeypatch.setattr(stacked._Stack, "step", mortal)
    with pytest.raises(Killed):
        train_stack(runs, how=how)
    monkeypatch.setattr(stacked._Stack, "step", step)
    assert timeless(train_stack(runs, how=how)) == timeless(expected)


def test_killed_between_the_last_step_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [make(), make(lr=1e-3)]
    how = How(checkpoints=tmp_path, checkpoint_seconds=0)
    expected = train_stack(runs)

    with monkeypatch.context() as patch:
        patch.setattr(stacked._Stack, "results", killed)
        with pytest.raises(Killed):
            train_stack(runs, how=how)
    monkeypatch.setattr(stacked._Stack, "step", killed)
    assert timeless(train_stack(runs, how=how)) == timeless(expected)


def test_corrupt_checkpoint_starts_over_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, words = [make(), make(lr=1e-3)], []
    how = How(checkpoints=tmp_path, checkpoint_seconds=0, notice=words.append)
    expected = train_stack(runs)
    with monkeypatch.context() as patch:
        patch.setattr(stacked._Stack, "evaluate", killed)
        with pytest.raises(Killed):
            train_stack(runs, how=how)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    assert timeless(train_stack(runs, how=how)) == timeless(expected)
    assert len(words) == 1 and words[0].endswith("cut off or altered; training starts over")


def test_no_checkpoint_before_its_time(tmp_path: Path) -> None:
    train_stack([make(), make(lr=1e-3)], how=How(checkpoints=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_checkpoint_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words: list[str] = []
    runs = [make(), make(lr=1e-3)]
    how = How(checkpoints=tmp_path / "file", checkpoint_seconds=0, notice=words.append)
    assert timeless(train_stack(runs, how=how)) == timeless(train_stack(runs))
    assert words and all(
        w.startswith("checkpoint ") or w.endswith("make it writable; training goes on without") for w in words
    )


def exhausted_above(
    lanes: int, monkeypatch: pytest.MonkeyPatch, first_step: int = 0, error: Exception | None = None
) -> list[tuple[int, int]]:
    """Make memory run out in steps from `first_step` on with more than `lanes`; (lanes, step) of the others."""
    step, taken = stacked._Stack.step, []

    def limited(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        if len(stack.runs) > lanes and stack.taken >= first_step:
            stack.lanes.theta.fill_(7.0)  # a step may be half done
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        taken.append((len(stack.runs), stack.taken))
        return step(stack, index)

    monkeypatch.setattr(stacked._Stack, "step", limited)
    return taken


NINE = [make(lr=lr, weight_decay=wd) for lr in (1e-3, 3e-3, 1e-2) for wd in (0.0, 1.0, 10.0)]


@pytest.mark.slow
def test_out_of_memory_halves_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train_stack(NINE)
    words: list[str] = []
    sizes: list[int] = []
    taken = exhausted_above(3, monkeypatch)
    got = train_stack(NINE, how=How(notice=words.append, shrunk=sizes.append))
    assert [close(a, b) for a, b in zip(got, expected, strict=True)] == [True] * 9
    assert words == [
        "out of memory on cpu with 9 lanes: going on with 4 at a time",
        "out of memory on cpu with 4 lanes: going on with 2 at a time",
    ]
    assert sizes == [4, 2]
    assert {lanes for lanes, _ in taken} == {2}


@pytest.mark.slow
def test_out_of_memory_goes_on_from_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps done by all lanes together are not done again, though memory runs out twice."""
    runs = [*NINE, make(lr=1e200), make(optimizer="sgd"), make(lr=3e-2, optimizer="sgd")]
    expected = train_stack(runs)
    taken = exhausted_above(3, monkeypatch, first_step=8)
    got = train_stack(runs, how=How(checkpoints=tmp_path, checkpoint_seconds=0, notice=lambda _: None))
    assert [close(a, b) for a, b in zip(got, expected, strict=True)] == [True] * 12
    assert taken == [(12, s) for s in range(8)] + 4 * [(3, s) for s in range(8, 12)]
    assert list(tmp_path.iterdir()) == []


def test_out_of_memory_then_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next session finds the whole stack's checkpoint, halves it again, and goes on with the parts' own."""
    expected = train_stack(NINE)
    taken = exhausted_above(5, monkeypatch, first_step=8)
    how = How(checkpoints=tmp_path, checkpoint_seconds=0, notice=lambda _: None)
    with monkeypatch.context() as patch:
        evaluate = stacked._Stack.evaluate
        patch.setattr(stacked._Stack, "evaluate", lambda s: evaluate(s) if s.taken < 11 else killed(s))
        with pytest.raises(Killed):
            train_stack(NINE, how=how)
    assert taken == [(9, s) for s in range(8)] + [(4, s) for s in range(8, 12)]
    taken.clear()
    got = train_stack(NINE, how=how)
    assert [close(a, b) for a, b in zip(got, expected, strict=True)] == [True] * 9
    assert taken[0] == (4, 11)
    assert list(tmp_path.iterdir()) == []


def test_out_of_memory_where_a_few_runs_are_filled_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is halved are the lanes that were there: the last run of nine, filled up to 8, is not the smallest stack."""
    monkeypatch.setattr(compiled, "_kept", [])
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    expected = train_stack(NINE)
    words: list[str] = []
    sizes: list[int] = []
    taken = exhausted_above(2, monkeypatch, first_step=8)
    how = How(
        lanes=8, compiled=True, checkpoints=tmp_path, checkpoint_seconds=0, notice=words.append, shrunk=sizes.append
    )
    got = train_stack(NINE[8:], how=how)
    assert close(got[0], expected[8])
    assert words == [
        "out of memory on cpu with 8 lanes: going on with 4 at a time",
        "out of memory on cpu with 4 lanes: going on with 2 at a time",
    ]
    assert sizes == [4, 2]
    assert taken == [(8, s) for s in range(8)] + [(2, s) for s in range(8, 12)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_every_word_for_out_of_memory(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    exhausted_above(2, monkeypatch, error=error)
    runs = [dataclasses.replace(run, epochs=1, warmup_epochs=0, eval_every_epochs=1) for run in NINE[:3]]
    assert len(train_stack(runs, how=How(notice=lambda _: None))) == 3


def test_out_of_memory_with_the_fewest_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    exhausted_above(0, monkeypatch)
    with pytest.raises(OutOfMemory) as caught:
        train_stack(NINE[:2], how=How(notice=lambda _: None))
    assert str(caught.value) == (
        "out of memory on cpu with 2 lanes, the fewest of a stack: CUDA out of memory. Tried to allocate 2.00 GiB."
    )


def test_other_errors_are_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    exhausted_above(0, monkeypatch, error=RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        train_stack(NINE)


@pytest.mark.parametrize(
    ("runs", "how", "message"),
    [
        ([], How(), "stack: expected one run or more, got none"),
        ([make(), make(seed=4)], How(), "stack: expected runs of one seed, got 3 and 4; stack by stack_key"),
        (
            [make(augment=("crop", "flip"))],
            How(),
            "augmentation: expected some of random_crop, horizontal_flip, color_jitter, randaugment on digits; "
            "got 'crop'",
        ),
        (
            [make(data=DataSpec("imagenet"))],
            How(),
            "stack: expected data that fit on a device, got imagenet, which is streamed from its files; train such "
            "runs one by one",
        ),
        ([make(optimizer="lion")], How(), "optimizer: expected one of adamw, sgd; got 'lion'"),
        ([make()], How(lanes=1), "lanes: expected 2 or more, got 1"),
        ([make(precision="fp8")], How(), "precision: expected one of float32, bf16; got 'fp8'"),
        ([make()], How(graph=True), "graph: expected a CUDA device, got cpu"),
    ],
)
def test_bad_input(runs: list[Run], how: How, message: str) -> None:
    with pytest.raises(TrainError) as caught:
        train_stack(runs, how=how)
    assert str(caught.value) == message


def test_stack_key() -> None:
    run = make()
    for same in (make(lr=1.0), make(weight_decay=0.0), make(optimizer="sgd"), make(schedule="step")):
        assert stack_key(same) == stack_key(run)
    for other in (make("vit_s16"), make(seed=4), make(epochs=8), make(batch_size=4), make(precision="bf16")):
        assert stack_key(other) != stack_key(run)
    for other in (make(model=ModelSpec("other")), make(data=DataSpec("digits"))):
        assert stack_key(other) != stack_key(run)


def test_stacks_are_filled_in_order() -> None:
    a, b = [make(lr=lr) for lr in (1e-3, 1e-2, 1e-1)], [make("vit_s16", lr=lr) for lr in (1e-3, 1e-2)]
    assert stacks([a[0], b[0], a[1], a[2], b[1]], 2) == [a[:2], a[2:], b]
    assert stacks([a[0], b[0], a[1], a[2], b[1]], 9) == [a, b]
    assert stacks([], 2) == []
    with pytest.raises(ValueError, match="most: expected 1 or more, got 0"):
        stacks(a, 0)


def test_fallback_loop_is_an_error() -> None:
    """What the other tests rely on: the layer that `stackable` replaces cannot pass unnoticed."""
    pool = torch.nn.AdaptiveAvgPool2d(1)
    channels_last = torch.zeros(2, 1, 3, 4, 4).permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    with pytest.raises(RuntimeError, match="fallback"):
        torch.func.vmap(pool)(channels_last)


@pytest.mark.slow
@pytest.mark.parametrize("arch", MODELS)
def test_bf16_passes_keep_float32_weights(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # back to float32
    forget_inputs()
    runs = [make(arch, precision="bf16"), make(arch, lr=1e-3, precision="bf16")]
    stack = stacked._Stack(runs, "cpu", How())
    exact = stacked._Stack([make(arch), make(arch, lr=1e-3)], "cpu", How())
    index = stack.inputs.start(0)[0]
    for name, leaf in zip(stack.lanes.names, stack.lanes.leaves(), strict=True):
        owner = stack.lanes._template.get_submodule(name.rpartition(".")[0])
        assert leaf.dtype == (torch.float32 if isinstance(owner, NORMALISATION) else torch.bfloat16), name
    losses, reference = stack.step(index), exact.step(index)
    assert losses.dtype == torch.float32 and (losses - reference).abs().max() < 0.05
    assert stack.lanes.theta.dtype == torch.float32
    assert {s.dtype for s in stack.lanes.statistics.values()} <= {torch.float32}
    assert (stack.moments.first - exact.moments.first).norm() < 0.1 * exact.moments.first.norm()
    together, alone = train_stack(runs), solo.train(runs[0])
    assert together[0].train_loss == pytest.approx(alone.train_loss, abs=0.05)
