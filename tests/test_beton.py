"""Files of images: written and read back, refused when damaged or of other images; from a folder to a table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_pictures import jpeg_bytes, smooth

import popnet
from popnet import cli, config, native
from popnet.config import Loader
from popnet.data import beton, picture_sets
from popnet.data.beton import Encoded, open_beton, write_beton
from popnet.data.picture_sets import beton_dataset
from popnet.engine.pictures import check_loader, mapped_pictures
from popnet.errors import ConfigError, DataError

LABELS = np.arange(30) % 7
needs_ffcv = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import importlib.util as u; exit(u.find_spec('ffcv') is None)"]).returncode
    != 0,
    reason="needs FFCV: pip install 'popnet[ffcv]'",
)


def raw(images: np.ndarray) -> list[Encoded]:
    return [Encoded(image.reshape(-1), *image.shape[:2], jpeg=False) for image in images]


def decoded(path: Path) -> list[np.ndarray]:
    file = mapped_pictures(open_beton(path))
    return [native.decode_picture(file.pictures, k).numpy() for k in range(len(file.labels))]


@pytest.fixture
def colour(tmp_path: Path) -> Path:
    path = tmp_path / "colour.beton"
    write_beton(path, raw(np.stack([smooth(16, 12, k) for k in range(30)])), LABELS, 3)
    return path


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_raw_images_come_back(channels: int, tmp_path: Path) -> None:
    images = np.random.default_rng(channels).integers(0, 256, (30, 16, 12, channels), dtype=np.uint8)
    checksums = [write_beton(tmp_path / name, raw(images), LABELS, channels) for name in ("a.beton", "b.beton")]
    assert checksums[0] == checksums[1]
    assert (tmp_path / "a.beton").read_bytes() == (tmp_path / "b.beton").read_bytes()
    file = open_beton(tmp_path / "a.beton")
    assert file.channels == channels
    assert file.labels.tolist() == LABELS.tolist()
    assert np.array_equal(np.stack(decoded(file.path)), images)
    checked = subprocess.run(["sha256sum", "-c", "a.beton.sha256"], cwd=tmp_path, capture_output=True, text=True)
    assert checked.stdout == "a.beton: OK\n"


def test_jpegs_come_back_as_they_are(tmp_path: Path) -> None:
    pictures = [smooth(20 + k, 50 - k, k) for k in range(30)]
    encoded = [Encoded(jpeg_bytes(picture), *picture.shape[:2], jpeg=True) for picture in pictures]
    write_beton(tmp_path / "a.beton", encoded, LABELS, 3)
    file = open_beton(tmp_path / "a.beton")
    for row, each in zip(file.table, encoded):
        offset, size, height, width, jpeg = (int(value) for value in row)
        assert (height, width, jpeg) == (each.height, each.width, 1)
        assert np.array_equal(file.bytes()[offset : offset + size], each.data)


FFCV_AND_BACK = """
import sys, numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter
ours = Reader(sys.argv[1])
assert ours.metadata["f0"]["width"].tolist() == [12] * 30, ours.metadata
assert ours.metadata["f1"].tolist() == [k % 7 for k in range(30)]
assert len(ours.alloc_table) == 30
images = np.load(sys.argv[2])
fields = {"picture": RGBImageField(write_mode="raw"), "extra": IntField(), "label": IntField()}
samples = [(image, index % 7, 2 * index) for index, image in enumerate(images)]
DatasetWriter(sys.argv[3], fields, num_workers=1).from_indexed_dataset(samples, chunksize=30)
"""


@needs_ffcv
def test_ffcv_reads_popnets_files_and_popnet_ffcvs(colour: Path, tmp_path: Path) -> None:
    images = np.stack(decoded(colour))
    np.save(tmp_path / "images.npy", images)
    arguments = [colour, tmp_path / "images.npy", tmp_path / "theirs.beton"]
    subprocess.run([sys.executable, "-c", FFCV_AND_BACK, *map(str, arguments)], check=True, capture_output=True)
    theirs = open_beton(tmp_path / "theirs.beton")
    assert (theirs.image_field, theirs.other_fields) == ("picture", ("extra", "label"))
    assert theirs.labels.tolist() == [2 * k for k in range(30)], "of two fields of integers, the one called label"
    assert np.array_equal(np.stack(decoded(theirs.path)), images)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("label:int image:rgb", ("image", "label")),
        ("weight:float label:int image:rgb", ("image", "label")),
        ("index:int label:int picture:rgb", ("picture", "label")),
        ("mask:rgb image:rgb target:int", ("image", "target")),
        ("left:rgb right:rgb label:int", "any of its fields 'left', 'right' could be the image"),
        ("image:rgb index:int fold:int", "any of its fields 'index', 'fold' could be the label"),
        ("image:rgb index:int label:float", "its field 'label' holds no integers"),
        ("image:rgb Labels:int", ("image", "Labels")),
        ("image:rgb index:int", "field of integers 'index' need not be the label: write it with one called 'label'"),
        ("image:rgb weight:float", "no field of integers, so no labels; its fields are image, weight"),
    ],
)
def test_fields_are_found_by_type_and_name(fields: str, expected: Any, tmp_path: Path) -> None:
    path = tmp_path / "fields.beton"
    numbers = write_fields(path, [tuple(field.split(":")) for field in fields.split()])  # type: ignore[misc]
    if isinstance(expected, str):
        with pytest.raises(DataError, match=f"^{path}: .*{expected}"):
            open_beton(path)
        return
    image, label = expected
    file = open_beton(path)
    assert (file.image_field, sorted(file.other_fields)) == (image, sorted(set(numbers) - {image}))
    assert file.labels.tolist() == [3 * numbers[label] + k for k in range(3)]
    pixels = [file.bytes()[offset : offset + size] for offset, size in file.table[:, :2]]
    assert [int(each[0]) for each in pixels] == [3 * numbers[image] + k for k in range(3)]


def write_fields(path: Path, fields: list[tuple[str, str]]) -> dict[str, int]:
    """Three examples; the values of field f are 3f to 3f + 2, of a picture all of its pixels."""
    kinds = {"float": beton._FLOAT, "int": beton._INT, "rgb": beton._RGB}
    descriptions = np.zeros(len(fields), beton._FIELD)
    metadata = np.zeros(3, np.dtype([("", beton._METADATA[kinds[kind]]) for _, kind in fields], align=True))
    places, content = [], bytearray()
    begin = 1 << 23
    for number, (name, kind) in enumerate(fields):
        descriptions[number]["kind"] = kinds[kind]
        descriptions[number]["name"][: len(name)] = np.frombuffer(name.encode(), np.uint8)
        for k in range(3):
            value = 3 * number + k
            if kind == "rgb":
                metadata[f"f{number}"][k] = (1, 2, 2, begin + len(content))
                places.append((k, begin + len(content), 12))
                content += bytes([value]) * 12
            else:
                metadata[f"f{number}"][k] = value
    header = np.array([(2, len(fields), begin, 3, begin + len(content))], beton._HEADER)
    head = header.tobytes() + descriptions.tobytes() + metadata.tobytes()
    path.write_bytes(head.ljust(begin, b"\0") + content + np.array(places, beton._PLACE).tobytes())
    return {name: number for number, (name, _) in enumerate(fields)}


def edited(offset: int, *values: int) -> Callable[[bytearray], None]:
    def edit(content: bytearray) -> None:
        content[offset : offset + len(values)] = bytes(values)

    return edit


def cut(size: int) -> Callable[[bytearray], None]:
    def edit(content: bytearray) -> None:
        del content[size:]

    return edit


FIELD = 24  # where the descriptions of the fields begin
METADATA = FIELD + 2 * 1041


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (cut(10), "no .beton file: it has 10 bytes"),
        (cut(300), "cut short: its fields would be larger"),
        (cut(METADATA + 50), "cut short inside its table of examples"),
        (cut(1 << 23), "cut short: its table of places"),
        (cut((1 << 23) + 3000), "cut short: its table of places"),
        (edited(0, 9), "no .beton file of version 2"),
        (edited(0, *b"PK\x03\x04 something else entirely"), "no .beton file of version 2"),
        (edited(FIELD, 77), "of a kind, 77, that popnet does not know"),
        (edited(FIELD, 1), "no field of images"),
        (edited(FIELD + 1041, 0), "no field of integers"),
        (edited(8, 255, 255, 255, 255, 255), "its table of examples would be larger than the file"),
        (edited(METADATA + 5, 1, 2, 3, 4), "image 0 has no place of its size"),
        (edited(METADATA + 24 + 1, 200), "image 1 has no place of its size"),
    ],
)
def test_damaged_and_foreign_files_are_named(colour: Path, edit: Callable[[bytearray], None], message: str) -> None:
    content = bytearray(colour.read_bytes())
    edit(content)
    colour.write_bytes(content)
    with pytest.raises(DataError, match=f"^{colour}: .*{message}"):
        open_beton(colour)


def test_a_place_beyond_the_end_is_named(colour: Path) -> None:
    content = bytearray(colour.read_bytes())
    content[-8:] = (1 << 40).to_bytes(8, "little")
    colour.write_bytes(content)
    with pytest.raises(DataError, match="an image would lie outside the file"):
        open_beton(colour)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.beton: no such file"):
        open_beton(tmp_path / "none.beton")


def recipe(**changes: Any) -> config.Recipe:
    content = {"dataset": "digits", "model": "resnet6", "epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd"}}
    content["optimizer"] = {"name": "sgd", "lr": 0.1}
    return config.Recipe.model_validate({**content, **changes})


def test_a_recipes_id_does_not_depend_on_its_loader() -> None:
    plain = recipe()
    assert plain.digest == recipe(loader="resident").digest
    assert plain.digest == recipe(loader={"name": "ffcv", "path": "x.beton", "workers": 4}).digest
    assert plain.digest != recipe(resize={"train": 16, "test": 16}).digest
    with pytest.raises(ValueError, match=r"loader\.path is for loader\.name=ffcv"):
        Loader(path="x.beton")
    with pytest.raises(ValueError, match=r"resized_crop needs the size"):
        recipe(augment={"resized_crop": True})


@needs_ffcv
def test_files_of_other_images_are_refused(tmp_path: Path) -> None:
    dataset = popnet.data.load("digits")
    images, labels = dataset.train_images, dataset.train_labels

    def check(name: str, images: np.ndarray, labels: np.ndarray) -> None:
        write_beton(tmp_path / name, raw(images), labels, images.shape[3])
        check_loader(recipe(loader={"name": "ffcv", "path": str(tmp_path / name)}), dataset)

    check("good.beton", images, labels)
    with pytest.raises(DataError, match=r"few\.beton: does not hold .*: it has 100 images, not 898"):
        check("few.beton", images[:100], labels[:100])
    with pytest.raises(DataError, match="its labels are others"):
        check("labels.beton", images, labels[::-1].copy())
    with pytest.raises(DataError, match=r"its images are not all raw \[8, 8, 1\]; the first is \[9, 8, 1\]"):
        check("shape.beton", np.pad(images, ((0, 0), (0, 1), (0, 0), (0, 0))), labels)
    changed = images.copy()
    changed[500, 3, 3] ^= 1
    with pytest.raises(DataError, match="its pixels are others"):
        check("pixels.beton", changed, labels)
    with pytest.raises(ConfigError, match=r"recipe\.loader\.path is needed"):
        check_loader(recipe(loader="ffcv"), dataset)
    with pytest.raises(DataError, match=r"missing\.beton: no such file"):
        check_loader(recipe(loader={"name": "ffcv", "path": str(tmp_path / "missing.beton")}), dataset)


def make_folder(root: Path, classes: int, each: int, seed: int) -> None:
    """Pictures of different sizes, whose brightness tells the class."""
    generator = np.random.default_rng(seed)
    for label in range(classes):
        (root / f"class{label:02d}").mkdir(parents=True)
        for number in range(each):
            height, width = (int(extent) for extent in generator.integers(40, 72, 2))
            picture = smooth(height, width, int(generator.integers(2**30))) // 2 + 6 * label
            Image.fromarray(picture.astype(np.uint8)).save(root / f"class{label:02d}" / f"{number}.jpg", quality=90)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    make_folder(root / "train", classes=20, each=15, seed=1)
    make_folder(root / "val", classes=20, each=3, seed=2)
    return root


def write_cli(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "write", *map(str, arguments), "--quiet"])
    return int(ended.value.code or 0)


def test_the_command_line_writes_and_refuses(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "val.beton"
    assert write_cli(folder / "val", out) == 0
    said = capsys.readouterr().out
    assert "60 images" in said
    assert f"{out}: " in said
    kept = open_beton(out).bytes()
    assert write_cli(folder / "val", out) == 2
    assert "exists already; --force overwrites it" in capsys.readouterr().err
    assert write_cli(folder / "val", out, "--force", "--encoding", "jpeg", "--max-resolution", 40, "--quality", 50) == 0
    assert open_beton(out).table[:, 2:4].max() == 40
    assert open_beton(out).bytes().size < kept.size
    assert write_cli(folder / "val", out, "--force", "--encoding", "raw") == 0
    assert not open_beton(out).table[:, 4].any()
    for arguments, message in (
        ((folder / "nowhere", out, "--force"), "no such folder"),
        (("digits", tmp_path / "no" / "x.beton"), "there is no folder"),
        (("digits", tmp_path / "x.beton", "--encoding", "png"), "unknown encoding 'png'"),
        (("digits", tmp_path / "x.beton", "--split", "val"), "unknown split 'val'"),
        (("digits", tmp_path / "x.beton", "--encoding", "jpeg"), "cannot be JPEGs"),
        (("digits", tmp_path / "x.beton", "--classes-of", folder / "train"), "a data set has its own labels"),
    ):
        assert write_cli(*arguments) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x.beton").exists()


def test_a_test_folder_is_written_with_the_training_sets_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a, b and c only a and c have test pictures; an empty folder is no class, as in a run."""
    for part, names in {"train": "abc", "test": "ac"}.items():
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(smooth(8, 8, 1)).save(tmp_path / part / name / "x.png")
    (tmp_path / "train" / "0_empty").mkdir()
    for part, options, labels, note in (
        ("train", (), [0, 1, 2], "classes a = 0, b = 1, c = 2, by the order of its own folders"),
        ("test", (), [0, 1], "classes a = 0, c = 1, by the order of its own folders"),
        ("test", ("--classes-of", tmp_path / "train"), [0, 2], "classes a = 0, c = 2, by the folders of"),
    ):
        assert write_cli(tmp_path / part, tmp_path / "x.beton", "--force", *options) == 0
        assert open_beton(tmp_path / "x.beton").labels.tolist() == labels
        assert note in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("kind", ["truncated", "text"])
