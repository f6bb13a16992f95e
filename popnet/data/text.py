"""A text as word numbers: what a language model trains on.

Words are what white space separates; `<eos>` closes each line, and nothing else writes it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from popnet.errors import DataError

END_OF_LINE = "<eos>"
UNKNOWN = "<unk>"

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Text:
    """Three parts of one text over one vocabulary.

    Attributes:
        name: what tables call it; not part of the digest.
        train_tokens, validation_tokens, test_tokens: int32 [n], positions in the vocabulary.
        vocabulary: the types, each once; of a text in files, in the order in which its training part first uses them.
    """

    name: str
    train_tokens: NDArray[np.int32]
    validation_tokens: NDArray[np.int32]
    test_tokens: NDArray[np.int32]
    vocabulary: tuple[str, ...]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the three arrays with their lengths and the vocabulary; in hexadecimal.

        Computed once: do not write into the arrays.
        """
        state = hashlib.sha256()
        for tokens in (self.train_tokens, self.validation_tokens, self.test_tokens):
            state.update(f"{len(tokens)};".encode())
            state.update(np.ascontiguousarray(tokens, dtype="<i4").data)
        state.update("\n".join(self.vocabulary).encode())
        return state.hexdigest()


def from_lines(lines: Mapping[str, Iterable[str]], name: str, places: Mapping[str, str] | None = None) -> Text:
    """Number the words of a text.

    A word of the validation or test part that the training part lacks becomes `<unk>`, where the training part has one.

    Args:
        lines: of `train`, `validation` and `test`, without line ends. An empty line is an `<eos>` alone.
        name: what tables call the text.
        places: what errors call each part, such as its file; its name if not given.

    Raises:
        DataError: naming part and line: an empty part, an `<eos>` inside a line, or a word that the training part
            lacks, which has no `<unk>` either.
    """
    called = {split: f"{name}, {split} part" for split in SPLITS} if places is None else places
    numbers: dict[str, int] = {}
    tokens = {}
    for split in SPLITS:
        tokens[split] = _encode(lines[split], numbers, called[split], grow=split == "train")
        if not tokens[split].size:
            raise DataError(f"{called[split]}: holds no text")
    return Text(name, tokens["train"], tokens["validation"], tokens["test"], tuple(numbers))


def _encode(lines: Iterable[str], numbers: dict[str, int], place: str, grow: bool) -> NDArray[np.int32]:
    """int32 [tokens]; enters new words into `numbers` where it may `grow`."""
    encoded: list[int] = []
    unknown = numbers.get(UNKNOWN)
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if END_OF_LINE in words:
            raise DataError(f"{place}, line {number}: holds {END_OF_LINE}, which popnet adds to every line: remove it")
        for word in (*words, END_OF_LINE):
            found = numbers.setdefault(word, len(numbers)) if grow else numbers.get(word, unknown)
            if found is None:
                raise DataError(
                    f"{place}, line {number}: the training part lacks the word {word!r}: write {UNKNOWN} for rare words"
                    " in all three parts"
                )
            encoded.append(found)
    return np.array(encoded, dtype=np.int32)
