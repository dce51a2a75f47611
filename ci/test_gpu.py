"""Stacked training on a device: equals the plain loop there, and survives interruption, lack of memory and errors.

    pytest ci/test_gpu.py                   on the first CUDA device: a quarter of an hour (estimated), mostly compiling
    pytest ci/test_gpu.py --device cpu      the same with small models and substitutes for graphs and compiler back end

CI runs the second form, so that the first works when there is a GPU.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from replicate.data.spec import DataSpec
from replicate.paper.registry import CLAIMS
from replicate.runs.result import Result
from replicate.runs.run import ModelSpec, Run
from replicate.runs.scales import PAPER_MODELS, SMALL_MODELS
from replicate.store.store import open_store
from replicate.train import augment, compiled, models, solo, stacked
from replicate.train.augment import AUGMENTATIONS
from replicate.train.contract import Stopped, Workspace
from replicate.train.engine import local, room
from replicate.train.lanes import NORMALISATION, Lanes
from replicate.train.optim import OPTIMIZERS
from replicate.train.products import as_products
from replicate.train.setting import reproducible
from replicate.train.stacked import LANES, How, train_stack
from tests.support import archives, troubled
from tests.support.replayed import Replayed
from tests.support.stacked import MODELS, close, float64, load_lane, make, timeless

__all__ = ["float64"]

# The compiler warns about its own choices.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")

CPU = "cpu"
CLASSES = 100
GRAPH = How(graph=True, products=True)
COMPILED = How(graph=True, products=True, compiled=True)


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The device to train on. A CPU replays no graphs, and compiles with the reference back end, which is fast."""
    name = str(request.config.getoption("--device"))
    torch._C._functorch._set_vmap_fallback_enabled(False)  # type: ignore[attr-defined]
    if name == CPU:
        monkeypatch.setattr(Replayed, "calls", [], raising=False)
        monkeypatch.setattr(Replayed, "watched", False)
        monkeypatch.setattr(stacked, "Captured", Replayed)
        monkeypatch.setattr(stacked, "_check", lambda *_: None)  # it would report that a CPU has no graphs
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    elif not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, there is none; --device cpu stands in for one")
    monkeypatch.setattr(compiled, "_given_up", False)
    yield name
    compiled.forget()
    torch._C._functorch._set_vmap_fallback_enabled(True)  # type: ignore[attr-defined]


def models_on(device: str) -> dict[str, ModelSpec]:
    """The paper's models, or small ones for a CPU."""
    return MODELS if device == CPU else dict(PAPER_MODELS)


def runs_of(arch: str, optimizer: str = "adamw") -> list[Run]:
    """Three runs of 21 steps; every third step has a smaller batch."""
    times = 1.0 if optimizer == "adamw" else 10.0
    return [
        make(arch, times * lr, decay, epochs=7, optimizer=optimizer, schedule=schedule)
        for lr, decay, schedule in ((3e-3, 0.0, "cosine"), (1e-3, 10.0, "step"), (3e-3, 1.0, "linear"))
    ]


