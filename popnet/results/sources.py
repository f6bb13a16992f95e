"""Which form a source has, by its name; `FILE:VALUE` picks one group, row or task of what a file or folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from popnet.errors import DataError

TABLES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet")
ARRAYS = (".npy", ".npz", ".safetensors", ".pt", ".pth")
PICKLES = (".pkl", ".pickle", ".joblib")
LOGS = (".eval",)

Form = Literal["table", "arrays", "evaluation", "store"]


def split(source: str) -> tuple[Path, str | None]:
    """The path and the value of `PATH:VALUE`; a path with a colon that exists is a path."""
    if ":" in source and not Path(source).exists():
        path, _, value = source.partition(":")
        while not Path(path).exists() and ":" in value:  # a colon in the path itself
            more, _, rest = value.partition(":")
            if not Path(f"{path}:{more}").exists():
                break
            path, value = f"{path}:{more}", rest
        return Path(path), value
    return Path(source), None


def suffix(path: Path) -> str:
    """The ending that tells the form, in lower case: that before `.gz` of a compressed file."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] == ".gz":
        endings.pop()
    return endings[-1] if endings else ""


def form_of(path: Path) -> Form:
    """The form of what lies at a path; the name of an experiment, and its file, stand for its store.

    Raises DataError for a pickle, and for a file that is not there or of no known form.
    """
    ending = suffix(path)
    if ending in PICKLES:
        raise DataError(f"{path}: a pickle runs code when it is read: save the arrays as .npz, or the table as .csv")
    if path.is_dir():
        if (path / "store.json").exists():
            return "store"
        return "evaluation" if _is_evaluation(path) else "arrays"
    known = (*TABLES, *ARRAYS, *LOGS)
    if ending in known and not path.exists():
        raise DataError(f"{path}: there is no such file")
    if ending in LOGS or (ending in (".json", ".jsonl") and _is_evaluation(path)):
        return "evaluation"
    if ending in TABLES:
        return "table"
    if ending in ARRAYS:
        return "arrays"
    if path.is_file() and ending not in (".yaml", ".yml"):
        raise DataError(f"{path}: is none of the forms that are read: {', '.join(known)}, a folder of such, or a store")
    return "store"


def form_of_object(source: Any) -> str:
    """The form of what a program holds: `table`, `store`, else `arrays`, to which numbers of each run belong."""
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        return "table"
    if type(source).__module__.startswith(("popnet.store", "popnet.engine")):
        return "store"
    if isinstance(source, list | tuple) and source and all(isinstance(v, Mapping) for v in source):
        return "table"
    return "arrays"


def _is_evaluation(path: Path) -> bool:
    from popnet.results.evaluations.logs import is_evaluation  # which no table of numbers waits for

    return is_evaluation(path)
