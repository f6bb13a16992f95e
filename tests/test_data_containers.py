"""Data as people have them: CIFAR in every form, Parquet files, .npz; equal pixels give equal digests and weights."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import popnet
from popnet import config, data
from popnet.cli import main
from popnet.data import cifar
from popnet.data.parquet import Rows, read_split, split_files
from popnet.data.statistics import channel_statistics
from popnet.errors import ConfigError, DataError
from popnet.untrusted import archives
from popnet.untrusted.pickles import parse_pickle

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'popnet[hf]'")
pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'popnet[hf]'")

NAMES = cifar.CIFAR10.class_names
A_CLASS = (2, 1)
CONSTANTS = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}


def _split(images_a_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 32, 32, 3] in order of class, brighter from class to class, and labels."""
    labels = np.repeat(np.arange(10), images_a_class)
    noise = np.random.default_rng(seed).integers(0, 60, (len(labels), 32, 32, 3))
    return (noise + 19 * labels[:, None, None, None]).astype(np.uint8), labels


TRAIN, TEST = (_split(count, seed) for seed, count in enumerate(A_CLASS))
SPLITS = {"train": TRAIN, "test": TEST}
EXPECTED = data.from_arrays(*TRAIN, *TEST, classes=10, **CONSTANTS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> cifar.Cifar:
    """CIFAR-10 with 20 + 10 images, of which those above are a copy."""
    known = dataclasses.replace(cifar.CIFAR10, a_class=A_CLASS)
    monkeypatch.setattr(cifar, "CIFAR10", known)
    return known


@pytest.fixture
def published(small: cifar.Cifar, monkeypatch: pytest.MonkeyPatch) -> cifar.Cifar:
    """The same, of which the images above are the published ones by their statistics."""
    known = dataclasses.replace(small, statistics=(channel_statistics(TRAIN[0]), channel_statistics(TEST[0])))
    monkeypatch.setattr(cifar, "CIFAR10", known)
    return known


# How each form is written.


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def planes(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def python_files() -> dict[str, bytes]:
    files = {}
    for number in range(5):
        part = slice(4 * number, 4 * number + 4)
        batch = {"data": planes(TRAIN[0][part]), "labels": TRAIN[1][part].tolist(), "filenames": ["x.png"] * 4}
        files[f"data_batch_{number + 1}"] = pickle.dumps(batch, protocol=number)
    files["test_batch"] = pickle.dumps({b"data": planes(TEST[0]), b"labels": TEST[1].tolist()}, protocol=2)
    files["batches.meta"] = pickle.dumps({"label_names": list(NAMES)})
    return files


def binary_files() -> dict[str, bytes]:
    records = {
        split: np.column_stack([labels, planes(images)]).astype(np.uint8) for split, (images, labels) in SPLITS.items()
    }
    files = {f"data_batch_{n + 1}.bin": records["train"][4 * n : 4 * n + 4].tobytes() for n in range(5)}
    return files | {"test_batch.bin": records["test"].tobytes(), "batches.meta.txt": "\n".join(NAMES).encode()}


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_archive(path: Path, folder: str, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def table_of(
    images: np.ndarray, labels: Any, names: Any = NAMES, column: str = "label", image: str = "img", kind: str = "PNG"
) -> pa.Table:
    """A table in Hugging Face's layout; with `names`, labels are a ClassLabel."""
    pictures = [{"bytes": encoded(one, kind), "path": None} for one in images]
    table = pa.table(
        {image: pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())])), column: labels}
    )
    if names is None:
        return table
    features = {image: {"_type": "Image"}, column: {"names": list(names), "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": config.json.dumps({"info": {"features": features}})})


def write_parquet(folder: Path, rows: int = 7, **options: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in SPLITS.items():
        pq.write_table(table_of(images, labels, **options), folder / f"{split}.parquet", row_group_size=rows)


def write_class_folders(folder: Path, kind: str = "png", names: tuple[str, ...] = NAMES) -> None:
    for split, (images, labels) in SPLITS.items():
        for number, (image, label) in enumerate(zip(images, labels)):
            place = folder / split / names[label]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:05d}.{kind}").write_bytes(encoded(image, "JPEG" if kind == "jpg" else "PNG"))


def write_npz(path: Path) -> None:
    np.savez(path, train_images=TRAIN[0], train_labels=TRAIN[1], test_images=TEST[0], test_labels=TEST[1])


FORMS: dict[str, Callable[[Path], None]] = {
    "cifar-10-batches-py": lambda root: write_folder(root / "cifar-10-batches-py", python_files()),
    "cifar-10-python.tar.gz": lambda root: write_archive(root / "cifar-10-python.tar.gz", "any", python_files()),
    "cifar-10-batches-bin": lambda root: write_folder(root / "cifar-10-batches-bin", binary_files()),
    "cifar-10-binary.tar.gz": lambda root: write_archive(root / "cifar-10-binary.tar.gz", "any", binary_files()),
    "Parquet": lambda root: write_parquet(root / "cifar10-jpeg"),
    "Parquet in the root": lambda root: write_parquet(root),
    "class folders": lambda root: write_class_folders(root / "cifar10"),
    "class folders in the root": write_class_folders,
}


# CIFAR.


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_images_is_one_data_set(small: cifar.Cifar, tmp_path: Path, form: str) -> None:
    FORMS[form](tmp_path)
    found = data.load("cifar10", tmp_path, copy=True)
    assert found.digest == EXPECTED.digest
    assert (found.name, found.class_names) == ("CIFAR-10, own copy", NAMES)
    (note,) = found.notes
    assert note.startswith(f"data set: CIFAR-10, own copy, from {tmp_path}")
    assert note.endswith(f"digest {EXPECTED.digest}")
    assert data.missing("cifar10", tmp_path) is None
    state = data.available(tmp_path)["cifar10"]
    assert state.ready, state
    assert state.where.startswith(str(tmp_path))


