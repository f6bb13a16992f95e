"""Where comparisons take their runs from: a store's variant, an experiment that was run, a file of predictions, a CSV.

A source is written as people have it: a folder `runs/base`, one of its rows `runs/base:All Nondeterminism Sources`, an
experiment's name or file (its store is `runs/NAME`), `predictions.npz`, or `results.csv` with a column of numbers.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from popnet import config
from popnet.config import Recipe, Variant
from popnet.errors import ConfigError, DataError, PopnetError, nearest
from popnet.metrics.comparison import Sample, example_losses
from popnet.metrics.populations import finished_members, member_logits, population_logits
from popnet.metrics.stored import stored_plans
from popnet.metrics.theory.packed import PackedErrors, as_array
from popnet.protocol import Member, Population
from popnet.store import Store, load_tensors
from popnet.untrusted.arrays import check_npy_file, check_npz_file

_PREDICTION_FILES = (".npz", ".npy", ".safetensors")
_TABLES = (".csv", ".tsv")
_LOWER_IS_BETTER = ("loss", "error", "entropy", "perplexity", "ppl", "nll")


@dataclass(frozen=True)
class Runs:
    """The runs of one population, reduced to what comparisons need.

    Attributes:
        name: for tables.
        samples: by metric: `accuracy` (percent) and `cross_entropy` (nats) where predictions are known, or a column.
        seeds: what identifies each run's seeds, or None where unknown.
        predictions: the classes predicted, uint8, uint16 or uint32 [members, examples], or None.
        errors: or None.
        labels: int64 [examples], or None.
        classes: how many, or None.
        variant, recipe: of a store's row, else None.
    """

    name: str
    samples: dict[str, Sample]
    seeds: tuple[Hashable, ...] | None = None
    predictions: NDArray[Any] | None = None
    errors: PackedErrors | None = None
    labels: NDArray[np.int64] | None = None
    classes: int | None = None
    variant: Variant | None = None
    recipe: Recipe | None = None

    def matched_to(self, other: Runs) -> Runs | None:
        """These runs in the order of the other's seeds, where both have the same, each once; else None."""
        if self.seeds is None or other.seeds is None or len(set(self.seeds)) < len(self.seeds):
            return None
        if set(self.seeds) != set(other.seeds) or len(self.seeds) != len(other.seeds):
            return None
        order = [self.seeds.index(seed) for seed in other.seeds]
        samples = {
            metric: Sample(sample.values[order], sample.example_means, sample.own_variance)
            for metric, sample in self.samples.items()
        }
        return Runs(self.name, samples, other.seeds, None, None, self.labels, self.classes)


def matched(a: Runs, b: Runs, paired: bool | None) -> tuple[Runs, Runs, bool]:
    """Two sources, the second in the order of the first's seeds where they are to be matched, and whether they are.

    paired: None matches where both have the same seeds, True insists (ConfigError), False never does.
    """
    partner = None if paired is False else b.matched_to(a)
    if partner is None and paired:
        raise ConfigError(f"--paired: the runs of {a.name} and {b.name} do not have the same seeds, each once")
    return (a, b, False) if partner is None else (a, partner, True)


def common_metrics(runs: Sequence[Runs], wanted: Sequence[str] | None) -> list[str]:
    """The metrics that all sources know, or those that are wanted. Raises ConfigError where one is not known to all."""
    known = [metric for metric in runs[0].samples if all(metric in r.samples for r in runs)]
    for metric in wanted or ():
        if metric not in known:
            raise ConfigError(f"metric {metric!r} is not known of every source; {nearest(metric, known)}")
    if not known:
        raise ConfigError(
            f"{' and '.join(r.name for r in runs)} have no metric in common: name a --column that all have"
        )
    return list(wanted or known)


def meaning(metric: str) -> dict[str, Any]:
    """What `compare_samples` needs to know of a metric, judged by its name: its unit, and if more of it is better."""
    lower = any(word in metric.lower() for word in _LOWER_IS_BETTER)
    unit = {"accuracy": "points", "cross_entropy": "nats"}.get(metric, "")
    return {"metric": metric, "unit": unit, "higher_is_better": not lower}


