"""How an experiment, as it was run, departs from the published one: fewer members or epochs, other data, proxies."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from popnet import config
from popnet.config import Experiment, Recipe
from popnet.errors import ConfigError


def departures(experiment: Experiment) -> list[str]:
    """One phrase for each departure from the shipped experiment that reproduces the same table; empty where none."""
    lines = [] if (full := original(experiment)) is None or full == experiment else list(_departures(experiment, full))
    varied = {source for variant in experiment.variants for source in variant.sources}
    if "kernels" in varied and experiment.recipe.kernels.mode == "reorder":
        lines.append("low-level nondeterminism by its seeded proxy: the order of the examples inside each batch")
    return lines


def original(experiment: Experiment) -> Experiment | None:
    """The shipped experiment at full size: of those of the same name or the same published tables, the most work."""
    tables = set(experiment.published)
    found = [other for other in _shipped() if other.name == experiment.name or tables & set(other.published)]
    return max(found, key=lambda other: other.population * other.recipe.epochs, default=None)


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


def _departures(experiment: Experiment, full: Experiment) -> Iterator[str]:
    mine, theirs = experiment.recipe, full.recipe
    if mine.dataset != theirs.dataset:
        yield f"data: {mine.dataset.identity} instead of {theirs.dataset.identity}"
    if mine.model != theirs.model:
        yield f"model: {mine.model.identity} instead of {theirs.model.identity}"
    if mine.train_examples is not None and mine.train_examples != theirs.train_examples:
        whole = "all" if theirs.train_examples is None else f"{theirs.train_examples:,}"
        yield f"training images: the first {mine.train_examples:,} instead of {whole}"
    if mine.epochs != theirs.epochs:
        yield f"epochs: {mine.epochs:,} instead of {theirs.epochs:,}"
    if experiment.population != full.population:
        yield f"members a row: {experiment.population:,} instead of {full.population:,}"
    other = _other_keys(mine, theirs)
    if other:
        yield f"recipe: {', '.join(other)}"


def _other_keys(mine: Recipe, theirs: Recipe) -> list[str]:
    """What else differs in the recipe, as `key value instead of value`."""
    said = {"dataset", "model", "train_examples", "epochs", "keep", "evaluate_every", "evaluation_batch", "threads"}
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
        yield f"{key} {mine} instead of {theirs}"
