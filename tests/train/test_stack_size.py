"""How many lanes: the decision from made-up rates, a real measurement of a moment, and what is remembered of it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from replicate.runs.run import ModelSpec, Run
from replicate.train import fast, inputs, solo, stack_size, stacked
from replicate.train.contract import RunFailed, Stopped, Workspace
from replicate.train.engine.missing import MOST_RUNS
from replicate.train.stack_size import ALONE, LaneRates, best, choose, measure, remember_limit
from replicate.train.stacked import How
from tests.support.stacked import RUN, timeless


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        (LaneRates(100, ((2, 120), (4, 200), (8, 300), (16, 310), (32, 250))), 8),
        (LaneRates(100, ((2, 120), (4, 200), (8, 300), (16, 400), (32, 250))), 16),
        (LaneRates(100, ((2, 120), (4, 200), (8, 300), (16, 400)), limit=9), 8),
        (LaneRates(100, ((2, 60), (4, 90), (8, 109), (16, 105))), ALONE),
        (LaneRates(100, ((2, 60), (4, 90), (8, 111), (16, 105))), 8),
        (LaneRates(100, ((2, 120), (4, 300)), limit=1), ALONE),
        (LaneRates(100, ()), ALONE),
    ],
)
def test_best(rates: LaneRates, expected: int) -> None:
    assert best(rates) == expected


def test_best_that_must_not_be_alone() -> None:
    slow = LaneRates(100, ((2, 20), (4, 30), (8, 29)))
    assert best(slow, may_be_alone=False) == 4
    assert best(dataclasses.replace(slow, limit=0), may_be_alone=False) == ALONE


@pytest.mark.slow
def test_measure() -> None:
    rates = measure(RUN, "cpu", seconds=0.01, most=4)
    assert rates.alone > 0 and rates.limit is None
    assert [lanes for lanes, _ in rates.stacked] in ([2], [2, 4])
    assert all(rate > 0 for _, rate in rates.stacked)


@pytest.mark.slow
def test_measure_until_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    step = stacked._Stack.step

    def limited(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        if len(stack.runs) > 2:
            raise torch.OutOfMemoryError("no room")
        return step(stack, index)

    monkeypatch.setattr(stacked._Stack, "step", limited)
    rates = measure(RUN, "cpu", seconds=0.01)
    assert [lanes for lanes, _ in rates.stacked] == [2] and rates.limit == 2


@pytest.mark.slow
@pytest.mark.parametrize("where", ["short batch", "evaluation", "end of an epoch", "next epoch"])
def test_a_size_counts_once_all_that_a_training_does_has_fitted(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what comes long after the first step; only where lanes are computed as on a GPU."""
    lanes = 0

    def full(if_so: bool) -> None:
        if if_so and lanes > 2:
            raise torch.OutOfMemoryError("no room")

    stack, resident = stacked._Stack, inputs.Resident
    make, step, end, evaluate, start = stack.__init__, stack.step, stack.end_epoch, stack.evaluate, resident.start

    def made(self: stacked._Stack, runs: list[Run], *rest: object) -> None:
        nonlocal lanes
        lanes = len(runs)
        make(self, runs, *rest)  # type: ignore[arg-type]

    def before(method: Callable[..., Any], at: str, when: Callable[..., bool] = lambda *_, **__: True) -> Any:
        def called(*given: Any, **named: Any) -> Any:
            full(where == at and when(*given, **named))
            return method(*given, **named)

        return called

    monkeypatch.setattr(stack, "__init__", made)
    monkeypatch.setattr(stack, "step", before(step, "short batch", lambda _, index: len(index) == 4))
    monkeypatch.setattr(stack, "end_epoch", before(end, "end of an epoch"))
    monkeypatch.setattr(stack, "evaluate", before(evaluate, "evaluation"))
    monkeypatch.setattr(resident, "start", before(start, "next epoch", lambda _, epoch: epoch == 1))
    rates = measure(RUN, "cpu", How(products=True), seconds=0.01)
    assert [lanes for lanes, _ in rates.stacked] == [2] and rates.limit == 2
    assert rates.limited == pytest.approx(time.time(), abs=60)
    assert measure(RUN, "cpu", seconds=0.01, most=4).limit is None


