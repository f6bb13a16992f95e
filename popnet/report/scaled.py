"""How an experiment, as it was run, departs from the published one: fewer members or epochs, other data, proxies."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from popnet import config
from popnet.config import Component, Experiment, Recipe, Variant
from popnet.errors import ConfigError

UNKNOWN_TABLE = "no shipped experiment reproduces this table, so what departs from it is not known"

_JPEG_COPY = "9f0a079a3bafe47b86a88f11a86468ba317d971e8b859134b26c288d27fb2265"
"""The digest of CIFAR-10 as JPEGs of quality 75, in the row order of its Parquet files."""

_SAME_PICTURES = {"copy", "root"}
"""Arguments of a data set that say where its pictures lie, or that they are a copy: not which pictures they are."""

_UNSAID = {"keep", "evaluate_every", "evaluation_batch", "threads", "loader", "features"}
"""Keys of a recipe that change no number of a table."""


def departures(experiment: Experiment, data: str = "") -> list[str]:
    """One phrase for each departure from the shipped experiment that reproduces the same table; empty where none.

    data: what the store knows the data set as (see `data_name`).
    """
    full = original(experiment)
    return [] if full is None or full == experiment else list(_departures(experiment, full, data))


def departs_from(experiment: Experiment) -> str:
    """What the `departures` are from, as the heading above them: the published experiment, or one only shipped."""
    full = original(experiment)
    return "Not the published experiment in full" if full is not None and full.published else "Not as shipped"


def proxy(experiment: Experiment) -> str:
    """That low-level nondeterminism is by its seeded proxy, in a sentence; empty where it is not, or does not vary."""
    varied = {source for variant in experiment.variants for source in variant.sources}
    if "kernels" not in varied or experiment.recipe.kernels.mode != "reorder":
        return ""
    return "Low-level nondeterminism is that of its seeded proxy: the order of the examples inside each batch."


def original(experiment: Experiment) -> Experiment | None:
    """The shipped experiment of the same name, else that of the same published tables with the most work."""
    tables = set(experiment.published)
    same = shipped(experiment.name)
    return same or max((other for other in _shipped() if tables & set(other.published)), key=_work, default=None)


@cache
def paper_experiment(reference: str) -> Experiment | None:
    """The shipped experiment that reproduces a published table at full size; None where there is none."""
    return max((other for other in _shipped() if reference in other.published), key=_work, default=None)


@cache
def shipped(name: str) -> Experiment | None:
    """The shipped experiment of that name; None where it cannot be read here."""
    return next((other for other in _shipped() if other.name == name), None)


def data_name(dataset: Component, digest: str | None = None) -> str:
    """A data set in words: its name with its arguments; of CIFAR-10's copies, what they are.

    digest: the data set's, where a store knows it.
    """
    if dataset.name == "cifar10" and dataset.kwargs.get("copy"):
        return "CIFAR-10, JPEG copy" if digest == _JPEG_COPY else "CIFAR-10, own copy"
    return dataset.identity


def other_kind(mine: Recipe, theirs: Recipe) -> str:
    """Why numbers of one recipe cannot be set against those of another at all: other data, or another model.

    Empty where both have the same model and the same pictures, or a copy of them; rate, epochs and the like may differ.
    """
    if not _same_data(mine.dataset, theirs.dataset):
        label, paper = mine.dataset.label, theirs.dataset.label
        which = data_name(mine.dataset) if label == paper else label
        return f"other data: {which}, and the paper's are {paper}"
    if _fewer(mine, theirs):
        return f"other data: {mine.train_examples:,} of the training images"
    if mine.model != theirs.model:
        return f"another model: {mine.model.identity}, and the paper's is {theirs.model.identity}"
    return ""


def other_than(experiment: Experiment, reference: str, variant: Variant | None = None) -> str:
    """Why a published table cannot be set beside an experiment's own: see `other_kind`; empty where it can.

    variant: of which row this is asked; of a row of the experiment's own recipe by default.
    """
    full = paper_experiment(reference)
    if full is None:
        return UNKNOWN_TABLE
    recipe = experiment.recipe if variant is None else experiment.recipe_of(variant)
    theirs = next((one for one in full.variants if variant is not None and one.name == variant.name), None)
    return other_kind(recipe, full.recipe if theirs is None else full.recipe_of(theirs))


def same_images(mine: Recipe, theirs: Recipe) -> bool:
    """Whether two recipes train on the same images, a copy counting as the same."""
    return _same_data(mine.dataset, theirs.dataset) and mine.train_examples == theirs.train_examples


def training_departures(mine: Recipe, theirs: Recipe, data: str = "", *, stand_ins: bool = True) -> list[str]:
    """One phrase for each way in which a training departs from a published one, its data and model included.

    stand_ins: whether a copy of the same pictures, and low-level nondeterminism by its proxy, are departures.
    """
    if not stand_ins:
        kernels = mine.kernels.model_copy(update={"mode": theirs.kernels.mode})
        dataset = theirs.dataset if _same_data(mine.dataset, theirs.dataset) else mine.dataset
        mine = mine.model_copy(update={"kernels": kernels, "dataset": dataset})
    return list(_of_training(mine, theirs, data or data_name(mine.dataset)))


def row_departures(mine: Variant, theirs: Variant) -> list[str]:
    """How a row departs from the shipped row of its name: what varies in it, and how it is looked at."""
    before, after = theirs.model_dump(by_alias=True), mine.model_dump(by_alias=True)
    if "bit" not in mine.sources:
        before["perturbation"] = after["perturbation"]
    said = {"name", "population", "recipe"}
    return [text for key in before if key not in said for text in _differences(key, after[key], before[key])]


def _work(experiment: Experiment) -> int:
    return experiment.population * experiment.recipe.epochs


@cache
def _shipped() -> tuple[Experiment, ...]:
    folders = (Path(config.__file__).parent / "experiments", Path(config.__file__).parent.parent / "experiments")
    files = {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}
    loaded = []
    for path in files.values():
        try:
            loaded.append(config.load(path, allow_import=True))  # nothing is trained
        except ConfigError:  # a file that imports what is not installed here describes no table we could know
            continue
    return tuple(loaded)


def _departures(experiment: Experiment, full: Experiment, data: str) -> Iterator[str]:
    yield from _of_training(experiment.recipe, full.recipe, data or data_name(experiment.recipe.dataset))
    if experiment.population != full.population:
        yield f"members a row: {experiment.population:,} instead of {full.population:,}"
    rows = {variant.name: variant for variant in full.variants}
    for variant in experiment.variants:
        if variant.name in rows:
            for text in row_departures(variant, rows[variant.name]):
                yield f"row {variant.name}: {text}"


def _of_training(mine: Recipe, theirs: Recipe, data: str) -> Iterator[str]:
    if mine.dataset != theirs.dataset:
        yield f"data: {data} instead of {theirs.dataset.identity}"
    if mine.model != theirs.model:
        yield f"model: {mine.model.identity} instead of {theirs.model.identity}"
    if mine.train_examples is not None and mine.train_examples != theirs.train_examples:
        whole = "all" if theirs.train_examples is None else f"{theirs.train_examples:,}"
        yield f"training images: {mine.train_examples:,} instead of {whole}"
    if mine.epochs != theirs.epochs:
        yield f"epochs: {mine.epochs:,} instead of {theirs.epochs:,}"
    other = _other_keys(mine, theirs)
    if other:
        yield f"recipe: {', '.join(other)}"


def _other_keys(mine: Recipe, theirs: Recipe) -> list[str]:
    """What else differs in the recipe, as `key value instead of value`."""
    said = {"dataset", "model", "train_examples", "epochs", *_UNSAID}
    return [
        text
        for key in Recipe.model_fields
        if key not in said
        for text in _differences(key, mine.model_dump(by_alias=True)[key], theirs.model_dump(by_alias=True)[key])
    ]


def _differences(key: str, mine: object, theirs: object) -> Iterator[str]:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for name in mine:
            yield from _differences(f"{key}.{name}", mine[name], theirs.get(name))
    elif mine != theirs:
        yield f"{key} {_plain(mine)} instead of {_plain(theirs)}"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) or "nothing" if isinstance(value, (tuple, list)) else str(value)


def _same_data(mine: Component, theirs: Component) -> bool:
    return _pictures(mine) == _pictures(theirs)


def _pictures(dataset: Component) -> tuple[object, ...]:
    which = {key: value for key, value in dataset.kwargs.items() if key not in _SAME_PICTURES}
    return (dataset.name, dataset.import_path, config.digest_of(which))


def _fewer(mine: Recipe, theirs: Recipe) -> bool:
    return mine.train_examples is not None and mine.train_examples != theirs.train_examples
