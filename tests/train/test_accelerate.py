"""Captured steps on a stand-in for torch.cuda: whose stream, in which order, and what is put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from replicate.train import accelerate, setting
from replicate.train.accelerate import WARMUPS, Captured, CaptureFailed


class FakeCuda:
    """Two GPUs whose memory is the host's, as far as a capture asks; `current` is the stream that work goes to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Exception | None = None) -> None:
        self.device, self.fails = "cuda:0", fails
        self.log: list[str] = []
        self.made: list[str] = []
        self.current = "default"
        for name in ("device", "stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, contextlib.contextmanager(getattr(self, f"{name}_")))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream(self, "default", str(device)))
        monkeypatch.setattr(torch.cuda, "Stream", self.stream_on)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)

    def stream_on(self, device: Any = None) -> FakeStream:
        self.made.append(str(device or self.device))
        return FakeStream(self, f"side {len(self.made)}", self.made[-1])

    def device_(self, device: str) -> Iterator[None]:
        before, self.device = self.device, device
        yield
        self.device = before

    def stream_(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before

    def graph_(self, graph: FakeGraph, pool: object = None, stream: FakeStream | None = None) -> Iterator[None]:
        self.current = "torch's own" if stream is None else stream.name
        self.log.append(f"capture on {self.device if stream is None else stream.device}")
        graph.memory = pool or object()
        yield
        if self.fails is not None:
            raise self.fails  # and leaves its stream the current one, as torch does


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str, device: str) -> None:
        self.cuda, self.name, self.device = cuda, name, device

    def wait_stream(self, other: FakeStream) -> None:
        self.cuda.log.append(f"{self.name} waits for {other.name}")


class FakeGraph:
    replays = 0
    memory: object

    def replay(self) -> None:
        self.replays += 1

    def pool(self) -> object:
        return self.memory


class Elsewhere(torch.Tensor):
    """A tensor of the host that says it is of the second GPU."""

    @property
    def device(self) -> str:  # type: ignore[override]
        return "cuda:1"


@pytest.fixture(autouse=True)
def _no_streams_of_others() -> Iterator[None]:
    forget = accelerate._side_stream.cache_clear
    forget()
    yield
    forget()


def arguments() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(3).as_subclass(Elsewhere), torch.ones(2, 3)


def test_a_capture_is_on_a_stream_of_the_devices_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another one is the current device; the stream is kept, and what steps change is put back."""
    cuda = FakeCuda(monkeypatch)
    weights = torch.zeros(2)

    def step(index: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
        cuda.log.append(f"step on {cuda.current}")
        return weights.add_(now[0, 0])

    index, now = arguments()
    for _ in range(2):
        Captured(step, index, now, [weights])
        assert cuda.log == [
            "side 1 waits for default",
            *["step on side 1"] * WARMUPS,
            "capture on cuda:1",
            "step on side 1",
            "default waits for side 1",
        ]
        cuda.log.clear()
    assert cuda.made == ["cuda:1"]
    assert weights.tolist() == [0, 0]


def test_a_replay_reads_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    captured = Captured(lambda index, now: now[0], *arguments(), [])
    captured(torch.tensor([5, 6, 7]), 2 * torch.ones(2, 3))
    assert captured._index.tolist() == [5, 6, 7] and captured._now.tolist() == [[2] * 3] * 2
    assert captured._graph.replays == 1  # type: ignore[attr-defined]


def test_after_a_capture_that_failed_work_goes_where_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch, fails=torch.OutOfMemoryError("no room"))
    with pytest.raises(CaptureFailed, match="no room") as caught:
        Captured(lambda index, now: now[0], *arguments(), [])
    assert caught.value.__cause__ is cuda.fails
    assert cuda.current == "default"


def test_a_second_capture_uses_the_memory_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    first = Captured(lambda index, now: now[0], *arguments(), [])
    second, apart = (Captured(lambda index, now: now[0], *arguments(), [], other) for other in (first, None))
    assert second._graph.pool() is first._graph.pool() is not apart._graph.pool()


def test_trainings_run_on_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the current one inside, and the one before is afterwards."""
    cuda = FakeCuda(monkeypatch)
    with setting.reproducible("cuda:1"):
        assert cuda.device == "cuda:1"
    assert cuda.device == "cuda:0"
    with setting.reproducible("cpu"):
        assert cuda.device == "cuda:0"


def test_products_are_not_rounded_where_the_environment_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As TORCH_ALLOW_TF32_CUBLAS_OVERRIDE does, which torch reads when it is loaded; put back afterwards."""
    FakeCuda(monkeypatch)
    try:
        torch.backends.cuda.matmul.allow_tf32 = True
        assert torch.get_float32_matmul_precision() == "high"
        with setting.reproducible("cuda:1"):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
