"""`popnet.run`: an experiment, or a recipe with a program's own parts and no file at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from popnet import engine, parts
from popnet.config import Experiment, from_mapping
from popnet.data import Dataset, PictureDataset, Text, from_arrays
from popnet.engine.progress import Reporter
from popnet.errors import ConfigError
from popnet.parts import PROGRAM, Parts

ROW = {"name": "All Nondeterminism Sources", "vary": "all"}
"""What is trained where no variants are named."""


def run(
    experiment: Experiment | str | Path | None = None,
    store: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    executor: str = "local",
    reporter: Reporter | None = None,
    *,
    recipe: Mapping[str, Any] | None = None,
    model: Any = None,
    dataset: Any = None,
    loss: Any = None,
    optimizer: Any = None,
    name: str = "notebook",
    population: int = 8,
    variants: Sequence[Mapping[str, Any]] = (ROW,),
    **options: Any,
) -> engine.Result:
    """Train every member that the store lacks, and return what the tables are made from.

    Either `experiment` is given, or `recipe` with a program's own parts:

        popnet.run(
            recipe={"epochs": 5, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.1}},
            model=my_model,                                  # my_model(input_shape, classes) -> nn.Module
            dataset=(x_train, y_train, x_test, y_test),
        )

    A part is known by a digest of what it does (`popnet.identity`): the same function gives the same members in any
    process and finds them in the store again, and a changed one trains new ones. It is sent to the worker processes and
    kept nowhere. A function that keeps a state from one call to the next breaks the promise of equal bits.

    Args:
        experiment: an experiment, its file, or the name of a shipped one.
        store: folder; default `runs/NAME`. Created where missing; a run that was interrupted goes on.
        workers, device, executor, reporter: see `popnet.engine.run`, to which `options` go too.
        recipe: the keys of the experiment file's section `recipe`, without those that are given as arguments.
        model: a function or class that is called with those of input_shape (channels, height, width) and classes that
            it has parameters for, and makes an nn.Module; or what the file may say.
        dataset: (x_train, y_train, x_test, y_test), uint8 images [n, height, width, channels] or [n, height, width] and
            integer labels [n]; a `popnet.data.Dataset`, `PictureDataset` or `Text`; or what the file may say.
        loss: a function of (logits [n, classes], labels int64 [n]) that gives a scalar, or a class of such.
        optimizer: a function of (parameter groups, lr=...) that makes a torch Optimizer; the rate and the groups are
            those of `recipe["optimizer"]`.
        name: of the experiment.
        population: members of each variant.
        variants: the rows, as in the file; by default one in which all sources vary.

    Raises:
        ConfigError, DataError, StoreError: before any training, whatever is wrong.
        Interrupted: Ctrl-C or SIGTERM; what is finished is kept.
    """
    chosen = {"model": model, "dataset": dataset, "loss": loss, "optimizer": optimizer}
    given = {part: value for part, value in chosen.items() if value is not None}
    common = (store, workers, device, executor, reporter)
    if recipe is None:
        if experiment is None or given:
            raise ConfigError(
                "popnet.run: give an experiment (or its file), or recipe={...} with the parts model, dataset, loss and "
                "optimizer"
            )
        return engine.run(experiment, *common, **options)
    if experiment is not None:
        raise ConfigError("popnet.run: give an experiment or a recipe, not both")
    content, own = _named(recipe, given)
    rows = [dict(variant) for variant in variants]
    made = from_mapping(
        {"name": name, "recipe": content, "population": population, "variants": rows}, origin="popnet.run"
    )
    with parts.present(own):
        return engine.run(made, *common, **options)


def _named(recipe: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], Parts]:
    """The recipe as plain data, in which objects stand by their names; and the objects."""
    content, functions, datasets = dict(recipe), {}, {}
    for part, value in given.items():
        if part in content and part != "optimizer":
            raise ConfigError(f"popnet.run: {part} is given twice, as an argument and in the recipe")
        if isinstance(value, (str, Mapping)):
            content[part] = value
            continue
        if part == "dataset":
            made = _dataset(value)
            key = f"{made.name}@{made.digest[:24]}"
            datasets[key] = made
        else:
            if not callable(value):
                raise ConfigError(f"popnet.run: {part} is {type(value).__name__}: a function or a class is needed")
            key = parts.key(value)
            functions[key] = value
        settings = content.get(part, {}) if part == "optimizer" else {}
        content[part] = {**settings, "import": f"{PROGRAM}:{key}"}
    return content, Parts(functions, datasets)


def _dataset(value: Any) -> Dataset | PictureDataset | Text:
    if isinstance(value, (Dataset, PictureDataset, Text)):
        return value
    if isinstance(value, (tuple, list)) and len(value) == 4:
        return from_arrays(*value)
    raise ConfigError(
        f"popnet.run: dataset is {type(value).__name__}: (x_train, y_train, x_test, y_test), or what popnet.data "
        "makes, is needed"
    )
