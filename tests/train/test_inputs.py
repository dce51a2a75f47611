"""What models are shown: normalised, augmented, keyed by seed and epoch, whatever number of processes loads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from replicate.data import catalogue
from replicate.data.spec import DataSpec
from replicate.runs.run import ModelSpec, Run
from replicate.train import inputs, setting, solo
from replicate.train.checkpoint import Checkpoint, Saver
from replicate.train.contract import Stopped
from replicate.train.inputs import Resident
from replicate.train.stream import Streamed
from tests.support import archives

CIFAR = DataSpec("cifar100", train_images=30)
IMAGENET = DataSpec("imagenet", train_images=9, test_images=6)
ON_IMAGENET = ("random_resized_crop", "horizontal_flip", "color_jitter", "randaugment")

RUN = Run(
    arch="resnet50",
    model=ModelSpec("class:ResNet", (("block", "BasicBlock"), ("layers", (1, 1, 0, 0)), ("channels", (8, 8, 8, 8)))),
    data=CIFAR,
    optimizer="adamw",
    lr=1e-2,
    weight_decay=0.1,
    seed=3,
    schedule="cosine",
    epochs=2,
    warmup_epochs=1,
    batch_size=8,
)


def on_imagenet(**changes: object) -> Run:
    run = dataclasses.replace(RUN, data=IMAGENET, augment=ON_IMAGENET, batch_size=4)
    return dataclasses.replace(run, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    archives.imagenet(folder, train=3, test=2)
    return archives.cifar100(folder, train=30, test=20)


@pytest.fixture(autouse=True)
def here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet's images are cropped to 32 pixels, to be quick."""
    monkeypatch.setenv("REPLICATE_DATA", str(root))
    known = catalogue.DATASETS["imagenet"]
    monkeypatch.setitem(catalogue.DATASETS, "imagenet", dataclasses.replace(known, image_size=32))


class TestResident:
    def test_bytes_stay_bytes_until_they_are_normalised(self) -> None:
        shown = Resident(RUN, "cpu")
        assert shown.images.dtype == torch.uint8
        info, split = catalogue.info(CIFAR), catalogue.load(CIFAR)
        transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(info.mean, info.std)])
        for images, labels in shown.batches(0):
            expected = transform(images)
            assert (shown.normalise(images) - expected).abs().max() < 1e-6
            assert labels.dtype == torch.int64
        found = torch.cat([images for images, _ in shown.test_batches(7)])
        assert (found - transform(torch.tensor(split.test_images))).abs().max() < 1e-6
        assert found.dtype == torch.float32

    def test_an_epoch_shows_every_image_once(self) -> None:
        shown = Resident(RUN, "cpu")
        batches = list(shown.batches(1))
        assert [len(labels) for _, labels in batches] == [8, 8, 8, 6] and shown.steps_per_epoch == 4
        seen = sorted(image.numpy().tobytes() for images, _ in batches for image in images)
        assert seen == sorted(image.tobytes() for image in catalogue.load(CIFAR).train_images)

    def test_augmented_by_seed_and_epoch(self) -> None:
        run = dataclasses.replace(RUN, augment=("random_crop", "horizontal_flip"))

        def epoch(run: Run, number: int, before: int | None = None) -> Tensor:
            shown = Resident(run, "cpu")
            if before is not None:
                shown.start(before)
            shown.start(number)
            return shown.images

        assert torch.equal(epoch(run, 2), epoch(run, 2, before=7))  # not upon the images of another epoch
        assert not torch.equal(epoch(run, 2), epoch(run, 3))
        assert not torch.equal(epoch(run, 2), epoch(dataclasses.replace(run, seed=4), 2))
        same = dataclasses.replace(run, lr=1.0, weight_decay=0.0, optimizer="sgd", batch_size=5)
        assert torch.equal(epoch(run, 2), epoch(same, 2))
        assert torch.equal(epoch(RUN, 2), torch.tensor(catalogue.load(CIFAR).train_images))

    def test_images_stay_where_they_are(self) -> None:
        """A captured step reads them by their address."""
        shown = Resident(dataclasses.replace(RUN, augment=("random_crop",)), "cpu")
        where = shown.images.data_ptr()
        shown.start(0)
        shown.start(1)
        assert shown.images.data_ptr() == where

    def test_cut_in_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = dataclasses.replace(RUN, augment=("random_crop", "horizontal_flip", "color_jitter", "randaugment"))
        whole, cut = Resident(run, "cpu"), Resident(run, "cpu")
        whole.start(5)
        monkeypatch.setattr(inputs, "CHUNK", 7)
        cut.start(5)
        assert torch.equal(whole.images, cut.images)

    def test_crops_pad_with_black(self) -> None:
        """Black before normalisation, as torchvision's RandomCrop of an image does."""
        shown = Resident(dataclasses.replace(RUN, augment=("random_crop",)), "cpu")
        white = torch.full_like(shown._source, 255)
        shown._source = white
        shown.start(0)
        assert set(shown.images.unique().tolist()) == {0, 255}


