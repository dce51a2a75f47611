"""Data sets: the split, the noise, the checksum, and what is refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from replicate.data import catalogue, digits
from replicate.data.spec import DataSpec

SPEC = DataSpec("digits", train_images=160, label_noise=0.4)


def originals() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's own way to the images and labels."""
    bunch = load_digits()
    return bunch.data, bunch.target


def rows(images: np.ndarray) -> list[bytes]:
    return [np.round(image * digits.STD * 16 + digits.MEAN * 16).astype(np.uint8).tobytes() for image in images]


def test_every_image_is_in_one_part_with_its_label() -> None:
    split = catalogue.load(DataSpec("digits", train_images=160))
    pixels, labels = originals()
    expected = sorted(zip((p.astype(np.uint8).tobytes() for p in pixels), labels, strict=True))
    images = rows(split.train_images) + rows(split.test_images)
    got = sorted(zip(images, [*split.train_labels, *split.test_labels], strict=True))
    assert got == expected


def test_shapes_types_and_scale() -> None:
    split = catalogue.load(SPEC)
    assert split.train_images.shape == (160, 1, 8, 8)
    assert split.test_images.shape == (1637, 1, 8, 8)
    assert split.train_images.dtype == np.float32 and split.train_labels.dtype == np.int64
    everything = np.concatenate([split.train_images, split.test_images]).astype(np.float64)
    assert everything.mean() == pytest.approx(0, abs=1e-3)
    assert everything.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.4, 1.0])
def test_exactly_the_asked_share_of_training_labels_is_wrong(share: float) -> None:
    clean = catalogue.load(DataSpec("digits", train_images=160))
    noisy = catalogue.load(DataSpec("digits", train_images=160, label_noise=share))
    assert np.array_equal(clean.train_images, noisy.train_images)
    assert int((clean.train_labels != noisy.train_labels).sum()) == round(share * 160)
    assert set(noisy.train_labels.tolist()) <= set(range(10))
    assert np.array_equal(clean.test_labels, noisy.test_labels)


def test_wrong_labels_are_spread_over_the_other_classes() -> None:
    clean = catalogue.load(DataSpec("digits", train_images=1500))
    noisy = catalogue.load(DataSpec("digits", train_images=1500, label_noise=1.0))
    shifts = np.bincount((noisy.train_labels - clean.train_labels) % 10, minlength=10)
    assert shifts[0] == 0
    assert shifts[1:].min() > 120  # of 167 expected each


def test_split_seed_draws_another_split() -> None:
    one, other = catalogue.load(SPEC), catalogue.load(DataSpec("digits", 160, 0.4, split_seed=1))
    shared = set(rows(one.train_images)) & set(rows(other.train_images))
    assert 0 < len(shared) < 40  # 14 expected


def test_fewer_test_images_are_a_part_of_all() -> None:
    few = catalogue.load(DataSpec("digits", 160, 0.4, test_images=200))
    assert set(rows(few.test_images)) <= set(rows(catalogue.load(SPEC).test_images))
    assert len(few.test_images) == 200
    assert np.array_equal(few.train_images, catalogue.load(SPEC).train_images)


def test_the_split_is_the_same_in_another_process_and_for_good() -> None:
    split = catalogue.load(SPEC)
    here = hashlib.sha256(split.train_images.tobytes() + split.train_labels.tobytes()).hexdigest()
    code = (
        "import hashlib; from replicate.data import catalogue; from replicate.data.spec import DataSpec\n"
        "s = catalogue.load(DataSpec('digits', train_images=160, label_noise=0.4))\n"
        "print(hashlib.sha256(s.train_images.tobytes() + s.train_labels.tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here
    assert here == "cce4b44d995c204a53acd7a1880661f8f8644b5523b2fa482e83edc1c26f09f5"


def test_one_copy_a_process_and_nobody_writes_into_it() -> None:
    assert catalogue.load(SPEC) is catalogue.load(DataSpec("digits", train_images=160, label_noise=0.4))
    with pytest.raises(ValueError, match="read-only"):
        catalogue.load(SPEC).train_images[0] = 0


def test_checksum() -> None:
    pixels, labels = (array.astype(np.uint8) for array in originals())
    expected = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    assert catalogue.checksum(SPEC) == f"sha256:{expected}"


def test_altered_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    digits.read.cache_clear()
    with pytest.raises(catalogue.DataError, match=r"to have SHA-256 0{64}, got 87ff0c9e.*; reinstall scikit-learn$"):
        catalogue.checksum(SPEC)


def test_missing_scikit_learn_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits.importlib.util, "find_spec", lambda _: None)
    digits.read.cache_clear()
    with pytest.raises(catalogue.DataError, match=r"^digits: expected scikit-learn.*; pip install scikit-learn$"):
        catalogue.load(DataSpec("digits", train_images=31))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DataSpec("digits"), "digits: expected train_images below 1797, to leave test images, got 1797"),
        (DataSpec("digits", 0), "digits: expected train_images from 1 to 1797, got 0"),
        (DataSpec("digits", 1798), "digits: expected train_images from 1 to 1797, got 1798"),
        (DataSpec("digits", 100, 1.5), "digits: expected label_noise from 0 to 1, got 1.5"),
        (
            DataSpec("digits", 1000, test_images=798),
            "digits: expected test_images from 1 to 797 (not trained on), got 798",
        ),
        (DataSpec("mnist"), f"data set: expected one of {', '.join(catalogue.DATASETS)}; got 'mnist'"),
        (
            DataSpec("synthetic-cifar100"),
            "synthetic-cifar100: expected images to train on, got none; use `replicate synthesize` for results",
        ),
    ],
)
def test_refused(spec: DataSpec, message: str) -> None:
    with pytest.raises(catalogue.DataError) as refused:
        catalogue.load(spec)
    assert str(refused.value) == message


def test_sizes_without_loading() -> None:
    assert catalogue.train_size(DataSpec("imagenet")) == 1_281_167
    assert catalogue.train_size(SPEC) == 160
    assert catalogue.info(SPEC).image_size == 8
