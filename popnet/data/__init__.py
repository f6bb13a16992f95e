"""Data sets and the loaders that turn them into batches."""

from popnet.data.datasets import (
    Availability,
    Dataset,
    available,
    check_name,
    fetch,
    from_arrays,
    load,
    missing,
    names,
)
from popnet.data.picture_sets import PictureDataset
from popnet.data.text import Text

__all__ = [
    "Availability",
    "Dataset",
    "PictureDataset",
    "Text",
    "available",
    "check_name",
    "fetch",
    "from_arrays",
    "load",
    "missing",
    "names",
]
