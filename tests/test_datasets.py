"""Data sets: shapes, constants, digests, validation, and every error's message."""

from __future__ import annotations

import dataclasses
import gzip
import re
import struct
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from popnet import data
from popnet.data import corpora, datasets, files
from popnet.data.idx import read_idx
from popnet.errors import ConfigError, DataError

FASHION_MNIST_HERE = (files.DEBIAN_FASHION_MNIST / "train-images-idx3-ubyte.gz").is_file()


@pytest.fixture(name="root")
def _default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty default root, through the environment; MNIST has as many images as `write_mnist` writes."""
    root = tmp_path / "data"
    monkeypatch.setattr(files, "SIZES", (6, 4))
    monkeypatch.setenv("POPNET_DATA", str(root))
    return root


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, train: int = 6, test: int = 4, compress: bool = False) -> None:
    folder.mkdir(parents=True)
    for name, examples in (("train", train), ("t10k", test)):
        images = np.arange(examples * 28 * 28).reshape(examples, 28, 28).astype(np.uint8)
        labels = np.arange(examples).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx_bytes(array)
            path = folder / f"{name}-{kind}-ubyte{'.gz' if compress else ''}"
            path.write_bytes(gzip.compress(content) if compress else content)


def tiny(**changes: Any) -> data.Dataset:
    arguments: dict[str, Any] = {
        "train_images": np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3),
        "train_labels": [0, 1, 2, 0],
        "test_images": np.zeros((2, 5, 6, 3), dtype=np.uint8),
        "test_labels": [1, 1],
    } | changes
    return data.from_arrays(**arguments)


# Built-in data.


def test_digits() -> None:
    digits = data.load("digits")
    assert digits.train_images.shape == (898, 8, 8, 1)
    assert digits.test_images.shape == (899, 8, 8, 1)
    assert digits.train_images.dtype == np.uint8
    assert digits.train_labels.dtype == np.int64
    assert digits.input_shape == (1, 8, 8)
    assert set(np.unique(digits.train_images)) == {int(np.floor(value * 255 / 16 + 0.5)) for value in range(17)}
    assert digits.train_labels[:10].tolist() == list(range(10))
    pixels = digits.train_images / 255
    assert digits.mean == pytest.approx((pixels.mean(),), rel=1e-12)
    assert digits.std == pytest.approx((pixels.std(),), rel=1e-12)


def test_digests_do_not_change() -> None:
    assert data.load("digits").digest == "b89c603bd128a4c0701f9cc6e1f35af7fc48fdb753081e684e89c238aea159db"
    small = data.load("synthetic", train=20, test=10, height=5, width=7, channels=3, classes=4, seed=3)
    assert small.digest == "e2cb8449ce8c8aa6ee2d973819c34a250e5ca5c0164a7aa44427ca6c83042fff"


def test_digest_sees_everything_that_training_sees() -> None:
    digest = tiny().digest
    assert tiny(name="another", class_names=["a", "b", "c"]).digest == digest
    assert tiny().normalised_by([0, 0, 0], [1, 1, 1]).digest != digest
    assert tiny(classes=4).digest != digest
    assert tiny(test_labels=[1, 2]).digest != digest
    assert tiny(test_images=np.zeros((2, 5, 6, 3), np.uint8) + np.uint8(1)).digest != digest
    assert tiny().subset(3).digest != digest


def test_synthetic_is_a_function_of_its_seed_alone() -> None:
    options = {"test": 30, "height": 6, "width": 5, "channels": 2, "classes": 3}
    large = data.load("synthetic", train=100, seed=7, **options)
    small = data.load("synthetic", train=40, seed=7, **options)
    assert np.array_equal(large.train_images[:40], small.train_images)
    assert np.array_equal(large.train_labels[:40], small.train_labels)
    assert np.array_equal(large.test_images, small.test_images)
    other = data.load("synthetic", train=40, seed=8, **options)
    assert not np.array_equal(other.train_images, small.train_images)
    assert not np.array_equal(other.train_labels, small.train_labels)


def test_synthetic_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = data.load("synthetic", train=50, test=9, height=3, width=5, channels=1).digest
    monkeypatch.setattr(datasets.synthetic, "_CHUNK_BYTES", 100)
    assert data.load("synthetic", train=50, test=9, height=3, width=5, channels=1).digest == whole


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3)])
def test_synthetic_is_learnable_and_not_trivial(shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    dataset = data.load("synthetic", train=2000, test=1000, height=height, width=width, channels=channels)
    x = dataset.train_images.reshape(2000, -1) / 255.0
    means = np.stack([x[dataset.train_labels == label].mean(axis=0) for label in range(10)])
    scores = (dataset.test_images.reshape(1000, -1) / 255.0) @ means.T - (means**2).sum(axis=1) / 2
    accuracy = np.mean(scores.argmax(axis=1) == dataset.test_labels)
    assert 0.6 < accuracy < 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 0}, "train must be a positive integer, not 0"),
        ({"width": 2.5}, "width must be a positive integer"),
        ({"seed": -1}, r"seed must be 0 to 2\*\*64 - 1"),
        ({"signal": 1.5}, "signal must be 0 to 1"),
        ({"trian": 5}, "no option 'trian': did you mean 'train'"),
    ],
)
def test_synthetic_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"'synthetic'.*{message}"):
        data.load("synthetic", **options)


# Names and options.


def test_unknown_name_proposes_the_nearest() -> None:
    known = {*get_args(datasets.ImageName), *get_args(datasets.PictureName), *get_args(corpora.TextName)}
    assert known == set(data.names())
    with pytest.raises(ConfigError, match="unknown dataset 'fashion-mnist': did you mean 'fashion_mnist'"):
        data.load("fashion-mnist")
    with pytest.raises(ConfigError, match="unknown dataset 'zzz': known: beton, bible, cifar10, cifar100, digits"):
        data.fetch("zzz")


def test_constants_can_be_replaced() -> None:
    digits = data.load("digits", mean=[0.5])
    assert digits.mean == (0.5,)
    assert digits.std == data.load("digits").std
    with pytest.raises(ConfigError, match=r"one number for each of its 1 channel\(s\), not 3 and 1"):
        data.load("digits", mean=[0.5, 0.5, 0.5])
    with pytest.raises(ConfigError, match="std above 0"):
        data.load("digits", std=[0])
    for wrong in (0.5, ["a"], [None], {"a": 1}):
        with pytest.raises(ConfigError, match="'digits': mean must be a list of one number a channel, not"):
            data.load("digits", mean=wrong)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("npz", {"path": 5}, "path must be a path, not 5"),
        ("npz", {"path": "a.npz", "train_images": 5}, "train_images must be a name, not 5"),
        ("parquet", {"train": ["a", "b"]}, "train must be a path, .*: for several files give a pattern"),
        ("parquet", {"train": None}, "train must be a path, not None"),
        ("parquet", {"train": "a", "test": 1}, "test must be a path, not 1"),
        ("image_folder", {"train": "a", "test": None}, "test must be a path, not None"),
        ("image_folder", {"train": "a", "test": "a", "mapping": 1}, "mapping must be a path, not 1"),
        ("beton", {"train": True, "test": "a"}, "train must be a path, not True"),
        ("beton", {"train": "a", "test": "a", "classes": "9"}, "classes must be a whole number, not '9'"),
    ],
)
def test_options_of_another_type_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"data set {name!r}: {message}"):
        data.load(name, **options)


def test_subset_takes_the_first_examples() -> None:
    digits = data.load("digits")
    part = digits.subset(train_examples=100)
    assert np.array_equal(part.train_images, digits.train_images[:100])
    assert part.train_labels.shape == (100,)
    assert part.mean == digits.mean
    assert np.array_equal(part.test_images, digits.test_images)
    assert digits.subset(898) is digits
    for wrong in (0, 899):
        with pytest.raises(ConfigError, match=f"train_examples must be 1 to 898, the size of 'digits', not {wrong}"):
            digits.subset(wrong)


# A user's own arrays.


def test_from_arrays() -> None:
    dataset = tiny()
    assert dataset.classes == 3
    assert dataset.train_labels.dtype == np.int64
    assert dataset.input_shape == (3, 5, 6)
    assert np.allclose(dataset.mean, (dataset.train_images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    assert np.allclose(dataset.std, (dataset.train_images / 255).std(axis=(0, 1, 2)), rtol=1e-12)


def test_from_arrays_adds_a_channel_and_makes_contiguous() -> None:
    images = np.zeros((6, 5, 4), dtype=np.uint8).transpose(2, 1, 0)
    dataset = tiny(train_images=images, test_images=images, test_labels=np.array([0, 1, 2, 0], dtype=np.uint8))
    assert dataset.train_images.shape == (4, 5, 6, 1)
    assert dataset.train_images.flags.c_contiguous
    assert (dataset.mean, dataset.std) == ((0.0,), (1.0,))


def test_from_arrays_takes_tensors() -> None:
    import torch

    images = torch.zeros(4, 5, 6, 3, dtype=torch.uint8)
    assert tiny(train_images=images, train_labels=torch.arange(4)).classes == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((4, 5, 6, 3))}, "train_images must be uint8, not float64; pass the pixels as"),
        ({"train_images": np.zeros((4, 5, 6, 3), np.int64)}, "train_images must be uint8, not int64"),
        ({"test_images": np.zeros((2, 5), np.uint8)}, r"test_images must be \[n, height, width\] or .*\(2, 5\)"),
        ({"test_images": np.zeros((0, 5, 6, 3), np.uint8)}, "test_images must be"),
        ({"train_images": np.zeros((4, 3, 32, 32), np.uint8)}, r"seem to be \[n, channels, height, width\]"),
        ({"test_images": np.zeros((2, 5, 7, 3), np.uint8)}, r"\(5, 6, 3\).*test_images \(5, 7, 3\)"),
        ({"train_labels": [0, 1, 2]}, r"train_labels must be \[4\], one for each image, not \(3,\)"),
        ({"train_labels": [0.0, 1, 2, 0]}, "train_labels must be integers, not float64"),
        ({"train_labels": [[0], [1], [2], [0]]}, r"train_labels must be \[4\]"),
        ({"train_labels": [-1, 1, 2, 0]}, "train_labels hold -1 to 2, and 3 classes are 0 to 2"),
        ({"test_labels": [0, 5], "classes": 3}, "test_labels hold 0 to 5, and 3 classes are 0 to 2"),
        ({"class_names": ["a"]}, "class_names holds 1 names for 3 classes"),
    ],
)
def test_from_arrays_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tiny(**changes)


# IDX files.


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_reads_what_was_written(tmp_path: Path, suffix: str) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / f"x-ubyte{suffix}"
    path.write_bytes(gzip.compress(idx_bytes(array)) if suffix else idx_bytes(array))
    assert np.array_equal(read_idx(path, dimensions=3), array)


WHOLE = idx_bytes(np.zeros((2, 3, 4), dtype=np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x", WHOLE[:-1], r"truncated: 39 bytes, and its shape \(2, 3, 4\) takes 40"),
        ("x", WHOLE + b"0", "holds more than it announces: 41 bytes"),
        ("x", WHOLE[:10], "truncated: 10 bytes, and its header alone takes 16"),
        ("x", b"", "truncated: 0 bytes"),
        ("x", b"PK" + WHOLE[2:], "not an IDX file of bytes with 3 .*begins with 50 4b 08 03 where 00 00 08 03"),
        ("x.gz", gzip.compress(WHOLE)[:-9], "not a whole gzip file"),
        ("x.gz", b"<html>not found</html>", "not a whole gzip file"),
        ("x.gz", gzip.compress(WHOLE)[:12] + b"\xff" * 20, "not an IDX file of bytes with 3 .*begins with 00 07 ff ff"),
        ("x.gz", gzip.compress(WHOLE)[:-8] + bytes(8), "not a whole gzip file .*CRC check failed"),
    ],
)
def test_idx_refuses(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{re.escape(str(path))} .*{message}"):
        read_idx(path, dimensions=3)


def test_idx_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_idx(tmp_path / "absent", dimensions=1)


# Data sets in files.


@pytest.mark.parametrize("compress", [False, True])
def test_mnist_in_torchvisions_folder(root: Path, compress: bool) -> None:
    write_mnist(root / "MNIST" / "raw", compress=compress)
    mnist = data.load("mnist", copy=True)
    assert (mnist.name, mnist.origin) == ("MNIST, own copy", str(root / "MNIST" / "raw"))
    assert mnist.train_images.shape == (6, 28, 28, 1)
    assert mnist.test_labels.tolist() == [0, 1, 2, 3]
    assert (mnist.classes, mnist.mean, mnist.std) == (10, (0.1307,), (0.3081,))
    assert data.available()["mnist"] == data.Availability(True, str(root / "MNIST" / "raw"))


@pytest.mark.parametrize(("name", "folder"), [("mnist", "mnist"), ("fashion_mnist", "fashion-mnist")])
def test_idx_files_in_a_folder_of_the_data_sets_name(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str
):
    monkeypatch.setitem(datasets._idx, name, dataclasses.replace(datasets._idx[name], packaged=None))
    write_mnist(root / folder, compress=True)
    for path in (root / folder).iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))  # as some programs unpack them
    assert data.missing(name) is None
    assert data.available()[name] == data.Availability(True, str(root / folder))
    assert files.locate(datasets._idx[name], None) == root / folder


def test_another_data_sets_idx_files_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(root / "mnist")
    with pytest.raises(DataError, match=r"mnist: its images are not MNIST's: take them as 'MNIST, own copy' by .*true"):
        data.load("mnist")
    known = data.load("mnist", copy=True)
    pixels = files.digest_of((known.train_images, known.train_labels), (known.test_images, known.test_labels))
    monkeypatch.setitem(files.PUBLISHED, pixels, "fashion_mnist")
    with pytest.raises(DataError, match="mnist: holds the images of data set 'fashion_mnist', and is looked into for"):
        data.load("mnist", copy=True)
    monkeypatch.setitem(files.PUBLISHED, pixels, "mnist")
    assert data.load("mnist", root / "mnist").name == "mnist"
    monkeypatch.setenv("POPNET_DATA", str(root / "mnist"))
    assert data.load("mnist", copy=True).name == "mnist"
    monkeypatch.setattr(files, "SIZES", (60_000, 10_000))
    monkeypatch.delitem(files.PUBLISHED, pixels)
    with pytest.raises(DataError, match="holds 6 training images of 28 x 28 pixels, and MNIST has 60,000 of 28 x 28"):
        data.load("mnist", copy=True)


def test_a_root_of_ones_own_may_hold_the_files_directly(root: Path, tmp_path: Path) -> None:
    write_mnist(tmp_path / "own")
    fashion = data.load("fashion_mnist", root=tmp_path / "own", copy=True)
    assert len(fashion.train_labels) == 6
    assert fashion.class_names is not None
    assert fashion.class_names[9] == "Ankle boot"


def test_mnist_missing(root: Path) -> None:
    how = f"get it with `popnet data fetch mnist`, or put its four IDX files, plain or gzipped, into {root}/mnist"
    expected = f"data set 'mnist' was not found in {root}/MNIST/raw and {root}/mnist: {how}; $POPNET_DATA is {root}"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        data.load("mnist")
    assert data.missing("mnist") == expected
    assert data.available()["mnist"] == data.Availability(False, how)
    assert not root.exists()


def test_fashion_mnist_missing_names_both_places_and_all_ways(root: Path, tmp_path: Path) -> None:
    source = dataclasses.replace(datasets._idx["fashion_mnist"], packaged=tmp_path / "usr")
    expected = (
        f"not found in {tmp_path}/usr and {root}/FashionMNIST/raw and {root}/fashion_mnist and {root}/fashion-mnist: "
        "get it with `apt-get install dataset-fashion-mnist` or `popnet data fetch fashion_mnist`, or put its four IDX"
    )
    with pytest.raises(DataError, match=re.escape(expected)):
        files.read(source, None)


@pytest.mark.parametrize(("name", "said"), [("imagenet", "train and val there"), ("ptb", "Mikolov"), ("cifar100", "")])
def test_what_is_missing_is_named_without_loading(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    sentence = data.missing(name)
    assert sentence is not None
    found = "is not here: get it with" if name == "cifar100" else f"was not found in {root}/"
    assert sentence.startswith(f"data set {name!r} {found}")
    assert said in sentence
    assert sentence.endswith(f"; $POPNET_DATA is {root}")
    with pytest.raises(DataError, match=re.escape(sentence)):
        data.load(name)
    monkeypatch.delenv("POPNET_DATA")
    monkeypatch.setenv("HOME", str(root))
    assert str(data.missing(name)).endswith("; $POPNET_DATA, which is not set, names another folder")


def test_what_has_no_place_of_its_own_is_not_missing() -> None:
    assert [data.missing(name) for name in ("digits", "npz", "parquet", "image_folder", "text")] == [None] * 5


def test_missing_below_a_root_names_that_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"`popnet data fetch fashion_mnist --root {tmp_path}`, or put"):
        data.load("fashion_mnist", root=tmp_path)


def test_mnist_incomplete(root: Path) -> None:
    write_mnist(root / "MNIST" / "raw")
    (root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"'mnist' is incomplete in .*raw, which lacks t10k-labels-idx1-ubyte"):
        data.load("mnist")
    assert not data.available()["mnist"].ready


def test_mnist_with_labels_of_another_length(root: Path) -> None:
    write_mnist(root / "MNIST" / "raw")
    (root / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(5, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"holds 6 images, and .* 5 labels"):
        data.load("mnist")


def test_mnist_truncated(root: Path) -> None:
    write_mnist(root / "MNIST" / "raw")
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="train-images-idx3-ubyte is truncated: 1000 bytes"):
        data.load("mnist")


def test_available_names_every_data_set(root: Path) -> None:
    found = data.available()
    assert tuple(found) == data.names()
    assert found["digits"] == data.Availability(True, "built in")
    assert found["cifar100"].where.startswith("get it with `popnet data fetch cifar100`, or bring it")


def test_fetch_puts_files_where_load_looks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def download(destination: str, train: bool, download: bool) -> None:
        assert download
        if train:
            write_mnist(Path(destination) / "MNIST" / "raw")

    monkeypatch.setattr(torchvision.datasets, "MNIST", download)
    assert data.fetch("mnist") == root / "MNIST" / "raw"
    assert len(data.load("mnist", copy=True).train_labels) == 6


@pytest.mark.parametrize("failure", [OSError("Name or service not known"), RuntimeError("Error downloading")])
def test_fetch_without_a_connection(root: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    import torchvision

    def download(*arguments: Any, **options: Any) -> None:
        raise failure

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", download)
    expected = f"'cifar10' could not be downloaded to {root} ({failure}); without a connection, copy {root}/cifar-10-b"
    with pytest.raises(DataError, match=re.escape(expected)):
        data.fetch("cifar10")


def test_fetch_of_built_in_data_does_nothing() -> None:
    assert data.fetch("digits") is None


@pytest.mark.skipif(not FASHION_MNIST_HERE, reason="needs Fashion-MNIST: apt-get install dataset-fashion-mnist")
def test_fashion_mnist_of_the_system_package() -> None:
    fashion = data.load("fashion_mnist")
    assert fashion.train_images.shape == (60_000, 28, 28, 1)
    assert fashion.test_images.shape == (10_000, 28, 28, 1)
    assert np.bincount(fashion.train_labels).tolist() == [6000] * 10
    assert fashion.digest == "ff2e73e5ba3bbdf03d0a6de131ca36951b68e1808c4bc627c7b6d0025653f83f"
    mean, std = datasets.channel_statistics(fashion.train_images)
    assert tuple(round(value, 4) for value in (*mean, *std)) == (0.2860, 0.3530)
    assert (fashion.mean, fashion.std) == ((0.2860,), (0.3530,))