def test_no_size_is_larger_than_a_stack() -> None:
    assert stack_size.MOST_LANES == MOST_RUNS


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs for which rates have been measured, which takes no time here."""
    found: list[Run] = []

    def quick(run: Run, device: str, how: How, seconds: float) -> LaneRates:
        found.append(run)
        return LaneRates(100, ((2, 150), (4, 300)))

    monkeypatch.setattr(stack_size, "measure", quick)
    return found


def test_measured_once(tmp_path: Path, measured: list[Run]) -> None:
    folder = tmp_path / "made when needed"
    for run in (RUN, dataclasses.replace(RUN, lr=1.0, weight_decay=0.0, seed=4, epochs=9)):
        assert choose(run, "cpu", folder) == 4
    assert measured == [RUN]
    assert [p.suffix for p in folder.iterdir()] == [".json"]
    for other in (
        dataclasses.replace(RUN, batch_size=9),
        dataclasses.replace(RUN, optimizer="sgd"),
        dataclasses.replace(RUN, model=ModelSpec("class:MlpMixer")),
    ):
        choose(other, "cpu", folder)
        assert measured[-1] == other
    choose(RUN, "cpu", folder, How(compiled=True))
    assert len(measured) == 5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "input data was truncated"),
        ("{", "input data was truncated"),
        ("[]", "expected `object`, got `array`"),
        ('{"rates": {}}', "$.rates: object missing required field `alone`"),
        ('{"rates": {"alone": 1, "stacked": 3, "limit": 0}}', "$.rates.stacked: expected `array`, got `int`"),
        ('{"rates": {"alone": 0, "stacked": []}}', "$.rates.alone: expected `float` > 0.0"),
        ('{"rates": {"alone": 1, "stacked": [[2, true]]}}', "$.rates.stacked[0][1]: expected `float`, got `bool`"),
        ('{"rates": {"alone": 1, "stacked": [[33, 5]]}}', "$.rates.stacked[0][0]: expected `int` <= 32"),
        (
            '{"rates": {"alone": 1, "stacked": [], "limit": 0}}',
            "expected the time `limited` beside a `limit`, got none",
        ),
    ],
)
def test_unreadable_measurement_is_made_again(tmp_path: Path, measured: list[Run], content: str, said: str) -> None:
    words: list[str] = []
    how = How(notice=words.append)
    choose(RUN, "cpu", tmp_path, how)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert choose(RUN, "cpu", tmp_path, how) == 4
    assert len(measured) == 2 and len(words) == 1
    assert words[0] == f"{file.name}: expected measured rates: {said}; measuring anew"
    assert json.loads(file.read_text())["rates"]["limit"] is None


def test_limit_is_remembered(tmp_path: Path, measured: list[Run]) -> None:
    assert choose(RUN, "cpu", tmp_path) == 4
    remember_limit(RUN, "cpu", tmp_path, 3)
    remember_limit(RUN, "cpu", tmp_path, 8)
    assert choose(RUN, "cpu", tmp_path) == 2
    remember_limit(RUN, "cpu", tmp_path, ALONE)
    assert choose(RUN, "cpu", tmp_path) == ALONE
    assert len(measured) == 1


def test_a_limit_is_believed_for_a_day(tmp_path: Path, measured: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all is measured anew: another process may have held the memory, in the measurement as well."""
    choose(RUN, "cpu", tmp_path)
    remember_limit(RUN, "cpu", tmp_path, ALONE)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 23 * 3600)
    assert choose(RUN, "cpu", tmp_path) == ALONE and len(measured) == 1
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    assert choose(RUN, "cpu", tmp_path) == 4 and len(measured) == 2
    monkeypatch.setattr(time, "time", lambda: now + 2500 * 3600)
    assert choose(RUN, "cpu", tmp_path) == 4 and len(measured) == 2, "without a limit, rates do not age"


def test_a_folder_that_cannot_be_written_costs_a_measurement(tmp_path: Path, measured: list[Run]) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert choose(RUN, "cpu", tmp_path / "file", How(notice=lambda _: None)) == 4
    assert len(measured) == 2


RUNS = [dataclasses.replace(RUN, lr=lr) for lr in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "checkpoints", tmp_path / "rates", notice=WORDS.append)


WORDS: list[str] = []