@pytest.mark.parametrize("form", ["cifar-10-batches-bin", "Parquet", "class folders"])
def test_pixels_of_unknown_files_are_told_by_their_statistics(
    published: cifar.Cifar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str
) -> None:
    FORMS[form](tmp_path)
    for copy in (False, True):
        found = data.load("cifar10", tmp_path, copy=copy)
        assert (found.digest, found.name, found.notes) == (EXPECTED.digest, "cifar10", ())
    (mean, std), test = published.statistics
    for wrong in (((mean[0] + 1e-8, *mean[1:]), std), test), ((mean, std), (mean, test[1])):
        monkeypatch.setattr(cifar, "CIFAR10", dataclasses.replace(published, statistics=wrong))
        with pytest.raises(
            DataError, match=r"is not CIFAR-10 as published: the channels of its (training|test) images"
        ):
            data.load("cifar10", tmp_path)


@pytest.mark.parametrize("form", ["cifar-10-batches-py", "cifar-10-python.tar.gz"])
def test_python_batches_are_told_by_md5(
    small: cifar.Cifar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str
) -> None:
    FORMS[form](tmp_path)
    with pytest.raises(DataError, match=r"md5 of data_batch_1 is .*copy: true.*`popnet data fetch cifar10 --root"):
        data.load("cifar10", tmp_path)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in python_files().items()}
    python = dataclasses.replace(small.python, md5=sums)
    monkeypatch.setattr(cifar, "CIFAR10", dataclasses.replace(small, python=python))
    assert data.load("cifar10", tmp_path).name == "cifar10"