def read(source: str, labels: str | Path | None = None, column: str | None = None, least: int = 2) -> Runs:
    """Read a source.

    Args:
        source: see the module.
        labels: a `.npy` file with the labels, where a file of predictions holds none.
        column: of a CSV file.
        least: how many runs are needed.

    Raises:
        ConfigError, DataError, StoreError: what is wrong with the source, and what to do.
    """
    path, _ = _split(source)
    if path.suffix in _TABLES:
        runs = _read_table(path, column)
    elif path.suffix in _PREDICTION_FILES:
        runs = _read_predictions(path, labels)
    else:
        runs = _read_store(source)
    members = len(next(iter(runs.samples.values())).values)
    if members < least:
        raise DataError(f"{source}: holds {members} finished run(s), and at least {least} are needed")
    return runs


def check_comparable(runs: Iterable[Runs]) -> None:
    """Raises ConfigError where two sources were tested on different labels, which no comparison of means allows."""
    known = [r for r in runs if r.labels is not None]
    for other in known[1:]:
        if not np.array_equal(known[0].labels, other.labels):  # type: ignore[arg-type]
            raise ConfigError(
                f"{known[0].name} and {other.name} were tested on examples with different labels: compare runs on one "
                "test set, in one order"
            )


def from_predictions(
    name: str, blocks: Iterable[NDArray[np.float32]], labels: NDArray[np.int64], seeds: tuple[Hashable, ...] | None
) -> Runs:
    """The runs behind logits [examples, classes], one run at a time, so that no more than one is held in memory."""
    predictions: list[NDArray[Any]] = []
    losses: list[float] = []
    mean = spread = np.zeros(len(labels))
    classes = 0
    for count, logits in enumerate(blocks, start=1):
        classes = logits.shape[1]
        predictions.append(logits.argmax(axis=1).astype(np.min_scalar_type(classes - 1)))
        loss = example_losses(logits, labels)
        losses.append(math.fsum(loss) / len(loss))
        step = loss - mean
        mean = mean + step / count  # Welford's recurrence: the spread of each example's loss in one pass
        spread = spread + step * (loss - mean)
    if not predictions:
        raise DataError(f"{name}: holds no finished run")
    stacked = np.stack(predictions)
    own = float(spread.sum()) / max(len(losses) - 1, 1) / len(labels) ** 2
    errors = PackedErrors.from_predictions(stacked, labels)
    samples = {"accuracy": _accuracies(errors), "cross_entropy": Sample(np.array(losses), mean, own)}
    return Runs(name, samples, seeds, stacked, errors, labels, classes)


def _accuracies(errors: PackedErrors) -> Sample:
    if errors.members > 1:
        return Sample.of_errors(errors)
    counts = errors.example_counts()
    accuracies = 100.0 * (1.0 - errors.member_counts() / errors.examples)
    return Sample(np.asarray(accuracies), 100.0 * (1.0 - counts.astype(np.float64)), 0.0)


def _split(source: str) -> tuple[Path, str | None]:
    """The path and the variant of `PATH:VARIANT`; a path with a colon that exists is a path."""
    if ":" in source and not Path(source).exists():
        path, _, variant = source.partition(":")
        return Path(path), variant
    return Path(source), None


# Tables of numbers, one row for each run.


def _read_table(path: Path, column: str | None) -> Runs:
    try:
        table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table: {error}") from None
    numeric = [str(name) for name in table.select_dtypes("number").columns if str(name) not in ("seed", "run")]
    if column is None and len(numeric) != 1:
        raise ConfigError(
            f"{path}: say which column to compare with --column: {', '.join(numeric) or 'none is numeric'}"
        )
    name = numeric[0] if column is None else column
    if name not in numeric:
        raise ConfigError(f"{path}: no numeric column {name!r}; {nearest(name, numeric)}")
    values = table[name].to_numpy(np.float64)
    if not np.isfinite(values).all():
        raise DataError(
            f"{path}: column {name!r}, row {int(np.flatnonzero(~np.isfinite(values))[0]) + 1} is not finite"
        )
    seeds = tuple(table["seed"].tolist()) if "seed" in table else None
    return Runs(path.name, {name: Sample(values)}, seeds)


# Files of predictions.


