"""Pictures in class folders: what counts as one, what its pixels are, which class it has, and what tells sets apart."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_beton import recipe
from test_pictures import jpeg_bytes, raw_pictures, smooth

import popnet
from popnet import config, protocol
from popnet.config import Augment
from popnet.data import choice, datasets, folders, from_arrays, picture_digests, picture_sets
from popnet.data.beton import Encoded, open_beton, write_beton
from popnet.data.decoding import encoded_picture
from popnet.data.feeding import DevicePictures
from popnet.data.pictures import PictureImages
from popnet.data.resident import BatchRequest, Images, ResidentImages
from popnet.data.statistics import IMAGENET, channel_counts, channel_statistics, statistics_of_counts
from popnet.engine.pictures import _difference, share_pictures
from popnet.errors import ConfigError, DataError, StoreError
from popnet.store import Store, digest
from popnet.store.store import IMAGE_NUMBERS
from popnet.training.trainer import Trainer

CLASSES, EACH = 3, 4


def pictures(seed: int, sizes: tuple[int, ...] = (8,)) -> list[np.ndarray]:
    """By class, then by name: uint8 [height, width, 3]."""
    generator = np.random.default_rng(seed)
    shapes = [(sizes[k % len(sizes)], 8, 3) for k in range(CLASSES * EACH)]
    return [generator.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def write_folder(root: Path, given: list[np.ndarray], ending: str = "png", **options: Any) -> Path:
    for number, picture in enumerate(given):
        folder = root / f"class{number // EACH}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number % EACH}.{ending}", **options)
    return root


def two_halves(root: Path, ending: str = "png", sizes: tuple[int, ...] = (8,)) -> picture_sets.PictureDataset:
    halves = [write_folder(root / ending / f"{seed}", pictures(seed, sizes), ending) for seed in (1, 2)]
    return picture_sets.image_folder(*halves)


LABELS = np.arange(CLASSES * EACH) // EACH


# what a picture's pixels are


def saved(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


GREY = np.array([[0, 128, 129], [256, 32896, 65535]], np.uint16)
EIGHT_BITS = [[0, 0, 1], [1, 128, 255]]  # GREY / 257, rounded


def read(path: Path) -> np.ndarray:
    picture = encoded_picture(path.read_bytes(), str(path))
    assert not picture.jpeg
    return picture.data.reshape(picture.height, picture.width, 3)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_of_grey_are_divided_by_257_and_rounded(ending: str, tmp_path: Path) -> None:
    pixels = read(saved(tmp_path / f"grey.{ending}", GREY))
    assert pixels[..., 0].tolist() == EIGHT_BITS
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_other_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[:2] = 255  # black and white survive every mode
    ending = "tif" if mode == "CMYK" else "png"
    assert np.array_equal(read(saved(tmp_path / f"x.{ending}", pixels, mode)), pixels)


def test_pictures_that_would_come_out_wrong_are_refused(tmp_path: Path) -> None:
    colour = smooth(6, 7, 1)
    clear = np.dstack([colour, np.full((6, 7), 254, np.uint8)])
    palette = Image.fromarray(colour).convert("P")
    palette.save(tmp_path / "palette.png", transparency=int(np.asarray(palette)[0, 0]))
    saved(tmp_path / "alpha.png", clear)
    saved(tmp_path / "real.tif", np.ones((3, 3), np.float32))
    saved(tmp_path / "long.tif", np.ones((3, 3), np.int32))
    frames = [Image.fromarray(smooth(6, 7, k)) for k in range(2)]
    for ending in ("webp", "png", "tif"):
        frames[0].save(tmp_path / f"frames.{ending}", save_all=True, append_images=frames[1:])
    write_deep_png(tmp_path / "deep.png")
    write_grey_tiff(tmp_path / "twelve.tif", bits=12, photometric=1)
    write_grey_tiff(tmp_path / "negative.tif", bits=16, photometric=0)
    (tmp_path / "text.png").write_text("nothing")
    for name, message in {
        "palette.png": "has transparent pixels",
        "alpha.png": "has transparent pixels",
        "real.tif": "real numbers, whose range is not known",
        "long.tif": "integers of 32 bits, whose range is not known",
        "frames.webp": "holds several pictures",
        "frames.png": "holds several pictures",
        "frames.tif": "holds several pictures",
        "deep.png": "16 bits a colour",
        "twelve.tif": "12 bits a pixel, which would be read as 16",
        "negative.tif": "in which 0 is white, and would be read as its negative",
        "text.png": "cannot be read as an image: of no kind that Pillow knows, or damaged$",
    }.items():
        with pytest.raises(DataError, match=f"^{tmp_path / name}: .*{message}"):
            read(tmp_path / name)
    write_grey_tiff(tmp_path / "sixteen.tif", bits=16, photometric=1)
    assert read(tmp_path / "sixteen.tif").shape == (2, 2, 3)


def write_grey_tiff(path: Path, bits: int, photometric: int) -> None:
    """2 x 2 pixels of more than 8 bits, uncompressed, in one strip after the only directory."""
    import struct

    tags = {256: 2, 257: 2, 258: bits, 259: 1, 262: photometric, 273: 122, 277: 1, 278: 2, 279: 4 * bits // 8}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, tags[tag]) for tag in tags)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(head.ljust(122, b"\0") + bytes(range(4 * bits // 8)))


def write_deep_png(path: Path) -> None:
    """A pixel of 16 bits a colour, which Pillow reads and cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + struct.pack(">HHH", 1000, 2000, 3000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def test_what_one_may_not_expect_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "class0"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(smooth(6, 9, 1)).save(folder / "a.jpg", exif=turned)
    Image.fromarray(smooth(6, 9, 2)).convert("CMYK").save(folder / "b.jpg")
    frames = [Image.fromarray(smooth(6, 9, k)) for k in range(2)]
    frames[0].save(folder / "c.jpg", "MPO", save_all=True, append_images=frames[1:])
    Image.fromarray(smooth(6, 9, 3)).save(folder / "d.jpg")
    found = folders.folder_pictures(tmp_path, {"class0": 0})
    said = " ".join(found.notes)
    for text in ("EXIF orientation, which is not applied", "CMYK", "more than one picture, of which the first"):
        assert f"1 of 4 pictures: each {'is' if text == 'CMYK' else 'h'}" in said
        assert text in said
    assert found.table[:, 4].tolist() == [1, 0, 1, 1]
    assert [found.decoded(k).shape for k in range(4)] == [(6, 9, 3)] * 4, "as they are stored"
    first = np.frombuffer(jpeg_bytes(np.asarray(frames[0]), quality=75), np.uint8)
    assert np.array_equal(found.decoded(2), encoded_decoded(first, 6, 9))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_an_orientation_is_said_of_every_kind(ending: str, tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    saved(tmp_path / f"x.{ending}", smooth(6, 9, 1), exif=turned)
    saved(tmp_path / f"y.{ending}", smooth(6, 9, 1))
    remarks = [folders._header(tmp_path / f"{name}.{ending}").remark for name in "xy"]
    assert remarks == ["has an EXIF orientation, which is not applied", ""]


def encoded_decoded(data: np.ndarray, height: int, width: int) -> np.ndarray:
    return picture_sets.decoded_picture(Encoded(data, height, width, jpeg=True), "x")


# what counts as a picture, and as a class


def test_hidden_empty_and_other_things_are_left_out_and_named(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "train", pictures(1))
    test = write_folder(tmp_path / "test", pictures(2))
    plain = picture_sets.image_folder(train, test)
    assert plain.notes == ()
    for path in (".ipynb_checkpoints", "__MACOSX", "class0/.ipynb_checkpoints"):
        (train / path).mkdir()
        saved(train / path / "0-checkpoint.png", smooth(8, 8, 9))
    saved(train / "class1" / "._0.png", smooth(8, 8, 9))
    (train / "aaa_empty").mkdir()
    (train / "zzz_texts").mkdir()
    (train / "zzz_texts" / "readme.txt").write_text("nothing")
    (train / "class1" / "list.txt").write_text("nothing")
    (train / "class2" / "x.gif").write_text("nothing")
    saved(train / "loose.png", smooth(8, 8, 9))
    dataset = picture_sets.image_folder(train, test)
    assert dataset.class_names == ("class0", "class1", "class2")
    assert dataset.train_labels.tolist() == LABELS.tolist()
    assert dataset.digest == plain.digest
    assert dataset.notes == (
        f"{train}: folders left out (4; hidden or without pictures): "
        ".ipynb_checkpoints, __MACOSX, aaa_empty, zzz_texts",
        f"{train}: files left out (1; they lie in no class's folder): loose.png",
        f"{train}: left out of the classes' folders (4; no pictures): 1 .gif, 1 .ipynb_checkpoints, 1 .txt, 1 hidden",
    )
    for path in (test / "class1").iterdir():
        path.unlink()
    assert any(
        "1 of 3 classes have no test pictures: class1" in note for note in picture_sets.image_folder(train, test).notes
    )
    with pytest.raises(DataError, match="class1: holds no pictures"):  # numbers would differ from those of other halves
        folders.folder_pictures(test, {name: k for k, name in enumerate(folders.class_folders(test))})


@pytest.mark.parametrize(
    ("names", "found", "expected"),
    [
        (("cat", "dog"), ("dog",), {"dog": 1}),
        (("cat", "dog"), ("0", "1"), {"0": 0, "1": 1}),
        (("0", "1", "10", "2"), ("10", "2"), {"10": 2, "2": 3}),
        (("0", "1", "10", "2"), ("10", "2", "3"), "3: no class has this name, and since classes are called by numbers"),
        (("5", "7"), ("0", "1"), "0: no class has this name, and since classes are called by numbers"),
        (("cat", "dog"), ("1", "2"), "2: no class has this name or number"),
        (("cat", "dog", "emu"), ("1", "2"), "are numbers, but none is 0"),
        (("cat", "dog"), ("0", "00"), "two are equal"),
        (("cat", "dog"), ("Cat", "dog"), "Cat: no class has this name, but one is called 'cat'"),
        (("cat", "dog"), ("0", "dog"), "0: this is a number, and other folders, such as 'dog', are not"),
        (("cat", "dog"), ("cat", "horse"), "horse: no class has this name or number"),
    ],
)
def test_test_folders_have_classes_by_name_or_all_by_number(
    names: tuple[str, ...], found: tuple[str, ...], expected: Any, tmp_path: Path
) -> None:
    for name in found:
        (tmp_path / name).mkdir()
        saved(tmp_path / name / "x.png", smooth(4, 4, 1))
    if isinstance(expected, dict):
        assert folders.labels_of_folders(tmp_path, names) == expected
        return
    with pytest.raises(DataError, match=expected):
        folders.labels_of_folders(tmp_path, names)


def test_a_folder_that_a_mapping_leaves_out_is_said_to_be(tmp_path: Path) -> None:
    write_folder(tmp_path, pictures(1))
    (tmp_path / ".hidden").mkdir()
    (note,) = folders.folder_pictures(tmp_path, {"class0": 0, "class2": 1}).notes
    assert note == f"{tmp_path}: folders left out (2; hidden or not in the mapping): .hidden, class1"


def test_what_cannot_be_kept_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "entry" / "in its place").mkdir(parents=True)
    picture_digests._keep(tmp_path / "entry", "0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_a_mappings_number_is_no_position_where_classes_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "mug").mkdir()
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("mug: 7")
    assert folders.labels_of_folders(tmp_path, ("5", "7"), mapping) == {"mug": 1}
    mapping.write_text("mug: 0")
    with pytest.raises(DataError, match="0, for folder 'mug', is no class's name or number"):
        folders.labels_of_folders(tmp_path, ("5", "7"), mapping)


# what tells sets apart


def test_equal_pixels_have_equal_digests_in_every_container(tmp_path: Path) -> None:
    digests = {ending: two_halves(tmp_path, ending).digest for ending in ("png", "bmp", "tif")}
    halves = [np.stack(pictures(seed)) for seed in (1, 2)]
    digests["arrays"] = from_arrays(halves[0], LABELS, halves[1], LABELS).digest
    files = [tmp_path / "train.beton", tmp_path / "test.beton"]
    for file, images in zip(files, halves):
        write_beton(file, [Encoded(image.reshape(-1), 8, 8, jpeg=False) for image in images], LABELS, 3)
    digests["beton"] = picture_sets.beton_dataset(*files).digest
    assert len(set(digests.values())) == 1, digests


def test_equal_pixels_in_parquet_have_the_same_digest(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'popnet[hf]'")
    from pyarrow import parquet

    folder = two_halves(tmp_path)
    for split, source in (("train", folder.train), ("test", folder.test)):
        images = [{"bytes": path.read_bytes(), "path": path.name} for path in source.files]
        columns = {"image": images, "label": [f"class{label}" for label in source.labels]}
        parquet.write_table(pa.table(columns), tmp_path / f"{split}.parquet")
    options = {split: str(tmp_path / f"{split}.parquet") for split in ("train", "test")}
    assert popnet.data.load("parquet", **options).digest == folder.digest


def test_pictures_of_several_sizes_differ_from_the_same_pixels_in_other_shapes(tmp_path: Path) -> None:
    digests = {ending: two_halves(tmp_path / "several", ending, (8, 6, 8)).digest for ending in ("png", "bmp")}
    assert digests["png"] == digests["bmp"]
    assert digests["png"] != two_halves(tmp_path / "one").digest
    assert digests["png"] != two_halves(tmp_path / "other", sizes=(6, 8, 8)).digest


def noise_of_equal_size(path: Path) -> None:
    """Another picture in a file of as many bytes, with its times set back."""
    before = path.stat()
    pixels = np.asarray(Image.open(path))
    Image.fromarray(pixels ^ 0xFF).save(path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("large", [False, True])
def test_a_picture_that_changes_and_keeps_its_size_is_noticed(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        as_if_large(tmp_path, monkeypatch)
    before = two_halves(tmp_path, "bmp")
    experiment = of_folders(tmp_path / "bmp")
    identity = experiment.recipe.dataset.identity
    store = Store(tmp_path / "store", create=True)
    store.register(experiment, {identity: before.digest})
    store.register(experiment, {identity: two_halves(tmp_path, "bmp").digest})
    noise_of_equal_size(tmp_path / "bmp" / "1" / "class1" / "2.bmp")
    changed = popnet.data.load("image_folder", train=str(tmp_path / "bmp" / "1"), test=str(tmp_path / "bmp" / "2"))
    with pytest.raises(StoreError, match="made with other data under the name"):
        store.register(experiment, {identity: changed.digest})


def of_folders(root: Path, **changes: Any) -> config.Experiment:
    dataset = {"name": "image_folder", "kwargs": {"train": str(root / "1"), "test": str(root / "2")}}
    content = recipe(**changes).model_dump(by_alias=True) | {"dataset": dataset}
    experiment = {"name": "x", "recipe": content, "population": 2, "variants": [{"name": "a", "vary": ["init"]}]}
    return config.from_mapping(experiment)


def as_if_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_digests, "DECODED_MOST", 100)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_a_folder_that_is_linked_anew_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_if_large(tmp_path, monkeypatch)
    for seed in (1, 2, 3):
        write_folder(tmp_path / f"{seed}", pictures(seed), "bmp")
    link = tmp_path / "train"
    link.symlink_to(tmp_path / "1")
    before = picture_sets.image_folder(link, tmp_path / "2").digest
    link.unlink()
    link.symlink_to(tmp_path / "3")
    assert picture_sets.image_folder(link, tmp_path / "2").digest != before


def test_many_pictures_are_read_once_for_their_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_if_large(tmp_path, monkeypatch)
    encoded = [jpeg_bytes(picture) for picture in pictures(1)]
    for number, data in enumerate(encoded):
        path = tmp_path / "train" / f"class{number // EACH}" / f"{number % EACH}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    write_beton(tmp_path / "train.beton", [Encoded(data, 8, 8, jpeg=True) for data in encoded], LABELS, 3)
    reads: Counter[str] = Counter()
    for kind in (folders.FolderPictures, picture_sets.BetonPictures):
        plain = kind.encoded
        monkeypatch.setattr(kind, "encoded", counted(plain, reads))
    lines: list[str] = []
    one = picture_sets.image_folder(tmp_path / "train", tmp_path / "train")
    found, constants = one.identify(lines.append)
    assert constants == IMAGENET
    assert any("are read once, for a digest kept in" in line for line in lines)
    assert any("normalised by ImageNet's mean" in note for note in one.notes)
    assert reads == {"FolderPictures": len(encoded)}
    assert picture_sets.image_folder(tmp_path / "train", tmp_path / "train").digest == found
    assert reads == {"FolderPictures": len(encoded)}, "remembered"
    assert picture_sets.beton_dataset(*[tmp_path / "train.beton"] * 2).digest == found
    (kept, *_) = (tmp_path / "home" / ".cache" / "popnet" / "digests").iterdir()
    kept.write_text("damaged")
    assert picture_sets.image_folder(tmp_path / "train", tmp_path / "train").digest == found
    with pytest.raises(ConfigError, match="would take long to find: give them as numbers"):
        one.normalised_by_its_own()


def counted(plain: Any, reads: Counter[str]) -> Any:
    def encoded(self: Any, index: int) -> Encoded:
        reads[type(self).__name__] += 1
        return plain(self, index)

    return encoded


@pytest.mark.parametrize("fits", [True, False])
def test_pictures_are_decoded_once_for_digest_and_training(
    fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = two_halves(tmp_path)
    reads: Counter[str] = Counter()
    monkeypatch.setattr(folders.FolderPictures, "decoded", counted(folders.FolderPictures.decoded, reads))
    if not fits:
        monkeypatch.setattr(picture_sets, "available_memory", lambda: 100)
    found = dataset.digest
    assert dataset.kept_bytes == (2 * 12 * 8 * 8 * 3 if fits else 0)
    shared = share_pictures(dataset, "labels", from_files=False)
    train, test = shared.attach()
    os.close(shared.memory.descriptor)
    assert reads == {"FolderPictures": 24 if fits else 48}
    assert dataset.kept_bytes == 0
    assert train.pictures.bytes.numpy().tobytes() == np.stack(pictures(1)).tobytes()
    assert test.pictures.bytes.numpy().tobytes() == np.stack(pictures(2)).tobytes()
    assert found == two_halves(tmp_path).digest


def test_a_file_of_other_pictures_of_equal_sizes_is_refused(tmp_path: Path) -> None:
    dataset = two_halves(tmp_path)
    for name, seed in (("same", 1), ("other", 3)):
        images = [Encoded(picture.reshape(-1), 8, 8, jpeg=False) for picture in pictures(seed)]
        write_beton(tmp_path / f"{name}.beton", images, LABELS, 3)
    assert _difference(open_beton(tmp_path / "same.beton"), dataset) is None
    assert _difference(open_beton(tmp_path / "other.beton"), dataset) == "its pictures are others"


# normalisation


def test_pictures_are_normalised_by_the_training_sets_own_constants_or_by_those_asked_for(tmp_path: Path) -> None:
    dataset = two_halves(tmp_path)
    own = channel_statistics(np.stack(pictures(1)))
    assert (dataset.mean, dataset.std) == own
    options = {"train": str(tmp_path / "png" / "1"), "test": str(tmp_path / "png" / "2")}
    load = popnet.data.load
    imagenet = load("image_folder", mean="imagenet", **options)
    assert (imagenet.mean, imagenet.std) == IMAGENET
    assert imagenet.digest != dataset.digest == load("image_folder", mean="own", std="own", **options).digest
    given = load("image_folder", mean=[0.5] * 3, **options)
    assert (given.mean, given.std) == ((0.5,) * 3, own[1])
    assert load("digits", mean="own").digest == load("digits").digest
    for wrong in ({"mean": "mine"}, {"mean": "own", "std": "imagenet"}, {"mean": "own", "std": [1, 1, 1]}):
        with pytest.raises(ConfigError, match="together `own` or `imagenet`"):
            load("image_folder", **wrong, **options)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="need 3 numbers each"):
        load("image_folder", mean=[0.5], **options)


def test_statistics_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.stack(pictures(1))
    monkeypatch.setattr("popnet.data.statistics._BLOCK", 50)
    assert channel_counts(images).sum(axis=1).tolist() == [images[..., 0].size] * 3
    mean, std = statistics_of_counts(channel_counts(images[:5]) + channel_counts(images[5:]))
    assert np.allclose(mean, images.mean(axis=(0, 1, 2)) / 255)
    assert np.allclose(std, images.std(axis=(0, 1, 2)) / 255)


# parts of a training set


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.repeat(np.arange(10), 50), True),
        (np.repeat([3, 1, 2, 0], [5, 6, 7, 8]), True),
        (np.tile(np.repeat(np.arange(10), 20), 2), True),  # two sets of class folders, one after the other
        (np.repeat([0, 1], 2), True),
        (np.tile(np.arange(10), 50), False),
        (np.random.default_rng(0).integers(0, 10, 500), False),
        (np.random.default_rng(0).random(5000) < 0.02, False),
        (np.zeros(50), False),
        (np.arange(10), True),
        (np.repeat([0, 1], [49, 1]), True),
        (np.repeat([0, 1, 2], [1, 1, 100]), True),
        (np.concatenate([np.repeat(np.arange(10), 50), np.tile(np.arange(10), 50)]), True),
        (np.concatenate([np.tile(np.arange(10), 50), np.repeat(np.arange(10), 50)]), False),  # the first half serves
        (np.repeat([0, 1, 0], [25, 1, 25]), False),
    ],
)
def test_order_of_class(labels: np.ndarray, expected: bool) -> None:
    assert choice.in_order_of_class(labels.astype(np.int64)) is expected


def test_a_part_of_a_set_in_order_of_class_is_a_fixed_shuffle() -> None:
    ordered, mixed = np.repeat(np.arange(10), 100), np.tile(np.arange(10), 100)
    chosen = choice.chosen_examples(ordered, 300)
    assert chosen is not None
    assert len(set(chosen.tolist())) == 300
    assert np.bincount(ordered[chosen]).min() > 15
    assert chosen[:5].tolist() == FIRST_OF_THOUSAND
    fewer = choice.chosen_examples(ordered, 20)
    assert fewer is not None
    assert fewer.tolist() == chosen[:20].tolist(), "a smaller part begins a larger one"
    assert choice.chosen_examples(mixed, 300) is None
    assert choice.chosen_examples(ordered, 1000) is None
    looked_at = choice.looked_at(ordered, 1000)
    assert looked_at is not None
    assert looked_at[:300].tolist() == chosen.tolist(), "of representations, all are shuffled too"
    assert choice.looked_at(mixed, 1000) is None
    assert choice.described(ordered, 300) == "300 of 1,000 training images, drawn by a fixed shuffle"
    assert choice.described(mixed, 300) == "the first 300 of 1,000 training images"


FIRST_OF_THOUSAND = [605, 654, 858, 925, 405]  # never another draw: recipes with `train_examples` mean it


def old_digest(dataset: datasets.Dataset) -> str:
    """What the digest was when subsets were always the first examples."""
    state = hashlib.sha256()
    for array in (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels):
        state.update(f"{array.dtype.str}{array.shape};".encode() + array.tobytes())
    constants = [float(value).hex() for value in (*dataset.mean, *dataset.std)]
    state.update(f"{dataset.classes};{constants}".encode())
    return state.hexdigest()


def test_arrays_in_order_of_class_follow_the_same_rule() -> None:
    images = np.stack(pictures(1))
    ordered = from_arrays(images, LABELS, images, LABELS)
    mixed = from_arrays(images, LABELS.reshape(CLASSES, EACH).T.reshape(-1), images, LABELS)
    numbers = choice.chosen_examples(LABELS, 5)
    assert numbers is not None
    assert np.array_equal(ordered.subset(5).train_images, images[numbers])
    assert ordered.subset(5).train_labels.tolist() == LABELS[numbers].tolist()
    assert (ordered.subset(5).mean, ordered.subset(5).std) == (ordered.mean, ordered.std)
    assert np.array_equal(mixed.subset(5).train_images, images[:5])
    assert mixed.digest == old_digest(mixed)
    assert ordered.digest == old_digest(ordered), "whatever recipes take of it"
    with pytest.raises(ConfigError, match="train_examples must be 1 to 12, the size of 'arrays', not 13"):
        ordered.check_size(13)


def test_a_part_that_an_older_version_took_is_not_continued(tmp_path: Path) -> None:
    """Only where a recipe takes a part; a store that does not say so took the first examples."""
    whole, part = of_folders(tmp_path), of_folders(tmp_path, train_examples=7)
    whole = whole.model_copy(update={"name": "whole"})
    label = part.recipe.dataset.identity
    store = Store(tmp_path / "store", create=True)
    store.register(whole, {label: "a"})
    store.register(part, {label: "a"}, {label: (12, True)})
    store.register(part, {label: "a"}, {label: (12, True)})
    with pytest.raises(
        StoreError, match=f"{label!r} are drawn by a shuffle in its experiment 'x', and would be the first"
    ):
        store.register(part, {label: "a"}, {label: (12, False)})
    old = Store(tmp_path / "old", create=True)
    old.register(part, {label: "a"})
    old.register(whole, {label: "a"})
    with pytest.raises(StoreError, match=f"{label!r} are the first ones in its experiment 'x', and would be drawn"):
        old.register(part, {label: "a"}, {label: (12, True)})


@pytest.mark.parametrize("examples", [5, 12, 100])
def test_representations_are_of_the_beginning_of_one_shuffle(examples: int) -> None:
    torch.set_num_threads(1)
    images = ResidentImages(torch.from_numpy(np.stack(pictures(1))), torch.from_numpy(LABELS), (0.5,) * 3, (0.25,) * 3)
    kind = recipe(model="hidden_fc", epochs=0, features={"layers": [""], "examples": examples})
    one = protocol.member(kind, protocol.Seeds(), protocol.Seeds(), protocol.Platform("x", ()))
    trainer = Trainer(one, images, images, CLASSES, (protocol.ORIGINAL,))
    found, numbers = trainer.features(), choice.looked_at(LABELS, 12)
    assert numbers is not None
    assert found[IMAGE_NUMBERS].tolist() == numbers[:examples].tolist()
    np.testing.assert_allclose(found[""], trainer.predictions()[0][numbers[:examples]], atol=1e-5)


def batches(images: Images, numbers: torch.Tensor, augment: Augment) -> torch.Tensor:
    wanted = [BatchRequest(part, 7, 3) for part in numbers.split(4)]
    shape = images.train_shape
    return torch.cat(
        [b.clone() for b in images.read(wanted, augment, lambda _, r: torch.empty(len(r.indices), *shape))]
    )


def test_every_loader_gives_a_part_what_the_whole_gives(tmp_path: Path) -> None:
    """The same images, and of each the augmentation that it has in the whole set."""
    arrays, augment = pictures(1), Augment(crop=2, flip=True, cutout=3)
    constants = (0.5,) * 3, (0.25,) * 3
    labels = torch.from_numpy(LABELS)
    resident = ResidentImages(torch.from_numpy(np.stack(arrays)), labels, *constants)
    framed = PictureImages(raw_pictures(arrays), labels, *constants, None, str)
    chosen = torch.from_numpy(choice.chosen_examples(LABELS, 7))
    expected = batches(resident, chosen, augment)
    order = torch.tensor([6, 0, 3, 5])
    for images in (resident, framed, DevicePictures(framed, torch.device("cpu"))):
        part = choice.part_of(images, 7)
        assert (len(part), part.labels.tolist()) == (7, LABELS[chosen].tolist())
        assert torch.equal(batches(part, torch.arange(7), augment), expected)
        assert torch.equal(batches(part.first(4), torch.arange(4), augment), expected[:4])
        assert torch.equal(batches(part.chosen(order), torch.arange(4), augment), expected[order])
        out, whole = torch.empty(4, 3, 8, 8), torch.empty(4, 3, 8, 8)
        assert torch.equal(
            part.view_batch(order, out, protocol.ORIGINAL), resident.view_batch(chosen[order], whole, protocol.ORIGINAL)
        )
        assert len(choice.part_of(images, None)) == len(choice.part_of(images, 12)) == 12
    mixed = dataclasses.replace(resident, labels=labels[torch.randperm(12, generator=torch.Generator().manual_seed(1))])
    assert torch.equal(batches(choice.part_of(mixed, 7), torch.arange(7), augment), expected_first(resident, augment))


def expected_first(images: ResidentImages, augment: Augment) -> torch.Tensor:
    return batches(images, torch.arange(7), augment)


def test_a_run_on_a_part_says_so_and_so_does_its_report(tmp_path: Path) -> None:
    """Members have the bits that the same pixels give as arrays, by the shuffle."""
    from popnet.report.document import _facts
    from popnet.report.measured import measure
    from popnet.report.scaled import departures

    dataset = two_halves(tmp_path)
    lines: list[str] = []
    changes = {"model": "hidden_fc", "epochs": 1, "batch_size": 4, "train_examples": 7}
    experiment = of_folders(tmp_path / "png", **changes)
    reporter = Said(lines)
    result = popnet.run(experiment, store=tmp_path / "store", workers=1, device="cpu", reporter=reporter)
    said = "7 of 12 training images, drawn by a fixed shuffle"
    assert [line for line in lines if "shuffle" in line] == [f"data set image_folder: {said}, as they lie by class"]
    assert result.store.training_set("x", experiment.recipe.dataset.identity) == (12, True)
    (measured,) = measure([tmp_path / "store"])
    assert dict(_facts(measured))["Data"].endswith(said)
    assert not any("the first" in line for line in departures(measured.experiment))
    m, constants = result.plan.members[0], (dataset.mean, dataset.std)
    train, test = (
        ResidentImages(torch.from_numpy(np.stack(pictures(seed))), torch.from_numpy(LABELS), *constants)
        for seed in (1, 2)
    )
    torch.set_num_threads(1)
    trainer = Trainer(m, choice.part_of(train, 7), test, CLASSES, (protocol.ORIGINAL,))
    trainer.run()
    assert result.store.members().loc[m.id, "weights_digest"] == digest(trainer.weights())


class Said:
    """A reporter that keeps the messages."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def message(self, text: str) -> None:
        self._lines.append(text)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: None
