"""Pairs of sentences as a data set (MRPC and its kind), from local files. Needs `popnet[bert]`.

The engine trains on arrays of bytes with normalisation constants; sentences fit that as they are. Token p of a pair is
"pixel" p of an image of height `length`, width 1 and three channels of a byte each: the low and the high byte of its
number in the vocabulary, and a byte whose bit 0 says which sentence it belongs to and bit 1 that it is one, no padding.
With mean 0 and std 1/255 the model receives those bytes as exact floats, in every precision, and `tokens` puts them
together again. So sentences share everything with images: loaders, seeds, stores, metrics. Augmentation is for images.

    recipe:
      dataset: {import: popnet.data.text_pairs:text_pairs, kwargs: {folder: data/mrpc, tokenizer: models/bert-base}}
      model: {import: popnet.models.bert:bert, kwargs: {folder: models/bert-base}}
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet.data.datasets import Dataset, from_arrays
from popnet.errors import ConfigError, DataError
from popnet.untrusted.texts import parse_json

_NAMES = {
    "train": ("train", "msr_paraphrase_train"),
    "validation": ("validation", "dev", "val"),
    "test": ("test", "msr_paraphrase_test"),
}
_COLUMNS = (("sentence1", "#1 string", "text_a"), ("sentence2", "#2 string", "text_b"), ("label", "quality"))

Pairs = tuple[list[str], list[str], list[int]]


def text_pairs(
    folder: str,
    tokenizer: str,
    length: int = 128,
    evaluate: Literal["validation", "test", "both"] = "both",
    parts: Sequence[Mapping[str, int]] | None = None,
    name: str = "text_pairs",
) -> Dataset:
    """Read and tokenise pairs of sentences with labels.

    Args:
        folder: holds `train`, `validation` (or `dev`) and `test` as `.tsv`, `.csv` or `.jsonl`, with columns sentence1,
            sentence2 and label, or MRPC's own: `#1 String`, `#2 String` and `Quality`.
            Of several files of one split the first that has labels is read.
        tokenizer: a local folder that `transformers` can load a tokenizer from. Nothing is downloaded.
        length: tokens of a pair; longer pairs are cut, the longer sentence first, shorter ones padded.
        evaluate: what is predicted. `both` puts the validation pairs first, then the test pairs.
        parts: how many pairs there are of each, as [{validation: 408}, {test: 1725}]: it is checked, and rows of an
            experiment can be measured on one of them (`part: test`).
        name: what tables call it.

    Raises:
        DataError: a file is missing, a row is incomplete, or there are other pairs than `parts` says; the message names
            it.
        ConfigError: `transformers` is not installed, or there is no tokenizer in the folder.
    """
    root = Path(folder)
    parts_read = ["validation", "test"] if evaluate == "both" else [evaluate]
    train = _read(root, "train")
    tests = [_read(root, part) for part in parts_read]
    _check_parts(root, parts, {part: len(pairs[2]) for part, pairs in zip(parts_read, tests, strict=True)})
    test: Pairs = ([], [], [])
    for first, second, labels in tests:
        test[0].extend(first)
        test[1].extend(second)
        test[2].extend(labels)
    loaded = _tokenizer(tokenizer)
    arrays = [(encode(loaded, first, second, length), np.array(labels)) for first, second, labels in (train, test)]
    byte = (1 / 255,) * 3
    return from_arrays(*arrays[0], *arrays[1], name=name, mean=(0.0, 0.0, 0.0), std=byte)


def _check_parts(folder: Path, parts: Sequence[Mapping[str, int]] | None, found: Mapping[str, int]) -> None:
    told = [{str(name): int(count) for name, count in part.items()} for part in parts or []]
    there = [{name: count} for name, count in found.items()]
    if parts is not None and told != there:
        raise DataError(f"{folder}: holds {there}, and `parts` says {told}: correct `parts`, or bring the other files")


def encode(tokenizer: Any, first: list[str], second: list[str], length: int) -> NDArray[np.uint8]:
    """Pairs of sentences as uint8 [pairs, length, 1, 3]; see the module. `tokenizer`: one of `transformers`."""
    made = tokenizer(first, second, padding="max_length", truncation=True, max_length=length, return_tensors="np")
    ids = np.asarray(made["input_ids"], dtype=np.int64)
    if ids.max() >= 2**16:
        raise DataError(f"the vocabulary holds {int(ids.max()) + 1} tokens or more: at most 65,536 fit two bytes")
    segments = np.asarray(made["token_type_ids"]) if "token_type_ids" in made else np.zeros_like(ids)
    flags = segments + 2 * np.asarray(made["attention_mask"])
    return np.stack([ids % 256, ids // 256, flags], axis=2).astype(np.uint8)[:, :, None, :]


def tokens(batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the model receives, float [batch, 3, length, 1], as ids, segments and mask, each int64 [batch, length]."""
    low, high, flags = batch[..., 0].to(torch.float32).round().long().unbind(dim=1)
    return low + 256 * high, flags % 2, flags // 2


def _tokenizer(folder: str) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise ConfigError("sentence pairs need transformers: pip install 'popnet[bert]'") from None
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: no tokenizer to load here: {' '.join(str(error).split())}") from None


def _read(folder: Path, split: str) -> Pairs:
    found = [
        folder / f"{stem}{suffix}"
        for stem in _NAMES[split]
        for suffix in (".tsv", ".csv", ".jsonl", ".txt")
        if (folder / f"{stem}{suffix}").is_file()
    ]
    if not found:
        raise DataError(f"{folder}: no {split} pairs: a file such as {split}.tsv with sentence1, sentence2 and label")
    file = next((one for one in found if _labelled(one)), found[0])
    rows = _rows(file)
    if not rows:
        raise DataError(f"{file}: holds no pairs")
    pairs: Pairs = ([], [], [])
    for number, row in enumerate(rows, start=1):
        fields = {str(key).strip().lower().lstrip("\ufeff"): value for key, value in row.items() if key is not None}
        values = [next((fields[name] for name in names if fields.get(name) is not None), None) for names in _COLUMNS]
        if any(value is None for value in values):
            raise DataError(f"{file}: pair {number} lacks one of sentence1, sentence2 and label")
        try:
            label = int(values[2])  # type: ignore[arg-type]
        except ValueError:
            raise DataError(f"{file}: pair {number}: the label is {values[2]!r}, not a number") from None
        pairs[0].append(str(values[0]))
        pairs[1].append(str(values[1]))
        pairs[2].append(label)
    return pairs


def _labelled(file: Path) -> bool:
    """Whether the first line names a column of labels: GLUE's own `test.tsv` has none."""
    try:
        with file.open(encoding="utf-8") as lines:
            first = lines.readline().lower()
    except (OSError, ValueError):
        return False
    return any(name in first for name in _COLUMNS[2])


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            if file.suffix == ".jsonl":
                rows = [parse_json(line) for line in lines if line.strip()]
            elif file.suffix == ".csv":
                rows = list(csv.DictReader(lines))
            else:
                rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{file}: pair {number} is no mapping with sentence1, sentence2 and label")
    return rows
