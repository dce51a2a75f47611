"""What only a GPU does, on a CPU: steps that are replayed from memory that stays where it is, and real compilation."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.registry import lookup_backend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from replicate.data.spec import DataSpec
from replicate.runs.run import Run
from replicate.train import compiled, solo, stacked
from replicate.train.augment import AUGMENTATIONS
from replicate.train.checkpoint import Checkpoint, Saver
from replicate.train.contract import Stopped
from replicate.train.stacked import How, train_stack
from tests.support import archives
from tests.train.test_stacked import MODELS, close, float64, make, no_fallback, timeless

__all__ = ["float64", "no_fallback"]


class Reads(TorchDispatchMode):
    """Notes where in memory lies what is read or written inside, unless it was made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[int, tuple[int, ...]]] = []
        self._made: dict[int, torch.UntypedStorage] = {}  # held on to, so that no address is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        for tensor in given:
            if tensor.untyped_storage().data_ptr() not in self._made:
                self.places.append((tensor.data_ptr(), tuple(tensor.shape)))
        outside = {t.untyped_storage().data_ptr() for t in given} - set(self._made)
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (place := tensor.untyped_storage().data_ptr()) not in outside:
                self._made[place] = tensor.untyped_storage()
        return out


class Replayed:
    """In place of `Captured`: a replay reads what the capture read, where it lay then, and nothing of the caller's."""

    watched = True
    calls: list[int]
    """Steps of each capture."""

    def __init__(
        self, step: Callable[[Tensor, Tensor], Tensor], index: Tensor, now: Tensor, changed: Sequence[Tensor]
    ) -> None:
        self._step, self._index, self._now = step, index.clone(), now.clone()
        before = [tensor.clone() for tensor in changed]
        step(self._index, self._now)
        self._losses, self._places = self._once()
        for tensor, old in zip(changed, before, strict=True):
            tensor.copy_(old)
        self.calls.append(0)

    def __call__(self, index: Tensor, now: Tensor) -> Tensor:
        self._index.copy_(index)
        self._now.copy_(now)
        index.fill_(1 << 40)
        now.fill_(torch.nan)
        losses, places = self._once()
        assert places == self._places, "a replay would have read the memory of the capture"
        self.calls[-1] += 1
        return self._losses.copy_(losses)

    def _once(self) -> tuple[Tensor, list[tuple[int, tuple[int, ...]]]]:
        if not self.watched:  # torch.compile does nothing where a mode of ours is active
            return self._step(self._index, self._now), []
        with Reads() as reads:
            losses = self._step(self._index, self._now)
        return losses, reads.places


@pytest.fixture(autouse=True)
def replayed(monkeypatch: pytest.MonkeyPatch) -> type[Replayed]:
    monkeypatch.setattr(Replayed, "calls", [], raising=False)
    monkeypatch.setattr(stacked, "Captured", Replayed)
    monkeypatch.setattr(stacked, "_check", lambda *_: None)  # which says that a CPU has no graphs
    return Replayed


GRAPH = How(graph=True, products=True)


def runs_of(arch: str, **changes: Any) -> list[Run]:
    return [
        make(arch, 3e-2, 0.3, optimizer="sgd", **changes),
        make(arch, 1e200, **changes),
        make(arch, 3e-3, 10.0, schedule="linear", **changes),
        make(arch, 1e-3, 30.0, **changes),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("arch", MODELS)
def test_replayed_lanes_equal_solo(arch: str, replayed: type[Replayed]) -> None:
    """Among them one that diverges; the last, smaller batch of an epoch is not replayed."""
    runs = runs_of(arch)
    together = train_stack(runs, how=GRAPH)
    assert [close(a, solo.train(run)) for a, run in zip(together, runs, strict=True)] == [True] * len(runs)
    assert replayed.calls == [4 * 2]


@pytest.mark.slow
def test_replayed_on_augmented_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch's are made where those of the last one were."""
    monkeypatch.setenv("REPLICATE_DATA", str(archives.cifar100(tmp_path, train=20, test=30)))
    runs = runs_of("resnet50", data=DataSpec("cifar100", train_images=20), augment=tuple(AUGMENTATIONS))
    together = train_stack(runs, how=GRAPH)
    assert [close(a, solo.train(run)) for a, run in zip(together, runs, strict=True)] == [True] * len(runs)


@pytest.mark.parametrize("arch", ["resnet50", "vit_s16"])
def test_replayed_in_bf16(arch: str) -> None:
    """Weights are rounded inside of the step: the same bits as without a graph."""
    runs = runs_of(arch, precision="bf16")
    without = dataclasses.replace(GRAPH, graph=False)
    assert timeless(train_stack(runs, how=GRAPH)) == timeless(train_stack(runs, how=without))


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 7])
def test_stopped_and_resumed_with_replays_gives_the_same_bits(after: int, tmp_path: Path) -> None:
    runs = runs_of("resnet50")
    whole = train_stack(runs, how=GRAPH)
    asked = iter(range(1, 100))
    stopping = dataclasses.replace(GRAPH, checkpoints=tmp_path, stopping=lambda: next(asked) == after)
    with pytest.raises(Stopped):
        train_stack(runs, how=stopping)
    assert list(tmp_path.iterdir())
    resumed = train_stack(runs, how=dataclasses.replace(GRAPH, checkpoints=tmp_path))
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


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A number for each graph that torch.compile has compiled, by its reference back end."""
    found: list[int] = []
    compile_, back_end = torch.compile, lookup_backend("aot_eager")

    def counting(graph: Any, inputs: Any, **rest: Any) -> Any:
        found.append(len(graph.graph.nodes))
        return back_end(graph, inputs, **rest)

    monkeypatch.setattr(compiled, "_kept", [])
    monkeypatch.setattr(torch, "compile", lambda function, **rest: compile_(function, backend=counting, **rest))
    torch.compiler.reset()
    yield found
    torch.compiler.reset()


@pytest.mark.slow
def test_nothing_is_compiled_twice(compilations: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The others take longer: `ci/test_stacked_full_size.py`."""
    monkeypatch.setattr(Replayed, "watched", False)
    check_compilations("mixer_s16", compilations)


def check_compilations(arch: str, compilations: list[int]) -> None:
    """Losses, update and hits in one graph each: not for the smaller batch, after an evaluation, or for other runs."""
    how = How(lanes=3, compiled=True, products=True, graph=True)
    for seed, lrs in ((3, (1e-3, 1e-2, 3e-2)), (4, (1e-2, 1e-3))):
        runs = [make(arch, lr, seed=seed, epochs=2, eval_every_epochs=1) for lr in lrs]
        together = train_stack(runs, how=how)
        assert len(compilations) == 3, compilations
        assert [close(a, solo.train(run)) for a, run in zip(together, runs, strict=True)] == [True] * len(runs)


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
        if trainer == "solo":
            checkpoint = Checkpoint.of_training(tmp_path, "solo", "cpu", runs[:1], print)
            return solo.train(runs[0], "cpu", Saver(checkpoint, stopping=stopping))
        return train_stack(runs, how=How(checkpoints=tmp_path, stopping=stopping))

    monkeypatch.setattr(Saver, "load", watched)
    with pytest.raises(Stopped):
        training(stop_after(4))
    assert not held
    training(stop_after(99))
    assert len(held) > 4 and left == [0] * 12
