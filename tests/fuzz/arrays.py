"""Arrays from other people: safetensors, of stores, checkpoints and predictions; .npy and .npz of predictions."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from popnet.engine import checkpoints
from popnet.errors import PopnetError
from popnet.protocol import ORIGINAL
from popnet.results.arrays.contents import open_labels
from popnet.results.arrays.files import open_arrays
from popnet.results.arrays.logits import open_logits
from popnet.results.arrays.runs import runs_of_arrays
from popnet.results.found import Options
from popnet.store import digest, load_tensors

from .loaders import Loader

_LABELS = np.array([0, 1, 2, 1])
_DTYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I8",
    "U8",
    "U64",
    "BOOL",
    "F8_E4M3",
    "F8_E8M0",
    "F4",
    "C64",
    "X",
    3,
    None,
)
_EXTENTS = (
    0,
    1,
    2,
    3,
    7,
    1 << 20,
    1 << 31,
    1 << 32,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
    -1,
    "3",
    None,
    2.0,
)
_DESCRIPTIONS = (
    "<f4",
    ">f4",
    "<f8",
    "<f2",
    "|u1",
    "|b1",
    "|O",
    "<U4",
    "<U0",
    "|V0",
    "|S0",
    "<c8",
    "<M8[s]",
    "(9999999,)f4",
)


def every(*readers: Callable[[], object]) -> None:
    """Call all of them; raise the first of popnet's errors where none of them reads."""
    errors = []
    for reader in readers:
        try:
            reader()
        except PopnetError as error:
            errors.append(error)
    if len(errors) == len(readers):
        raise errors[0]


def _read_all(path: Path) -> None:
    for array in open_arrays(path).values():
        assert array.read().shape == array.shape


def _read_logits(path: Path, options: Options) -> None:
    predictions, labels = open_logits(path, options)
    block = predictions.read(range(predictions.members), slice(0, predictions.examples))
    assert block.shape == (predictions.members, predictions.examples, predictions.classes)
    assert labels.shape == (predictions.examples,)


def _read_runs(path: Path, options: Options) -> None:
    for metric, sample in runs_of_arrays(path, options).samples.items():
        assert np.isfinite(sample.values).all(), metric


def _readers(path: Path, labels: np.ndarray) -> list[Callable[[], object]]:
    """Everything that reads a file of arrays, which may say what they hold, or leave that to what is asked for."""
    told = (Options(), Options(labels=labels), Options(metrics=("f1",)), Options(labels=labels, probabilities=False))
    return [
        lambda: _read_all(path),
        lambda: [array.read() for array in open_labels(path).values()],
        *(partial(_read_logits, path, options) for options in told),
        *(partial(_read_runs, path, options) for options in told),
    ]