def test_the_binary_archive_is_told_by_md5(small: cifar.Cifar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FORMS["cifar-10-binary.tar.gz"](tmp_path)
    with pytest.raises(DataError, match="its md5 is not the published c32a1d4ab5d03f1284b67883e8d87530"):
        data.load("cifar10", tmp_path)
    md5 = hashlib.md5((tmp_path / "cifar-10-binary.tar.gz").read_bytes()).hexdigest()
    binary = dataclasses.replace(small.binary, md5={"cifar-10-binary.tar.gz": md5})
    monkeypatch.setattr(cifar, "CIFAR10", dataclasses.replace(small, binary=binary))
    assert data.load("cifar10", tmp_path).digest == EXPECTED.digest


@pytest.mark.parametrize("form", ["folders", "Parquet"])
def test_jpegs_are_a_copy_and_say_so(small: cifar.Cifar, tmp_path: Path, form: str) -> None:
    if form == "folders":
        write_class_folders(tmp_path / "cifar10", "jpg")
    else:
        write_parquet(tmp_path / "cifar10", kind="JPEG")
    with pytest.raises(DataError, match=r"holds JPEG pictures, .*kwargs: \{copy: true\}.*popnet data fetch cifar10"):
        data.load("cifar10", tmp_path)
    state = data.available(tmp_path)["cifar10"]
    assert (state.ready, state.where[:16]) == (False, "only a JPEG copy")
    assert data.load("cifar10", tmp_path, copy=True).name == "CIFAR-10, JPEG copy"


def test_jpegs_have_the_same_pixels_in_parquet_and_in_folders(small: cifar.Cifar, tmp_path: Path) -> None:
    write_class_folders(tmp_path / "a" / "cifar10", "jpg")
    write_parquet(tmp_path / "b" / "cifar10", kind="JPEG")
    digests = {data.load("cifar10", tmp_path / place, copy=True).digest for place in "ab"}
    assert len(digests) == 1
    assert digests != {EXPECTED.digest}


def test_other_numbers_of_images_are_refused(tmp_path: Path) -> None:
    FORMS["Parquet"](tmp_path)
    with pytest.raises(DataError, match="holds 20 training images, and CIFAR-10 has 50,000, 5,000 of each class"):
        data.load("cifar10", tmp_path, copy=True)


def test_two_copies_are_ambiguous_and_a_folder_with_its_archive_is_one(small: cifar.Cifar, tmp_path: Path) -> None:
    FORMS["cifar-10-batches-py"](tmp_path)
    FORMS["cifar-10-python.tar.gz"](tmp_path)
    assert data.load("cifar10", tmp_path, copy=True).digest == EXPECTED.digest
    FORMS["Parquet"](tmp_path)
    with pytest.raises(
        DataError, match=r"which copy is meant is not clear: .*batches-py .* and .*jpeg \(Parquet\) are"
    ):
        data.load("cifar10", tmp_path, copy=True)
    assert data.load("cifar10", tmp_path / "cifar10-jpeg", copy=True).digest == EXPECTED.digest


ALIASES = ("plane", "Car", *NAMES[2:])


@pytest.mark.parametrize("names", [ALIASES, tuple("0123456789"), NAMES[::-1]])
def test_classes_are_matched_by_name_not_by_position(
    small: cifar.Cifar, tmp_path: Path, names: tuple[str, ...]
) -> None:
    write_class_folders(tmp_path / "cifar10", names=names)
    found = data.load("cifar10", tmp_path, copy=True)
    if names != NAMES[::-1]:
        assert found.digest == EXPECTED.digest
    else:
        brightness = [found.train_images[found.train_labels == label].mean() for label in range(10)]
        assert brightness == sorted(brightness, reverse=True)


def test_parquet_classes_are_matched_by_name(small: cifar.Cifar, tmp_path: Path) -> None:
    reverse = [9 - label for label in TRAIN[1]], [9 - label for label in TEST[1]]
    folder = tmp_path / "cifar10"
    folder.mkdir()
    pq.write_table(table_of(TRAIN[0], reverse[0], NAMES[::-1]), folder / "train.parquet")
    pq.write_table(table_of(TEST[0], [NAMES[label] for label in TEST[1]], None), folder / "test.parquet")
    assert data.load("cifar10", tmp_path, copy=True).digest == EXPECTED.digest


def test_names_cannot_be_matched_to_bare_numbers(small: cifar.Cifar, tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    folder_of(tmp_path / "cifar10", train=table_of(TRAIN[0], 9 - TRAIN[1], NAMES[::-1]), test=table_of(*TEST, None))
    with pytest.raises(DataError, match=r"test.parquet: its classes are bare numbers, and those of .*train.parquet"):
        data.load("cifar10", tmp_path, copy=True)
    words = {split: table_of(images, [str(n) for n in labels], None) for split, (images, labels) in SPLITS.items()}
    folder_of(tmp_path / "cifar10", **words)
    assert data.load("cifar10", tmp_path, copy=True).digest == EXPECTED.digest


def test_a_half_unpacked_folder_hides_nothing(small: cifar.Cifar, tmp_path: Path) -> None:
    damaged("cifar-10-batches-py", test_batch=None)(tmp_path)
    assert "is incomplete: it lacks test_batch" in str(data.missing("cifar10", tmp_path))
    assert not data.available(tmp_path)["cifar10"].ready
    FORMS["cifar-10-python.tar.gz"](tmp_path)
    assert data.load("cifar10", tmp_path, copy=True).digest == EXPECTED.digest


def test_what_may_be_anything_is_no_cifar(tmp_path: Path) -> None:
    folder_of(tmp_path, train=table_of(*TRAIN, None), test=table_of(*TEST, None))
    write_class_folders(tmp_path / "b", names=tuple("0123456789"))
    for name in ("cifar10", "cifar100"):
        assert data.missing(name, tmp_path), name
        assert data.missing(name, tmp_path / "b"), name


def test_a_copy_does_not_hide_the_published_pixels(published: cifar.Cifar, tmp_path: Path) -> None:
    write_parquet(tmp_path / "cifar10", kind="JPEG")
    write_class_folders(tmp_path / "cifar-10")
    assert data.load("cifar10", tmp_path).name == "cifar10"
    assert data.available(tmp_path)["cifar10"].ready


def test_images_are_counted_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_class_folders(tmp_path / "cifar10")
    monkeypatch.setattr(cifar, "stacked", None)
    with pytest.raises(DataError, match="holds 20 training images, and CIFAR-10 has 50,000"):
        data.load("cifar10", tmp_path, copy=True)


def test_only_damaged_batches_are_to_be_deleted(small: cifar.Cifar, tmp_path: Path) -> None:
    FORMS["cifar-10-batches-py"](tmp_path)
    with pytest.raises(DataError) as raised:
        data.load("cifar10", tmp_path)
    assert "delete" not in str(raised.value)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"test_batch cannot be read: .*: delete it and get it with"):
        data.load("cifar10", tmp_path)


@pytest.mark.parametrize("most", [1, 1 << 26])
def test_large_jpegs_are_decoded_in_parts(
    small: cifar.Cifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("popnet.data.stacking._BYTES_AT_ONCE", most)
    write_class_folders(tmp_path / "cifar10", "jpg")
    found = data.load("cifar10", tmp_path, copy=True)
    assert found.train_images.mean() == pytest.approx(TRAIN[0].mean(), abs=1)
    assert found.name == "CIFAR-10, JPEG copy"


def test_a_folder_of_no_class_is_named(small: cifar.Cifar, tmp_path: Path) -> None:
    write_class_folders(tmp_path / "cifar10", names=("zebra", *NAMES[1:]))
    with pytest.raises(DataError, match=r"train/zebra: is named after none of CIFAR-10's classes.*: airplane, auto"):
        data.load("cifar10", tmp_path, copy=True)


def test_pictures_of_another_size_are_named(small: cifar.Cifar, tmp_path: Path) -> None:
    write_class_folders(tmp_path / "cifar10")
    path = tmp_path / "cifar10" / "test" / "cat" / "00003.png"
    path.write_bytes(encoded(np.zeros((32, 16, 3), np.uint8)))
    with pytest.raises(DataError, match=re.escape(f"{path}: has 32 x 16 pixels, and 32 x 32 are needed")):
        data.load("cifar10", tmp_path, copy=True)


def damaged(form: str, **changes: bytes | None) -> Callable[[Path], None]:
    files = (python_files() if form.endswith("py") else binary_files()) | changes
    return lambda root: write_folder(root / form, {n: c for n, c in files.items() if c is not None})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (damaged("cifar-10-batches-py", test_batch=None), "batches-py is incomplete: it lacks test_batch: get it with"),
        (
            damaged("cifar-10-batches-py", data_batch_2=b"<html>"),
            "data_batch_2 cannot be read: no pickle of plain data",
        ),
        (
            damaged("cifar-10-batches-py", data_batch_2=pickle.dumps(os.system)),
            "data_batch_2 cannot be read: it names 'posix.system', and reading it would run code",
        ),
        (
            damaged("cifar-10-batches-py", data_batch_2=pickle.dumps({"data": planes(TEST[0]), "labels": [1]})),
            "data_batch_2 holds 10 images, and 1 labels",
        ),
        (
            damaged("cifar-10-batches-py", data_batch_2=pickle.dumps({"data": [1], "labels": [1]})),
            r"data_batch_2 holds no images: 'data' must be \[n, 3072\]",
        ),
        (
            damaged("cifar-10-batches-py", **{"batches.meta": pickle.dumps({"label_names": ["a", "b"]})}),
            "batches.meta names other classes than CIFAR-10's: a, b",
        ),
        (damaged("cifar-10-batches-bin", **{"test_batch.bin": b"123"}), "test_batch.bin has 3 bytes, which is no mult"),
        (lambda root: (root / "cifar-10-python.tar.gz").write_bytes(b"PK"), "is no whole .tar.gz file .*: delete it"),
        (
            lambda root: write_archive(root / "cifar-10-python.tar.gz", "x", {"test_batch": b""}),
            "tar.gz: is incomplete: it lacks data_batch_1, data_batch_2",
        ),
    ],
)
def test_damaged_files_are_named(
    small: cifar.Cifar, tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=message):
        data.load("cifar10", tmp_path, copy=True)