class TestStreamed:
    @pytest.mark.slow
    def test_the_number_of_processes_does_not_matter(self) -> None:
        def epochs(workers: int) -> Iterator[Tensor]:
            shown = Streamed(on_imagenet(), "cpu", workers)
            for epoch in (0, 1):
                for images, labels in shown.batches(epoch):
                    yield from (images, labels)

        alone, loaded = list(epochs(0)), list(epochs(2))
        assert len(alone) == 2 * 2 * 3
        assert all(torch.equal(a, b) for a, b in zip(alone, loaded, strict=True))
        assert alone[0].shape == (4, 3, 32, 32) and alone[0].dtype == torch.uint8
        first, second = (torch.cat(alone[i : i + 6 : 2]).float().mean((2, 3)) for i in (0, 6))
        assert not torch.equal(first.sort(0).values, second.sort(0).values)  # an epoch has draws of its own

    def test_draws_belong_to_the_image(self) -> None:
        """Whatever the order and the batch."""

        def by_label(run: Run) -> dict[bytes, int]:
            shown = Streamed(run, "cpu", 0)
            return {x.numpy().tobytes(): int(y) for images, labels in shown.batches(1) for x, y in zip(images, labels)}  # noqa: B905

        assert by_label(on_imagenet()) == by_label(on_imagenet(batch_size=3))
        assert by_label(on_imagenet()).keys() != by_label(on_imagenet(seed=4)).keys()

    def test_test_images_are_torchvisions(self, root: Path) -> None:
        info = catalogue.info(IMAGENET)
        theirs = v2.Compose(
            [
                v2.Resize(37),
                v2.CenterCrop(32),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(info.mean, info.std),
            ]
        )
        found = catalogue.files(IMAGENET)
        expected = [theirs(Image.open(root / "imagenet" / path.decode())) for path in found.test_paths]
        batches = list(Streamed(on_imagenet(), "cpu", 0).test_batches(4))
        assert (torch.cat([x for x, _ in batches]) - torch.stack(expected)).abs().max() < 1e-5
        assert torch.cat([y for _, y in batches]).tolist() == found.test_labels.tolist()

    def test_grey_files_are_read_in_colour(self, root: Path) -> None:
        shown = Streamed(on_imagenet(), "cpu", 0)
        path = root / "imagenet" / catalogue.files(IMAGENET).train_paths[0].decode()
        before = path.read_bytes()
        Image.fromarray(np.zeros((50, 40), np.uint8)).save(path)
        try:
            assert {images.shape[1] for images, _ in shown.batches(0)} == {3}
        finally:
            path.write_bytes(before)

    def test_a_run_is_trained_from_files(self) -> None:
        one, again = solo.train(on_imagenet()), solo.train(on_imagenet())
        assert one.train_loss == again.train_loss and len(one.history) == 2

    def test_an_interrupted_run_goes_on(self, tmp_path: Path) -> None:
        """From the batch at which it was: those before are not read again."""
        expected = solo.train(on_imagenet())
        checkpoint = Checkpoint(tmp_path, ["it"], print)
        asked = iter([False, False, True])
        with pytest.raises(Stopped, match="after 3 of"):
            solo.train(on_imagenet(), saver=Saver(checkpoint, stopping=lambda: next(asked)))
        resumed = solo.train(on_imagenet(), saver=Saver(checkpoint))
        assert dataclasses.replace(resumed, seconds=0.0) == dataclasses.replace(expected, seconds=0.0)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            dataclasses.replace(RUN, augment=("random_resized_crop",)),
            "augmentation: expected some of random_crop, horizontal_flip, color_jitter, randaugment on cifar100; got "
            "'random_resized_crop'",
        ),
        (
            on_imagenet(augment=("horizontal_flip", "random_resized_crop")),
            "augmentation: expected random_resized_crop first on imagenet, whose images differ in size; got "
            "horizontal_flip, random_resized_crop",
        ),
        (
            on_imagenet(augment=()),
            "augmentation: expected random_resized_crop first on imagenet, whose images differ in size; got none",
        ),
    ],
)
def test_refused(run: Run, message: str) -> None:
    with pytest.raises(setting.TrainError) as refused:
        inputs.open_inputs(run, "cpu")
    assert str(refused.value) == message


