"""What a run costs: counted from made-up seconds, and by real steps; `plan --measure` on the command line."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from replicate.cli import main, train
from replicate.data import catalogue
from replicate.data.spec import DataSpec
from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.run import ModelSpec, Run
from replicate.store.store import Store, open_store
from replicate.train import inputs, price
from replicate.train import stacked as trainer
from replicate.train.engine import devices, lease
from replicate.train.engine.devices import Slot
from replicate.train.engine.lease import Lease
from replicate.train.plan import costs, priority
from tests.support import stacked

RUN = dataclasses.replace(stacked.RUN, epochs=4)
STEPS = 4 * 3 + 4 * 30 / 8 / 3
"""Steps of `RUN`, a forward pass over the test images after each epoch included."""
STEP, ALONE, START = 0.4, 0.1, 0.5
"""Seconds of a step of a stack and of the plain loop, and of what is done once an epoch."""


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of lanes whose steps were timed, which takes no time here."""
    tried: list[int] = []

    def step_stacked(run: Run, device: str, lanes: int) -> float:
        tried.append(lanes)
        return STEP

    monkeypatch.setattr(price, "Resident", lambda run, device: inputs.Resident(run, "cpu"))
    monkeypatch.setattr(price, "_times", lambda *_: [2 * START, START])
    monkeypatch.setattr(price, "_step_stacked", step_stacked)
    monkeypatch.setattr(price, "_step_alone", lambda *_: ALONE)
    monkeypatch.setattr(price.setting, "reproducible", lambda device: nullcontext())
    return tried


def test_steps_evaluations_and_augmentation_are_shared_by_the_lanes(made_up: list[int]) -> None:
    assert price.seconds_per_run(RUN, "cuda:0", 16) == pytest.approx((STEPS * STEP + 4 * START) / 16)
    assert made_up == [16]


@pytest.mark.parametrize(("room", "lanes"), [(15, 8), (8, 8), (2, 2)])
def test_lanes_are_halved_until_they_fit(
    made_up: list[int], monkeypatch: pytest.MonkeyPatch, room: int, lanes: int
) -> None:
    monkeypatch.setattr(price, "_step_stacked", lambda *given: None if given[2] > room else STEP)
    assert price.seconds_per_run(RUN, "cuda:0", 16) == pytest.approx((STEPS * STEP + 4 * START) / lanes)


def test_where_no_stack_fits_each_run_augments_its_own(made_up: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price, "_step_stacked", lambda *_: None)
    assert price.seconds_per_run(RUN, "cuda:0", 16) == pytest.approx(STEPS * ALONE + 4 * START)


