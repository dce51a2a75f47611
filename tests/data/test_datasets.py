"""Data sets on disk: read as torchvision reads them, nothing run that a file says, and what is missing in one line."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from torchvision.datasets.folder import IMG_EXTENSIONS

from replicate.data import catalogue, cifar100, fashion, imagenet
from replicate.data.spec import DataSpec
from tests.support import archives

CIFAR = DataSpec("cifar100", train_images=64)
FASHION = DataSpec("fashion", train_images=64)
IMAGENET = DataSpec("imagenet", train_images=24)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all data sets; nothing is there, nor can be fetched, nor is installed in the system."""
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setattr(fashion, "SYSTEM", tmp_path / "nowhere")

    def refused(*arguments: object, **more: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", refused)
    return tmp_path


def refusal(spec: DataSpec) -> str:
    with pytest.raises(catalogue.DataError) as refused:
        (catalogue.load if catalogue.info(spec).resident else catalogue.files)(spec)
    assert "\n" not in str(refused.value)
    return str(refused.value)


class TestCifar100:
    @pytest.mark.filterwarnings("ignore:dtype")  # numpy's, of Python 2's way to write a type, in torchvision's reading
    def test_as_torchvision_reads_it(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        archives.cifar100(folder)
        split = catalogue.load(CIFAR)
        monkeypatch.setattr(torchvision.datasets.CIFAR100, "_check_integrity", lambda self: True)
        monkeypatch.setattr(torchvision.datasets.CIFAR100, "_load_meta", lambda self: None)
        for train, images, labels in (
            (True, split.train_images, split.train_labels),
            (False, split.test_images, split.test_labels),
        ):
            theirs = torchvision.datasets.CIFAR100(str(folder), train=train)
            assert images.dtype == np.uint8
            assert np.array_equal(images.transpose(0, 2, 3, 1), theirs.data)
            assert labels.tolist() == theirs.targets

    def test_in_the_folder_itself(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        archives.cifar100(folder)
        monkeypatch.setenv("REPLICATE_DATA", str(folder / "cifar-100-python"))
        assert len(catalogue.load(CIFAR).test_labels) == 32

    def test_checksum(self, folder: Path) -> None:
        inside = archives.cifar100(folder) / "cifar-100-python"
        train, test = (hashlib.md5((inside / name).read_bytes()).hexdigest() for name in ("train", "test"))
        assert catalogue.checksum(CIFAR) == f"md5:{train}+{test}"
        assert not catalogue.published("cifar100", catalogue.checksum(CIFAR))

    def test_the_published_one_is_torchvisions(self) -> None:
        theirs = torchvision.datasets.CIFAR100
        assert list(cifar100.MD5.items()) == [tuple(pair) for pair in theirs.train_list + theirs.test_list]
        assert (theirs.url, theirs.tgz_md5) == (cifar100.URL, cifar100.ARCHIVE_MD5)
        assert (theirs.base_folder, theirs.filename) == (cifar100.FOLDER, cifar100.ARCHIVE)
        assert catalogue.published("cifar100", cifar100.PUBLISHED)
        assert not catalogue.published("cifar100", None)

    def test_missing(self, folder: Path) -> None:
        expected = (
            f"cifar100: expected cifar-100-python/train and cifar-100-python/test in {folder}, found none, and "
            "the download failed (<urlopen error no route to host>); unpack "
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz there, or name the files' folder with --data"
        )
        assert refusal(CIFAR) == expected
        archives.cifar100(folder)
        catalogue.prepare(CIFAR)

    def test_fetched_once(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def fetch(url: str, root: str, filename: str, md5: str) -> None:
            asked.append((url, md5))
            archives.cifar100(Path(root))

        monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fetch)
        for _ in range(2):
            catalogue.prepare(CIFAR)
        assert asked == [(cifar100.URL, cifar100.ARCHIVE_MD5)]
        assert len(catalogue.load(CIFAR).train_labels) == 64

    def test_a_pickle_runs_nothing(self, folder: Path) -> None:
        class Harm:
            def __reduce__(self) -> tuple[object, ...]:
                return os.mkdir, (str(folder / "harm"),)

        inside = archives.cifar100(folder) / "cifar-100-python"
        (inside / "train").write_bytes(pickle.dumps({"data": Harm(), "fine_labels": []}))
        assert refusal(CIFAR) == (
            f"cifar100: expected a CIFAR-100 pickle at {inside / 'train'}, got UnpicklingError: it asks for "
            f"{os.mkdir.__module__}.mkdir, which is not data; delete it and unpack {cifar100.URL} again"
        )
        assert not (folder / "harm").exists()

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (
                {"data": np.zeros((2, 3072), np.float64), "fine_labels": [0, 1]},
                "it holds values of type 'f8', not bytes",
            ),
            ({"data": np.array([{}], dtype=object), "fine_labels": [0]}, "it holds values of type 'O8', not bytes"),
            ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0]}, "its data are not bytes [N, 3072]"),
            ({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [100]}, "a label is not from 0 to 99"),
            ({"data": np.zeros((1, 3072), np.uint8)}, "'fine_labels'"),
        ],
    )
    def test_other_pickles_are_refused(self, folder: Path, value: object, words: str) -> None:
        (archives.cifar100(folder) / "cifar-100-python" / "test").write_bytes(pickle.dumps(value, protocol=2))
        assert words in refusal(CIFAR)

    def test_what_python_3_pickles_is_read(self, folder: Path) -> None:
        path = archives.cifar100(folder) / "cifar-100-python" / "test"
        pixels = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
        path.write_bytes(pickle.dumps({"data": pixels, "fine_labels": [3, 99]}, protocol=2))
        assert np.array_equal(catalogue.load(CIFAR).test_images.reshape(2, 3072), pixels)

    def test_cut_off(self, folder: Path) -> None:
        path = archives.cifar100(folder) / "cifar-100-python" / "train"
        path.write_bytes(path.read_bytes()[:5000])
        assert f"expected a CIFAR-100 pickle at {path}, got " in refusal(CIFAR)


