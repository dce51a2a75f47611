"""Stacks of the paper's models: gradients equal separate backward passes, eager and compiled. Five minutes.

pytest ci/test_stacked_full_size.py
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from replicate.runs.run import ModelSpec
from replicate.runs.scales import PAPER_MODELS, SMALL_MODELS, STEM32_MODELS
from replicate.train import models
from replicate.train.lanes import Lanes
from replicate.train.products import as_products
from replicate.train.setting import reproducible
from tests.support.replayed import Replayed, check_compilations, compilations, replayed
from tests.support.stacked import MODELS, float64, load_lane

__all__ = ["compilations", "float64", "replayed"]

pytestmark = pytest.mark.filterwarnings("error")

LANES, BATCH, CLASSES = 3, 8, 100


@pytest.fixture(autouse=True)
def no_fallback() -> Iterator[None]:
    torch._C._functorch._set_vmap_fallback_enabled(False)  # type: ignore[attr-defined]
    with reproducible("cpu"):
        yield
    torch.compiler.reset()  # else torch counts the models as recompilations of one function, and gives up
    torch._C._functorch._set_vmap_fallback_enabled(True)  # type: ignore[attr-defined]


def stack_of(model: nn.Module, images: Tensor, products: bool) -> tuple[Lanes, list[nn.Module]]:
    """A stack with different weights in each lane, and the same models one by one.

    Noise is added to every weight, since weights initialised to zero would block the gradients of earlier layers.
    """
    generator = torch.Generator().manual_seed(0)
    alone = [copy.deepcopy(model).train() for _ in range(LANES)]
    for one in alone:
        for p in one.parameters():
            p.data.add_(0.02 * torch.randn(p.shape, generator=generator).to(p.dtype))
    lanes = Lanes(converted(model, images, products), LANES)
    for lane, one in enumerate(alone):
        load_lane(lanes, lane, converted(one, images, products))
    return lanes, alone


def converted(model: nn.Module, images: Tensor, products: bool) -> nn.Module:
    """A copy of `model` that computes as a stack does on such `images`."""
    model = copy.deepcopy(model)
    return as_products(model, images) if products else model


def gradients_of(model: nn.Module, images: Tensor, products: bool) -> list[Tensor]:
    """The gradients in `model`, in the layout of the parameters of its `converted` copy."""
    holder = copy.deepcopy(model)
    for p, own in zip(holder.parameters(), model.parameters(), strict=True):
        assert own.grad is not None
        p.data.copy_(own.grad)
    return [p.detach() for p in converted(holder, images, products).parameters()]


AS_ON = pytest.mark.parametrize("products", [False, True], ids=["as on a CPU", "as on a GPU"])

BOUNDS = {torch.float64: (1e-10, 1e-15), torch.float32: (1e-5, 1e-9)}
"""Bounds on a gradient's error: relative to its tensor's largest, and absolute, for gradients that are 0 exactly."""
RESNET_BOUND = 3e-5
"""The relative bound in float32, where reordered sums alone make 1.2e-5 on some processors, but nothing in float64.
The last batch normalisations see 8 numbers per channel, one per image: their gradients are small differences of large
numbers."""


@AS_ON
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("arch", dict(PAPER_MODELS))
def test_gradients(arch: str, dtype: torch.dtype, products: bool) -> None:
    """Each lane has its model's own gradients, running statistics and evaluation."""
    check_gradients(dict(PAPER_MODELS)[arch], arch, 3, dtype, products)


VARIANTS = [("stem for 32 pixels", arch, spec, 3) for arch, spec in STEM32_MODELS] + [
    ("one channel", arch, spec, 1) for arch, spec in PAPER_MODELS
]


@AS_ON
@pytest.mark.parametrize(
    ("arch", "spec", "channels"), [v[1:] for v in VARIANTS], ids=[f"{v[1]} {v[0]}" for v in VARIANTS]
)
def test_gradients_of_the_variants(arch: str, spec: ModelSpec, channels: int, products: bool) -> None:
    """In float64: stems for 32 pixels (scale `cifar100-stem32`), and stems of one channel (scale `fashion`)."""
    check_gradients(spec, arch, channels, torch.float64, products)


def in_windows_of_one(name: str, p: Tensor) -> bool:
    """Whether `p` is a position bias in windows of one token, whose softmax over one number ignores it."""
    return name.endswith("relative_position_bias_table") and len(p) == 1


def check_gradients(spec: ModelSpec, arch: str, channels: int, dtype: torch.dtype, products: bool) -> None:
    relative, absolute = BOUNDS[dtype]
    if (arch, dtype) == ("resnet50", torch.float32):
        relative = RESNET_BOUND
    model = models.build_seeded(spec, CLASSES, channels, 32, seed=0).to(dtype)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, channels, 32, 32, generator=generator).to(dtype)
    lanes, alone = stack_of(model, images, products)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    leaves = lanes.leaves
    losses = lanes.losses(leaves, images, labels)
    gradients = torch.autograd.grad(losses.sum(), leaves)
    right = [lanes.right([(images, labels)], hits).tolist() for hits in (None, lanes.hits)]
    for lane, model in enumerate(alone):
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        assert abs(losses[lane] - loss) < relative
        for name, found, expected in zip(lanes.names, gradients, gradients_of(model, images, products), strict=True):
            assert expected.any() or in_windows_of_one(name, expected), f"{name}: all zero, so nothing is compared"
            assert (found[lane] - expected).abs().max() <= relative * expected.abs().max() + absolute, (name, lane)
        for name, statistic in lanes.statistics.items():
            assert torch.allclose(statistic[lane], model.state_dict()[name], rtol=relative, atol=relative / 100)
        with torch.no_grad():
            hits = int((model.eval()(images).argmax(1) == labels).sum())
        assert [found[lane] for found in right] == [hits, hits]


@AS_ON
@pytest.mark.parametrize("arch", dict(SMALL_MODELS))
def test_compiled_is_eager(arch: str, products: bool) -> None:
    """torch.compile with its reference back end gives the same losses, gradients and running statistics."""
    model = models.build_seeded(dict(SMALL_MODELS)[arch], 10, 1, 8, seed=0).double()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, 1, 8, 8, generator=generator).double()
    eager, _ = stack_of(model, images, products)
    compiled, _ = stack_of(model, images, products)
    traced = torch.compile(compiled.losses, backend="aot_eager", dynamic=False, fullgraph=True)
    labels = torch.randint(10, (BATCH,), generator=generator)
    for _ in range(2):
        found = []
        for lanes, losses_of in ((eager, eager.losses), (compiled, traced)):
            leaves = lanes.leaves
            losses = losses_of(leaves, images, labels)
            found.append([losses, *torch.autograd.grad(losses.sum(), leaves), *lanes.statistics.values()])
        for a, b in zip(*found, strict=True):
            assert (a - b).abs().max() < 1e-10


@pytest.mark.parametrize("arch", MODELS)
@pytest.mark.usefixtures("float64", "replayed")
def test_nothing_is_compiled_twice(arch: str, compilations: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """For all architectures, what `tests/train/test_gpu_path.py` checks for one."""
    monkeypatch.setattr(Replayed, "watched", False)
    check_compilations(arch, compilations)
