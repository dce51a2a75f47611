"""Augmentations against torchvision's: every operation on equal parameters, and the parameters' distributions."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Generator, Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vision

from replicate.train import augment
from replicate.train.augment import AUGMENTATIONS, PADDING, RANDAUGMENT, Operation

MANY = 20_000
LIKELY = 1e-3
"""A p-value above it, with fixed seeds: equal in distribution as far as these samples tell."""


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def images(count: int = 24, channels: int = 3, size: int = 32, seed: int = 0) -> Tensor:
    """Smooth, noisy, dark, bright and constant ones."""
    smooth = torch.linspace(0, 255, size).expand(count, channels, size, size)
    noise = torch.randint(256, (count, channels, size, size), generator=seeded(seed)).float()
    share = torch.linspace(0, 1, count)[:, None, None, None]
    found = (share * noise + (1 - share) * smooth).to(torch.uint8)
    found[1], found[2], found[3] = 0, found[2] // 8, 255 - found[3] // 8
    return found


def most_different(one: Tensor, other: Tensor) -> int:
    assert one.dtype == other.dtype == torch.uint8 and one.shape == other.shape
    return int((one.int() - other.int()).abs().max())


def test_crop() -> None:
    given, drawn = images(), AUGMENTATIONS["random_crop"].draw(seeded(), 24)
    padded = vision.pad(given, [PADDING])
    expected = [vision.crop(x, int(top), int(left), 32, 32) for x, (top, left) in zip(padded, drawn, strict=True)]
    assert torch.equal(AUGMENTATIONS["random_crop"].apply(given, drawn), torch.stack(expected))


def test_flip() -> None:
    given, drawn = images(), AUGMENTATIONS["horizontal_flip"].draw(seeded(), 24)
    expected = [vision.horizontal_flip(x) if flipped else x for x, flipped in zip(given, drawn, strict=True)]
    assert torch.equal(AUGMENTATIONS["horizontal_flip"].apply(given, drawn), torch.stack(expected))


def test_jitter() -> None:
    """In the drawn order; an adjustment may round one level otherwise, which the next can enlarge: seldom."""
    given, drawn = images(), AUGMENTATIONS["color_jitter"].draw(seeded(), 24)
    adjust = (vision.adjust_brightness, vision.adjust_contrast, vision.adjust_saturation)
    expected = []
    for x, row in zip(given, drawn, strict=True):
        for which in row[3:].long().tolist():
            x = adjust[which](x, float(row[which]))
        expected.append(x)
    found = AUGMENTATIONS["color_jitter"].apply(given, drawn)
    assert most_different(found, torch.stack(expected)) <= 3
    assert (found != torch.stack(expected)).double().mean() < 0.005


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (augment._brightness, vision.adjust_brightness),
        (augment._contrast, vision.adjust_contrast),
        (augment._saturation, vision.adjust_saturation),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_adjustments(ours: object, theirs: object, channels: int) -> None:
    given, factors = images(channels=channels), torch.linspace(0.6, 1.4, 24)
    expected = torch.stack([theirs(x, float(f)) for x, f in zip(given, factors, strict=True)])  # type: ignore[operator]
    found = ours(given, factors[:, None, None, None])  # type: ignore[operator]
    assert most_different(found, expected) <= 1


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("operation", RANDAUGMENT, ids=lambda operation: operation.name)
def test_randaugment_operations(operation: Operation, size: int) -> None:
    """Both signs, against what torchvision's RandAugment does at magnitude 9 of 31."""
    theirs, given = v2.RandAugment(num_ops=2, magnitude=9), images(8, size=size)
    magnitudes, signed = theirs._AUGMENTATION_SPACE[operation.name]
    assert signed == operation.signed
    steps = magnitudes(theirs.num_magnitude_bins, size, size)
    for sign in (1, -1) if signed else (1,):
        magnitude = 0.0 if steps is None else sign * float(steps[theirs.magnitude])
        expected = theirs._apply_image_or_video_transform(
            given, operation.name, magnitude, interpolation=theirs.interpolation, fill=theirs._fill
        )
        assert most_different(operation.apply(given, sign * 9 / 30), expected) <= 1


def test_randaugment_has_torchvisions_operations_in_its_order() -> None:
    theirs = v2.RandAugment()
    assert [operation.name for operation in RANDAUGMENT] == list(theirs._AUGMENTATION_SPACE)
    assert (theirs.num_ops, theirs.magnitude, theirs.num_magnitude_bins) == (2, 9, 31)


def test_randaugment_goes_through_both_operations_in_turn() -> None:
    given = images(60)
    drawn = AUGMENTATIONS["randaugment"].draw(seeded(), 60)
    expected = []
    for x, turns in zip(given[:, None], drawn.tolist(), strict=True):
        for which, negative in turns:
            x = RANDAUGMENT[which].apply(x, -0.3 if negative else 0.3)
        expected.append(x[0])
    assert most_different(AUGMENTATIONS["randaugment"].apply(given, drawn), torch.stack(expected)) <= 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_company_does_not_matter(name: str) -> None:
    """An image alone, in part of a batch, or in all of it: the same bytes."""
    given, drawn = images(), AUGMENTATIONS[name].draw(seeded(), 24)
    whole = AUGMENTATIONS[name].apply(given, drawn)
    assert torch.equal(AUGMENTATIONS[name].apply(given[5:17], drawn[5:17]), whole[5:17])
    assert torch.equal(AUGMENTATIONS[name].apply(given[7:8], drawn[7:8]), whole[7:8])
    assert torch.equal(given, images())
    assert not torch.equal(whole, given)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_grey_images(name: str) -> None:
    given = images(channels=1)
    assert AUGMENTATIONS[name].apply(given, AUGMENTATIONS[name].draw(seeded(), 24)).shape == given.shape


