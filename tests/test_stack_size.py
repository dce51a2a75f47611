"""How many lanes: the decision from made-up rates, a real measurement of a moment, and what is remembered of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from replicate.runs import DataSpec, ModelSpec, Run
from replicate.train import fast, solo, stack_size, stacked
from replicate.train.result import Result
from replicate.train.stack_size import ALONE, Rates, best, choose, measure, remember_limit
from replicate.train.stacked import How

RUN = Run(
    arch="mixer_s16",
    model=ModelSpec("class:MlpMixer", (("patch_size", 4), ("embed_dim", 8), ("num_blocks", 1))),
    data=DataSpec("digits", train_images=20, test_images=30),
    optimizer="adamw",
    lr=1e-2,
    weight_decay=0.1,
    seed=3,
    schedule="cosine",
    epochs=2,
    warmup_epochs=1,
    batch_size=8,
)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        (Rates(100, ((2, 120), (4, 200), (8, 300), (16, 310), (32, 250))), 8),
        (Rates(100, ((2, 120), (4, 200), (8, 300), (16, 400), (32, 250))), 16),
        (Rates(100, ((2, 120), (4, 200), (8, 300), (16, 400)), limit=9), 8),
        (Rates(100, ((2, 60), (4, 90), (8, 109), (16, 105))), ALONE),
        (Rates(100, ((2, 60), (4, 90), (8, 111), (16, 105))), 8),
        (Rates(100, ((2, 120), (4, 300)), limit=1), ALONE),
        (Rates(100, ()), ALONE),
    ],
)
def test_best(rates: Rates, expected: int) -> None:
    assert best(rates) == expected


def test_best_that_must_not_be_alone() -> None:
    slow = Rates(100, ((2, 20), (4, 30), (8, 29)))
    assert best(slow, may_be_alone=False) == 4
    assert best(dataclasses.replace(slow, limit=0), may_be_alone=False) == ALONE


def test_measure() -> None:
    rates = measure(RUN, "cpu", seconds=0.01, most=4)
    assert rates.alone > 0 and rates.limit is None
    assert [lanes for lanes, _ in rates.stacked] in ([2], [2, 4])
    assert all(rate > 0 for _, rate in rates.stacked)


def test_measure_until_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    step = stacked._Stack.step

    def limited(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        if len(stack.runs) > 2:
            raise torch.OutOfMemoryError("no room")
        return step(stack, index)

    monkeypatch.setattr(stacked._Stack, "step", limited)
    rates = measure(RUN, "cpu", seconds=0.01)
    assert [lanes for lanes, _ in rates.stacked] == [2] and rates.limit == 2


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs for which rates have been measured, which takes no time here."""
    found: list[Run] = []

    def quick(run: Run, device: str, how: How, seconds: float) -> Rates:
        found.append(run)
        return Rates(100, ((2, 150), (4, 300)))

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
    "content", ["", "{", "[]", '{"rates": {}}', '{"rates": {"alone": 1, "stacked": 3, "limit": 0}}']
)
def test_unreadable_measurement_is_made_again(tmp_path: Path, measured: list[Run], content: str) -> None:
    words: list[str] = []
    how = How(notice=words.append)
    choose(RUN, "cpu", tmp_path, how)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert choose(RUN, "cpu", tmp_path, how) == 4
    assert len(measured) == 2 and len(words) == 1
    assert words[0].startswith(f"{file.name}: expected measured rates, got ") and words[0].endswith("measuring anew")
    assert json.loads(file.read_text())["rates"]["limit"] is None


def test_limit_is_remembered(tmp_path: Path, measured: list[Run]) -> None:
    assert choose(RUN, "cpu", tmp_path) == 4
    remember_limit(RUN, "cpu", tmp_path, 3)
    remember_limit(RUN, "cpu", tmp_path, 8)
    assert choose(RUN, "cpu", tmp_path) == 2
    remember_limit(RUN, "cpu", tmp_path, ALONE)
    assert choose(RUN, "cpu", tmp_path) == ALONE
    assert len(measured) == 1


def test_a_folder_that_cannot_be_written_costs_a_measurement(tmp_path: Path, measured: list[Run]) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert choose(RUN, "cpu", tmp_path / "file", How(notice=lambda _: None)) == 4
    assert len(measured) == 2


RUNS = [dataclasses.replace(RUN, lr=lr) for lr in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)]


def test_fast_trains_stacked_and_says_so(tmp_path: Path, measured: list[Run]) -> None:
    results, how_done = fast.train(RUNS, rates=tmp_path)
    assert how_done == {"trainer": "stacked", "lanes": 4, "precision": "float32"}
    alone = [solo.train(run) for run in RUNS]
    assert all(abs(a.train_loss - b.train_loss) < 1e-4 for a, b in zip(results, alone, strict=True))  # type: ignore


def test_fast_never_goes_alone_on_a_cpu_because_of_a_timing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_size, "measure", lambda *a: Rates(100, ((2, 1), (4, 2))))
    assert fast.train(RUNS, rates=tmp_path)[1]["trainer"] == "stacked"


def test_fast_goes_one_by_one_where_no_stack_fits(
    tmp_path: Path, measured: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(stack: stacked._Stack, index: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(stacked._Stack, "step", full)
    words: list[str] = []

    def timeless(results: list[Result]) -> list[Result]:
        return [dataclasses.replace(r, seconds=0.0) for r in results]

    results, how_done = fast.train(RUNS, rates=tmp_path, how=How(notice=words.append))
    assert how_done == {"trainer": "solo", "lanes": 1, "precision": "float32"}
    assert timeless(results) == timeless([solo.train(run) for run in RUNS])
    assert words == [
        "out of memory on cpu with 4 lanes: going on with 2 at a time",
        "out of memory on cpu with 2 lanes, the fewest of a stack: no room; training one by one",
    ]
    assert choose(RUN, "cpu", tmp_path, How(notice=words.append)) == ALONE
    assert fast.train(RUNS, rates=tmp_path)[1]["trainer"] == "solo"
    assert len(measured) == 1
