"""Models: the five families in small and in full size, initialised from a seed, without stochastic layers."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from torch import nn

from replicate.data import catalogue
from replicate.paper.protocol import ARCHITECTURES
from replicate.runs import scales
from replicate.runs.run import ModelSpec
from replicate.train import models

SMALL = dict(scales.SMALL_MODELS)
SMALL_AT = {8: SMALL, 16: dict(scales.SMALL_MODELS_16)}
PAPER = dict(scales.PAPER_MODELS)
STEM32 = dict(scales.STEM32_MODELS)
ARCHS = tuple(a.name for a in ARCHITECTURES)


@cache
def on_meta(spec: ModelSpec, num_classes: int, in_chans: int, image_size: int) -> nn.Module:
    """The model without memory behind its weights: full size at no cost."""
    with torch.device("meta"):
        return models.build(spec, num_classes, in_chans, image_size)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_small_model_is_of_the_paper_models_class(arch: str) -> None:
    small, paper = models.build(SMALL[arch], 10, 1, 8), on_meta(PAPER[arch], 100, 3, 32)
    assert type(small) is type(paper)
    assert type(small).__module__.startswith("timm.")


@pytest.mark.parametrize("size", SMALL_AT)
@pytest.mark.parametrize("arch", ARCHS)
def test_small_models_take_their_images_and_every_weight_gets_a_gradient(arch: str, size: int) -> None:
    model = models.build_seeded(SMALL_AT[size][arch], 10, 1, size, seed=0)
    images = torch.randn(6, 1, size, size, generator=torch.Generator().manual_seed(0))
    loss = nn.functional.cross_entropy(model(images), torch.arange(6))
    loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert sum(p.numel() for p in model.parameters()) < 200_000


@pytest.mark.parametrize("arch", ARCHS)
def test_small_models_tell_images_apart(arch: str) -> None:
    """A stage that halves a 1 x 1 map would leave nothing of the image."""
    model = models.build_seeded(SMALL[arch], 10, 1, 8, seed=0).eval()
    images = torch.tensor(catalogue.load(scales.EMBEDDED.data[0][1]).test_images[:8])
    with torch.inference_mode():
        features = model.forward_head(model.forward_features(images), pre_logits=True)
    assert features.shape[0] == 8
    assert torch.pdist(features).min() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("scale", ["cifar100", pytest.param("imagenet", marks=pytest.mark.long)])
def test_full_size_models_take_the_data_of_their_scale(arch: str, scale: str) -> None:
    info = catalogue.info(scales.get(scale).data[0][1])
    model = on_meta(PAPER[arch], info.num_classes, info.in_chans, info.image_size)
    images = torch.empty(2, info.in_chans, info.image_size, info.image_size, device="meta")
    assert model(images).shape == (2, info.num_classes)


@pytest.mark.parametrize(
    ("arch", "features"),
    [
        ("resnet50", (2048, 4, 4)),
        ("vit_s16", (65, 384)),
        ("convnext_t", (768, 4, 4)),
        ("mixer_s16", (64, 512)),
        ("swin_t", (2, 2, 768)),
    ],
)
def test_stems_fit_for_32_pixels_leave_something_of_the_image(arch: str, features: tuple[int, ...]) -> None:
    """And change nothing behind them: the same weights but for the stem and what counts tokens."""
    model, paper = on_meta(STEM32[arch], 100, 3, 32), on_meta(PAPER[arch], 100, 3, 32)
    images = torch.empty(2, 3, 32, 32, device="meta")
    assert model.forward_features(images).shape == (2, *features)
    assert type(model) is type(paper)
    ours, theirs = ({name: p.shape for name, p in m.named_parameters()} for m in (model, paper))
    assert ours.keys() == theirs.keys()
    changed = {name for name in ours if ours[name] != theirs[name]}
    assert all(re.search(r"^conv1|^stem|patch_embed|pos_embed|relative_position|mlp_tokens", name) for name in changed)


def test_a_new_stem_is_initialised_as_timms_convolutions() -> None:
    weight = models.build_seeded(ModelSpec("resnet18", (("stem", "3x3"),)), 10, 3, 32, seed=0).conv1.weight
    assert weight.shape == (64, 3, 3, 3)
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("arch", ARCHS)
def test_nothing_is_dropped_at_random(arch: str) -> None:
    small, paper = models.build(SMALL[arch], 10, 1, 8), on_meta(PAPER[arch], 100, 3, 32)
    for module in (*small.modules(), *paper.modules()):
        assert getattr(module, "drop_prob", 0.0) in (0.0, None)
        assert not isinstance(module, nn.Dropout) or module.p == 0


@pytest.mark.parametrize("arch", ARCHS)
def test_weights_depend_on_the_seed_alone(arch: str) -> None:
    torch.manual_seed(1)
    one = models.build_seeded(SMALL[arch], 10, 1, 8, seed=5).state_dict()
    torch.manual_seed(2)
    again = models.build_seeded(SMALL[arch], 10, 1, 8, seed=5).state_dict()
    other = models.build_seeded(SMALL[arch], 10, 1, 8, seed=6).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_callers_generator_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    models.build_seeded(SMALL["vit_s16"], 10, 1, 8, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ModelSpec("class:AlexNet"),
            "^model: expected class:NAME with a NAME of ResNet, VisionTransformer, ConvNeXt, MlpMixer, Mlp, "
            "SwinTransformer; "
            "got 'class:AlexNet'$",
        ),
        (ModelSpec("resnet51"), r"^model: expected a name that timm [\d.]+ registers, got 'resnet51'$"),
        (ModelSpec("class:MlpMixer", (("depth", 2),)), "^model class:MlpMixer: timm .* refused .*'depth'$"),
        (
            ModelSpec("class:ResNet", (("block", "Plain"),)),
            "^model: expected block BasicBlock or Bottleneck, got 'Plain'$",
        ),
        (
            ModelSpec("class:MlpMixer", (("patch_size", 4), ("stem", "3x3"))),
            "^model: expected stem '3x3' on a ResNet, got stem '3x3' on a MlpMixer$",
        ),
    ],
)
def test_refused(spec: ModelSpec, message: str) -> None:
    with pytest.raises(models.ModelError, match=message):
        models.build(spec, 10, 1, 8)
