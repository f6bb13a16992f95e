"""The texts by name: how each is loaded, and whether it is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from popnet.data import bible, text_files
from popnet.data.synthetic_text import make_text
from popnet.data.text import Text

TextName = Literal["bible", "ptb", "synthetic_text", "text"]


@dataclass(frozen=True)
class Corpus:
    """A text that `popnet.data.load` knows.

    Attributes:
        load: called with the root (or None) and the text's own options.
        locate: where it was found below a root, or None.
        how_to_get: one clause.
    """

    load: Callable[..., Text]
    locate: Callable[[Path | None], str | None]
    how_to_get: Callable[[Path | None], str]


def _ptb(root: Path | None) -> Text:
    return text_files.read_treebank(root)


def _bible(root: Path | None) -> Text:
    return bible.bible()


def _text(root: Path | None, path: str) -> Text:
    folder = Path(path).expanduser()
    return text_files.read_folder(folder if root is None else root / folder, "text")


def _synthetic_text(
    root: Path | None, train: int = 4000, validation: int = 500, test: int = 500, types: int = 50, seed: int = 1
) -> Text:
    return make_text(train, validation, test, types, seed)


def _treebank_folder(root: Path | None) -> str | None:
    found = text_files.locate_treebank(root)
    return None if found is None else str(found)


CORPORA: dict[str, Corpus] = {
    "bible": Corpus(_bible, lambda root: bible.find_program(), lambda root: bible.HOW_TO_GET),
    "ptb": Corpus(_ptb, _treebank_folder, text_files.how_to_get_treebank),
    "synthetic_text": Corpus(_synthetic_text, lambda root: "built in", lambda root: "built in"),
    "text": Corpus(
        _text,
        lambda root: f"any folder with {', '.join(text_files.FILES.values())}: name it as `path`",
        lambda root: "",
    ),
}