def _header(draw: random.Random, content: bytearray) -> None:
    """An entry of the header, whose length stays right."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        entry = header[draw.choice(list(header))]
        key = draw.choice(("dtype", "shape", "data_offsets", "name", "depth"))
        if key == "dtype":
            entry["dtype"] = draw.choice(_DTYPES)
        elif key == "shape":
            entry["shape"] = [draw.choice(_EXTENTS) for _ in range(draw.choice((0, 1, 2, 3, 70)))]
        elif key == "data_offsets":
            entry["data_offsets"][draw.randrange(2)] = draw.choice(_EXTENTS)
        elif key == "name":
            name = draw.choice(("predictions", "labels", "epoch", "checkpoint.digest", "\0", "é" * 100, "__metadata__"))
            header[name] = header.pop(draw.choice(list(header)))
        else:
            entry["shape"] = json.loads("[" * 200 + "]" * 200)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return  # changed beyond that already
    text = json.dumps(header).encode()
    content[: 8 + length] = len(text).to_bytes(8, "little") + text


def _reshape(draw: random.Random, content: bytearray) -> None:
    """Another shape or type for the same bytes: a sound file, of another kind."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        entry = header[draw.choice(list(header))]
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        dtype, width = draw.choice(
            (("F32", 4), ("I64", 8), ("U8", 1), ("BOOL", 1), ("BF16", 2), ("F8_E5M2", 1), ("I32", 4))
        )
        shape = draw.choice(([size // width], [1, size // width], [size // width, 1], [1, 1, size // width, 1]))
        entry |= {"dtype": dtype, "shape": [0, 1 << 40] if size == 0 else shape}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return
    text = json.dumps(header).encode()
    content[: 8 + length] = len(text).to_bytes(8, "little") + text


class Safetensors(Loader):
    changes = (_header, _reshape)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        state = {"epoch": torch.tensor(3), "weight": torch.arange(6.0), "empty": torch.empty(0, 4)}
        language = {"target_log_probabilities": torch.zeros(1, 5), "argmax": torch.zeros(1, 5, dtype=torch.int32)}
        self.samples = (
            save({"predictions": torch.arange(24.0).reshape(2, 4, 3)}),
            save({"labels": torch.tensor([0, 1, 2, 1])}),
            save({"logits": torch.zeros(3, 4, 2, dtype=torch.bfloat16), "labels": torch.tensor([0, 1, 1, 0])}),
            save({f"run_{k}": torch.zeros(4, 3) for k in range(3)}, {"from": "elsewhere"}),
            save(language),
            checkpoints.pack(state, "0123456789abcdef01234567", (ORIGINAL,)),
        )

    def load(self, content: bytes, number: int) -> None:
        path = self.folder / "input.safetensors"
        path.write_bytes(content)
        assert checkpoints.epoch_of(path) >= -(1 << 63)  # which refuses nothing
        every(
            lambda: digest(load_tensors(path)),
            lambda: checkpoints.unpack(content, path, "0123456789abcdef01234567", (ORIGINAL,)),
            *_readers(path, _LABELS),
        )


def _claim(draw: random.Random, content: bytearray) -> None:
    """The header's text, whose length stays right."""
    begin = content.find(b"\x93NUMPY")
    if begin < 0 or len(content) < begin + 10:
        return
    length = int.from_bytes(content[begin + 8 : begin + 10], "little")
    shapes = (
        "(3,)",
        "()",
        "(-1,)",
        "(2, 4, 3)",
        f"({1 << 40},)",
        f"({1 << 62}, 4)",
        "(0, 99999999999)",
        "(True,)",
        "(1.5,)",
        "3",
    )
    pieces = {
        "descr": repr(draw.choice(_DESCRIPTIONS)) if draw.random() < 0.8 else "[('a', '<f4'), ('b', '|O')]",
        "fortran_order": draw.choice(("True", "False", "None")),
        "shape": draw.choice((*shapes, "(" * 190 + ")" * 190, "-" * 900 + "1", "(" + "1," * 70 + ")")),
    }
    text = "{" + ", ".join(f"'{key}': {value}" for key, value in pieces.items()) + "}\n"
    content[begin + 8 : begin + 10 + length] = len(text).to_bytes(2, "little") + text.encode()


class Npy(Loader):
    changes = (_claim,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        logits = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
        arrays = (logits, np.asfortranarray(logits.astype(np.float16)), _LABELS, logits > 3, logits[:, :, 0])
        self.samples = (*map(_saved, arrays), _archive(np.savez), _archive(np.savez_compressed))

    def load(self, content: bytes, number: int) -> None:
        path = self.folder / ("input.npz" if content[:2] == b"PK" else "input.npy")
        path.write_bytes(content)
        every(*_readers(path, _LABELS))


def _saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _archive(save_all: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    logits = np.arange(-12, 12, dtype=np.float32).reshape(2, 4, 3) / 8
    ids = np.array(["a", "c", "b", "d"])
    save_all(file, logits=logits, labels=_LABELS, seeds=np.array([1, 2]), ids=ids, f1=logits[:, :, 0])
    return file.getvalue()