def test_cifar100_has_the_hubs_column_and_its_misspelt_class(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = dataclasses.replace(cifar.CIFAR100, a_class=(1, 1))
    monkeypatch.setattr(cifar, "CIFAR100", known)
    names = ["cra" if name == "crab" else name for name in known.class_names]
    images = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    table = table_of(images, np.arange(100), names, "fine_label").append_column("coarse_label", [np.arange(100) // 5])
    (tmp_path / "cifar100" / "cifar100").mkdir(parents=True)  # as the hub's repository is laid out
    for split in SPLITS:
        pq.write_table(table, tmp_path / "cifar100" / "cifar100" / f"{split}-00000-of-00001.parquet")
    found = data.load("cifar100", tmp_path, copy=True)
    assert (found.name, found.classes) == ("CIFAR-100, own copy", 100)
    assert np.array_equal(found.train_images, images)
    binary = {f"{s}.bin": np.column_stack([np.arange(100) // 5, np.arange(100), planes(images)]) for s in SPLITS}
    files = {name: content.astype(np.uint8).tobytes() for name, content in binary.items()}
    write_folder(tmp_path / "b" / "cifar-100-binary", files)
    assert data.load("cifar100", tmp_path / "b", copy=True).digest == found.digest


def test_copy_is_a_truth_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="copy must be true or false, not 'yes'"):
        data.load("cifar10", tmp_path, copy="yes")


@pytest.mark.slow
def test_the_jpeg_copy_of_all_of_cifar10() -> None:
    root = Path(os.environ.get("POPNET_DATA", "/nowhere"))
    if not (root / "cifar10-jpeg" / "train.parquet").is_file():
        pytest.skip("needs cifar10-jpeg/train.parquet and test.parquet in $POPNET_DATA")
    found = data.load("cifar10", root / "cifar10-jpeg", copy=True)
    assert found.name == "CIFAR-10, JPEG copy"
    assert found.digest == "9f0a079a3bafe47b86a88f11a86468ba317d971e8b859134b26c288d27fb2265"


# One run, every form.


def test_every_form_trains_the_same_weights(small: cifar.Cifar, tmp_path: Path) -> None:
    datasets: dict[str, dict[str, Any]] = {}
    for form in ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "Parquet", "class folders"):
        FORMS[form](tmp_path / form)
        datasets[form] = {"name": "cifar10", "kwargs": {"root": str(tmp_path / form), "copy": True}}
    parquet = str(tmp_path / "Parquet" / "cifar10-jpeg")
    folders = tmp_path / "class folders" / "cifar10"
    write_npz(tmp_path / "a.npz")
    datasets["parquet"] = {"name": "parquet", "kwargs": {"train": parquet, **CONSTANTS}}
    datasets["image_folder"] = {
        "name": "image_folder",
        "kwargs": {"train": str(folders / "train"), "test": str(folders / "test"), **CONSTANTS},
    }
    datasets["npz"] = {"name": "npz", "kwargs": {"path": str(tmp_path / "a.npz"), **CONSTANTS}}
    recipe = {
        "dataset": "digits",
        "model": "linear",
        "epochs": 1,
        "batch_size": 8,
        "optimizer": {"name": "sgd", "lr": 0.01},
        "augment": {"crop": 2, "flip": True},
    }
    rows = [{"name": form, "vary": ["init"], "recipe": {"dataset": one}} for form, one in datasets.items()]
    made = config.from_mapping({"name": "forms", "recipe": recipe, "population": 2, "variants": rows})
    told = Told()
    members = popnet.run(made, store=tmp_path / "store", workers=1, device="cpu", reporter=told).store.members()
    assert len(members) == 2 * len(datasets)
    for column in ("weights_digest", "predictions_digest"):
        assert members.groupby("init")[column].nunique().tolist() == [1, 1], column
    kept = popnet.open_store(tmp_path / "store").datasets()
    assert set(kept.values()) == {EXPECTED.digest}
    assert sum(f"own copy, from {tmp_path}" in line for line in told.lines) == 4


class Told(popnet.engine.progress.Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


# Parquet.


def folder_of(root: Path, **tables: pa.Table) -> Path:
    for name, table in tables.items():
        pq.write_table(table, root / f"{name.replace('__', '-')}.parquet", row_group_size=3)
    return root


def test_shards_names_and_splits_of_one_folder(tmp_path: Path) -> None:
    whole = table_of(*TRAIN)
    folder_of(tmp_path, test=table_of(*TEST), train__00000__of__00002=whole[:9], train__00001__of__00002=whole[9:])
    found = data.load("parquet", train=str(tmp_path), mean=CONSTANTS["mean"], std=CONSTANTS["std"])
    assert found.digest == EXPECTED.digest
    assert found.class_names == NAMES
    assert found.train.name_of(10) == f"{tmp_path}/train-00001-of-00002.parquet: row 1, column 'img'"
    pattern = data.load("parquet", tmp_path, train="train-*.parquet", test="test.parquet", **CONSTANTS)
    assert pattern.digest == EXPECTED.digest
    (tmp_path / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match=r"lacks train-00000-of-00002.parquet, one of its shards"):
        data.load("parquet", train=str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "a/test.parquet"}, "is no folder that holds both splits: give `test`"),
        ({"train": "a/*.parquet"}, "is no folder that holds both splits: give `test`"),
        ({"train": "a/test.parquet", "test": "a/../a/test.parquet"}, "test.parquet: is taken for both splits"),
        ({"train": "a/*.parquet", "test": "a/t*t.parquet"}, "test.parquet: is taken for both splits"),
        ({"train": "a/link.parquet", "test": "a/test.parquet"}, "test.parquet: is taken for both splits"),
    ],
)
def test_no_file_is_training_and_test_set(tmp_path: Path, options: dict[str, str], message: str) -> None:
    (tmp_path / "a").mkdir()
    folder_of(tmp_path / "a", test=table_of(*TEST))
    (tmp_path / "a" / "link.parquet").symlink_to(tmp_path / "a" / "test.parquet")
    with pytest.raises(DataError, match=message):
        data.load("parquet", tmp_path, **options)


def test_no_array_is_training_and_test_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=TRAIN[0], labels=TRAIN[1])
    for options in (
        {"train": "a.npz", "test": "a.npz"},
        {"path": "a.npz", "train_images": "images", "train_labels": "labels"}
        | {"test_images": "images", "test_labels": "labels"},
    ):
        with pytest.raises(DataError, match=r"a.npz: array 'images' is taken twice"):
            data.load("npz", tmp_path, **options)


def test_a_value_that_many_rows_refer_to_is_once_in_memory(tmp_path: Path) -> None:
    picture, word, rows = encoded(np.zeros((300, 300, 3), np.uint8), "BMP"), "x" * (1 << 16), 1 << 14
    columns = {"image": pa.array([picture], pa.binary()), "label": pa.array([word])}
    codes = pa.array(np.zeros(rows, np.int32))
    table = pa.table({name: pa.DictionaryArray.from_arrays(codes, one) for name, one in columns.items()})
    pq.write_table(table, tmp_path / "a.parquet", store_schema=False)
    before = pa.default_memory_pool().max_memory()
    pictures, names = read_split([tmp_path / "a.parquet"])
    assert names == (word,)
    assert pictures.content(rows - 1) == picture
    assert max(pa.default_memory_pool().max_memory() - before, 0) < 1 << 26


def test_few_large_row_groups_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, train=table_of(*TRAIN))
    rows = Rows.of([tmp_path / "train.parquet"])
    assert rows.kept > 2
    size = 4 * max(pq.ParquetFile(rows.files[0]).metadata.row_group(n).total_byte_size for n in range(7))
    monkeypatch.setattr("popnet.data.parquet.available_memory", lambda: 4 * size)
    assert Rows.of(rows.files).kept == 2


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (["train.parquet", "test.parquet", "validation.parquet"], "test", ["test.parquet"]),
        (["train.parquet", "valid.parquet"], "test", ["valid.parquet"]),
        (["part-10.parquet", "part-9.parquet"], "train", ["part-9.parquet", "part-10.parquet"]),
        (["train/0000.parquet", "test/0000.parquet"], "test", ["test/0000.parquet"]),
        (["data/train-00000-of-00001.parquet", "README.md"], "train", ["data/train-00000-of-00001.parquet"]),
        (["plain_text/cifar-train.parquet"], "train", ["plain_text/cifar-train.parquet"]),
        (["test.parquet"], "train", "holds no Parquet files of the train split"),
        (["a-0-of-1.parquet", "b-0-of-1.parquet"], "train", "belong together is not clear: name the files by"),
        (["train.parquet", "train-0-of-1.parquet"], "train", "belong together is not clear"),
        (["train.parquet", "train-backup.parquet"], "train", "belong together is not clear: name the files by"),
        (["train/a.parquet", "train/b.parquet"], "train", "belong together is not clear: name the files by"),
        (["train_0.parquet", "train_1.parquet"], "train", ["train_0.parquet", "train_1.parquet"]),
        (["train-0-of-2-ab12.parquet"], "train", "lacks train-1-of-2.parquet, one of its shards"),
        (["train-0-of-1-ab12.parquet", "train-0-of-1-ab13.parquet"], "train", "belong together is not clear"),
        (["default/train/0000.parquet", "default/test/0000.parquet"], "test", ["default/test/0000.parquet"]),
    ],
)
def test_which_files_are_a_split(tmp_path: Path, names: list[str], split: str, found: list[str] | str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    if isinstance(found, str):
        with pytest.raises(DataError, match=found):
            split_files(tmp_path, split)
    else:
        assert split_files(tmp_path, split) == tuple(tmp_path / name for name in found)


def test_test_classes_are_matched_by_name(tmp_path: Path) -> None:
    folder_of(tmp_path, train=table_of(*TRAIN), test=table_of(TEST[0], 9 - TEST[1], NAMES[::-1]))
    assert data.load("parquet", train=str(tmp_path)).test_labels.tolist() == TEST[1].tolist()
    words = [NAMES[label] for label in TEST[1]]
    folder_of(tmp_path, test=table_of(TEST[0], [*words[:5], "zebra", *words[6:]], None))
    with pytest.raises(DataError, match=r"test.parquet: row 5, column 'img': its class 'zebra' is none of the classes"):
        data.load("parquet", train=str(tmp_path))
    folder_of(tmp_path, test=table_of(TEST[0], TEST[1], None))
    with pytest.raises(
        DataError, match=r"test.parquet: its classes are bare numbers, and those of .*train.parquet have"
    ):
        data.load("parquet", train=str(tmp_path))


def test_labels_are_numbers_or_words(tmp_path: Path) -> None:
    folder_of(tmp_path, train=table_of(*TRAIN, None), test=table_of(*TEST, None))
    found = data.load("parquet", train=str(tmp_path))
    assert (found.classes, found.class_names) == (10, None)
    words = {split: np.array(["b", "a"])[labels % 2].tolist() for split, (_, labels) in SPLITS.items()}
    folder_of(tmp_path, **{split: table_of(SPLITS[split][0], words[split], None) for split in SPLITS})
    found = data.load("parquet", train=str(tmp_path))
    assert found.class_names == ("a", "b")
    assert found.train_labels.tolist() == [1 - label % 2 for label in TRAIN[1]]


def with_column(name: str, values: Any) -> pa.Table:
    return table_of(*TRAIN).append_column(name, [values])


def with_cell(column: str, row: int, value: Any) -> pa.Table:
    table = table_of(*TRAIN)
    values = table.column(column).to_pylist()
    values[row] = value
    changed = pa.array(values, table.schema.field(column).type)
    return table.set_column(table.schema.get_field_index(column), table.schema.field(column), changed)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (
            with_column("fine_label", TRAIN[1]),
            {},
            "the label can be any of the columns label, fine_label: choose one by",
        ),
        (
            with_column("image", [b""] * 20),
            {},
            "the image can be any of the columns img, image: choose one by the option",
        ),
        (table_of(*TRAIN, None, "kind"), {}, "no column is its label: name one of img, kind by the option label"),
        (table_of(*TRAIN), {"label": "lable"}, "has no column 'lable': its columns are img, label"),
        (table_of(*TRAIN), {"image": "label"}, "column 'label' is of type int64, and images are pictures' bytes"),
        (
            table_of(TRAIN[0], TRAIN[1] / 2),
            {},
            "column 'label' is of type double, and labels are whole numbers or text",
        ),
        (with_cell("label", 4, None), {}, "train.parquet: row 4, column 'label': the label is none"),
        (with_cell("label", 4, -1), {}, "row 4, column 'label': the label is -1, which is no class's number"),
        (with_cell("label", 4, 10), {}, "row 4, column 'label': the label is 10, which is no class's number"),
        (
            with_cell("img", 5, {"bytes": b"not a picture", "path": None}),
            {},
            "row 5, column 'img': cannot be read as an",
        ),
        (with_cell("img", 5, {"bytes": encoded(TRAIN[0][0])[:99], "path": None}), {}, "row 5, column 'img': cannot be"),
        (with_cell("img", 5, {"bytes": None, "path": "a.png"}), {}, "row 5, column 'img': holds no picture"),
        (table_of(*TRAIN).replace_schema_metadata({"huggingface": "{"}), {}, "'huggingface' .* lists no features"),
        (table_of(*TRAIN, [*NAMES[:9], "cat"]), {}, "class names of column 'label' are no list of different names"),
        (table_of(*TRAIN)[:0], {}, "train.parquet: holds no rows"),
    ],
)
def test_parquet_refuses(tmp_path: Path, table: pa.Table, options: dict[str, str], message: str) -> None:
    folder_of(tmp_path, train=table, test=table_of(*TEST))
    with pytest.raises(DataError, match=message):
        _ = data.load("parquet", train=str(tmp_path), **options).digest


