"""Stacked training on a CUDA device: against the plain loop there, through interruption, lack of memory and divergence.

    pytest ci/test_gpu.py

A quarter of an hour at a guess, most of it compiling. Without a CUDA device every test is skipped, for that reason.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from replicate.data.spec import DataSpec
from replicate.paper.registry import CLAIMS
from replicate.runs.run import Run
from replicate.runs.scales import PAPER_MODELS
from replicate.store.store import open_store
from replicate.train import compiled, fast, inputs, models, price, solo, stacked
from replicate.train.augment import AUGMENTATIONS
from replicate.train.contract import Stopped, Workspace
from replicate.train.engine import local
from replicate.train.lanes import Lanes
from replicate.train.setting import reproducible
from replicate.train.stacked import How, train_stack
from tests.support import archives
from tests.support.stacked import MODELS, close, float64, make, timeless

__all__ = ["float64"]

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, there is none"),
    # What the compiler says of its own choices.
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]

GPU = "cuda:0"
CLASSES, LANES, BATCH = 100, 3, 16


@pytest.fixture(autouse=True)
def no_fallback() -> Iterator[None]:
    torch._C._functorch._set_vmap_fallback_enabled(False)  # type: ignore[attr-defined]
    yield
    compiled.forget()
    torch._C._functorch._set_vmap_fallback_enabled(True)  # type: ignore[attr-defined]


def runs_of(arch: str) -> list[Run]:
    return [
        make(arch, 3e-2, 0.3, epochs=7, optimizer="sgd"),
        make(arch, 3e-3, 0.0, epochs=7),
        make(arch, 3e-3, 10.0, epochs=7, schedule="linear"),
        make(arch, 1e-3, 30.0, epochs=7),
    ]


@pytest.mark.parametrize("arch", MODELS)
@pytest.mark.usefixtures("float64")
def test_lanes_equal_solo(arch: str) -> None:
    """In float64, as CUDA graphs: the losses of 21 steps to 1e-10, and equal accuracies."""
    runs = runs_of(arch)
    alone = [solo.train(run, GPU) for run in runs]
    together = train_stack(runs, GPU, How(graph=True))
    assert [close(a, b) for a, b in zip(together, alone, strict=True)] == [True] * len(runs)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("arch", ["resnet50", "swin_t"])
def test_compiled_equals_solo(arch: str) -> None:
    """The same, compiled; the second stack, of another seed, by what was compiled for the first, filled up."""
    for seed, count in ((3, 4), (4, 2)):
        runs = [dataclasses.replace(run, seed=seed) for run in runs_of(arch)[:count]]
        # The second stack is of AdamW alone, as one of both optimisers is compiled anew for each mixture.
        runs = runs if count == 4 else [dataclasses.replace(runs[1], lr=lr) for lr in (1e-3, 3e-3, 1e-4)]
        alone = [solo.train(run, GPU) for run in runs]
        together = train_stack(runs, GPU, How(lanes=4, compiled=True, graph=True))
        assert [close(a, b) for a, b in zip(together, alone, strict=True)] == [True] * len(runs)


@pytest.mark.parametrize("arch", dict(PAPER_MODELS))
def test_production_path(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's models in bf16, compiled, as CUDA graphs, on augmented images: against the plain loop, which has
    autocast.

    Losses of the third epoch to 1 %. On a CPU, without a compiler, lanes and loop differ by 0.14 % (ViT), and the loop
    with autocast and without by 0.17 % (ResNet-50); the two learning rates by 60 % (ViT).
    """
    runs = production_runs(arch, tmp_path, monkeypatch)
    alone = [solo.train(run, GPU) for run in runs]
    together = train_stack(runs, GPU, How(lanes=2, compiled=True, graph=True))
    for a, b in zip(together, alone, strict=True):
        assert a.train_loss is not None and b.train_loss is not None
        assert a.train_loss == pytest.approx(b.train_loss, rel=0.01)


