"""The plain training loop: reproducible to the bit, right by an independent loop, and honest about divergence."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from replicate.data import catalogue
from replicate.paper.cells import Cell
from replicate.paper.protocol import ARCHITECTURES
from replicate.runs import scales
from replicate.runs.result import Result
from replicate.runs.run import Run
from replicate.runs.schedule import factor
from replicate.store.strict import convert, decode
from replicate.train import models, setting, solo
from replicate.train.checkpoint import Checkpoint, Saver
from replicate.train.contract import Stopped
from replicate.train.solo import train
from tests.support.processes import Killed

ARCHS = tuple(a.name for a in ARCHITECTURES)


def small(
    arch: str = "vit_s16", variant: str = "main", lr: float = 1e-2, weight_decay: float = 0.3, seed: int = 0
) -> Run:
    """A run of 6 steps."""
    return scales.make_run(scales.SMOKE, Cell(arch, "cifar100"), variant, lr, weight_decay, seed)


def numbers(result: Result) -> tuple[object, ...]:
    """All of a result but the time it took."""
    return tuple(value for key, value in result.to_json().items() if key != "seconds")


@pytest.fixture(scope="module")
def first() -> dict[str, Result]:
    """One run an architecture, in order."""
    return {arch: train(small(arch)) for arch in ARCHS}


def test_the_same_whatever_ran_before(first: dict[str, Result]) -> None:
    torch.manual_seed(99)
    torch.rand(7)
    for arch in reversed(ARCHS):
        assert numbers(train(small(arch))) == numbers(first[arch]), arch


@pytest.mark.slow
def test_the_same_in_another_process(first: dict[str, Result]) -> None:
    code = (
        "import json, torch; torch.set_num_threads(2)\n"
        "from replicate.runs import scales; from replicate.paper.cells import Cell\n"
        "from replicate.train.solo import train\n"
        "cells = [Cell(arch, 'cifar100') for arch, _ in reversed(scales.SMOKE.models)]\n"
        "found = {c.arch: train(scales.make_run(scales.SMOKE, c, 'main', 1e-2, 0.3, 0)).to_json() for c in cells}\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {arch: convert(values, Result) for arch, values in json.loads(done.stdout).items()}
    assert {arch: numbers(r) for arch, r in found.items()} == {arch: numbers(r) for arch, r in first.items()}


@pytest.mark.parametrize("arch", ARCHS)
def test_another_seed_is_another_run(arch: str, first: dict[str, Result]) -> None:
    assert train(small(arch, seed=1)).train_loss != first[arch].train_loss


def test_the_callers_settings_are_left_as_they_were() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(threads + 1)
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    train(small())
    after = torch.get_num_threads()
    torch.set_num_threads(threads)
    assert after == threads + 1
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.utils.deterministic.fill_uninitialized_memory == fill


def by_hand(run: Run) -> float:
    """The last epoch's mean training loss by the textbook's update rules, written out weight by weight."""
    split = catalogue.load(run.data)
    images, labels = torch.tensor(split.train_images), torch.tensor(split.train_labels)
    model = models.build_seeded(run.model, 10, 1, 8, run.seed).train()
    weights = list(model.parameters())
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    steps_per_epoch = -(-len(labels) // run.batch_size)
    step, losses = 0, []
    for epoch in range(run.epochs):
        order = torch.randperm(len(labels), generator=setting.generator(run.seed, "order", epoch))
        losses = []
        for i in range(steps_per_epoch):
            batch = order[i * run.batch_size : (i + 1) * run.batch_size]
            lr = run.lr * factor(run.schedule, step, run.epochs * steps_per_epoch, run.warmup_epochs * steps_per_epoch)
            loss = functional.cross_entropy(model(images[batch]), labels[batch])
            gradients = torch.autograd.grad(loss, weights)
            step += 1
            losses.append(loss.item())
            with torch.no_grad():
                for w, g, m, v in zip(weights, gradients, first, second, strict=True):
                    if run.optimizer == "adamw":
                        m.mul_(0.9).add_(g, alpha=0.1)
                        v.mul_(0.999).add_(g * g, alpha=0.001)
                        unbiased = m / (1 - 0.9**step), v / (1 - 0.999**step)
                        w -= lr * unbiased[0] / (unbiased[1].sqrt() + 1e-8) + lr * run.weight_decay * w
                    else:
                        m.mul_(0.9).add_(g + run.weight_decay * w)
                        w -= lr * m
    return sum(losses) / len(losses)


@pytest.mark.parametrize(
    "run",
    [
        small("mixer_s16", lr=3e-3, weight_decay=5.0),
        small("resnet50", "schedule-linear", lr=3e-3, weight_decay=5.0),
        small("convnext_t", "sgd", lr=1e-2, weight_decay=0.5),
        small("vit_s16", "schedule-step", lr=3e-3, weight_decay=0.0),
    ],
    ids=lambda run: f"{run.arch}-{run.optimizer}-{run.schedule}",
)
def test_agrees_with_the_textbooks_update(run: Run) -> None:
    without = dataclasses.replace(run, data=dataclasses.replace(run.data, train_images=40))  # a last batch of 8
    assert train(without).train_loss == pytest.approx(by_hand(without), rel=2e-3)


def test_decay_acts() -> None:
    assert train(small(weight_decay=50.0)).train_loss != train(small(weight_decay=0.0)).train_loss


def test_evaluations_are_as_many_as_asked_and_do_not_touch_the_training() -> None:
    runs = [dataclasses.replace(small(), eval_every_epochs=every) for every in (1, 2, 3, 9)]
    results = [train(run) for run in runs]
    assert [len(result.history) for result in results] == [3, 2, 1, 1]
    assert len({(result.accuracy_pp, result.train_loss) for result in results}) == 1
    assert results[1].history == results[0].history[1:]
    assert all(result.best_accuracy_pp == max(result.history) for result in results)


def test_accuracy_is_a_share_of_the_test_images() -> None:
    accuracy = train(small()).accuracy_pp
    assert accuracy * 2 == pytest.approx(round(accuracy * 2))  # 200 test images


def test_it_learns() -> None:
    run = dataclasses.replace(
        scales.make_run(scales.EMBEDDED, Cell("mixer_s16", "cifar100"), "main", 1e-2, 0.0, 0),
        data=dataclasses.replace(scales.EMBEDDED.data[0][1], label_noise=0.0),
    )
    result = train(run)
    assert result.accuracy_pp > 70
    assert result.train_loss is not None and result.train_loss < 0.1


def test_divergence_is_a_result() -> None:
    result = train(small("convnext_t", "sgd", lr=1e12))
    assert result.diverged
    assert result.accuracy_pp == 10
    assert result.train_loss is None
    assert decode(json.dumps(result.to_json()), Result) == result


def test_a_weight_that_is_not_finite_is_divergence_though_the_loss_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solo, "_finite", lambda model: False)
    result = train(small())
    assert result.diverged and result.history == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"augment": ("flip",)},
            "augmentation: expected some of random_crop, horizontal_flip, color_jitter, randaugment on digits; "
            "got 'flip'",
        ),
        (
            {"augment": ("horizontal_flip",)},
            "augmentation: expected none on digits, whose images are not uint8; got 'horizontal_flip'",
        ),
        ({"optimizer": "lion"}, "optimizer: expected adamw or sgd, got 'lion'"),
        ({"warmup_epochs": 3}, "warmup_epochs: expected fewer than the 3 epochs, got 3"),
    ],
)
def test_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(setting.TrainError) as refused:
        train(dataclasses.replace(small(), **changes))  # type: ignore[arg-type]
    assert str(refused.value) == message


@pytest.mark.parametrize("variant", ["main", "sgd"])
def test_killed_and_resumed_gives_the_same_bits(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in every one of six steps, in turn, with a checkpoint after each; nothing is trained twice."""
    run = small("resnet50", variant)
    expected = numbers(train(run))
    backward, begun = solo.backward, []

    def mortal(*arguments: Any) -> torch.Tensor:
        begun.append(None)
        if len(begun) % 2 == 0:
            raise Killed
        return backward(*arguments)

    def saver() -> Saver:
        return Saver(Checkpoint(tmp_path, [run.key], print), seconds=0)

    monkeypatch.setattr(solo, "backward", mortal)
    for _ in range(5):
        with pytest.raises(Killed):
            train(run, saver=saver())
    assert numbers(train(run, saver=saver())) == expected
    assert len(begun) == 6 + 5
    assert list(tmp_path.iterdir()) == []


