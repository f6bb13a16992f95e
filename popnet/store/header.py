"""store.json: the format's version, the experiments that were run here, and the digests of their data sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popnet.errors import StoreError
from popnet.store.files import write_aside
from popnet.untrusted.files import read_bytes
from popnet.untrusted.texts import parse_json

FORMAT = 1
"""Raised when the layout changes; a store of another format is refused."""


_MOST_BYTES = 1 << 26


class DamagedHeader(StoreError):
    """store.json cannot be read, or does not match its digest."""


def read_header(folder: Path) -> dict[str, Any]:
    """The content of store.json. Raises StoreError, DamagedHeader among them."""
    path = folder / "store.json"
    remedy = f"`popnet store repair {folder}` writes a new one"
    try:
        header: dict[str, Any] = parse_json(read_bytes(path, _MOST_BYTES))
        version, experiments, recorded = header["format"], header.get("experiments"), header.pop("digest", None)
        digest = _header_digest(header)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedHeader(f"{path}: damaged: {type(error).__name__}: {error}: {remedy}") from None
    if recorded not in (None, digest):
        raise DamagedHeader(f"{path}: damaged: it does not match its digest: {remedy}")
    if version != FORMAT:
        raise StoreError(f"{folder}: store format {version}, but this popnet reads format {FORMAT}")
    if not isinstance(experiments, dict) or not all(map(_is_entry, experiments.values())):
        raise DamagedHeader(f"{path}: damaged: it lists no experiments: {remedy}")
    datasets = header.get("datasets", {})
    if not isinstance(datasets, dict) or not all(isinstance(digest, str) for digest in datasets.values()):
        raise DamagedHeader(f"{path}: damaged: its data sets have no digests: {remedy}")
    return header


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), dict) for key in ("recipe", "experiment"))


def write_header(
    folder: Path, experiments: Mapping[str, Mapping[str, Any]], datasets: Mapping[str, str] | None = None
) -> None:
    header = {"format": FORMAT, "experiments": experiments, "datasets": datasets or {}}
    content = {**header, "digest": _header_digest(header)}
    write_aside(folder / "store.json", (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def _header_digest(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