def production_runs(arch: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Two runs of nine steps, the last of each three on a smaller batch."""
    monkeypatch.setenv("REPLICATE_DATA", str(archives.cifar100(folder, train=150, test=50)))
    spec = DataSpec("cifar100", train_images=150)
    model, augment = dict(PAPER_MODELS)[arch], tuple(AUGMENTATIONS)
    run = make(arch, 1e-4, model=model, data=spec, augment=augment, batch_size=64, epochs=3, precision="bf16")
    return [run, dataclasses.replace(run, lr=1e-5)]


@pytest.mark.parametrize("arch", dict(PAPER_MODELS))
def test_full_size_gradients(arch: str) -> None:
    """The paper's models in float32, stacked with their convolutions as products: to 1e-4 of the largest a tensor."""
    model = models.build_seeded(dict(PAPER_MODELS)[arch], CLASSES, 3, 32, seed=0).to(GPU)
    with reproducible(GPU):
        lanes = Lanes(copy.deepcopy(model), LANES, products=True)
        noise = torch.rand(lanes.theta.shape, generator=torch.Generator().manual_seed(0)).to(GPU)
        lanes.theta.mul_(1 + 0.2 * noise)
        images = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(GPU)
        labels = torch.arange(BATCH, device=GPU)
        leaves = lanes.leaves()
        losses = lanes.losses(leaves, images, labels)
        gradients = torch.autograd.grad(losses.sum(), leaves)
        for lane in range(LANES):
            alone = one_lane(model, lanes, lane)
            loss = functional.cross_entropy(alone(images), labels)
            loss.backward()
            assert abs(float(losses[lane].detach() - loss.detach())) < 1e-4
            for name, found, p in zip(lanes.names, gradients, alone.parameters(), strict=True):
                assert p.grad is not None
                assert (found[lane] - p.grad).abs().max() <= 1e-4 * p.grad.abs().max() + 1e-7, (name, lane)


def one_lane(model: nn.Module, lanes: Lanes, lane: int) -> nn.Module:
    alone = copy.deepcopy(model).train()
    for (a, b), p in zip(lanes.slices, alone.parameters(), strict=True):
        p.data.copy_(lanes.theta[lane, a:b].view_as(p))
    return alone


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("compiling", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_interrupted_and_resumed(precision: str, compiling: bool, tmp_path: Path) -> None:
    """A stack that is stopped in an epoch and taken up again ends as one that was not: to the last bit."""
    runs = [dataclasses.replace(run, precision=precision) for run in runs_of("convnext_t")]
    how = How(graph=True, compiled=compiling)
    whole = train_stack(runs, GPU, how)
    for after in (2, 7):
        asked = iter(range(1000))
        kept = dataclasses.replace(how, checkpoints=tmp_path)
        with pytest.raises(Stopped):
            train_stack(runs, GPU, dataclasses.replace(kept, stopping=lambda: next(asked) == after))  # noqa: B023
        assert list(tmp_path.iterdir())
        resumed = train_stack(runs, GPU, kept)
        assert timeless(resumed) == timeless(whole)
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second CUDA device, there is one")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("compiling", [False, True], ids=["eager", "compiled"])
def test_a_second_gpu(compiling: bool, tmp_path: Path) -> None:
    """After the first was used: its own streams and captures, the same results as there, and through interruption."""
    runs, second = runs_of("resnet50"), "cuda:1"
    how = How(graph=True, compiled=compiling)
    expected = train_stack(runs, GPU, how)
    found = train_stack(runs, second, how)
    assert [close(a, b) for a, b in zip(found, expected, strict=True)] == [True] * len(runs)
    assert close(solo.train(runs[0], second), expected[0])
    asked = iter(range(1000))
    kept = dataclasses.replace(how, checkpoints=tmp_path)
    with pytest.raises(Stopped):
        train_stack(runs, second, dataclasses.replace(kept, stopping=lambda: next(asked) == 7))
    assert timeless(train_stack(runs, second, kept)) == timeless(found)
    assert torch.cuda.current_device() == 0


@pytest.mark.usefixtures("float64")
def test_a_lane_that_diverges() -> None:
    good = [make("mixer_s16", lr=lr) for lr in (1e-3, 1e-2)]
    bad = make("mixer_s16", lr=1e200)
    together = train_stack([good[0], bad, good[1]], GPU, How(graph=True))
    assert [r.diverged for r in together] == [False, True, False]
    alone = train_stack(good, GPU, How(graph=True))
    assert [close(a, b) for a, b in zip([together[0], together[2]], alone, strict=True)] == [True, True]


def test_memory_runs_out() -> None:
    """With all but 3 GB of the device taken, a stack of 16 ResNet-50 is halved until it fits, and ends as it would."""
    spec = DataSpec("digits", train_images=64, test_images=50)
    model = dict(PAPER_MODELS)["resnet50"]
    runs = [make("resnet50", lr=1e-4 * (i + 1), model=model, data=spec, batch_size=32, epochs=2) for i in range(16)]
    inputs.open_inputs(runs[0], GPU)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(GPU)
    taken = torch.empty(max(free - 3 * 2**30, 0), dtype=torch.uint8, device=GPU)
    notices: list[str] = []
    shrunk: list[int] = []
    results = train_stack(runs, GPU, How(graph=True, notice=notices.append, shrunk=shrunk.append))
    del taken
    torch.cuda.empty_cache()
    assert shrunk and shrunk == sorted(shrunk, reverse=True)
    assert notices[0].startswith(f"out of memory on {GPU} with 16 lanes: going on with 8 at a time")
    assert all(r.train_loss is not None for r in results)


def test_number_of_lanes_is_fixed(tmp_path: Path) -> None:
    runs = [make("mixer_s16", lr=1e-3 * (i + 1)) for i in range(stacked.LANES + 2)]
    found = list(fast.train(runs, GPU, Workspace(tmp_path)))
    assert [trained.how["lanes"] for trained in found] == [stacked.LANES] * stacked.LANES + [2, 2]
    assert 0 < price.seconds_per_run(runs[0], GPU, [len(runs)]) < 60


def test_engine_trains_on_it(tmp_path: Path) -> None:
    """The device is leased, and provenance names it, its memory type and precision."""
    store = open_store(tmp_path / "store")
    runs = [make("vit_s16", lr=lr, epochs=2) for lr in (1e-3, 1e-2)]
    local.ensure(store, runs)
    local.close()
    for run in runs:
        stored = store.get(run)
        assert stored is not None
        assert stored.provenance["device"].startswith("cuda")
        assert stored.provenance["device_model"] == torch.cuda.get_device_name(0)
        assert stored.provenance["lanes"] >= 2 or stored.provenance["trainer"] == "solo"


def test_claims_in_two_workers(tmp_path: Path) -> None:
    """`pytest claims/` at scale smoke: every run exactly once, on the device."""
    command = [sys.executable, "-m", "pytest", "claims/", "-n", "2", "--scale", "smoke", "-q", "-p", "no:cacheprovider"]
    command += ["--store", str(tmp_path / "store"), "--report", str(tmp_path / "report")]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], env=os.environ, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    verdicts = json.loads((tmp_path / "report" / "verdicts.json").read_text())
    assert len(verdicts["claims"]) == len(CLAIMS)
    records = list((tmp_path / "store").rglob("*.json"))
    devices = {json.loads(p.read_text())["provenance"]["device"] for p in records if "provenance" in p.read_text()}
    assert devices and all(device.startswith("cuda") for device in devices), devices


def test_a_stack_gives_its_memory_back() -> None:
    runs = [make("mixer_s16", lr=lr, epochs=2) for lr in (1e-3, 1e-2)]
    train_stack(runs, GPU, How(graph=True))
    before = torch.cuda.memory_allocated(GPU)
    train_stack(runs, GPU, How(graph=True))
    assert torch.cuda.memory_allocated(GPU) <= before
    assert not compiled._kept
