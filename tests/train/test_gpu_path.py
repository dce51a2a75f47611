"""What only a GPU does, on a CPU: steps that are replayed from memory that stays where it is, and real compilation."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from torch.utils._pytree import tree_leaves

from replicate.data.spec import DataSpec
from replicate.runs.run import Run
from replicate.train import solo, stacked
from replicate.train.augment import AUGMENTATIONS
from replicate.train.checkpoint import Saver
from replicate.train.contract import Stopped, Workspace
from replicate.train.stacked import How, train_stack
from tests.support import archives
from tests.support.replayed import Replayed, check_compilations, compilations, replayed
from tests.support.stacked import MODELS, close, float64, make, no_fallback, timeless

__all__ = ["compilations", "float64", "no_fallback", "replayed"]

pytestmark = pytest.mark.usefixtures("float64", "no_fallback", "replayed")


GRAPH = How(graph=True, products=True)


def runs_of(arch: str, **changes: Any) -> list[Run]:
    return [
        make(arch, 1e-3, 0.3, schedule="step", **changes),
        make(arch, 1e200, **changes),
        make(arch, 3e-3, 10.0, schedule="linear", **changes),
        make(arch, 1e-3, 30.0, **changes),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[] if arch == "resnet50" else pytest.mark.long) for arch in MODELS]
)
def test_replayed_lanes_equal_solo(arch: str, replayed: type[Replayed]) -> None:
    """Among them one that diverges; the last, smaller batch of an epoch has a graph of its own.

    All models, replayed in the same way: `test_lanes_equal_solo` of ci/test_gpu.py, which CI runs on a CPU.
    """
    runs = runs_of(arch)
    together = train_stack(runs, how=GRAPH)
    assert [close(a, solo.train(run)) for a, run in zip(together, runs, strict=True)] == [True] * len(runs)
    assert replayed.calls == [4 * 2, 4]


@pytest.mark.slow
@pytest.mark.long
def test_replayed_on_augmented_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch's are made where those of the last one were."""
    monkeypatch.setenv("REPLICATE_DATA", str(archives.cifar100(tmp_path, train=20, test=30)))
    runs = runs_of("resnet50", data=DataSpec("cifar100", train_images=20), augment=tuple(AUGMENTATIONS))
    together = train_stack(runs, how=GRAPH)
    assert [close(a, solo.train(run)) for a, run in zip(together, runs, strict=True)] == [True] * len(runs)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [pytest.param("resnet50", marks=pytest.mark.long), "vit_s16"])
def test_replayed_in_bf16(arch: str) -> None:
    """Weights are rounded inside of the step: the same bits as without a graph."""
    runs = runs_of(arch, precision="bf16")
    without = dataclasses.replace(GRAPH, graph=False)
    assert timeless(train_stack(runs, how=GRAPH)) == timeless(train_stack(runs, how=without))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("after", [1, 7])
def test_stopped_and_resumed_with_replays_gives_the_same_bits(after: int, tmp_path: Path) -> None:
    runs = runs_of("resnet50")
    whole = train_stack(runs, how=GRAPH)
    asked = iter(range(1, 100))
    stopping = Workspace(tmp_path, stopping=lambda: next(asked) == after)
    with pytest.raises(Stopped):
        train_stack(runs, how=GRAPH, workspace=stopping)
    assert list(tmp_path.iterdir())
    resumed = train_stack(runs, how=GRAPH, workspace=Workspace(tmp_path))
    assert timeless(resumed) == timeless(whole)
    assert not list(tmp_path.iterdir())


def test_memory_that_moves_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above rely on."""
    end_epoch = stacked._Stack.end_epoch

    def moving(stack: stacked._Stack) -> None:
        end_epoch(stack)
        stack.inputs.images = stack.inputs.images.clone()

    monkeypatch.setattr(stacked._Stack, "end_epoch", moving)
    with pytest.raises(AssertionError, match="would have read the memory of the capture"):
        train_stack(runs_of("mixer_s16"), how=GRAPH)


@pytest.mark.slow
@pytest.mark.long
def test_nothing_is_compiled_twice(compilations: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The others take longer: `ci/test_stacked_full_size.py`."""
    monkeypatch.setattr(Replayed, "watched", False)
    check_compilations("mixer_s16", compilations)


@pytest.mark.parametrize("trainer", ["stacked", "solo"])
def test_what_a_checkpoint_held_is_not_held_on_to(
    trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read on the host, and gone by the first step: a device that is full has no room for it."""
    runs, load = [make("resnet50"), make("resnet50", 1e-3)], Saver.load
    held: list[weakref.ref[Tensor]] = []
    left: list[int] = []

    def watched(saver: Saver, device: str) -> dict[str, Any] | None:
        assert device == "cpu"
        state = load(saver, device)
        ours = [] if state is None else state["model"] if trainer == "solo" else state
        held.extend(weakref.ref(t) for t in tree_leaves(ours) if isinstance(t, Tensor))
        return state

    def stop_after(steps: int) -> Callable[[], bool]:
        def stopping() -> bool:
            left.append(sum(tensor() is not None for tensor in held))
            return len(left) == steps

        return stopping

    def training(stopping: Callable[[], bool]) -> object:
        workspace = Workspace(tmp_path, stopping=stopping)
        if trainer == "solo":
            return solo.train(runs[0], "cpu", Saver.of_training(workspace, "solo", "cpu", runs[:1]))
        return train_stack(runs, workspace=workspace)

    monkeypatch.setattr(Saver, "load", watched)
    with pytest.raises(Stopped):
        training(stop_after(4))
    assert not held
    training(stop_after(99))
    assert len(held) > 4 and left == [0] * 12