class TestFashion:
    @pytest.mark.parametrize("inside", ["FashionMNIST/raw", "fashion-mnist", ""])
    @pytest.mark.parametrize("compressed", [True, False])
    def test_as_torchvision_reads_it(self, folder: Path, inside: str, compressed: bool) -> None:
        archives.fashion(folder / inside, compressed=compressed)
        split = catalogue.load(FASHION)
        if inside == "FashionMNIST/raw" and not compressed:
            for train, images, labels in (
                (True, split.train_images, split.train_labels),
                (False, split.test_images, split.test_labels),
            ):
                theirs = torchvision.datasets.FashionMNIST(str(folder), train=train)
                assert np.array_equal(images[:, 0, 2:-2, 2:-2], theirs.data.numpy())
                assert labels.tolist() == theirs.targets.tolist()
        assert split.train_images.shape == (64, 1, 32, 32)
        edges = split.train_images.copy()
        edges[:, :, 2:-2, 2:-2] = 0
        assert not edges.any()

    def test_where_the_system_keeps_it(self, folder: Path) -> None:
        archives.fashion(fashion.SYSTEM)
        assert len(catalogue.load(FASHION).test_labels) == 32

    def test_the_checksum_is_of_the_contents(self, folder: Path) -> None:
        archives.fashion(folder, compressed=False)
        contents = b"".join((folder / name).read_bytes() for name in fashion.FILES)
        assert catalogue.checksum(FASHION) == f"sha256:{hashlib.sha256(contents).hexdigest()}"
        assert not catalogue.published("fashion", catalogue.checksum(FASHION))
        assert catalogue.published("fashion", fashion.PUBLISHED)

    def test_missing(self, folder: Path) -> None:
        assert refusal(FASHION) == (
            f"fashion: expected train-images-idx3-ubyte.gz and the three other files of Fashion-MNIST in "
            f"{folder / 'fashion-mnist'} or {fashion.SYSTEM}, found none; install the system package "
            "dataset-fashion-mnist, or name the files' folder with --data"
        )

    @pytest.mark.parametrize(
        ("keep", "words"),
        [(100, "a file that is cut off"), (2, "a header whose data type is not 8, the code for unsigned bytes")],
    )
    def test_broken(self, folder: Path, keep: int, words: str) -> None:
        path = archives.fashion(folder, compressed=False) / fashion.FILES[0]
        path.write_bytes(path.read_bytes()[:keep])
        assert refusal(FASHION) == f"fashion: expected an idx file at {path}, got {words}; download it again"