def test_a_column_that_is_chosen(tmp_path: Path) -> None:
    other = {"fine_label": [TRAIN[1] // 2, TEST[1] // 2]}
    tables = {
        split: table_of(*SPLITS[split], None).append_column("fine_label", [other["fine_label"][number]])
        for number, split in enumerate(SPLITS)
    }
    folder_of(tmp_path, **tables)
    assert data.load("parquet", train=str(tmp_path), label="fine_label").classes == 5
    assert data.load("parquet", train=str(tmp_path), label="label").classes == 10


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, train=table_of(*TRAIN), test=table_of(*TEST))
    content = (tmp_path / "train.parquet").read_bytes()
    (tmp_path / "train.parquet").write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"train.parquet: cannot be read as Parquet"):
        data.load("parquet", train=str(tmp_path))
    with pytest.raises(DataError, match="elsewhere: no such file or folder"):
        data.load("parquet", train=str(tmp_path / "elsewhere"))


def test_parquet_without_pyarrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder_of(tmp_path, train=table_of(*TRAIN), test=table_of(*TEST))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"train.parquet: Parquet files need pyarrow: pip install 'popnet\[hf\]'"):
        data.load("parquet", train=str(tmp_path))


def test_a_row_group_beyond_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder_of(tmp_path, train=table_of(*TRAIN), test=table_of(*TEST))
    monkeypatch.setattr("popnet.data.parquet.available_memory", lambda: 10_000)
    with pytest.raises(DataError, match=r"train.parquet: row group 0 of 3 rows and .* bytes would fill more than half"):
        data.load("parquet", train=str(tmp_path))