def test_an_unreadable_picture_is_named_when_it_is_written(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "p", classes=2, each=3, seed=3)
    bad = tmp_path / "p" / "class01" / "1.jpg"
    bad.write_bytes(bad.read_bytes()[:900] if kind == "truncated" else b"no picture")
    assert write_cli(tmp_path / "p", tmp_path / "p.beton") == 2
    assert str(bad) in capsys.readouterr().err.replace("\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p"]


@needs_ffcv
def test_from_a_folder_to_a_table(folder: Path, tmp_path: Path) -> None:
    """`popnet data write`, two members of a ResNet-50-like recipe, nine crops and flips, a table: by either loader."""
    for split in ("train", "val"):
        assert write_cli(folder / split, tmp_path / f"{split}.beton") == 0
    content = {
        "name": "pictures",
        "recipe": {
            "dataset": {"name": "image_folder", "kwargs": {k: str(folder / v) for k, v in HALVES.items()}},
            "model": {"import": "user_parts:small_bottlenecks"},
            "epochs": 2,
            "batch_size": 50,
            "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4},
            "resize": {"train": 48, "test": 64},
            "augment": {"resized_crop": True, "flip": True},
            "loader": "resident",
        },
        "population": 2,
        "variants": [{"name": "Single/Flip-Crop-TTA", "vary": "all", "views": "flip_grid9"}],
    }
    digests = {}
    for name, loader in (("resident", "resident"), ("ffcv", {"name": "ffcv", "path": str(tmp_path / "train.beton")})):
        content["recipe"]["loader"] = loader  # type: ignore[index]
        result = popnet.run(config.from_mapping(content), store=tmp_path / name, workers=1)
        members = result.store.members()
        assert set(members["status"]) == {"done"}, members["error"].tolist()
        digests[name] = members["weights_digest"].to_dict(), members["predictions_digest"].to_dict()
        assert result.store.predictions(members.index[0]).shape == (18, 60, 20)
        assert np.isfinite(result.table().iloc[0]["accuracy_mean"])
    assert digests["resident"] == digests["ffcv"]


