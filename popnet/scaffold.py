"""`popnet new`: a commented experiment file from a few answers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from popnet import config, data, models
from popnet.config import ALL_SOURCES, SOURCES
from popnet.errors import ConfigError, nearest

ROW_NAMES = {
    "init": "Parameter Initialization",
    "shuffle": "Data Shuffling",
    "augment": "Data Augmentation",
    "stochastic": "Stochastic Operations",
    "kernels": "Low-Level Kernels",
    "bit": "Random Bit Change",
}
"""What a row that varies one source is called, after Table 1 of Summers & Dinneen (2021)."""

MEANINGS = {
    "init": "initial weights",
    "shuffle": "the order of the training set",
    "augment": "crops, flips and shifts",
    "stochastic": "dropout and other random operations",
    "kernels": "order of floating-point sums",
    "bit": "one ulp in one initial weight",
}


@dataclass(frozen=True)
class Answers:
    """What a new experiment is about. `sources` get a row each; where there are several, one more varies them all."""

    name: str
    dataset: str = "digits"
    model: str = "small_cnn"
    epochs: int = 20
    batch_size: int = 64
    lr: float = 0.1
    population: int = 10
    sources: Sequence[str] = (*ALL_SOURCES, "bit")


def text(answers: Answers) -> str:
    """The experiment file. Raises ConfigError for an answer that no experiment can have."""
    for source in answers.sources:
        if source not in SOURCES:
            raise ConfigError(f"unknown source {source!r}; {nearest(source, SOURCES)}")
    if not answers.sources:
        raise ConfigError("no source to vary: name at least one of " + ", ".join(SOURCES))
    content = _TEMPLATE.format(
        name=answers.name,
        dataset=_part(answers.dataset),
        model=_part(answers.model),
        epochs=answers.epochs,
        batch_size=answers.batch_size,
        lr=answers.lr,
        warmup=min(2, max(answers.epochs - 1, 0)),
        augment="{crop: 1}",
        population=answers.population,
        variants="\n".join(_rows(answers.sources)),
        datasets=_listed("One of", data.names()),
        models=_listed("One of", models.names()),
    )
    config.from_mapping(yaml.safe_load(content), origin=f"new experiment {answers.name!r}")
    return content


def write(answers: Answers, path: Path) -> Path:
    """Write the file, which must not exist yet. Raises ConfigError."""
    content = text(answers)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise ConfigError(f"{path} exists: choose another name, or remove it first") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    return path


def _part(name: str) -> str:
    """A registered name as it is, `package.module:attribute` as an import."""
    return f'{{import: "{name}"}}' if ":" in name else name


def _listed(beginning: str, names: Sequence[str]) -> str:
    """The names as comment lines, ending in a comma."""
    words = f"{beginning} {', '.join(names)},"
    return textwrap.fill(words, 118, initial_indent="  # ", subsequent_indent="  # ", break_on_hyphens=False)


def _rows(sources: Sequence[str]) -> list[str]:
    rows = ["  - {name: Determinism, replicas: true}" + " " * 35 + "# the control: equal seeds, trained again"]
    for source in SOURCES:
        if source in sources:
            row = f"  - {{name: {ROW_NAMES[source]}, vary: [{source}]}}"
            rows.append(f"{row:74}# {MEANINGS[source]}")
    if set(ALL_SOURCES) <= set(sources):
        rows.append("  - {name: All Nondeterminism Sources, vary: all}")
    return rows


_TEMPLATE = """\
# An experiment of popnet. Train and print its table:      python -m popnet.run {name}.yaml
# See what that would train, without training:             popnet plan {name}.yaml
# Change a key for once, without editing:                  python -m popnet.run {name}.yaml recipe.epochs=5
# With parts of your own (import:), add to these commands: --allow-import
name: {name}
recipe:
{datasets}
  # or your own, {{import: "package.module:attribute"}}: a function that returns x_train, y_train, x_test, y_test
  # (uint8 images [n, h, w, c], integer labels [n]).
  dataset: {dataset}
{models}
  # or your own, {{import: "package.module:attribute", kwargs: {{}}}}: a function that returns an nn.Module, which takes
  # float32 images [n, c, h, w] and gives logits [n, classes].
  model: {model}
  epochs: {epochs}
  batch_size: {batch_size}
  optimizer: {{name: sgd, lr: {lr}, momentum: 0.9, weight_decay: 5.0e-4}}
  schedule: {{name: cosine, warmup_epochs: {warmup}}}
  augment: {augment}                  # also: flip: true, translate: 2, cutout: 4
  kernels: reorder                   # low-level nondeterminism as a seeded proxy; on a GPU also: hardware
population: {population}                        # trainings a row; more are added later by raising it
variants:
{variants}
"""