# .npz files.


def npz(**changes: Any) -> dict[str, Any]:
    whole = {"train_images": TRAIN[0], "train_labels": TRAIN[1], "test_images": TEST[0], "test_labels": TEST[1]}
    return {name: array for name, array in (whole | changes).items() if array is not None}


def load_npz(folder: Path, arrays: dict[str, Any], **options: Any) -> data.Dataset:
    np.savez(folder / "a.npz", **arrays)
    return data.load("npz", folder, path="a.npz", **CONSTANTS, **options)


@pytest.mark.parametrize(
    "arrays",
    [
        npz(),
        {"x_train": TRAIN[0], "y_train": TRAIN[1][:, None], "x_test": TEST[0], "y_test": TEST[1].astype(np.uint8)},
        {"trainX": TRAIN[0], "trainY": TRAIN[1], "testX": TEST[0], "testY": TEST[1]},
        npz(train_images=TRAIN[0].transpose(0, 3, 1, 2), test_images=TEST[0].transpose(0, 3, 1, 2)),
        npz(train_images=TRAIN[0].astype(np.float32), test_images=TEST[0].astype(np.int64)),
        npz(class_names=np.array(NAMES)),
    ],
)
def test_npz_is_read_by_usual_names_and_shapes(tmp_path: Path, arrays: dict[str, Any]) -> None:
    assert load_npz(tmp_path, arrays).digest == EXPECTED.digest


