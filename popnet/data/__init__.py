"""Data sets and the loaders that turn them into batches."""

from popnet.data.datasets import Availability, Dataset, available, check_name, fetch, from_arrays, load, names
from popnet.data.text import Text

__all__ = ["Availability", "Dataset", "Text", "available", "check_name", "fetch", "from_arrays", "load", "names"]
