"""What engines call: how many lanes a stack is given, what becomes of it where memory runs out, and stopping."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from replicate.runs.run import Run
from replicate.train import fast, solo, stacked
from replicate.train.contract import RunFailed, Stopped, Workspace
from replicate.train.engine.missing import MOST_RUNS
from replicate.train.stacked import FEWEST_LANES, LANES, How, OutOfMemory
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
    fast._room.clear()


def test_fast_trains_stacked_and_says_so(workspace: Workspace) -> None:
    found = list(fast.train(RUNS, "cpu", workspace))
    assert [t.run for t in found] == RUNS
    assert all(t.how == {"trainer": "stacked", "lanes": 5, "precision": "float32"} for t in found)
    alone = [solo.train(run) for run in RUNS]
    assert all(abs(t.result.train_loss - b.train_loss) < 1e-4 for t, b in zip(found, alone, strict=True))  # type: ignore
    in_parts = list(fast.train(RUNS, "cpu", workspace, How(lanes=2)))
    assert [t.how["lanes"] for t in in_parts] == [2, 2, 2, 2, 1]
    assert timeless(t.result for t in in_parts) == timeless(t.result for t in found)


def test_fast_goes_one_by_one_where_no_stack_fits(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(stacked._Stack, "step", full)
    found = list(fast.train(RUNS, "cpu", workspace, How(lanes=4)))
    assert all(t.how == {"trainer": "solo", "lanes": 1, "precision": "float32"} for t in found)
    assert timeless(t.result for t in found) == timeless(solo.train(run) for run in RUNS)
    assert WORDS == [
        "out of memory on cpu with 4 lanes: going on with 2 at a time",
        "out of memory on cpu with 2 lanes, the fewest of a stack: no room; training one by one",
    ]


def test_fast_goes_on_with_as_many_lanes_as_have_fitted(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out once, not once for each part of the runs."""
    step, sizes = stacked._Stack.step, []

    def limited(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        sizes.append(len(stack.runs))
        if len(stack.runs) > 2:
            raise torch.OutOfMemoryError("no room")
        return step(stack, index)

    expected = timeless(t.result for t in fast.train(RUNS, "cpu", workspace, How(lanes=2)))
    monkeypatch.setattr(stacked._Stack, "step", limited)
    runs = [*RUNS, *(dataclasses.replace(run, weight_decay=0.5) for run in RUNS)]
    found = list(fast.train(runs, "cpu", workspace, How(lanes=4)))
    assert [t.run for t in found] == runs
    assert timeless(t.result for t in found[:5]) == expected
    assert sizes == [4, *[2] * (6 * 5)] and len(WORDS) == 1
    sizes.clear()
    list(fast.train(RUNS[:3], "cpu", workspace))
    assert sizes[0] == 3, "on a CPU every stack begins whole"


def test_the_run_that_fails_alone_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "LANES", fast.ALONE)
    monkeypatch.setattr(solo, "train", lambda run, device, saver: 1 / 0 if run == RUNS[1] else device)
    found = fast.train(RUNS, GPU, workspace)
    assert next(found).result == GPU
    with pytest.raises(RunFailed) as caught:
        next(found)
    assert caught.value.run == RUNS[1] and isinstance(caught.value.__cause__, ZeroDivisionError)


class TestOnAGpu:
    """By a stand-in for stacks and the plain loop: how many lanes each stack is given, as `asked` tells."""

    @pytest.fixture(autouse=True)
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
        asked: list[tuple[int, int | None]] = []

        def train_stack(runs: Sequence[Run], device: str, how: How) -> list[str]:
            asked.append((len(runs), how.lanes))
            assert device == GPU and how.lanes is not None and how.shrunk is not None
            while how.lanes > self.room and how.lanes > FEWEST_LANES:
                how = dataclasses.replace(how, lanes=how.lanes // 2)
                how.shrunk(how.lanes)  # type: ignore[misc]
            if how.lanes > self.room:
                raise OutOfMemory("no room")
            return ["stacked"] * len(runs)

        monkeypatch.setattr(fast, "train_stack", train_stack)
        monkeypatch.setattr(solo, "train", lambda run, device, saver: "alone")
        return asked

    room = LANES

    def trained(self, workspace: Workspace, count: int, how: How | None = None, **changes: object) -> list[object]:
        runs = [dataclasses.replace(RUN, lr=1e-3 * (i + 1), **changes) for i in range(count)]  # type: ignore[arg-type]
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

    def test_the_next_stack_of_the_kind_does_not_run_out_again(
        self, workspace: Workspace, asked: list[tuple[int, int | None]]
    ) -> None:
        """Whatever its seed; one of another model begins with all lanes."""
        self.room = 4
        assert self.trained(workspace, 20) == ["stacked"] * 20
        assert asked == [(16, 16), (4, 4)]
        asked.clear()
        self.trained(workspace, 5, seed=8)
        assert asked == [(4, 4), (1, 4)]
        asked.clear()
        self.room = LANES
        self.trained(workspace, 5, batch_size=4)
        assert asked == [(5, LANES)]

    def test_nor_does_the_next_after_one_for_which_no_stack_fits(
        self, workspace: Workspace, asked: list[tuple[int, int | None]]
    ) -> None:
        self.room = 1
        assert self.trained(workspace, 5) == ["alone"] * 5
        assert asked == [(5, LANES)] and WORDS == ["no room; training one by one"]
        assert self.trained(workspace, 5, seed=8) == ["alone"] * 5
        assert len(asked) == 1 and len(WORDS) == 1


def test_a_stack_that_is_asked_to_stop_goes_on_later_with_the_same_bits(workspace: Workspace, tmp_path: Path) -> None:
    steps: list[bool] = []

    def stopping() -> bool:
        steps.append(True)
        return len(steps) == 4

    with pytest.raises(Stopped, match="asked to stop after 4 of 6 steps"):
        list(fast.train(RUNS, "cpu", dataclasses.replace(workspace, stopping=stopping)))
    assert len(list(workspace.checkpoints.glob("*.checkpoint"))) == 1
    resumed = list(fast.train(RUNS, "cpu", dataclasses.replace(workspace, stopping=lambda: bool(steps.append(True)))))
    assert len(steps) == 6
    other = dataclasses.replace(workspace, checkpoints=tmp_path / "others")
    assert timeless(t.result for t in resumed) == timeless(t.result for t in fast.train(RUNS, "cpu", other))
    assert not list(workspace.checkpoints.iterdir())