class TestImagenet:
    def test_as_torchvision_lists_it(self, folder: Path) -> None:
        inside = archives.imagenet(folder) / "imagenet"
        found = catalogue.files(IMAGENET)
        for split, paths, labels in (
            ("train", found.train_paths, found.train_labels),
            ("val", found.test_paths, found.test_labels),
        ):
            theirs = torchvision.datasets.ImageFolder(str(inside / split))
            ours = [
                (str(inside / os.fsdecode(path)), label) for path, label in zip(paths, labels.tolist(), strict=True)
            ]
            assert ours == theirs.samples
        assert imagenet.EXTENSIONS == IMG_EXTENSIONS

    def test_checksum_ends_with_the_counts(self, folder: Path) -> None:
        archives.imagenet(folder)
        assert catalogue.checksum(IMAGENET).endswith(", 3 classes, 24 + 12 images")
        assert not catalogue.published("imagenet", catalogue.checksum(IMAGENET))
        assert catalogue.published("imagenet", "names sha256:00, 1000 classes, 1281167 + 50000 images")

    def test_missing(self, folder: Path) -> None:
        assert refusal(IMAGENET) == (
            f"imagenet: expected train/ and val/ with a folder of images for each class in {folder / 'imagenet'}, "
            "found none; get ILSVRC2012 from image-net.org and unpack it there, or name the folder of train/ and val/ "
            "with --data"
        )

    def test_unsorted_validation_images(self, folder: Path) -> None:
        inside = archives.imagenet(folder) / "imagenet"
        (inside / "val" / "n00000002").rename(inside / "val" / "n00000009")
        assert refusal(IMAGENET) == (
            f"imagenet: expected 1 to 1000 class folders, the same in {inside / 'train'} and {inside / 'val'}, got 3 "
            "and 3 folders; sort the images by class"
        )

    def test_it_is_not_loaded(self) -> None:
        with pytest.raises(
            catalogue.DataError, match=r"^imagenet: expected a data set that fits in memory, got one that is "
        ):
            catalogue.load(IMAGENET)
        with pytest.raises(
            catalogue.DataError, match=r"^cifar100: expected a data set that is streamed from files, got one that fits"
        ):
            catalogue.files(CIFAR)


def test_all_training_images_must_be_there(folder: Path) -> None:
    archives.cifar100(folder)
    words = f"found 64 in {folder}; get the whole data set"
    assert refusal(DataSpec("cifar100")) == f"cifar100: expected 50000 training images, {words}"
    assert refusal(DataSpec("cifar100", 65)) == f"cifar100: expected 65 training images, {words}"
    words = "cifar100: expected test_images from 1 to 32, got 33"
    assert refusal(DataSpec("cifar100", 64, test_images=33)) == words


def test_a_part_is_drawn_by_hashes(folder: Path) -> None:
    archives.cifar100(folder)
    whole = {image.tobytes() for image in catalogue.load(CIFAR).train_images}
    parts = [catalogue.load(DataSpec("cifar100", 20, split_seed=seed, test_images=10)) for seed in (0, 1)]
    drawn = [{image.tobytes() for image in part.train_images} for part in parts]
    assert drawn[0] < whole and drawn[1] < whole and drawn[0] != drawn[1]
    assert [len(part.test_labels) for part in parts] == [10, 10]


def test_wrong_labels(folder: Path) -> None:
    archives.cifar100(folder)
    clean, noisy = catalogue.load(CIFAR), catalogue.load(DataSpec("cifar100", 64, label_noise=0.25))
    assert int((clean.train_labels != noisy.train_labels).sum()) == 16
    assert noisy.train_labels.min() >= 0 and noisy.train_labels.max() < 100


def test_another_folder_is_read_anew(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives.cifar100(folder / "one")
    archives.cifar100(folder / "two", train=65)
    for name, size in (("one", 64), ("two", 65)):
        monkeypatch.setenv("REPLICATE_DATA", str(folder / name))
        assert len(catalogue.load(DataSpec("cifar100", size)).train_labels) == size