def test_asked_to_stop_it_saves_itself(tmp_path: Path) -> None:
    """At the end of an epoch too, before its evaluation; the time it took before counts."""
    run = small("convnext_t")
    expected = numbers(train(run))
    asked = itertools.cycle([False, True])
    for taken in (2, 4, 6):
        saver = Saver(Checkpoint(tmp_path, [run.key], print), stopping=lambda: next(asked))
        with pytest.raises(Stopped, match=rf"^stopped on request after {taken} of 6 steps$"):
            train(run, saver=saver)
    found = train(run, saver=Saver(Checkpoint(tmp_path, [run.key], print)))
    assert numbers(found) == expected and found.seconds > 0


def test_a_damaged_checkpoint_starts_over_with_a_word(tmp_path: Path) -> None:
    run = small()
    notices: list[str] = []
    checkpoint = Checkpoint(tmp_path, [run.key], notices.append)
    with pytest.raises(Stopped):
        train(run, saver=Saver(checkpoint, stopping=lambda: True))
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-100])
    assert numbers(train(run, saver=Saver(checkpoint))) == numbers(train(run))
    assert len(notices) == 1 and notices[0].endswith("training starts over")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy_pp": 101.0}, "accuracy_pp: expected a percentage from 0 to 100, got 101.0"),
        ({"train_loss": None}, "train_loss: expected None if and only if diverged, got None and diverged=False"),
        ({"train_loss": math.inf}, "train_loss: expected a finite number, got inf"),
    ],
)
def test_impossible_results_are_refused(changes: dict[str, object], message: str) -> None:
    possible = Result(50.0, 60.0, False, 1.0, (60.0, 50.0), 0.1)
    with pytest.raises(ValueError, match=f"^{message}$"):
        dataclasses.replace(possible, **changes)  # type: ignore[arg-type]
