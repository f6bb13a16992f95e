"""What a row of a ledger may say: a ledger can come from anybody, and its ids and digests name files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from popnet.config import SOURCES
from popnet.protocol import ORIGINAL, View
from popnet.untrusted.texts import parse_json

HISTORY = ("epoch", "learning_rate", "train_loss", "test_accuracy", "test_cross_entropy")
"""The columns of a member's history."""

STATUSES = ("done", "failed", "damaged")

_MOST_VIEWS = 4096
_LARGEST_OFFSET = 1 << 15
_JSON_CHARACTERS = 1 << 20


def flaw(row: Mapping[str, Any]) -> str | None:
    """What makes a row of members or of a history none that popnet writes, or None; columns may be missing."""
    for column, value in row.items():
        check = _CHECKS.get(column)
        if check is not None and not check(value):
            return f"{str(value)[:50]!r} cannot be the {column} of a member"
    if "status" in row and len(row) > 2 and not COLUMNS.issubset(row):
        return f"a member has no {', '.join(sorted(COLUMNS - set(row)))}"
    return None


@lru_cache(maxsize=1024)
def views_of(text: str | None) -> tuple[View, ...]:
    """The views in a row. Raises ValueError."""
    found = parse_json(text or "[]", _JSON_CHARACTERS)
    if not isinstance(found, list) or len(found) > _MOST_VIEWS or not all(map(_is_view, found)):
        raise ValueError(f"no list of views: {str(text)[:50]!r}")
    return tuple(View(bool(flip), dy, dx) for flip, dy, dx in found) or (ORIGINAL,)


@lru_cache(maxsize=1024)
def versions_of(text: str) -> tuple[tuple[str, str], ...]:
    """The versions of libraries in a row, by name. Raises ValueError."""
    found = parse_json(text, _JSON_CHARACTERS)
    if not isinstance(found, dict) or not all(isinstance(version, str) for version in found.values()):
        raise ValueError(f"no versions by name: {text[:50]!r}")
    return tuple(sorted(found.items()))


def seeds_of(text: Any) -> dict[str, int]:
    """The seeds in a row's identity, by source. Raises ValueError."""
    found = parse_json(text, _JSON_CHARACTERS)
    seeds = found.get("seeds") if isinstance(found, dict) else None
    if not isinstance(seeds, dict) or not all(type(seeds.get(source)) is int for source in SOURCES):
        raise ValueError(f"no identity of a member: {str(text)[:50]!r}")
    return seeds


def _is_view(view: Any) -> bool:
    if not isinstance(view, list) or len(view) != 3:
        return False
    flip, *offsets = view
    return flip in (0, 1) and all(type(n) is int and abs(n) <= _LARGEST_OFFSET for n in offsets)


def _matches(pattern: str, optional: bool = False) -> Callable[[Any], bool]:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None if isinstance(value, str) else optional and value is None


def _reads(parse: Callable[[Any], object], kinds: type | tuple[type, ...]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return isinstance(value, kinds)

    return check


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


_DIGEST = _matches("[0-9a-f]{64}", optional=True)
_NUMBER = _is(int, float, type(None))
_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "id": _matches("[0-9a-f]{24}"),
    "status": STATUSES.__contains__,
    **dict.fromkeys(SOURCES, _matches("[0-9]{1,40}")),
    "replica": lambda value: isinstance(value, int) and value >= 0,
    "onset": lambda value: isinstance(value, int) and value >= 0,
    "recipe": _matches("[0-9a-f]{64}"),
    "identity": _reads(seeds_of, str),
    "views": _reads(views_of, (str, type(None))),
    "labels": _matches("[0-9a-f]{24}", optional=True),
    "accuracy": _NUMBER,
    "cross_entropy": _NUMBER,
    "weights_digest": _DIGEST,
    "predictions_digest": _DIGEST,
    "features_digest": _DIGEST,
    "trajectory_digest": _DIGEST,
    "entry_digest": _DIGEST,
    "fingerprint": _matches("[0-9a-f]{24}:[0-9a-f]{64}", optional=True),
    "error": _is(str, type(None)),
    "seconds": _NUMBER,
    "device": _is(str),
    "versions": _reads(versions_of, str),
    "finished": _is(str),
    "epoch": _is(int),
    **dict.fromkeys(HISTORY[1:], _NUMBER),
}
_ADDED_LATER = {"features_digest", "trajectory_digest", "entry_digest", "fingerprint"}
COLUMNS = frozenset(_CHECKS) - set(HISTORY) - _ADDED_LATER
"""What every ledger says of a member."""
