"""Steps that are replayed as a CUDA graph would be, on a CPU, and a count of what is compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.registry import lookup_backend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from replicate.train import compiled, solo, stacked
from replicate.train.stacked import How, train_stack
from tests.support.stacked import close, make


class Reads(TorchDispatchMode):
    """Notes where in memory lies what is read or written inside, unless it was made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[int, tuple[int, ...]]] = []
        self.made: dict[int, torch.UntypedStorage] = {}  # held on to, so that no address is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        for tensor in given:
            if tensor.untyped_storage().data_ptr() not in self.made:
                self.places.append((tensor.data_ptr(), tuple(tensor.shape)))
        outside = {t.untyped_storage().data_ptr() for t in given} - set(self.made)
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (place := tensor.untyped_storage().data_ptr()) not in outside:
                self.made[place] = tensor.untyped_storage()
        return out


class Replayed:
    """In place of `Captured`: a replay reads what the capture read, where it lay then, and nothing of the caller's."""

    watched = True
    calls: list[int]
    """Steps of each capture."""

    def __init__(
        self,
        step: Callable[[Tensor, Tensor], Tensor],
        index: Tensor,
        now: Tensor,
        changed: Sequence[Tensor],
        other: Replayed | None = None,
    ) -> None:
        self.step, self.index, self.now = step, index.clone(), now.clone()
        before = [tensor.clone() for tensor in changed]
        step(self.index, self.now)
        self.losses, self.places = self.once()
        for tensor, old in zip(changed, before, strict=True):
            tensor.copy_(old)
        self.calls.append(0)
        self.number = len(self.calls) - 1

    def __call__(self, index: Tensor, now: Tensor) -> Tensor:
        self.index.copy_(index)
        self.now.copy_(now)
        index.fill_(1 << 40)
        now.fill_(torch.nan)
        losses, places = self.once()
        assert places == self.places, "a replay would have read the memory of the capture"
        self.calls[self.number] += 1
        return self.losses.copy_(losses)

    def once(self) -> tuple[Tensor, list[tuple[int, tuple[int, ...]]]]:
        if not self.watched:  # torch.compile does nothing where a mode of ours is active
            return self.step(self.index, self.now), []
        with Reads() as reads:
            losses = self.step(self.index, self.now)
        return losses, reads.places


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> type[Replayed]:
    monkeypatch.setattr(Replayed, "calls", [], raising=False)
    monkeypatch.setattr(stacked, "Captured", Replayed)
    monkeypatch.setattr(stacked, "_check", lambda *_: None)  # which says that a CPU has no graphs
    return Replayed


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


def check_compilations(arch: str, compilations: list[int]) -> None:
    """Losses, the smaller batch's too, update and hits in one graph each: not for other runs."""
    how = How(lanes=3, compiled=True, products=True, graph=True)
    for seed, lrs in ((3, (1e-3, 1e-2, 3e-2)), (4, (1e-2, 1e-3))):
        runs = [make(arch, lr, seed=seed, epochs=2, eval_every_epochs=1) for lr in lrs]
        together = train_stack(runs, how=how)
        assert len(compilations) == 4, compilations
        assert [close(a, solo.train(run)) for a, run in zip(together, runs, strict=True)] == [True] * len(runs)
