"""Stacked training against the plain loop, in float64 on shapes so small that rounding cannot hide a mistake."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from replicate.data.spec import DataSpec
from replicate.runs.run import ModelSpec, Run
from replicate.runs.stacks import stack_key, stacks
from replicate.train import compiled, models, optim, solo, stacked
from replicate.train.accelerate import CaptureFailed
from replicate.train.augment import AUGMENTATIONS
from replicate.train.checkpoint import Saver
from replicate.train.contract import TooLarge, Workspace
from replicate.train.lanes import NORMALISATION
from replicate.train.layers import Linear
from replicate.train.products import as_products
from replicate.train.setting import TrainError
from replicate.train.stacked import How, train_stack
from tests.support import archives
from tests.support.processes import Killed, killed
from tests.support.stacked import MODELS, close, float64, forget_inputs, load_lane, make, no_fallback, timeless

__all__ = ["float64", "no_fallback"]

pytestmark = pytest.mark.usefixtures("float64", "no_fallback")

AS_ON_A_GPU = pytest.mark.parametrize("products", [None, True], ids=["as on a CPU", "as on a GPU"])
"""What a GPU computes otherwise, on a CPU: matrix products, gradients side by side, all lanes evaluated at once."""


@pytest.mark.parametrize(("optimizer", "products"), [("adamw", None), ("sgd", None), ("adamw", True)])
@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[] if arch == "mixer_s16" else pytest.mark.slow) for arch in MODELS]
)
def test_lanes_equal_solo(arch: str, optimizer: str, products: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and running statistics to 1e-10 after 21 steps, whatever the schedule and company.

    As on a GPU with SGD: `ci/test_gpu.py`.
    """
    times = 1.0 if optimizer == "adamw" else 10.0
    runs = [
        make(arch, times * lr, decay, epochs=7, optimizer=optimizer, schedule=schedule)
        for lr, decay, schedule in ((3e-3, 0.0, "cosine"), (1e-3, 10.0, "step"), (3e-3, 1.0, "linear"))
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
    expected = copy.deepcopy(lanes)
    for lane, model in enumerate(reference):
        load_lane(expected, lane, as_products(model, torch.empty(1, 1, 8, 8)) if products else model)
    for found, wanted in zip(lanes.weights, expected.weights, strict=True):
        assert wanted.dtype == torch.float64
        assert (found - wanted).abs().max() < 1e-10
    for name, statistic in lanes.statistics.items():
        assert (statistic - expected.statistics[name]).abs().max() < 1e-10
    assert bool(lanes.statistics) == (arch == "resnet50")
    assert len({r.train_loss for r in together}) == len(runs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[] if arch == "mixer_s16" else pytest.mark.long) for arch in MODELS]
)
def test_lanes_equal_solo_on_augmented_images(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour images of bytes, with every augmentation; their own differ from epoch to epoch and from plain ones.

    What is done to images knows nothing of the model, and the models are compared by the test above.
    """
    monkeypatch.setenv("REPLICATE_DATA", str(archives.cifar100(tmp_path, train=20, test=30)))
    spec = DataSpec("cifar100", train_images=20)
    runs = [
        make(arch, lr, wd, data=spec, augment=tuple(AUGMENTATIONS))
        for lr, wd in ((1e-2, 0.0), (3e-3, 3.0), (3e-2, 0.1))
    ]
    alone = [solo.train(run) for run in runs]
    together = train_stack(runs)
    assert [close(a, b) for a, b in zip(together, alone, strict=True)] == [True] * len(runs)
    plain = solo.train(dataclasses.replace(runs[0], augment=()))
    assert abs((plain.train_loss or 0) - (alone[0].train_loss or 0)) > 1e-6


@pytest.mark.parametrize("most", [2, 3, 6])
def test_size_and_company_do_not_matter(most: int) -> None:
    runs = [make(lr=lr, weight_decay=wd) for lr, wd in itertools.product((1e-3, 1e-2, 3e-2), (0.0, 3.0))]
    whole = train_stack(runs)
    others = list(reversed(runs))[1:]
    cut = [result for start in range(0, 5, most) for result in train_stack(others[start : start + most])]
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
        ("resnet50", 4, (1e-3, 1e-2, 1e-4), 1, 0),
        ("vit_s16", 3, (1e-3,), 2, 1),
        ("resnet50", 3, (1e-3, 1e-2), 3, 2),
    ):
        runs = [make(arch, lr, seed=seed) for lr in lrs]
        found = train_stack(runs, how=how)
        assert [close(a, b) for a, b in zip(found, train_stack(runs), strict=True)] == [True] * len(runs)
        assert (len(built), len(forgotten)) == (3 * compilations, resets)
        assert not hasattr(compiled._kept[0].lanes, "weights")


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
    assert [r.history for r in stack.train(Saver())] == [(), ()]
    assert stack.taken == 3
    assert not any(tensor.any() for tensor in stack.tensors())


def test_decay_too_small_to_act_is_none() -> None:
    """In the type of the weights: the same bits as without decay."""
    results = train_stack([make(lr=1e-3, weight_decay=1e-14), make(lr=1e-3, weight_decay=0.0)])
    assert len(set(timeless(results))) == 1


def test_seconds_are_shared_out() -> None:
    results = train_stack([make(), make(lr=1e-3)])
    assert 0 < results[0].seconds == results[1].seconds


@AS_ON_A_GPU
@pytest.mark.parametrize(
    "killed_at",
    [
        pytest.param(0, marks=pytest.mark.slow),
        pytest.param(1, marks=[pytest.mark.slow, pytest.mark.long]),  # as the second session of 0
        pytest.param(3, marks=pytest.mark.slow),
        pytest.param(8, marks=pytest.mark.slow),
        11,
    ],
)
def test_killed_and_resumed_gives_the_same_bits(
    killed_at: int, products: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in a step with a checkpoint after each, in three sessions; one lane has diverged by then."""
    runs = [make("resnet50", 1e-2, 0.1), make("resnet50", 1e200), make("resnet50", 1e-2, 0.3, schedule="linear")]
    how, workspace = How(products=products), Workspace(tmp_path, checkpoint_seconds=0)
    expected = train_stack(runs, how=how)
    step, taken = stacked._Stack.step, []

    def mortal(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        if len(taken) == killed_at:
            stack.lanes.weights[0][0] = 7.0  # what is in memory is lost
            raise Killed
        taken.append(stack.taken)
        return step(stack, index)

    monkeypatch.setattr(stacked._Stack, "step", mortal)
    for _ in range(2):
        with pytest.raises(Killed):
            train_stack(runs, how=how, workspace=workspace)
        killed_at += 1
        if killed_at > 11:
            break
    monkeypatch.setattr(stacked._Stack, "step", lambda s, i: taken.append(s.taken) or step(s, i))
    assert timeless(train_stack(runs, how=how, workspace=workspace)) == timeless(expected)
    assert taken == list(range(12))
    assert list(tmp_path.iterdir()) == []


def test_killed_and_resumed_on_augmented_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of an epoch, whose images are made anew from its draws."""
    monkeypatch.setenv("REPLICATE_DATA", str(archives.cifar100(tmp_path / "data", train=20, test=30)))
    spec = DataSpec("cifar100", train_images=20)
    runs = [make(lr=lr, data=spec, augment=tuple(AUGMENTATIONS)) for lr in (1e-3, 1e-2)]
    workspace = Workspace(tmp_path / "checkpoints", checkpoint_seconds=0)
    expected = train_stack(runs)
    step = stacked._Stack.step

    def mortal(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        if stack.taken == 7:
            raise Killed
        return step(stack, index)

    monkeypatch.setattr(stacked._Stack, "step", mortal)
    with pytest.raises(Killed):
        train_stack(runs, workspace=workspace)
    monkeypatch.setattr(stacked._Stack, "step", step)
    assert timeless(train_stack(runs, workspace=workspace)) == timeless(expected)


def test_killed_between_the_last_step_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [make(), make(lr=1e-3)]
    workspace = Workspace(tmp_path, checkpoint_seconds=0)
    expected = train_stack(runs)

    with monkeypatch.context() as patch:
        patch.setattr(stacked._Stack, "results", killed)
        with pytest.raises(Killed):
            train_stack(runs, workspace=workspace)
    monkeypatch.setattr(stacked._Stack, "step", killed)
    assert timeless(train_stack(runs, workspace=workspace)) == timeless(expected)


def test_corrupt_checkpoint_starts_over_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, words = [make(), make(lr=1e-3)], []
    workspace = Workspace(tmp_path, checkpoint_seconds=0, notice=words.append)
    expected = train_stack(runs)
    with monkeypatch.context() as patch:
        patch.setattr(stacked._Stack, "evaluate", killed)
        with pytest.raises(Killed):
            train_stack(runs, workspace=workspace)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    assert timeless(train_stack(runs, workspace=workspace)) == timeless(expected)
    assert len(words) == 1 and words[0].endswith("cut off or altered; training starts over")


def test_no_checkpoint_before_its_time(tmp_path: Path) -> None:
    train_stack([make(), make(lr=1e-3)], workspace=Workspace(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_checkpoint_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words: list[str] = []
    runs = [make(), make(lr=1e-3)]
    workspace = Workspace(tmp_path / "file", checkpoint_seconds=0, notice=words.append)
    assert timeless(train_stack(runs, workspace=workspace)) == timeless(train_stack(runs))
    assert words and all(
        w.startswith("checkpoint ") or w.endswith("make it writable; training goes on without a checkpoint")
        for w in words
    )


def raising(error: Exception) -> Callable[..., object]:
    def step(*_: object) -> object:
        raise error

    return step


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        CaptureFailed("CUDA error: operation not permitted when stream is capturing"),
    ],
)
def test_lack_of_memory_by_every_word_for_it(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """And whatever is thrown in the capture of a graph; how many lanes there were is told."""
    monkeypatch.setattr(stacked._Stack, "step", raising(error))
    runs = [make(lr=lr) for lr in (1e-3, 3e-3, 1e-2)]
    for given, lanes in ((runs, 3), (runs[:1], 2)):
        with pytest.raises(TooLarge) as caught:
            train_stack(given)
        assert caught.value.lanes == lanes and caught.value.__cause__ is error


def test_other_errors_are_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked._Stack, "step", raising(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        train_stack([make(), make(lr=1e-3)])


class TestCompilingFails:
    """Where torch.compile cannot do what it should, for example because a header of Python's is missing."""

    how = How(lanes=4, compiled=True)
    runs = (make(), make(lr=1e-3), make(lr=3e-3))

    @pytest.fixture(autouse=True)
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The number of steps that what was compiled can do before it fails is the list's only element."""
        good = [0]
        monkeypatch.setattr(compiled, "_kept", [])
        monkeypatch.setattr(compiled, "_given_up", False)

        def compile_(function: Callable[..., object], **_: object) -> Callable[..., object]:
            def call(*arguments: object) -> object:
                good[0] -= 1
                if good[0] < 0:
                    raise RuntimeError("fatal error: Python.h: No such file or directory\n1 error generated.")
                return function(*arguments)

            return call

        monkeypatch.setattr(torch, "compile", compile_)
        return good

    @pytest.mark.parametrize("calls", [0, 1, 5])
    def test_one_notice_and_training_goes_on_without(self, calls: int, failing: list[int]) -> None:
        failing[0] = calls
        words: list[str] = []
        found = train_stack(self.runs, how=self.how, workspace=Workspace(notice=words.append))
        assert timeless(found) == timeless(train_stack(self.runs))
        assert words == [
            "compiling failed on cpu (fatal error: Python.h: No such file or directory): training goes on uncompiled"
        ]
        assert not compiled.can_compile(), "this process does not try again"
        assert not compiled._kept

    def test_lack_of_memory_is_not_the_compilers_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stacked._Stack, "step", raising(torch.OutOfMemoryError("no room")))
        with pytest.raises(TooLarge) as caught:
            train_stack(self.runs, how=self.how)
        assert caught.value.lanes == 4

    def test_an_error_of_what_has_worked_is_one(self, failing: list[int]) -> None:
        """Six steps with two calls each, an evaluation, then something else breaks."""
        failing[0] = 6 * 2 + 1 + 2
        with pytest.raises(RuntimeError, match=r"Python\.h"):
            train_stack(self.runs, how=dataclasses.replace(self.how, products=True))


@pytest.mark.parametrize(
    ("runs", "how", "message"),
    [
        ([], How(), "stack: expected one run or more, got none"),
        ([make(), make(seed=4)], How(), "stack: expected runs of equal seed, got 3 and 4; group runs by stack_key"),
        (
            [make(augment=("crop", "flip"))],
            How(),
            "augmentation: expected some of random_crop, horizontal_flip, color_jitter, randaugment on digits; "
            "got 'crop'",
        ),
        (
            [make(data=DataSpec("imagenet"))],
            How(),
            "stack: expected data that fit on a device, got imagenet, which is streamed from its files; train its "
            "runs one by one",
        ),
        ([make(optimizer="lion")], How(), "optimizer: expected one of adamw, sgd; got 'lion'"),
        ([make()], How(lanes=1), "lanes: expected 2 or more, got 1"),
        ([make()] * 3, How(lanes=2), "lanes: expected 3 or more, got 2"),
        (
            [make(), make(optimizer="sgd")],
            How(),
            "stack: expected runs of equal optimizer, got adamw and sgd; group runs by stack_key",
        ),
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
    for same in (make(lr=1.0), make(weight_decay=0.0), make(schedule="step")):
        assert stack_key(same) == stack_key(run)
    for other in (make("vit_s16"), make(seed=4), make(epochs=8), make(batch_size=4), make(precision="bf16")):
        assert stack_key(other) != stack_key(run)
    for other in (make(model=ModelSpec("other")), make(data=DataSpec("digits")), make(optimizer="sgd")):
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
@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[] if arch == "resnet50" else pytest.mark.long) for arch in MODELS]
)
def test_bf16_passes_keep_float32_weights(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the others are looked at in `test_production_path` of ci/test_gpu.py, which CI runs on a CPU."""
    monkeypatch.undo()  # back to float32
    forget_inputs()
    runs = [make(arch, precision="bf16"), make(arch, lr=1e-3, precision="bf16")]
    stack = stacked._Stack(runs, "cpu", How())
    exact = stacked._Stack([make(arch), make(arch, lr=1e-3)], "cpu", How())
    index = stack.inputs.start(0)[0]
    for name, leaf in zip(stack.lanes.names, stack.lanes.leaves, strict=True):
        owner = stack.lanes._template.get_submodule(name.rpartition(".")[0])
        assert leaf.dtype == (torch.float32 if isinstance(owner, NORMALISATION) else torch.bfloat16), name
    losses, reference = stack.step(index), exact.step(index)
    assert losses.dtype == torch.float32 and (losses - reference).abs().max() < 0.05
    assert {weights.dtype for weights in stack.lanes.weights} == {torch.float32}
    for weights, leaf in zip(stack.lanes.weights, stack.lanes.leaves, strict=True):
        assert leaf.equal(weights.to(leaf.dtype)), "the step has rounded them anew"
    assert {s.dtype for s in stack.lanes.statistics.values()} <= {torch.float32}
    found, wanted = (torch.cat([first.flatten() for first in s.moments.first]) for s in (stack, exact))
    assert (found - wanted).norm() < 0.1 * wanted.norm()
    together, alone = train_stack(runs), solo.train(runs[0])
    assert together[0].train_loss == pytest.approx(alone.train_loss, abs=0.05)
