"""Texts in three files of a folder: anyone's, and the Penn Treebank of Mikolov's preparation.

Nothing here downloads: the treebank is licensed, and its common preparation is part of another program's examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from popnet.data.files import default_root, root_named
from popnet.data.text import SPLITS, Text, from_lines
from popnet.errors import DataError

FILES = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}
TREEBANK_FILES = {split: f"ptb.{name}" for split, name in FILES.items()}

TREEBANK_TOKENS = {"train": 929_589, "validation": 73_760, "test": 82_430}
"""Words and ends of lines of each part."""
TREEBANK_TYPES = 10_000

HOW_TO_GET_TREEBANK = (
    "get simple-examples.tgz, the examples of Mikolov's RNNLM toolkit, whose folder data holds "
    f"{', '.join(TREEBANK_FILES.values())}, and put these three into {{folder}}"
)


def read_folder(folder: Path, name: str, files: Mapping[str, str] = FILES) -> Text:
    """Read a word-level text: one sentence a line, words separated by spaces, UTF-8.

    Raises:
        DataError: a file is missing, is not UTF-8 or holds no text, naming it; or as `from_lines` says.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder: a text is a folder that holds {', '.join(files.values())}")
    missing = [file for file in files.values() if not (folder / file).is_file()]
    if missing:
        raise DataError(f"{folder}: lacks {', '.join(missing)}: a text needs {', '.join(files.values())}")
    paths = {split: folder / file for split, file in files.items()}
    return from_lines(
        {split: _lines(path) for split, path in paths.items()},
        name,
        {split: str(path) for split, path in paths.items()},
    )


def treebank_search_path(root: Path | None) -> list[Path]:
    """The folders that may hold the treebank's files, in order; a root that the caller names comes alone."""
    base = default_root() if root is None else root
    folders = [base / "ptb", base / "simple-examples" / "data"]
    return folders if root is None else [*folders, root]


def locate_treebank(root: Path | None) -> Path | None:
    """The first folder of the search path that holds all three files, unread; or None."""
    for folder in treebank_search_path(root):
        if all((folder / file).is_file() for file in TREEBANK_FILES.values()):
            return folder
    return None


def how_to_get_treebank(root: Path | None) -> str:
    return HOW_TO_GET_TREEBANK.format(folder=treebank_search_path(root)[0])


def not_found_treebank(root: Path | None) -> str:
    """The sentence that says where it was looked for, or what is missing there, and how to get it."""
    places = treebank_search_path(root)
    for place in places:
        lacking = [file for file in TREEBANK_FILES.values() if not (place / file).is_file()]
        if len(lacking) < len(TREEBANK_FILES):
            return f"data set 'ptb' is incomplete in {place}, which lacks {', '.join(lacking)}"
    where = " and ".join(map(str, places))
    return f"data set 'ptb' was not found in {where}: {how_to_get_treebank(root)}{root_named(root)}"


def read_treebank(root: Path | None) -> Text:
    """The Penn Treebank in Mikolov's preparation, checked by its sizes.

    Raises:
        DataError: missing (says where it was looked for and where to get it), or of other sizes, naming the file.
    """
    folder = locate_treebank(root)
    if folder is None:
        raise DataError(not_found_treebank(root))
    text = read_folder(folder, "ptb", TREEBANK_FILES)
    parts = (text.train_tokens, text.validation_tokens, text.test_tokens)
    for split, tokens in zip(SPLITS, parts):
        if len(tokens) != TREEBANK_TOKENS[split]:
            raise DataError(
                f"{folder / TREEBANK_FILES[split]}: holds {len(tokens):,} words and ends of lines, and Mikolov's "
                f"preparation {TREEBANK_TOKENS[split]:,}: {how_to_get_treebank(root)}"
            )
    if len(text.vocabulary) != TREEBANK_TYPES:
        raise DataError(
            f"{folder / TREEBANK_FILES['train']}: holds {len(text.vocabulary):,} different words, and Mikolov's "
            f"preparation {TREEBANK_TYPES:,}, <eos> included: {how_to_get_treebank(root)}"
        )
    return text


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text: {error.reason}") from None
    return lines[:-1] if not lines[-1] else lines