def _read_predictions(path: Path, labels: str | Path | None) -> Runs:
    arrays = _arrays(path)
    truth = arrays.get("labels")
    if labels is not None:
        truth = next(iter(_arrays(Path(labels)).values()))
    seeds = tuple(arrays["seeds"].tolist()) if "seeds" in arrays else None
    key = next((k for k in ("logits", "predictions", "errors", "array") if k in arrays), None)
    if key is None:
        raise DataError(f"{path}: holds none of the arrays logits, predictions and errors, but {', '.join(arrays)}")
    array = arrays[key]
    try:
        if array.dtype == np.bool_:
            errors = PackedErrors.pack(array)
            return Runs(path.name, {"accuracy": _accuracies(errors)}, seeds, None, errors)
        if truth is None:
            raise DataError(f"{path}: holds no labels: give them with --labels labels.npy")
        if truth.ndim != 1 or truth.dtype.kind not in "iuf":
            raise DataError(f"{path}: labels must be integers [examples], but are {truth.dtype} {list(truth.shape)}")
        truth = as_array(truth).astype(np.int64)
        if array.ndim == 3 and array.dtype.kind == "f":
            if array.shape[1] != truth.size or truth.min() < 0 or truth.max() >= array.shape[2]:
                raise DataError(f"{path}: logits {list(array.shape)} do not fit the {truth.size} labels")
            return from_predictions(path.name, iter(array.astype(np.float32)), truth, seeds)
        errors = PackedErrors.from_predictions(array, truth)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    classes = int(max(array.max(), truth.max())) + 1
    return Runs(path.name, {"accuracy": _accuracies(errors)}, seeds, array, errors, truth, classes)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        if path.suffix == ".safetensors":
            tensors = load_tensors(path)
            return {k: (v.float() if v.dtype == torch.bfloat16 else v).numpy() for k, v in tensors.items()}
        if path.suffix == ".npy":
            check_npy_file(path)
            return {"array": np.load(path, allow_pickle=False)}
        check_npz_file(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except PopnetError:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # encrypted, too
        raise DataError(f"{path}: cannot be read: {error}") from None


# Stores.


def stored_population(source: str) -> tuple[Store, Population, list[Member]]:
    """The store and the row that a source names, and the row's finished members, at least one."""
    path, variant = _split(source)
    experiment: str | None = None
    if not (path / "store.json").exists():
        if path.is_dir():
            raise DataError(f"{path}: no popnet store, and no file of predictions or numbers")
        experiment = config.load(path, allow_import=True).name  # nothing is trained
        path = Path("runs") / experiment
        if not (path / "store.json").exists():
            raise DataError(
                f"{source}: not trained yet: no store in {path}; `popnet run {source.partition(':')[0]}` makes it"
            )
    store = Store(path)
    population = named_population(store, variant, source, experiment)
    members = finished_members(population, store.done())
    if not members:
        raise DataError(f"{source}: no run of {population.name!r} is finished")
    return store, population, members


def _read_store(source: str) -> Runs:
    store, population, members = stored_population(source)
    truth = store.labels(members[0].id)
    seeds: tuple[Hashable, ...] | None = tuple((*m.seeds.items(), m.replica) for m in members)
    if population.variant.ensemble > 1:
        blocks: Iterator[NDArray[np.float32]] = iter(population_logits(store, population, members))
        seeds = None
    else:
        blocks = (member_logits(store, m, population) for m in members)
    runs = from_predictions(f"{store.path}:{population.name}", blocks, truth, seeds)
    return replace(runs, variant=population.variant, recipe=members[0].recipe)


def named_population(store: Store, variant: str | None, source: str, experiment: str | None = None) -> Population:
    """The row called `variant` of a store, as the platform that trained it knows its members; None: the only row.

    Raises ConfigError, which begins with `source`, where there is no such row, or more than one.
    """
    populations = [
        population
        for plan in stored_plans(store)
        if experiment in (None, plan.experiment.name)
        for population in plan.populations
    ]
    names = [population.name for population in populations]
    if variant is None:
        if len(names) == 1:
            return populations[0]
        raise ConfigError(f'{source}: holds {len(names)} rows: name one, as in "{source}:{names[0]}"; {_listed(names)}')
    found = [population for population in populations if population.name == variant]
    if not found:
        raise ConfigError(f"{source}: no row is called {variant!r}; {nearest(variant, names)}")
    done = store.done()
    found.sort(key=lambda population: -len(finished_members(population, done)))
    if len(found) > 1 and found[0].members[0].recipe != found[1].members[0].recipe:
        raise ConfigError(
            f"{source}: {len(found)} experiments in this store have a row {variant!r}: keep them in stores of their own"
        )
    return found[0]


def _listed(names: list[str]) -> str:
    return "known: " + ", ".join(names)