HALVES = {"train": "train", "test": "val"}


def test_a_dataset_of_files_equals_its_folders(folder: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        assert write_cli(folder / split, tmp_path / f"{split}.beton") == 0
    one = picture_sets.image_folder(folder / "train", folder / "val")
    other = beton_dataset(tmp_path / "train.beton", tmp_path / "val.beton")
    assert one.digest == other.digest
    assert one.classes == other.classes == 20
    for index in (0, 17, 59):
        assert np.array_equal(one.test.decoded(index), other.test.decoded(index))
        assert "class" in one.test.name_of(index)


def test_pictures_of_several_sizes_need_resize(folder: Path, tmp_path: Path) -> None:
    dataset = {"name": "image_folder", "kwargs": {k: str(folder / v) for k, v in HALVES.items()}}
    experiment = {"name": "x", "recipe": recipe().model_dump(by_alias=True) | {"dataset": dataset}}
    experiment |= {"population": 2, "variants": [{"name": "a", "vary": ["init"]}]}
    with pytest.raises(ConfigError, match=r"recipe\.resize is needed"):
        popnet.run(config.from_mapping(experiment), store=tmp_path / "store")


def test_labels_of_other_test_sets(tmp_path: Path) -> None:
    names = ("n01", "n02", "n03")
    for part, folders in {"r": ["n03", "n01"], "v2": ["0", "2"], "objects": ["chair", "mug", "sock"]}.items():
        for folder in folders:
            (tmp_path / part / folder).mkdir(parents=True)
            Image.fromarray(smooth(8, 8, 1)).save(tmp_path / part / folder / "x.png")
    labels = picture_sets.labels_of_folders
    assert labels(tmp_path / "r", names) == {"n01": 0, "n03": 2}
    assert labels(tmp_path / "v2", names) == {"0": 0, "2": 2}
    with pytest.raises(DataError, match="chair: no class has this name or number"):
        labels(tmp_path / "objects", names)
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("{chair: n02, mug: 0}")
    assert labels(tmp_path / "objects", names, mapping) == {"chair": 1, "mug": 0}
    mapping.write_text("{chair: n02, sofa: 0}")
    with pytest.raises(DataError, match="folder 'sofa' is not in"):
        labels(tmp_path / "objects", names, mapping)
    mapping.write_text("{chair: n09}")
    with pytest.raises(DataError, match="'n09', for folder 'chair', is no class's name or number"):
        labels(tmp_path / "objects", names, mapping)