def test_npz_of_a_file_for_each_split(tmp_path: Path) -> None:
    for split, (images, labels) in SPLITS.items():
        np.savez_compressed(tmp_path / f"{split}.npz", images=images, labels=labels, names=labels)
    found = data.load("npz", tmp_path, train="train.npz", test="test.npz", **CONSTANTS)
    assert found.digest == EXPECTED.digest
    wrong = data.load("npz", tmp_path, train="train.npz", test="test.npz", test_labels="names", **CONSTANTS)
    assert wrong.digest == EXPECTED.digest


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            npz(train_images=TRAIN[0] / 255),
            "array 'train_images' is of type float64 and holds 0.2, .*: undo the scaling",
        ),
        (npz(train_images=TRAIN[0] - 128.0), "array 'train_images' is of type float64 and holds -"),
        (npz(train_images=(TRAIN[0] > 99) * 1.0), "array 'train_images' is of type float64 and holds 0 and 1 alone"),
        (
            npz(train_images=TRAIN[0].astype(object)),
            "Python objects, and reading these runs code|none of numbers or text",
        ),
        (
            npz(train_images=TRAIN[0].reshape(20, -1)),
            r"array 'train_images' has the shape \(20, 3072\), and images are",
        ),
        (npz(train_images=np.full((20, 9, 9, 1), 9, np.uint8)), "a.npz: train_images are .9, 9, 1."),
        *(
            (npz(train_images=np.full((20, *shape), 9, np.uint8)), "can be .n, height, width, channels., .n, channels,")
            for shape in ((3, 4, 3), (1, 28, 4), (4, 28, 1), (8, 3))
        ),
        (npz(train_images=np.eye(32, dtype=np.uint8)[None].repeat(20, 0)), "'train_images' holds 0 and 1 alone"),
        (npz(train_labels=TRAIN[1] + 1), "class 0 has no example: do labels count from 1"),
        (npz(test_labels=TEST[1] + 10**9), "holds 1000000009, which is no class's number"),
        ({"images": TRAIN[0], "labels": TRAIN[1]}, "give a file for each by the options train and test"),
        (
            npz(train_images=np.full((20, 9, 9, 9), 9, np.uint8)),
            "neither its second nor its last extent is a number of",
        ),
        (npz(train_labels=np.eye(20)), "array 'train_labels' is of type float64, and labels are whole numbers"),
        (npz(train_labels=np.eye(20, dtype=int)), "and labels are one number for each image, not a vector"),
        (npz(x_train=TRAIN[0]), "its train images can be any of train_images, x_train: name the array by the option"),
        (npz(test_labels=None), "its test labels are none of train_images, train_labels, test_images: name the"),
        (npz(test_labels=TEST[1][:5]), "a.npz: test_labels must be .10., one for each image"),
    ],
)
def test_npz_refuses(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_npz(tmp_path, arrays)


def test_npz_files_and_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs either the option 'path', or 'train' and 'test'"):
        data.load("npz", train="a.npz")
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/b.npz: no such file")):
        data.load("npz", tmp_path, path="b.npz")
    (tmp_path / "b.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/b.npz: cannot be read as .npz")):
        data.load("npz", tmp_path, path="b.npz")
    with pytest.raises(DataError, match=r"a.npz: has no array 'pixels': it holds train_images, train_labels"):
        load_npz(tmp_path, npz(), train_images="pixels")


# What is read of untrusted files.


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_bytes_is_read_as_it_was(protocol: int) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    made = {"a": array, "b": np.asfortranarray(array), "c": [1, -2, 10**20, "é", None, True], "d": (b"x", {"e": 1})}
    found = parse_pickle(pickle.dumps(made, protocol=protocol))
    assert np.array_equal(found["a"], array)
    assert np.array_equal(found["b"], array)
    assert found["c"] == made["c"]