def all_close(found: list[Result], expected: list[Result]) -> bool:
    return [close(a, b) for a, b in zip(found, expected, strict=True)] == [True] * len(expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("arch", MODELS)
@pytest.mark.usefixtures("float64")
def test_lanes_equal_solo(arch: str, optimizer: str, device: str) -> None:
    """In float64, as graphs: losses of 21 steps agree to 1e-10, and accuracies are equal."""
    runs = runs_of(arch, optimizer)
    assert all_close(train_stack(runs, device, GRAPH), [solo.train(run, device) for run in runs])


def on_cpu(device: str, arch: str) -> str:
    """On a CPU, where tracing takes longest, the model that is traced most quickly."""
    return "mixer_s16" if device == CPU else arch


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("arch", ["resnet50", "swin_t"])
def test_compiled_equals_solo(arch: str, device: str) -> None:
    """The same, compiled. The second stack, with another seed and fewer runs, reuses the first one's compiled code."""
    if arch == "swin_t" and device == CPU:
        pytest.skip("on a CPU one model is compiled")
    for seed, count in ((3, 3), (4, 2)):
        runs = [dataclasses.replace(run, seed=seed) for run in runs_of(on_cpu(device, arch))[:count]]
        together = train_stack(runs, device, dataclasses.replace(COMPILED, lanes=3))
        assert all_close(together, [solo.train(run, device) for run in runs])
        assert len(compiled._kept) == 1


@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[pytest.mark.long] if arch == "mixer_s16" else []) for arch in dict(PAPER_MODELS)]
)
def test_production_path(arch: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16 with float32 weights, compiled, as graphs, augmented, in all lanes: equals the plain loop with autocast.

    Losses of the third epoch agree to 1 %. On a CPU, the paper's ViT differs by 0.14 %, and the loop of
    ResNet-50 with autocast and without by 0.17 %; the two learning rates at the ends by 60 % (ViT).
    """
    runs = production_runs(arch, device, tmp_path, monkeypatch)
    ends = [runs[0], runs[-1]]
    alone = [solo.train(run, device) for run in ends]
    seen: list[stacked._Stack] = []
    results = stacked._Stack.results

    def checked(stack: stacked._Stack) -> list[Result]:
        check_types(stack.lanes)
        seen.append(stack)
        return results(stack)

    monkeypatch.setattr(stacked._Stack, "results", checked)
    together = train_stack(runs, device, GRAPH if device == CPU and arch != on_cpu(device, arch) else COMPILED)
    assert len(seen) == 1 and seen[0].lanes.count == LANES
    for a, b in zip([together[0], together[-1]], alone, strict=True):
        assert a.train_loss is not None and b.train_loss is not None
        assert a.train_loss == pytest.approx(b.train_loss, rel=0.01)


def check_types(lanes: Lanes) -> None:
    """Weights and statistics are float32; products use bf16 copies of these weights."""
    tensors = [*lanes.weights, *lanes.statistics.values()]
    assert {t.dtype for t in tensors} == {torch.float32}
    for name, weights, leaf in zip(lanes.names, lanes.weights, lanes.leaves, strict=True):
        owner = lanes._template.get_submodule(name.rpartition(".")[0])
        assert leaf.dtype == (torch.float32 if isinstance(owner, NORMALISATION) else torch.bfloat16), name
        assert leaf.equal(weights.to(leaf.dtype)), name


def production_runs(arch: str, device: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """`LANES` runs of nine steps; every third step has a smaller batch."""
    few = 8 if device == CPU else 1
    monkeypatch.setenv("REPLICATE_DATA", str(archives.cifar100(folder, train=150 // few, test=50)))
    spec = DataSpec("cifar100", train_images=150 // few)
    model = models_on(device)[arch]
    if device == CPU:
        model = coarse(model)
    run = make(
        arch,
        1e-4,
        model=model,
        data=spec,
        augment=tuple(AUGMENTATIONS),
        batch_size=64 // few,
        epochs=3,
        precision="bf16",
    )
    return [dataclasses.replace(run, lr=1e-4 * 10 ** (-i / (LANES - 1))) for i in range(LANES)]


def coarse(model: ModelSpec) -> ModelSpec:
    """The small model for 8 x 8 pixels with patches four times as large, for 32 x 32 pixels."""
    arguments = dict(model.arguments)
    if "patch_size" in arguments:
        arguments["patch_size"] *= 4
    return ModelSpec(model.name, tuple(arguments.items()))


@pytest.mark.parametrize("arch", dict(PAPER_MODELS))
def test_gradients(arch: str, device: str) -> None:
    """In float32, stacked, with convolutions as products: within 1e-4 of each tensor's largest gradient.

    Noise is added to every weight, since weights initialised to zero would block the gradients of earlier layers.
    """
    size, channels, lanes_count, batch = (8, 1, 3, 8) if device == CPU else (32, 3, 3, 16)
    spec = dict(SMALL_MODELS if device == CPU else PAPER_MODELS)[arch]
    model = models.build_seeded(spec, CLASSES, channels, size, seed=0).to(device)
    generator = torch.Generator().manual_seed(0)
    alone = [copy.deepcopy(model).train() for _ in range(lanes_count)]
    for one in alone:
        for p in one.parameters():
            p.data.add_(0.02 * torch.randn(p.shape, generator=generator).to(device))
    images = torch.randn(batch, channels, size, size, generator=generator).to(device)
    labels = torch.randint(CLASSES, (batch,), generator=generator).to(device)
    with reproducible(device):
        lanes = Lanes(as_products(copy.deepcopy(model), images), lanes_count)
        for lane, one in enumerate(alone):
            load_lane(lanes, lane, as_products(copy.deepcopy(one), images))
        leaves = lanes.leaves
        losses = lanes.losses(leaves, images, labels)
        gradients = torch.autograd.grad(losses.sum(), leaves)
        for lane, one in enumerate(alone):
            loss = functional.cross_entropy(one(images), labels)
            loss.backward()
            assert abs(float(losses[lane].detach() - loss.detach())) < 1e-4
            for name, found, expected in zip(lanes.names, gradients, gradients_of(one, images), strict=True):
                assert expected.any(), f"{name}: nothing is compared"
                assert (found[lane] - expected).abs().max() <= 1e-4 * expected.abs().max() + 1e-7, (name, lane)


def gradients_of(model: nn.Module, images: Tensor) -> list[Tensor]:
    """The gradients in `model`, in the layout that its parameters have with convolutions as products."""
    holder = copy.deepcopy(model)
    for p, own in zip(holder.parameters(), model.parameters(), strict=True):
        assert own.grad is not None
        p.data.copy_(own.grad)
    return [p.detach() for p in as_products(holder, images).parameters()]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "how", [pytest.param(GRAPH, id="eager"), pytest.param(COMPILED, id="compiled", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_interrupted_and_resumed(precision: str, how: How, device: str, tmp_path: Path) -> None:
    """A stack that is stopped within an epoch and resumed gives the same bits as one that was not stopped."""
    if device == CPU and (precision, how) == ("float32", COMPILED):
        pytest.skip("on a CPU one precision is compiled")
    runs = [dataclasses.replace(run, precision=precision) for run in runs_of(on_cpu(device, "convnext_t"))]
    whole = train_stack(runs, device, how)
    workspace = Workspace(tmp_path)
    for after in (2, 7):
        asked = iter(range(1000))
        stopping = dataclasses.replace(workspace, stopping=lambda: next(asked) == after)  # noqa: B023
        with pytest.raises(Stopped):
            train_stack(runs, device, how, stopping)
        assert list(tmp_path.iterdir())
        assert timeless(train_stack(runs, device, how, workspace)) == timeless(whole)
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second CUDA device, there is none")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("how", [GRAPH, COMPILED], ids=["eager", "compiled"])
def test_a_second_gpu(how: How, device: str, tmp_path: Path) -> None:
    """On a second GPU after the first: streams and captures of its own, equal results, and equal after interruption."""
    runs, second = runs_of("resnet50"), "cuda:1"
    expected = train_stack(runs, "cuda:0", how)
    found = train_stack(runs, second, how)
    assert all_close(found, expected)
    assert close(solo.train(runs[0], second), expected[0])
    asked = iter(range(1000))
    workspace = Workspace(tmp_path)
    with pytest.raises(Stopped):
        train_stack(runs, second, how, dataclasses.replace(workspace, stopping=lambda: next(asked) == 7))
    assert timeless(train_stack(runs, second, how, workspace)) == timeless(found)
    assert torch.cuda.current_device() == 0


@pytest.mark.usefixtures("float64")
def test_a_lane_that_diverges(device: str) -> None:
    good = [make("mixer_s16", lr=lr) for lr in (1e-3, 1e-2)]
    bad = make("mixer_s16", lr=1e200)
    together = train_stack([good[0], bad, good[1]], device, GRAPH)
    assert [r.diverged for r in together] == [False, True, False]
    assert all_close([together[0], together[2]], train_stack(good, device, GRAPH))


def test_compiling_that_fails_is_said_once_and_done_without(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a missing Python.h: compiling fails in the first step, when a launcher is built."""
    runs = [make("vit_s16", lr=lr) for lr in (1e-3, 3e-3)]
    without = train_stack(runs, device, GRAPH)

    def fails(*_: object, **__: object) -> Callable[..., Tensor]:
        def call(*_: object) -> Tensor:
            raise RuntimeError("fatal error: Python.h: No such file or directory")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    words: list[str] = []
    found = train_stack(runs, device, COMPILED, Workspace(notice=words.append))
    assert timeless(found) == timeless(without)
    assert len(words) == 1 and "Python.h" in words[0] and words[0].endswith("training goes on uncompiled")
    assert not compiled.can_compile()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_is_the_cpus(name: str, device: str) -> None:
    """The same draws give the same bytes, up to a rounding difference of 1 in fewer than one byte of a thousand."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=generator)
    draws = AUGMENTATIONS[name].draw(generator, len(images))
    here = AUGMENTATIONS[name].apply(images.clone(), draws)
    there = AUGMENTATIONS[name].apply(images.to(device), draws).cpu()
    assert not here.equal(images)
    difference = (here.int() - there.int()).abs()
    assert difference.max() <= 1 or name in BY_PLACE
    assert (difference > 0).float().mean() < 1e-3


BY_PLACE = (augment.RESIZED_CROP, "randaugment")
"""These interpolate pixels or compare with an exact threshold, so rounding may change a byte by more than 1."""


def live_bytes(device: str) -> int:
    """Bytes of tensors that something still refers to."""
    gc.collect()
    if device != CPU:
        return torch.cuda.memory_allocated(device)
    found = {}
    for tensor in (one for one in gc.get_objects() if type(one) is Tensor):
        with contextlib.suppress(NotImplementedError):  # tensors wrapped by vmap have no storage of their own
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(found.values())


@pytest.mark.parametrize(
    "how", [pytest.param(GRAPH, id="eager"), pytest.param(COMPILED, id="compiled", marks=pytest.mark.long)]
)
def test_stacks_give_their_memory_back(how: How, device: str) -> None:
    """As much memory is in use after six stacks as after two."""
    used = []
    for seed in range(6):
        train_stack([make("mixer_s16", lr=lr, epochs=2, seed=seed) for lr in (1e-3, 1e-2)], device, how)
        used.append(live_bytes(device))
    assert used[1] == used[-1], used


def test_engine_trains_on_it(device: str, tmp_path: Path) -> None:
    """The device is leased, and provenance names it, its memory type and precision."""
    store = open_store(tmp_path / "store")
    runs = [make("vit_s16", lr=lr, epochs=2) for lr in (1e-3, 1e-2)]
    local.ensure(store, runs)
    local.close()
    for run in runs:
        stored = store.get(run)
        assert stored is not None
        assert stored.provenance["device"].partition(":")[0] == device.partition(":")[0]
        if device != CPU:
            assert stored.provenance["device_model"] == torch.cuda.get_device_name(0)
        assert stored.provenance["trainer"] == "stacked"


@pytest.fixture
def processes(device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine with new processes, without state from earlier tests."""
    if device == CPU:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(room, "_fitting", {})
    local.close()
    yield
    local.close()


@pytest.mark.usefixtures("processes")
def test_memory_that_runs_out_in_a_capture_leaves_fewer_lanes_to_a_new_process(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    runs = [make("vit_s16", lr=lr, epochs=2) for lr in (1e-3, 3e-3, 1e-2, 3e-2)]
    local.ensure(store, runs, processes=1, trainer=troubled.CRAMPED)
    (notice,) = store.notices
    assert notice.startswith("out of memory on ") and notice.endswith(" with 4 runs at once: going on with 2 at a time")
    assert {store.read(run.key).provenance["lanes"] for run in runs} == {troubled.ROOM}  # type: ignore[union-attr]


@pytest.mark.usefixtures("processes")
def test_after_a_device_error_the_stack_is_trained_in_a_new_process(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == CPU:
        pytest.skip("a CPU has no such errors; tests/train/engine simulates them")
    monkeypatch.setenv(troubled.ONCE_VARIABLE, str(tmp_path / "failed"))
    store = open_store(tmp_path / "store")
    runs = [make("vit_s16", lr=lr, epochs=2) for lr in (1e-3, 3e-3)]
    local.ensure(store, runs, processes=1, trainer=troubled.FAILING_ONCE)
    assert (tmp_path / "failed").exists() and all(store.get(run) is not None for run in runs)
    (notice,) = store.notices
    assert "CUDA error" in notice and "once more" in notice


def test_claims_in_two_workers(device: str, tmp_path: Path) -> None:
    """`pytest claims/` at scale smoke: every run exactly once, on the device."""
    if device == CPU:
        pytest.skip("ci/smoke does this on a CPU")
    command = [sys.executable, "-m", "pytest", "claims/", "-n", "2", "--scale", "smoke", "-q", "-p", "no:cacheprovider"]
    command += ["--store", str(tmp_path / "store"), "--report", str(tmp_path / "report")]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], env=os.environ, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    verdicts = json.loads((tmp_path / "report" / "verdicts.json").read_text())
    assert len(verdicts["claims"]) == len(CLAIMS)
    records = list((tmp_path / "store").rglob("*.json"))
    devices = {json.loads(p.read_text())["provenance"]["device"] for p in records if "provenance" in p.read_text()}
    assert devices and all(device.startswith("cuda") for device in devices), devices