class TestMeasured:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(price, "SECONDS", 0.01)

    @pytest.mark.slow
    def test_a_stack(self) -> None:
        assert 0 < price.seconds_per_run(RUN, "cpu", 4) < 60

    @pytest.mark.slow
    @pytest.mark.parametrize("room", [2, 1])
    def test_memory_runs_out(self, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        step, sizes = trainer._Stack.step, []

        def limited(stack: trainer._Stack, index: torch.Tensor) -> torch.Tensor:
            sizes.append(len(stack.runs))
            if len(stack.runs) > room:
                raise torch.OutOfMemoryError("no room")
            return step(stack, index)

        monkeypatch.setattr(trainer._Stack, "step", limited)
        assert 0 < price.seconds_per_run(RUN, "cpu", 8) < 60
        assert sizes[:3] == [8, 4, 2] and (len(sizes) == 3) == (room == 1)

    def test_another_error_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trainer._Stack, "step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            price.seconds_per_run(RUN, "cpu", 8)

    @pytest.mark.slow
    def test_streamed_images_feed_the_plain_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Files of which none is read."""
        run = dataclasses.replace(RUN, data=DataSpec("imagenet"), model=ModelSpec("resnet18"), batch_size=2)
        monkeypatch.setattr(price, "_step_stacked", lambda *_: pytest.fail("stacked"))
        monkeypatch.setattr(catalogue, "load", lambda *_: pytest.fail("read"))
        assert price.seconds_per_run(run, "cpu", 2) > 0


class TestPlan:
    @pytest.fixture
    def prices(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Run, str, int]]:
        """What was asked of each architecture; every run costs an hour."""
        asked = []

        def seconds_per_run(run: Run, device: str, lanes: int) -> float:
            asked.append((run, device, lanes))
            return 3600.0

        monkeypatch.setattr(price, "seconds_per_run", seconds_per_run)
        return asked

    def test_every_architecture_is_measured_once_and_priced(
        self, prices: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        store = open_store(tmp_path / "store")
        assert main(["plan", "--scale", "smoke", "--measure", "--json", "--store", str(store.path)]) == 0
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert found["device_hours"]["rates"] == "measured on this device for a few seconds"
        scale = scales.get("smoke")
        assert [run.arch for run, *_ in prices] == list(dict(scale.models))
        assert {run.epochs for run, *_ in prices} == {scale.epochs}
        assert {device for _, device, _ in prices} == {"cpu"}
        assert all(2 <= lanes <= 32 for *_, lanes in prices)
        for arch in dict(scale.models):
            assert f"measuring {arch} on cpu\n" in err

    @pytest.mark.slow
    def test_a_budget_trains_and_judges_in_the_order_that_was_printed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """By prices so odd that the order is another one than by the scale's own."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        scale = scales.get("smoke")
        odd = {arch: 10.0**i for i, arch in enumerate(dict(scale.models))}
        monkeypatch.setattr(price, "seconds_per_run", lambda run, *_: odd[run.arch])
        store = open_store(tmp_path / "store")
        plan = ["plan", "--scale", "smoke", "--json", "--store", str(store.path)]
        assert main(plan) == 0
        before = json.loads(capsys.readouterr().out)["order"]
        assert main([*plan, "--measure"]) == 0
        printed = json.loads(capsys.readouterr().out)["order"]
        assert printed != before
        assert main(plan) == 0
        assert json.loads(capsys.readouterr().out)["order"] == printed, "what was measured is kept"
        trained: list[list[str]] = []

        def ensure(store: Store, runs: list[Run], **_: object) -> None:
            trained.append([run.key for run in runs])

        monkeypatch.setattr(train, "ensure_of", lambda *_: ensure)
        assert main(["train", "--scale", "smoke", "--budget", "1h", "--store", str(store.path)]) == 0
        steps = priority.best_first(CLAIMS, scale, store)
        assert [list(step.claims) for step in steps] == [step["claims"] for step in printed]
        # A step is asked for all runs of its claims: those of earlier steps would be stored by then.
        seen: set[str] = set()
        new = []
        for keys in trained:
            new.append(set(keys) - seen)
            seen |= set(keys)
        assert new == [{run.key for run in step.runs} for step in steps]
        assert [len(keys) for keys in new] == [step["runs"] for step in printed]

    @pytest.mark.parametrize("budget", ["soon", ""])
    def test_a_budget_that_is_no_time_is_refused_before_anything_is_fetched(
        self, budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(catalogue, "prepare", lambda spec: pytest.fail("fetched"))
        assert main(["train", "--scale", "smoke", "--budget", budget, "--store", str(tmp_path / "store")]) == 2
        assert "--budget: expected a time such as 6h" in capsys.readouterr().err
        assert not (tmp_path / "store").exists()

    def test_a_gpu_is_leased_meanwhile_and_who_has_it_is_said(
        self, prices: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        slots = (Slot("gpu-price-a", "cuda:0"), Slot("gpu-price-b", "cuda:1"))
        monkeypatch.setattr(devices, "slots", lambda: slots)
        training = Lease(slots[0], open_store(tmp_path / "another"), pytest.fail)
        assert training.take()
        command = ["plan", "--scale", "smoke", "--measure", "--store", str(tmp_path / "none")]
        held: list[dict[str, object]] = []
        real = price.seconds_per_run

        def seconds_per_run(*asked: object) -> float:
            held.append(lease.holders(None, slots))
            return real(*asked)

        monkeypatch.setattr(price, "seconds_per_run", seconds_per_run)
        assert main(command) == 0
        assert {device for _, device, _ in prices} == {"cuda:1"}
        assert all(found.keys() == {"gpu-price-a", "gpu-price-b"} for found in held)
        assert lease.holders(None, slots).keys() == {"gpu-price-a"}, "given back"
        assert "waiting for" not in capsys.readouterr().err
        other = Lease(slots[1], None, pytest.fail)
        assert other.take()
        sleeps: list[float] = []

        sleep_really = time.sleep

        def sleep(seconds: float) -> None:
            if threading.current_thread() is not threading.main_thread():  # of another test: not the one that waits
                sleep_really(seconds)
                return
            sleeps.append(seconds)
            if len(sleeps) == 3:
                other.release()

        monkeypatch.setattr(lease.time, "sleep", sleep)
        assert main(command) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if "waiting for" in line]
        assert len(told) == 1 and told[0].startswith("replicate: waiting for device gpu-price-a (process ")
        assert " or gpu-price-b (process " in told[0]
        training.release()
        assert not (tmp_path / "none").exists()

    def test_an_empty_data_folder_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        for command in (["plan"], ["runs", "verify"], ["train"]):
            assert main([*command, "--scale", "smoke", "--data", ""]) == 2
            assert "--data: expected a folder, got an empty name" in capsys.readouterr().err

    def test_what_cannot_be_trained_is_not_measured(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["plan", "--scale", "synthetic", "--measure"]) == 2
        assert "--measure: scale synthetic cannot be measured: " in capsys.readouterr().err


def test_the_length_of_a_run_counts_its_epochs(made_up: list[int]) -> None:
    once = price.seconds_per_run(dataclasses.replace(RUN, epochs=4), "cpu", 4)
    assert price.seconds_per_run(dataclasses.replace(RUN, epochs=8), "cpu", 4) == pytest.approx(2 * once)


class TestKept:
    @pytest.fixture(autouse=True)
    def here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "cuda_devices", lambda: ("GPU-a", "GPU-b"))

    def test_prices_are_those_of_the_scale_and_of_these_devices(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        layout = open_store(tmp_path / "store").layout
        assert costs.kept(layout, "smoke") == {}
        costs.keep(layout, "smoke", {"resnet50": 2.0})
        costs.keep(layout, "smoke", {"vit_s16": 3.0})
        assert costs.kept(layout, "smoke") == {"resnet50": 2.0, "vit_s16": 3.0}
        assert costs.kept(layout, "embedded") == {}
        monkeypatch.setattr(devices, "cuda_devices", lambda: ("GPU-b", "GPU-a"))
        assert costs.kept(layout, "smoke"), "in whatever order"
        monkeypatch.setattr(devices, "cuda_devices", lambda: ("GPU-c",))
        assert costs.kept(layout, "smoke") == {}

    @pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"format": 1}', '{"seconds": 3', "[" * 100_000])
    def test_what_cannot_be_read_was_never_measured(self, content: str, tmp_path: Path) -> None:
        layout = open_store(tmp_path / "store").layout
        layout.rates.mkdir()
        layout.price("smoke").write_text(content)
        assert costs.kept(layout, "smoke") == {}
        costs.keep(layout, "smoke", {"resnet50": 2.0})
        assert costs.kept(layout, "smoke") == {"resnet50": 2.0}

    @pytest.mark.parametrize("seconds", ["1" + "0" * 400, "Infinity", "1e308", "-1", "NaN", '"soon"'])
    def test_seconds_that_no_run_takes_were_never_measured(self, seconds: str, tmp_path: Path) -> None:
        layout = open_store(tmp_path / "store").layout
        costs.keep(layout, "smoke", {"resnet50": 2.0})
        layout.price("smoke").write_text(layout.price("smoke").read_text().replace("2.0", seconds))
        assert costs.kept(layout, "smoke") == {}
