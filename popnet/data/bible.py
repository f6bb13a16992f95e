"""The King James Bible in the Penn Treebank's format, made offline from Debian's package `bible-kjv`.

A public-domain text of the treebank's size and kind of cleaning: lower case, no punctuation, possessives apart
(`king 's`), `N` for a number in digits (this text spells all of its numbers), one verse a line, and the commonest words
as a vocabulary of 10,000 types, `<unk>` for the others. Of every 13 chapters the 7th is for validation and the 13th for
testing, so that each part draws on all books in whole chapters, and the parts' sizes relate about as the treebank's.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable

from popnet.data.text import END_OF_LINE, SPLITS, UNKNOWN, Text, from_lines
from popnet.errors import DataError

PROGRAM = "bible"
HOW_TO_GET = "get it with `apt-get install bible-kjv`"
TYPES = 10_000
NUMBER = "N"

PRINTED_DIGEST = "cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d"
"""SHA-256 of what the program prints: 31,102 verses, one a line, each after its reference."""

_COMMAND = ("-f", "-p", "/usr/lib", "Gen1:1-Rev22:21")  # -f: no layout; -p: the package's text, whatever lies around
_SECONDS = 60
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*|'s\b|'|\d[\d.,]*")
_CYCLE, _VALIDATION, _TEST = 13, 6, 12


def bible() -> Text:
    """The text, cleaned and split.

    Raises:
        DataError: the program is missing (says how to get it), fails, or prints another text.
    """
    return from_lines(with_rare_words_unknown(split_chapters(_printed().splitlines()), TYPES), "bible")


def find_program() -> str | None:
    """The path of the program that prints the text; None where it is not installed."""
    return shutil.which(PROGRAM)


def clean(verse: str) -> list[str]:
    """The words of a verse in the treebank's format."""
    return [NUMBER if word[0].isdigit() else word for word in _WORD.findall(verse.lower())]


def split_chapters(printed: Iterable[str]) -> dict[str, list[list[str]]]:
    """Lines such as `Ge1:1 In the beginning ...` as the cleaned verses of each part, in the text's order."""
    parts: dict[str, list[list[str]]] = {split: [] for split in SPLITS}
    chapter, number = "", -1
    for line in printed:
        reference, _, verse = line.partition(" ")
        if reference.partition(":")[0] != chapter:
            chapter, number = reference.partition(":")[0], number + 1
        place = number % _CYCLE
        split = "validation" if place == _VALIDATION else "test" if place == _TEST else "train"
        parts[split].append(clean(verse))
    return parts


def with_rare_words_unknown(parts: dict[str, list[list[str]]], types: int) -> dict[str, list[str]]:
    """The lines of each part with the words that the training part uses most, and `<unk>` for the others.

    The vocabulary has `types` entries with `<unk>` and `<eos>`; among equally frequent words the alphabet decides.
    """
    counts = Counter(word for verse in parts["train"] for word in verse)
    reserved = len((UNKNOWN, END_OF_LINE))
    known = set(sorted(counts, key=lambda word: (-counts[word], word))[: types - reserved])
    return {
        split: [" ".join(word if word in known else UNKNOWN for word in verse) for verse in verses]
        for split, verses in parts.items()
    }


def _printed() -> str:
    program = find_program()
    if program is None:
        raise DataError(
            f"data set 'bible' is made from what the program `{PROGRAM}` prints, which is not here: {HOW_TO_GET}"
        )
    try:
        done = subprocess.run(
            [program, *_COMMAND], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"data set 'bible': {program} could not be run: {error}") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise DataError(f"data set 'bible': {program} failed with exit code {done.returncode}: {said}: {HOW_TO_GET}")
    found = hashlib.sha256(done.stdout).hexdigest()
    if found != PRINTED_DIGEST:
        raise DataError(
            f"data set 'bible': {program} prints another text (digest {found[:12]}, not {PRINTED_DIGEST[:12]}) than "
            f"Debian's bible-kjv 4.38: {HOW_TO_GET}"
        )
    return done.stdout.decode("ascii")