DOUBLED = b"".join(b"q%c0h%ch%c\x86" % (n, n, n) for n in range(40))  # a tuple of 2 ** 40 parts
BYTES = b"\x80\x02cnumpy\ndtype\nU\x02u1\x85Rq\x000cnumpy.core.numeric\n_frombuffer\n("


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1/0",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": Hostile()}), "it names 'builtins.eval', and reading it would run code"),
        (pickle.dumps({"a": np.arange(3)}), "an array of type 'i8', and unsigned bytes are read"),
        (pickle.dumps({"a": np.array([{}])}), "an array of type 'O8', and unsigned bytes are read"),
        (pickle.dumps([1]), "holds no mapping, but list"),
        (pickle.dumps({"a": 1})[:-3], "no pickle of plain data|damaged|truncated"),
        (b"\x80\x04r\xff\xff\xff\xff.", "no pickle of plain data"),
        (b"\x80\x05}\x96\xff\xff\xff\xff\xff\xff\xff\x7f0.", "no pickle of plain data|truncated|damaged"),
        (b"cnumpy\nndarray\n}b.", "it sets the state of what is no array"),
        (b"c_codecs\nencode\n}b.", "it sets the state of what is no array"),
        (b"\x80\x02}\x82\x01.", "no pickle of plain data: KeyError"),
        (b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.", "a key is tuple, and text or numbers are keys"),
        (b"\x80\x02}()" + DOUBLED + b"Nu.", "a key is tuple, and text or numbers are keys"),
        (b"\x80\x02()" + DOUBLED + b"Nd.", "a key is tuple, and text or numbers are keys"),
        (b"\x80\x02cnumpy\ndtype\n)" + DOUBLED + b"\x85R.", "an array of type that is no text"),
        (b"\x80\x02c_codecs\nencode\nU\x01a)" + DOUBLED + b"\x86R.", "bytes that are no text in the encoding"),
        (BYTES + b"J\xff\xff\xff\x0f" + b"h\x00K\x01\x85U\x01Ct" + b"R.", "an array of int, and unsigned bytes are"),
        (
            b"\x80\x02c_codecs\nencode\nq\x01U\xff" + bytes(255) + b"U\x06latin1\x86q\x02R" + b"h\x01h\x02R" * 9 + b".",
            "it makes more of its content than it holds",
        ),
    ],
)
def test_a_pickle_runs_nothing(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_pickle(content)


def test_members_of_an_archive_are_bounded(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.tar.gz", "x", {"wanted": b"123", "other": bytes(1 << 20)})
    assert archives.read_members(tmp_path / "a.tar.gz", ["wanted", "absent"], 1 << 21) == {"wanted": b"123"}
    with pytest.raises(ValueError, match="unpacks to more than an archive of this kind holds"):
        archives.read_members(tmp_path / "a.tar.gz", ["wanted"], 1 << 19)
    (tmp_path / "b.tar.gz").write_bytes((tmp_path / "a.tar.gz").read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"is no whole .tar.gz file"):
        archives.read_members(tmp_path / "b.tar.gz", ["wanted"], 1 << 21)
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        for folder in "ab":
            archive.addfile(tarfile.TarInfo(f"{folder}/wanted"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(ValueError, match="holds wanted twice"):
        archives.read_members(tmp_path / "c.tar.gz", ["wanted"], 1 << 21)
    assert archives.read_members(tmp_path / "c.tar.gz", ["link"], 1 << 21) == {}


def test_holes_and_chains_in_an_archive_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("wanted")
        member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 24)}
        archive.addfile(member)
    assert archives.read_members(tmp_path / "a.tar.gz", ["wanted"], 1 << 21) == {}
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 0
    chain = header.tobuf(tarfile.USTAR_FORMAT) * 2000
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(chain))
    with pytest.raises(ValueError, match=r"is no whole .tar.gz file"):
        archives.read_members(tmp_path / "b.tar.gz", ["wanted"], 1 << 21)


def test_an_npz_is_a_regular_file_and_other_arrays_in_it_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(DataError, match="is no regular file"):
        data.load("npz", tmp_path, path="a.npz")
    (tmp_path / "a.npz").unlink()
    assert load_npz(tmp_path, npz(other=np.array([{}], object))).digest == EXPECTED.digest


# What is said.


def test_device_and_data_that_are_missing_are_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POPNET_DATA", str(tmp_path / "data"))
    made = config.load("resnet14", ["recipe.kernels.mode=hardware"])
    both = r"a CPU's kernels are deterministic.*; data set 'cifar10' is not here: get it with .*cifar-10-python.tar.gz"
    with pytest.raises(ConfigError, match=both):
        popnet.run(made, store=tmp_path / "store", device="cpu")
    several = config.load("fashion_mnist", ["variants.0.recipe={dataset: cifar100}", "recipe.dataset=mnist"])
    with pytest.raises(
        DataError, match=r"data set 'mnist' was not .*; data set 'cifar100' was not|'cifar100' .*'mnist'"
    ):
        popnet.run(several, store=tmp_path / "store", device="cpu")
    assert not (tmp_path / "store").exists()


def test_a_shipped_experiment_by_its_path_in_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.load("experiments/quickstart.yaml") == config.load("quickstart")
    with pytest.raises(ConfigError, match=r"elsewhere/quickstart.yaml: no such file"):
        config.load("elsewhere/quickstart.yaml")
    with pytest.raises(SystemExit) as ended:
        main(["run", "./experiments/quickstart.yaml", "--plan"])
    assert ended.value.code == 0
    told = "./experiments/quickstart.yaml: no such file here, so the shipped experiment is taken: "
    assert capsys.readouterr().err.startswith(told)


def test_a_data_set_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_npz(tmp_path / "a.npz")
    for words, expected in (
        (["path=a.npz"], "npz: 20 training and 10 test images of 10 classes\nclasses: without names\n"),
        (["path=a.npz", "mean=[0.5, 0.5, 0.5]", "--json"], '"mean": ['),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["data", "check", "npz", *words, "--root", str(tmp_path)])
        assert ended.value.code == 0
        assert expected in capsys.readouterr().out
    for words, message in (
        (["npz", "path"], "must read key=value"),
        (["npz", "root=/x"], "the data set is the first word, and its root the option --root"),
        (["npz", "name=x"], "the data set is the first word"),
        (["synthetic_text"], "is a text"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["data", "check", *words])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
