"""Texts: numbers of words, the treebank's checks, the offline corpus, and every error's message."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from popnet import data
from popnet.data import bible, text_files
from popnet.data.text import Text, from_lines
from popnet.errors import ConfigError, DataError

FILES = ("train.txt", "valid.txt", "test.txt")


@pytest.fixture(name="root")
def _default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    root = tmp_path / "data"
    monkeypatch.setenv("POPNET_DATA", str(root))
    return root


def write(folder: Path, train: str, valid: str, test: str, prefix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(FILES, (train, valid, test)):
        (folder / f"{prefix}{name}").write_text(content, encoding="utf-8")
    return folder


def words(text: Text, tokens: np.ndarray) -> str:
    return " ".join(text.vocabulary[token] for token in tokens)


# Numbers of words.


def test_words_become_numbers_and_lines_end(tmp_path: Path) -> None:
    text = data.load("text", path=str(write(tmp_path, " a b a \n\n c <unk> \n", "b z", "c\r\na\n")))
    assert text.vocabulary == ("a", "b", "<eos>", "c", "<unk>")
    assert text.train_tokens.tolist() == [0, 1, 0, 2, 2, 3, 4, 2]
    assert words(text, text.validation_tokens) == "b <unk> <eos>"
    assert words(text, text.test_tokens) == "c <eos> a <eos>"
    assert {tokens.dtype for tokens in (text.train_tokens, text.validation_tokens, text.test_tokens)} == {
        np.dtype(np.int32)
    }


def test_a_mapping_names_the_text_too(tmp_path: Path) -> None:
    write(tmp_path, "a b\n", "a\n", "b\n")
    one = data.load({"name": "text", "path": str(tmp_path)})
    assert isinstance(one, Text)
    assert one.digest == data.load("text", path=str(tmp_path)).digest


def test_digest_sees_words_and_parts() -> None:
    def digest(train: str, validation: str, test: str) -> str:
        return from_lines({"train": [train], "validation": [validation], "test": [test]}, "any").digest

    digests = {digest("a b", "a", "b"), digest("a c", "a", "c"), digest("a b", "b", "a"), digest("a b", "a a", "b")}
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("train", "valid", "test", "message"),
    [
        ("a b\n", "a\nb zoo\n", "a\n", "valid.txt, line 2: the training part lacks the word 'zoo': write <unk>"),
        ("a\nb <eos>\n", "a\n", "a\n", "train.txt, line 2: holds <eos>, which popnet adds to every line: remove it"),
        ("a\n", "a\n", "", "test.txt: holds no text"),
    ],
)
def test_malformed_texts(tmp_path: Path, train: str, valid: str, test: str, message: str) -> None:
    write(tmp_path, train, valid, test)
    with pytest.raises(DataError, match=message):
        data.load("text", path=str(tmp_path))


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such folder: a text is a folder that holds train.txt, valid.txt"):
        data.load("text", path=str(tmp_path / "none"))
    (write(tmp_path, "a\n", "a\n", "a\n") / "valid.txt").unlink()
    with pytest.raises(DataError, match=r"lacks valid.txt: a text needs train.txt, valid.txt, test.txt"):
        data.load("text", path=str(tmp_path))
    (tmp_path / "valid.txt").write_bytes(b"a\nb \xff\n")
    with pytest.raises(DataError, match=r"valid.txt, line 2: not UTF-8 text"):
        data.load("text", path=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("text", {}, "'text' needs the option 'path'"),
        ("text", {"pat": "x"}, "no option 'pat': did you mean 'path'"),
        ("ptb", {"mean": [0.5]}, "no option 'mean': it has none"),
        ("synthetic_text", {"types": 1}, "types must be an integer from 2, not 1"),
        ("synthetic_text", {"train": True}, "train must be an integer from 1, not True"),
        ({"path": "x"}, {}, "a data set needs a name"),
    ],
)
def test_wrong_options(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data.load(name, **options)


# The treebank.


def treebank(root: Path, monkeypatch: pytest.MonkeyPatch, tokens: dict[str, int], types: int) -> None:
    """Three small files where the treebank is looked for, and the sizes that are expected of it."""
    write(root / "simple-examples" / "data", " the <unk> N \n the end \n", " the N \n", " end \n", prefix="ptb.")
    monkeypatch.setattr(text_files, "TREEBANK_TOKENS", tokens)
    monkeypatch.setattr(text_files, "TREEBANK_TYPES", types)


def test_treebank_sizes_are_the_published_ones() -> None:
    assert text_files.TREEBANK_TOKENS == {"train": 929_589, "validation": 73_760, "test": 82_430}
    assert text_files.TREEBANK_TYPES == 10_000


def test_treebank_as_the_archive_unpacks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    treebank(root, monkeypatch, {"train": 7, "validation": 3, "test": 2}, 5)
    text = data.load("ptb")
    assert (text.name, len(text.train_tokens), len(text.vocabulary)) == ("ptb", 7, 5)
    assert data.available()["ptb"] == data.Availability(True, str(root / "simple-examples" / "data"))
    assert data.load("ptb", root=root / "simple-examples" / "data").digest == text.digest


@pytest.mark.parametrize(
    ("tokens", "types", "message"),
    [
        ({"train": 7, "validation": 4, "test": 2}, 5, "ptb.valid.txt: holds 3 words and ends of lines, and .* 4: get"),
        ({"train": 7, "validation": 3, "test": 2}, 9, "ptb.train.txt: holds 5 different words, and .* 9, <eos>"),
    ],
)
def test_another_text_in_the_treebanks_place(
    root: Path, monkeypatch: pytest.MonkeyPatch, tokens: dict[str, int], types: int, message: str
) -> None:
    treebank(root, monkeypatch, tokens, types)
    with pytest.raises(DataError, match=message):
        data.load("ptb")


def test_treebank_missing_or_incomplete(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as missing:
        data.load("ptb")
    assert str(root / "ptb") in str(missing.value)
    assert "get simple-examples.tgz" in str(missing.value)
    assert data.available()["ptb"].where.startswith("get simple-examples.tgz, the examples of Mikolov's RNNLM toolkit")
    with pytest.raises(DataError, match=r"not downloaded by popnet: get simple-examples.tgz"):
        data.fetch("ptb")
    (write(root / "ptb", "a\n", "a\n", "a\n", prefix="ptb.") / "ptb.test.txt").unlink()
    with pytest.raises(DataError, match=r"incomplete in .*ptb, which lacks ptb.test.txt"):
        data.load("ptb")


# The text of Debian's package.


def test_cleaning_follows_the_treebank() -> None:
    verse = "And the king's word, (a two-edged sword--;) of 1,600 furlongs; the sons' LORD."
    assert " ".join(bible.clean(verse)) == "and the king 's word a two-edged sword of N furlongs the sons ' lord"


def test_split_by_chapters_and_rare_words() -> None:
    printed = [f"Ge{chapter}:{verse} word{chapter} common" for chapter in range(1, 27) for verse in (1, 2)]
    parts = bible.split_chapters(line.replace("word", "w" * int(line[2:4].rstrip(":"))) for line in printed)
    assert [len(parts[split]) for split in ("train", "validation", "test")] == [44, 4, 4]
    assert parts["validation"][0][0].startswith("w" * 7)
    assert parts["test"][0][0].startswith("w" * 13)
    lines = bible.with_rare_words_unknown({"train": [["b", "b", "c", "a"]], "validation": [["a"]], "test": [["c"]]}, 4)
    assert lines == {"train": ["b b <unk> a"], "validation": ["a"], "test": ["<unk>"]}


def test_bible_without_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    message = "`bible` prints, which is not here: get it with `apt-get install bible-kjv`"
    with pytest.raises(DataError, match=message):
        data.load("bible")
    assert data.available()["bible"] == data.Availability(False, "get it with `apt-get install bible-kjv`")
    with pytest.raises(DataError, match="apt-get install bible-kjv"):
        data.fetch("bible")


@pytest.mark.parametrize(
    ("script", "message"),
    [("echo Ge1:1 Other", "prints another text"), ("echo no data >&2; exit 3", "failed with exit code 3: no data")],
)
def test_bible_of_another_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, message: str) -> None:
    program = tmp_path / "bible"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DataError, match=message):
        data.load("bible")


@pytest.mark.skipif(shutil.which("bible") is None, reason="needs Debian's package bible-kjv")
def test_bible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bible.data").write_text("another text in the current folder")
    monkeypatch.chdir(tmp_path)
    text = data.load("bible")
    assert text.digest == "fe8276f82d8e66e1fcce61c77a922e76e088379fbe8e36dad11f1d85ef57c1ad"
    parts = (text.train_tokens, text.validation_tokens, text.test_tokens)
    assert [len(tokens) for tokens in parts] == [696_408, 61_886, 64_438]
    assert len(text.vocabulary) == 10_000
    assert set(text.train_tokens.tolist()) == set(range(10_000))
    assert words(text, text.train_tokens[:11]) == "in the beginning god created the heaven and the earth <eos>"


# The generated text.


def test_synthetic_text_is_a_function_of_its_arguments() -> None:
    small = data.load("synthetic_text", train=100, validation=20, test=30, types=7, seed=5)
    large = data.load("synthetic_text", train=300, validation=20, test=30, types=7, seed=5)
    assert np.array_equal(small.train_tokens, large.train_tokens[:100])
    assert np.array_equal(small.test_tokens, large.test_tokens)
    assert small.train_tokens.tolist()[:20] != small.test_tokens.tolist()[:20]
    assert len(small.vocabulary) == 7
    assert small.digest != data.load("synthetic_text", train=100, validation=20, test=30, types=7, seed=6).digest
    assert data.load("synthetic_text").digest == "afb186628436ac463e2b993d42f6f4d81406d42ec52ce025ade71a648d79571f"


def test_synthetic_text_can_be_learned() -> None:
    """The word before tells more than the words' frequencies, and these more than nothing."""
    text = data.load("synthetic_text", types=20)
    types = len(text.vocabulary)
    unigram = np.bincount(text.train_tokens, minlength=types) + 1.0
    bigram = np.ones((types, types))
    np.add.at(bigram, (text.train_tokens[:-1], text.train_tokens[1:]), 1)
    before, after = text.test_tokens[:-1], text.test_tokens[1:]
    by_frequency = np.exp(-np.log((unigram / unigram.sum())[after]).mean())
    by_pair = np.exp(-np.log((bigram / bigram.sum(axis=1, keepdims=True))[before, after]).mean())
    assert by_pair < 0.7 * by_frequency < 0.7 * types
