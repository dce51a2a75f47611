"""What engines call: how many lanes a stack is given, what becomes of it where memory runs out, and stopping."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from replicate.runs.run import Run
from replicate.train import fast, solo, stacked
from replicate.train.contract import RunFailed, Stopped, TooLarge, Workspace
from replicate.train.engine.missing import MOST_RUNS
from replicate.train.stacked import LANES, How
from tests.support.stacked import RUN, timeless

GPU = "cuda:1"

RUNS = [dataclasses.replace(RUN, lr=lr) for lr in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "checkpoints", notice=WORDS.append)


WORDS: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_of_others() -> None:
    WORDS.clear()


def test_fast_trains_stacked_and_says_so(workspace: Workspace) -> None:
    found = list(fast.train(RUNS, "cpu", workspace))
    assert [t.run for t in found] == RUNS
    assert all(t.how == {"trainer": "stacked", "lanes": 5, "precision": "float32"} for t in found)
    alone = [solo.train(run) for run in RUNS]
    assert all(abs(t.result.train_loss - b.train_loss) < 1e-4 for t, b in zip(found, alone, strict=True))  # type: ignore
    in_parts = list(fast.train(RUNS, "cpu", workspace, How(lanes=2)))
    assert [t.how["lanes"] for t in in_parts] == [2, 2, 2, 2, 1]
    assert timeless(t.result for t in in_parts) == timeless(t.result for t in found)


def test_fast_goes_one_by_one_where_no_stack_fits(workspace: Workspace) -> None:
    found = list(fast.train(RUNS, "cpu", dataclasses.replace(workspace, lanes=1)))
    assert all(t.how == {"trainer": "solo", "lanes": 1, "precision": "float32"} for t in found)
    assert timeless(t.result for t in found) == timeless(solo.train(run) for run in RUNS)


def test_fast_trains_as_many_at_once_as_are_known_to_fit(workspace: Workspace) -> None:
    """Whatever the device or the one who calls would have liked."""
    expected = timeless(t.result for t in fast.train(RUNS, "cpu", workspace))
    for how in (None, How(lanes=4)):
        found = list(fast.train(RUNS, "cpu", dataclasses.replace(workspace, lanes=2), how))
        assert [t.run for t in found] == RUNS
        assert [t.how["lanes"] for t in found] == [2, 2, 2, 2, 1]
        assert timeless(t.result for t in found) == expected


def test_a_stack_that_is_too_large_is_the_callers_to_halve(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fitted before is not lost."""
    step = stacked._Stack.step

    def limited(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        if RUNS[2] in stack.runs:
            raise torch.OutOfMemoryError("no room")
        return step(stack, index)

    monkeypatch.setattr(stacked._Stack, "step", limited)
    found = fast.train(RUNS, "cpu", workspace, How(lanes=2))
    assert [next(found).run, next(found).run] == RUNS[:2]
    with pytest.raises(TooLarge) as caught:
        next(found)
    assert caught.value.lanes == 2


def test_the_run_that_fails_alone_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solo, "train", lambda run, device, saver, keep: 1 / 0 if run == RUNS[1] else device)
    found = fast.train(RUNS, GPU, dataclasses.replace(workspace, lanes=1))
    assert next(found).result == GPU
    with pytest.raises(RunFailed) as caught:
        next(found)
    assert caught.value.run == RUNS[1] and isinstance(caught.value.__cause__, ZeroDivisionError)


class TestOnAGpu:
    """By a stand-in for stacks: how many lanes each stack is given, as `asked` tells."""

    @pytest.fixture(autouse=True)
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
        asked: list[tuple[int, int | None]] = []

        def train_stack(runs: Sequence[Run], device: str, how: How, *_: object) -> list[str]:
            asked.append((len(runs), how.lanes))
            assert device == GPU
            return ["stacked"] * len(runs)

        monkeypatch.setattr(fast, "train_stack", train_stack)
        return asked

    def trained(self, workspace: Workspace, count: int, how: How | None = None) -> list[object]:
        runs = [dataclasses.replace(RUN, lr=1e-3 * (i + 1)) for i in range(count)]
        return [done.result for done in fast.train(runs, GPU, workspace, how or How(graph=True))]

    def test_a_stack_is_trained_in_lanes_of_a_fixed_number(
        self, workspace: Workspace, asked: list[tuple[int, int | None]]
    ) -> None:
        assert LANES <= MOST_RUNS
        assert self.trained(workspace, 2 * LANES + 3) == ["stacked"] * (2 * LANES + 3)
        assert asked == [(LANES, LANES), (LANES, LANES), (3, LANES)]

    def test_a_number_of_lanes_can_be_asked_for(
        self, workspace: Workspace, asked: list[tuple[int, int | None]]
    ) -> None:
        self.trained(workspace, 7, How(graph=True, lanes=4))
        assert asked == [(4, 4), (3, 4)]


def test_a_stack_that_is_asked_to_stop_goes_on_later_with_the_same_bits(workspace: Workspace, tmp_path: Path) -> None:
    steps: list[bool] = []

    def stopping() -> bool:
        steps.append(True)
        return len(steps) == 4

    with pytest.raises(Stopped, match="stopped on request after 4 of 6 steps"):
        list(fast.train(RUNS, "cpu", dataclasses.replace(workspace, stopping=stopping)))
    assert len(list(workspace.checkpoints.glob("*.checkpoint"))) == 1
    resumed = list(fast.train(RUNS, "cpu", dataclasses.replace(workspace, stopping=lambda: bool(steps.append(True)))))
    assert len(steps) == 6
    other = dataclasses.replace(workspace, checkpoints=tmp_path / "others")
    assert timeless(t.result for t in resumed) == timeless(t.result for t in fast.train(RUNS, "cpu", other))
    assert not list(workspace.checkpoints.iterdir())
