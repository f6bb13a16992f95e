"""Data sets and the loaders that turn them into batches."""

from popnet.data.datasets import Availability, Dataset, available, check_name, fetch, from_arrays, load, names

__all__ = ["Availability", "Dataset", "available", "check_name", "fetch", "from_arrays", "load", "names"]