def backward(net: nn.Module, images: Tensor, labels: Tensor, parts: int) -> Tensor:
    """Images that are normalised already stay as they are."""
    return solo.backward(net, nullcontext(), images, labels, lambda x: x, parts)


def model_of(norm: str) -> nn.Module:
    layer = nn.BatchNorm2d(6) if norm == "batch" else nn.GroupNorm(1, 6)  # one group: layer normalisation
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), layer, nn.GELU(), nn.Flatten(), nn.Linear(6 * 36, 10))
    return net.double()


def batch(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.randint(10, (count,), generator=generator)


@pytest.mark.parametrize("count", [16, 15, 9, 3])
def test_parts_of_a_batch_have_the_gradient_of_the_whole(count: int) -> None:
    """Where each image is normalised by itself, to 1e-10, parts of unequal size included."""
    whole, parted = model_of("layer"), model_of("layer")
    images, labels = batch(count)
    loss = backward(whole, images, labels, 1)
    in_parts = backward(parted, images, labels, 4)
    assert (loss - in_parts).abs() < 1e-10
    assert (loss - functional.cross_entropy(whole(images), labels)).abs() < 1e-10
    for a, b in zip(whole.parameters(), parted.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and (a.grad - b.grad).abs().max() < 1e-10


def test_batch_normalisation_sees_one_part_at_a_time() -> None:
    """Gradients are the mean of the parts' own; running averages those of the first part."""
    net, seen = model_of("batch"), []
    net[1].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    images, labels = batch(16)
    backward(net, images, labels, 4)
    assert seen == [4, 4, 4, 4]
    alone = []
    for x, y in zip(images.chunk(4), labels.chunk(4), strict=True):
        alone.append(model_of("batch"))
        functional.cross_entropy(alone[-1](x), y).backward()
    for i, p in enumerate(net.parameters()):
        expected = torch.stack([list(other.parameters())[i].grad for other in alone]).mean(0)
        assert (p.grad - expected).abs().max() < 1e-10
    for name in ("running_mean", "running_var"):
        assert torch.equal(getattr(net[1], name), getattr(alone[0][1], name))
    assert net[1].momentum == 0.1


def test_imagenet_is_four_parts_of_256() -> None:
    info = catalogue.info(DataSpec("imagenet"))
    assert [len(part) for part in torch.zeros(1024).chunk(info.parts)] == [256] * 4
    assert {name for name, known in catalogue.DATASETS.items() if known.parts != 1} == {"imagenet"}


def test_runs_differ_by_augmentation() -> None:
    """Through the whole training."""
    plain, cropped = (solo.train(dataclasses.replace(RUN, augment=names)) for names in ((), ("random_crop",)))
    assert plain.train_loss != cropped.train_loss