@pytest.fixture(autouse=True)
def _no_words_of_others() -> None:
    WORDS.clear()


def test_fast_trains_stacked_and_says_so(workspace: Workspace, measured: list[Run]) -> None:
    found = list(fast.train(RUNS, "cpu", workspace))
    assert [t.run for t in found] == RUNS
    assert all(t.how == {"trainer": "stacked", "lanes": 5, "precision": "float32"} for t in found)
    alone = [solo.train(run) for run in RUNS]
    assert all(abs(t.result.train_loss - b.train_loss) < 1e-4 for t, b in zip(found, alone, strict=True))  # type: ignore
    in_parts = list(fast.train(RUNS, "cpu", workspace, How(lanes=2)))
    assert [t.how["lanes"] for t in in_parts] == [2, 2, 2, 2, 1]
    assert timeless(t.result for t in in_parts) == timeless(t.result for t in found)
    assert measured == [], "on a CPU nothing may depend on a measurement of the moment"


def test_fast_goes_one_by_one_where_no_stack_fits(
    workspace: Workspace, measured: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(stacked._Stack, "step", full)
    choose(RUN, "cpu", workspace.rates)
    found = list(fast.train(RUNS, "cpu", workspace, How(lanes=4)))
    assert all(t.how == {"trainer": "solo", "lanes": 1, "precision": "float32"} for t in found)
    assert timeless(t.result for t in found) == timeless(solo.train(run) for run in RUNS)
    assert WORDS == [
        "out of memory on cpu with 4 lanes: going on with 2 at a time",
        "out of memory on cpu with 2 lanes, the fewest of a stack: no room; training one by one",
    ]
    assert choose(RUN, "cpu", workspace.rates) == ALONE


def test_fast_goes_on_with_as_many_lanes_as_have_fitted(
    workspace: Workspace, measured: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out once, not once for each part of the runs."""
    step, sizes = stacked._Stack.step, []

    def limited(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        sizes.append(len(stack.runs))
        if len(stack.runs) > 2:
            raise torch.OutOfMemoryError("no room")
        return step(stack, index)

    expected = timeless(t.result for t in fast.train(RUNS, "cpu", workspace, How(lanes=2)))
    monkeypatch.setattr(stacked._Stack, "step", limited)
    choose(RUN, "cpu", workspace.rates, How(lanes=4))
    runs = [*RUNS, *(dataclasses.replace(run, weight_decay=0.5) for run in RUNS)]
    found = list(fast.train(runs, "cpu", workspace, How(lanes=4)))
    assert [t.run for t in found] == runs
    assert timeless(t.result for t in found[:5]) == expected
    assert sizes == [4, *[2] * (6 * 5)] and len(WORDS) == 1
    assert choose(RUN, "cpu", workspace.rates, How(lanes=4)) == 2


def test_fast_measures_other_devices_than_a_cpu(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """And trains alone where that is faster; the run that fails alone is named."""
    monkeypatch.setattr(stack_size, "choose", lambda *a: ALONE)
    monkeypatch.setattr(solo, "train", lambda run, device, saver: 1 / 0 if run == RUNS[1] else device)
    found = fast.train(RUNS, "cuda:1", workspace)
    assert next(found).result == "cuda:1"
    with pytest.raises(RunFailed) as caught:
        next(found)
    assert caught.value.run == RUNS[1] and isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_stack_that_is_asked_to_stop_goes_on_later_with_the_same_bits(workspace: Workspace) -> None:
    steps: list[bool] = []

    def stopping() -> bool:
        steps.append(True)
        return len(steps) == 4

    with pytest.raises(Stopped, match="asked to stop after 4 of 6 steps"):
        list(fast.train(RUNS, "cpu", dataclasses.replace(workspace, stopping=stopping)))
    assert len(list(workspace.checkpoints.glob("*.checkpoint"))) == 1
    resumed = list(fast.train(RUNS, "cpu", dataclasses.replace(workspace, stopping=lambda: bool(steps.append(True)))))
    assert len(steps) == 6
    other = dataclasses.replace(workspace, checkpoints=workspace.rates)
    assert timeless(t.result for t in resumed) == timeless(t.result for t in fast.train(RUNS, "cpu", other))
    assert not list(workspace.checkpoints.iterdir())