def uniform(counts: list[int]) -> float:
    """p-value of equal chances."""
    return float(stats.chisquare(counts).pvalue)


def test_crops_are_drawn_uniformly() -> None:
    drawn = AUGMENTATIONS["random_crop"].draw(seeded(), MANY)
    places = Counter(map(tuple, drawn.tolist()))
    assert set(places) == {(i, j) for i in range(9) for j in range(9)}
    assert uniform(list(places.values())) > LIKELY


def test_half_is_flipped() -> None:
    flipped = int(AUGMENTATIONS["horizontal_flip"].draw(seeded(), MANY).sum())
    assert uniform([flipped, MANY - flipped]) > LIKELY


def test_jitter_is_drawn_as_torchvision_draws_it() -> None:
    drawn = AUGMENTATIONS["color_jitter"].draw(seeded(), MANY).numpy()
    torch.manual_seed(0)
    theirs = [v2.ColorJitter(0.4, 0.4, 0.4).make_params([]) for _ in range(4000)]
    for column, name in enumerate(("brightness_factor", "contrast_factor", "saturation_factor")):
        assert stats.ks_2samp(drawn[:, column], [params[name] for params in theirs]).pvalue > LIKELY
        assert stats.kstest(drawn[:, column], stats.uniform(0.6, 0.8).cdf).pvalue > LIKELY
    assert abs(np.corrcoef(drawn[:, :3].T)[np.triu_indices(3, 1)]).max() < 0.03
    orders = Counter(tuple(row[3:].astype(int)) for row in drawn)
    assert len(orders) == 6 and uniform(list(orders.values())) > LIKELY
    # torchvision shuffles four adjustments; hue is not asked for, and the order of the others is uniform there too
    reference = Counter(tuple(i for i in params["fn_idx"].tolist() if i < 3) for params in theirs)
    assert len(reference) == 6 and uniform(list(reference.values())) > LIKELY


def test_randaugment_is_drawn_uniformly_and_independently() -> None:
    drawn = AUGMENTATIONS["randaugment"].draw(seeded(), MANY)
    pairs = Counter(map(tuple, drawn[:, :, 0].tolist()))
    assert len(pairs) == 14 * 14 and uniform(list(pairs.values())) > LIKELY
    for which, operation in enumerate(RANDAUGMENT):
        signs = drawn[drawn[:, :, 0] == which][:, 1]
        negative = int(signs.sum())
        assert uniform([negative, len(signs) - negative]) > LIKELY if operation.signed else negative == 0


@pytest.mark.parametrize(("height", "width"), [(224, 224), (375, 500), (60, 400), (400, 60)])
def test_boxes_are_drawn_as_torchvision_draws_them(height: int, width: int) -> None:
    """Area, shape and place; of long images, torchvision's fallback as often."""
    ours = np.array([augment.box(height, width, seeded(i)) for i in range(3000)])
    torch.manual_seed(1)
    crop = v2.RandomResizedCrop(224)
    picture = torch.zeros(3, height, width)
    keys = ("top", "left", "height", "width")
    theirs = np.array([[params[k] for k in keys] for params in (crop.make_params([picture]) for _ in range(3000))])
    measures = (
        lambda b: b[:, 2] * b[:, 3] / (height * width),
        lambda b: np.log(b[:, 3] / b[:, 2]),
        lambda b: b[:, 0] + b[:, 2] / 2,
        lambda b: b[:, 1] + b[:, 3] / 2,
    )
    for measure in measures:
        assert stats.ks_2samp(measure(ours), measure(theirs)).pvalue > LIKELY
    assert (ours[:, :2] >= 0).all() and (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()


@pytest.mark.parametrize(("height", "width"), [(20, 900), (900, 20)])
def test_a_box_that_never_fits_is_the_centre(height: int, width: int) -> None:
    crop = v2.RandomResizedCrop(224)
    torch.manual_seed(0)
    theirs = crop.make_params([torch.zeros(3, height, width)])
    found = Counter(augment.box(height, width, seeded(i)) for i in range(50))
    assert found.most_common(1)[0][0] == tuple(theirs[k] for k in ("top", "left", "height", "width"))


def test_resized_crop_is_torchvisions_on_the_same_box() -> None:
    picture = Image.fromarray(images(size=90)[9].permute(1, 2, 0).numpy())
    box = augment.box(90, 90, seeded(5))
    expected = vision.resized_crop(picture, *box, size=[64, 64])
    assert np.array_equal(np.asarray(augment.resized_crop(picture, 64, seeded(5))), np.asarray(expected))


def test_draws_are_the_generators_alone() -> None:
    for augmentation in AUGMENTATIONS.values():
        torch.manual_seed(1)
        one = augmentation.draw(seeded(3), 10)
        torch.manual_seed(2)
        assert torch.equal(augmentation.draw(seeded(3), 10), one)
        assert not torch.equal(augmentation.draw(seeded(4), 10), one)


def test_slope_is_an_angle() -> None:
    assert math.tan(math.radians(augment._slope(1.0))) == pytest.approx(0.3)
