"""The schema of an experiment file: loading, overrides, and every check that needs no data.

A file is read as safe YAML, merged with dotted overrides (`recipe.epochs=10`), and validated once, here. Whatever is
wrong becomes one `ConfigError` that names the file, the key and the fix. The models are frozen: a `Recipe` is a value.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from popnet import data, models, parts
from popnet.errors import ConfigError, nearest
from popnet.report import tables
from popnet.untrusted import files, texts

SOURCES = ("init", "shuffle", "augment", "stochastic", "kernels", "bit")
"""The sources of nondeterminism, in the order in which tables and ledgers list them."""

ALL_SOURCES = ("init", "shuffle", "augment", "kernels")
"""What `vary: all` means for images (Summers & Dinneen 2021, Table 1); a bit change is never part of it."""

LANGUAGE_SOURCES = ("init", "stochastic")
"""What `vary: all` means for language models (Table 2), and all that acts on them besides a bit change."""

OWN_PARTS = frozenset({"popnet.data.text_pairs:text_pairs", "popnet.models.bert:bert"})
"""Import paths that need nobody's permission: popnet's own parts that have no name, these functions and no others."""

SHIPPED_FOLDER = "experiments"
"""Of the package, and of a checkout: a path into it that is not there means the shipped experiment."""

MOST_VARIANTS = 1_000
MOST_MEMBERS = 1_000_000
"""That the rows of an experiment ask for together: what a file makes popnet plan is bounded."""

SHORT_FORMS = {
    "dataset": "name",
    "model": "name",
    "loss": "name",
    "schedule": "name",
    "kernels": "mode",
    "views": "name",
    "perturbation": "kind",
    "loader": "name",
}
"""Sections that may be written as one word, with the key that the word stands for."""

VIEW_NAMES = (
    "none",
    "flip",
    "crop9",
    "crop25",
    "crop81",
    "flip_crop9",
    "flip_crop25",
    "flip_crop81",
    "grid9",
    "flip_grid9",
)


def digest_of(data: Any) -> str:
    """SHA-256 of plain data as canonical JSON, in hexadecimal."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Section(pydantic.BaseModel):
    """A mapping of the experiment file: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError(f"should be a number, got {value}")
        return value


def _short(section: str) -> BeforeValidator:
    """Accept the short form `section: word` for `section: {key: word}`."""
    return BeforeValidator(lambda value: {SHORT_FORMS[section]: value} if isinstance(value, str) else value)


def _defaults_or_none(value: Any) -> Any:
    """Accept `true` for a section with its defaults, and `false` for none."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


def _check_part(path: str | None, kwargs: Mapping[str, Any]) -> None:
    if path is not None and not all(path.partition(":")):
        raise ValueError(f"import {path!r} must read 'package.module:attribute'")
    try:
        digest_of(kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"kwargs are part of the recipe's hash, so they must be plain data: {error}") from None


class Component(Section):
    """A part by name or by import path: `name`, `{name: n, kwargs: {...}}` or `{import: package.module:attr, ...}`."""

    name: str | None = None
    import_path: str | None = Field(default=None, alias="import")
    kwargs: dict[str, Any] = {}

    @pydantic.model_validator(mode="after")
    def _one_of(self) -> Component:
        if (self.name is None) == (self.import_path is None):
            raise ValueError("give exactly one of 'name' and 'import'")
        _check_part(self.import_path, self.kwargs)
        return self

    @property
    def label(self) -> str:
        return self.name or str(self.import_path)

    @property
    def identity(self) -> str:
        """The label with the arguments, where there are any."""
        return f"{self.label} {json.dumps(self.kwargs, sort_keys=True)}" if self.kwargs else self.label


def test_parts(dataset: Component) -> list[tuple[str, int]]:
    """The kinds of a data set's test examples and how many there are of each, in order: its argument `parts`."""
    parts = dataset.kwargs.get("parts") or []
    form = isinstance(parts, (list, tuple)) and all(isinstance(part, dict) and len(part) == 1 for part in parts)
    pairs = [next(iter(part.items())) for part in parts] if form else []
    if not form or not all(isinstance(count, int) and count > 0 for _, count in pairs):
        raise ValueError(f"parts must be a list as [{{validation: 408}}, {{test: 1725}}], not {parts!r}")
    return [(str(name), count) for name, count in pairs]


def _known(check_name: Callable[[str], str]) -> AfterValidator:
    """Bring a component's name to its canonical form; an unknown one becomes an error that proposes the nearest."""

    def check(component: Component) -> Component:
        if component.name is None:
            return component
        try:
            return component.model_copy(update={"name": check_name(component.name)})
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check)


class Optimizer(Section):
    """`sgd` (PyTorch's formula, momentum without dampening) or `adam`, or an imported factory.

    `lr` is the largest rate of the schedule. `groups: released` trains biases, and batch-norm scales whose name
    contains `bn`, at a tenth of the rate, as the released programs of Summers & Dinneen do; `uniform` trains all alike.
    An imported optimiser is called as `factory(parameter_groups, lr=lr, **kwargs)` and must return a torch Optimizer.
    """

    name: Literal["sgd", "adam"] | None = None
    import_path: str | None = Field(default=None, alias="import")
    kwargs: dict[str, Any] = {}
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    groups: Literal["released", "uniform"] = "uniform"

    @pydantic.model_validator(mode="after")
    def _one_of(self) -> Optimizer:
        if (self.name is None) == (self.import_path is None):
            raise ValueError("give exactly one of 'name' (sgd, adam) and 'import'")
        _check_part(self.import_path, self.kwargs)
        return self


class Schedule(Section):
    """The learning rate by step. With e = step / steps_per_epoch and W = warmup_epochs:

    * every schedule but `constant` starts with a linear warm-up from `start` to lr while e <= W (none where W is 0);
    * `cosine`: 0.5 lr (1 + cos(pi e / epochs)), not shifted by the warm-up (recipes of Summers & Dinneen);
    * `snapshot`: the same within each of `cycles` equal cycles, e and the warm-up counted from the cycle's start;
    * `linear`: from lr at e = W down to 0 at the end (Jordan 2024);
    * `constant`: lr throughout.
    """

    name: Literal["cosine", "snapshot", "linear", "constant"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    start: Annotated[float, Field(ge=0)] = 0.0
    cycles: Annotated[int, Field(ge=1)] = 1


class ResizedCrop(Section):
    """A random rectangle of the picture, resized: its area as a share of the picture's, its width over its height.

    torchvision's distribution, with its defaults; `aspect` is uniform in its logarithm.
    """

    area: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.08, 1.0)
    aspect: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3 / 4, 4 / 3)

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> ResizedCrop:
        for key in ("area", "aspect"):
            least, most = getattr(self, key)
            if least > most:
                raise ValueError(f"{key}: the least, {least:g}, comes before the most, {most:g}")
        return self


class Resize(Section):
    """Makes pictures of any size into images of one size; `augment` then works on these.

    `train` and `test` are the sides of the square images. For testing, and for training without
    `augment.resized_crop`, it is a square in the middle of the picture, its side `share` of the shorter side.
    """

    train: Annotated[int, Field(ge=1, lt=2**15)] = 224
    test: Annotated[int, Field(ge=1, lt=2**15)] = 224
    share: Annotated[float, Field(gt=0, le=1)] = 0.875


class Loader(Section):
    """Who reads the training images; the bytes of a batch, hence a member's id, do not depend on it.

    `resident`: decoded, in memory. `ffcv`: from the .beton file `path` (as `popnet data write` makes it), by `workers`
    threads for each training process; the path may be left out where the data set is itself a .beton file. `auto`:
    `resident` where the decoded images fit into half of the free memory, else `ffcv`.
    """

    name: Literal["auto", "resident", "ffcv"] = "auto"
    path: str | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 1

    @pydantic.model_validator(mode="after")
    def _path_is_for_ffcv(self) -> Loader:
        if self.path is not None and self.name != "ffcv":
            raise ValueError("loader.path is for loader.name=ffcv")
        return self


class Augment(Section):
    """Random changes to a training image; each image's draws depend on (augment seed, epoch, image) alone.

    Applied in this order: `resized_crop` (`true` for its defaults), which needs `resize`; zero-pad by `crop` pixels and
    take a random crop; flip left to right with probability 1/2; shift by up to `translate` pixels with zero fill; a
    `cutout` x `cutout` square, wholly inside, filled with `fill` (0 to 255 per channel; default: the data set's mean
    pixel).
    """

    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    translate: Annotated[int, Field(ge=0)] = 0
    cutout: Annotated[int, Field(ge=0)] = 0
    fill: tuple[Annotated[int, Field(ge=0, le=255)], ...] | None = None
    resized_crop: Annotated[ResizedCrop | None, BeforeValidator(_defaults_or_none)] = None

    @property
    def any(self) -> bool:
        return bool(self.crop or self.flip or self.translate or self.cutout or self.resized_crop)


class Kernels(Section):
    """What a `kernels` seed other than 1 means.

    `reorder`: the examples inside each batch are permuted by the seed, which changes only the order of sums over the
    batch: seeded and reproducible, a proxy for low-level nondeterminism. `hardware`: the device's nondeterministic
    kernels, which cannot be seeded (seed 0, told apart by replica).
    """

    mode: Literal["reorder", "hardware"] = "reorder"


class Averaging(Section):
    """Aggressive stochastic weight averaging (Madhyastha & Jain 2019; Summers & Dinneen 2021, Appendix D).

    From epoch `start_epoch` on, the mean of the weights after every step is kept, and training goes on from it:
    `every: step` puts the mean in place after each step, the original formulation, whose updates shrink quickly;
    `every: epoch` does so at each epoch's end and then begins a new mean, a modification that converges (the paper's
    own is not described). Batch-norm statistics are measured anew, over the training images in order and without
    augmentation, before each evaluation of averaged weights.
    """

    start_epoch: Annotated[int, Field(ge=0)] = 1
    every: Literal["step", "epoch"] = "epoch"


class WeightNoise(Section):
    """Weight augmentation (Summers & Dinneen 2021, Appendix D): a step's gradient is the mean over `samples` random
    offsets of the weights, normal with standard deviation `sd`, drawn by the `stochastic` source.
    """

    sd: Annotated[float, Field(gt=0)]
    samples: Annotated[int, Field(ge=1)] = 1


class Features(Section):
    """Representations to keep of the finished model: what the named modules give for the first test `examples`.

    `layers` are names of modules (`model.named_modules()`); '' is the model itself, its logits. They are kept in
    float32: each example takes 4 bytes for each number of the layers' outputs. `estimator` is how `measure: similarity`
    computes their linear CKA (see `popnet.metrics.linear_cka_matrix`): `unbiased`, `minibatch`, or `biased`, which
    finds unrelated representations alike where they have more numbers than there are examples.
    """

    layers: Annotated[tuple[str, ...], Field(min_length=1)]
    examples: Annotated[int, Field(ge=4)] = 2000
    estimator: Literal["unbiased", "biased", "minibatch"] = "unbiased"


LANGUAGE_EPOCHS = 4096
"""Epochs of a language model stay below: with the step in the epoch, they fill one word of a mask's counter."""

Probability = Annotated[float, Field(ge=0, lt=1)]


class LanguageDropout(Section):
    """What is dropped in training, each with its own probability.

    `words`: whole words of the embedding; `input`, `hidden`, `output`: elements of the embedded words, of what goes
    from layer to layer, and of the last layer's output, each mask held fixed over time; `weights`: elements of the
    layers' linear maps.
    """

    words: Probability = 0.1
    input: Probability = 0.4
    hidden: Probability = 0.3
    output: Probability = 0.4
    weights: Probability = 0.1


class Language(Section):
    """Makes the recipe one of a word-level language model, trained by the scheme of Merity et al. (2017).

    The defaults are the published ones for a QRNN on the Penn Treebank.

    * Segments: the base is `sequence_length`, or with probability `short_sequences` half of it; the segment's length is
      max(`shortest_sequence`, int(normal(base, `sequence_sd`))), and its learning rate is scaled by
      length / `sequence_length`. Evaluation uses segments of `sequence_length`.
    * The state is carried from segment to segment, and is zero where an epoch or an evaluation begins.
    * The loss adds `activation_penalty` times the mean square of the last layer's output after dropout, and
      `temporal_penalty` times the mean square of the same output's changes over time before dropout.
    * `clip_gradient`: the largest norm of the whole gradient; none where null.
    * `averaging_patience`: the weights are averaged, step by step, once the validation loss is above the least of all
      epochs but this many last ones; never where null, and never under a snapshot schedule, which anneals by itself.
    * `validation_batch`: into how many parallel texts the validation part is cut; the test part stays one text.
    * `logit_positions`: at how many test tokens, drawn once for all members, the full logits are kept.
    """

    sequence_length: Annotated[int, Field(ge=2)] = 70
    short_sequences: Annotated[float, Field(ge=0, le=1)] = 0.05
    sequence_sd: Annotated[float, Field(ge=0)] = 5.0
    shortest_sequence: Annotated[int, Field(ge=2)] = 5
    dropout: LanguageDropout = LanguageDropout()
    activation_penalty: Annotated[float, Field(ge=0)] = 2.0
    temporal_penalty: Annotated[float, Field(ge=0)] = 1.0
    clip_gradient: Annotated[float, Field(gt=0)] | None = 0.2
    averaging_patience: Annotated[int, Field(ge=1)] | None = 5
    validation_batch: Annotated[int, Field(ge=1)] = 10
    logit_positions: Annotated[int, Field(ge=0)] = 0


class Recipe(Section):
    """Everything that defines a training except its seeds.

    With a section `language`, it trains a language model: the data set is a text, `train_examples` counts tokens,
    and what concerns images has no place. `clip_gradient` is the largest norm of the whole gradient. `keep: trajectory`
    keeps the weights before the first step and after every epoch.
    """

    dataset: Annotated[Component, _short("dataset"), _known(data.check_name)]
    model: Annotated[Component, _short("model"), _known(models.check_name)]
    loss: Annotated[Component, _short("loss")] = Component(name="cross_entropy")
    epochs: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=1)]
    drop_last: bool = False
    optimizer: Optimizer
    schedule: Annotated[Schedule, _short("schedule")] = Schedule()
    augment: Augment = Augment()
    resize: Resize | None = None
    loader: Annotated[Loader, _short("loader")] = Loader()
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    kernels: Annotated[Kernels, _short("kernels")] = Kernels()
    train_examples: Annotated[int, Field(ge=1)] | None = None
    evaluation_batch: Annotated[int, Field(ge=1)] = 500
    evaluate_every: Annotated[int, Field(ge=0)] = 1
    threads: Annotated[int, Field(ge=1)] = 1
    keep: tuple[Literal["predictions", "weights", "trajectory"], ...] = ("predictions",)
    features: Features | None = None
    clip_gradient: Annotated[float, Field(gt=0)] | None = None
    averaging: Averaging | None = None
    weight_noise: WeightNoise | None = None
    language: Language | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Recipe:
        cycles = self.schedule.cycles
        if self.schedule.name != "snapshot" and cycles != 1:
            raise ValueError("schedule.cycles is for schedule.name=snapshot")
        if self.epochs % cycles:
            raise ValueError(f"{cycles} snapshots do not divide {self.epochs} epochs: change epochs or snapshots")
        if self.epochs and self.schedule.warmup_epochs >= self.epochs // cycles:
            raise ValueError(
                f"schedule.warmup_epochs={self.schedule.warmup_epochs:g} leaves nothing of the {self.epochs // cycles} "
                f"epochs{' of a cycle' if cycles > 1 else ''}: shorten it"
            )
        if self.loss.name not in (None, "cross_entropy"):
            raise ValueError(
                f"unknown loss {self.loss.name!r}: known: cross_entropy, or {{import: package.module:attr}}"
            )
        if "predictions" not in self.keep:
            raise ValueError("keep must contain 'predictions': every metric is computed from them")
        self._check_resize()
        self._check_task()
        return self

    def _check_resize(self) -> None:
        if self.augment.resized_crop is not None and self.resize is None:
            raise ValueError("augment.resized_crop needs the size of the result: add resize, as in 'resize: {}'")
        if self.resize is not None and self.augment.cutout > self.resize.train:
            raise ValueError(f"augment.cutout={self.augment.cutout} is larger than resize.train={self.resize.train}")

    def _check_task(self) -> None:
        """What only language models, or only models of images, can have."""
        name = self.model.name
        if self.language is None:
            if name in models.language_names():
                raise ValueError(
                    f"model {name!r} is a language model: add a section 'language', if only 'language: {{}}'"
                )
            return
        if name is not None and name not in models.language_names():
            known = ", ".join(models.language_names())
            raise ValueError(
                f"model {name!r} is no language model, and the recipe has a section 'language': use {known}"
            )
        if self.optimizer.name != "sgd":
            raise ValueError("optimizer: language models train by 'sgd', whose iterates are averaged")
        if self.precision not in ("fp32", "tf32"):
            raise ValueError(f"precision={self.precision}: language models train in fp32 or tf32")
        if self.epochs >= LANGUAGE_EPOCHS:
            raise ValueError(f"epochs={self.epochs}: language models train for at most {LANGUAGE_EPOCHS - 1:,}")
        of_images = {"augment": self.augment.any, "drop_last": self.drop_last, "loss": self.loss.import_path}
        of_images |= {
            key: getattr(self, key) for key in ("clip_gradient", "averaging", "weight_noise", "features", "resize")
        }
        of_images |= {"keep: trajectory": "trajectory" in self.keep}
        for key in (key for key, given in of_images.items() if given):
            raise ValueError(f"{key} is for models of images: leave it out beside 'language'")

    def with_snapshots(self, cycles: int) -> Recipe:
        """This recipe under the cyclic schedule of snapshot ensembles (Summers & Dinneen 2021, Section 5)."""
        return self.changed({"schedule": {"name": "snapshot", "cycles": cycles}})

    def changed(self, overrides: Mapping[str, Any]) -> Recipe:
        """This recipe with some keys replaced, validated again. Raises ValueError naming the key and the fix."""
        merged = _merge(self.model_dump(by_alias=True), overrides)
        try:
            return Recipe.model_validate(merged)
        except pydantic.ValidationError as error:
            raise ValueError("; ".join(_explain(item, Recipe, "recipe") for item in error.errors())) from None

    def canonical(self) -> dict[str, Any]:
        """The recipe as plain data, without what has no influence on a member's bits (`keep`, `features`, `loader`).

        Keys that came later than the first members are left out where they are not used, so that ids stay.
        """
        later = ("language", "clip_gradient", "averaging", "weight_noise", "resize")
        without = {"keep", "features", "loader", *(key for key in later if getattr(self, key) is None)}
        plain = self.model_dump(mode="json", by_alias=True, exclude=without)
        if self.augment.resized_crop is None:
            del plain["augment"]["resized_crop"]
        return plain

    @property
    def all_sources(self) -> tuple[str, ...]:
        """What `vary: all` means for this recipe."""
        return ALL_SOURCES if self.language is None else LANGUAGE_SOURCES

    @cached_property
    def digest(self) -> str:
        return digest_of(self.canonical())


class Views(Section):
    """Test-time augmentation: logits are averaged over these views, the original included.

    `count_original_twice` adds the original once more beside the views, as the released program does.
    """

    name: Literal[VIEW_NAMES] = "none"  # type: ignore[valid-type]
    count_original_twice: bool = False


class Perturbation(Section):
    """What a `bit` seed other than 0 does, once, just before training step `step` (of the onset epoch's start).

    `bit`: the chosen weight moves to the next or previous float32, with equal odds (Summers & Dinneen, Section 4.1).
    `scale`: it is multiplied by `factor` (Jordan's poke). `weight: random` is chosen by the seed, `first` is the first
    weight. `tensor: first` is the first layer's weight tensor, else a parameter's name.
    """

    kind: Literal["bit", "scale"] = "bit"
    factor: float = 1.001
    tensor: str = "first"
    weight: Literal["random", "first"] = "random"
    step: Annotated[int, Field(ge=0)] = 0


def _source_list(value: Any) -> Any:
    if value in ("all", ["all"]):
        return list(ALL_SOURCES)
    if isinstance(value, str):
        return [value]
    return value


def _check_sources(names: Sequence[str]) -> None:
    for name in names:
        if name == "all":
            raise ValueError(f"'all' stands alone, as in 'vary: all': it means {', '.join(ALL_SOURCES)}")
        if name not in SOURCES:
            raise ValueError(f"unknown source {name!r}; {nearest(name, [*SOURCES, 'all'])}")


def _seed_lists(value: Any) -> Any:
    """`cross: {init: 3}` means seeds 1..3; a list gives them one by one."""
    if not isinstance(value, Mapping):
        return value
    return {k: _first_seeds(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in value.items()}


def _first_seeds(count: int) -> list[int]:
    if count > MOST_MEMBERS:
        raise ValueError(f"{count} seeds are more than the {MOST_MEMBERS:,} members that an experiment may have")
    return list(range(1, count + 1))


Seed = Annotated[int, Field(ge=0, lt=2**64)]

Printable = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$")]
"""Text that reports and terminals show: without control characters, which a terminal would obey."""


class Variant(Section):
    """One row of a table: which sources vary, from when to when, and how predictions are formed.

    `part`: of a data set whose test examples are of several kinds (its argument `parts`, a list of `{name: count}` in
    their order), the one on which the row is measured.
    """

    name: Printable
    vary: Annotated[tuple[str, ...], BeforeValidator(_source_list)] = ()
    cross: Annotated[dict[str, tuple[Seed, ...]], BeforeValidator(_seed_lists)] | None = None
    constants: dict[str, Seed] = {}
    population: int | None = None
    replicas: bool = False
    onset: Annotated[int, Field(ge=0)] = 0
    until_step: Annotated[int, Field(ge=1)] | None = None
    first_step_precision: Literal["fp32", "bf16"] | None = None
    perturbation: Annotated[Perturbation, _short("perturbation")] = Perturbation()
    views: Annotated[Views, _short("views")] = Views()
    ensemble: Annotated[int, Field(ge=1)] = 1
    snapshots: Annotated[int, Field(ge=2)] | None = None
    part: str | None = None
    recipe: dict[str, Any] = {}

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Variant:
        _check_sources([*self.vary, *(self.cross or {}), *self.constants])
        if self.cross is not None and self.vary:
            raise ValueError("give 'vary' or 'cross', not both")
        if self.cross is not None and (self.population is not None or self.replicas):
            raise ValueError("'cross' fixes the population: leave out 'population' and 'replicas'")
        if self.cross is not None and any(len(set(seeds)) != len(seeds) or not seeds for seeds in self.cross.values()):
            raise ValueError("'cross' needs at least one seed for each source, each once")
        if len(set(self.vary)) != len(self.vary):
            raise ValueError("'vary' names a source twice")
        if not self.vary and self.cross is None and not self.replicas and self.first_step_precision is None:
            raise ValueError(
                "nothing varies: give 'vary: [...]', 'cross: {...}', or 'replicas: true' to train equal seeds again"
            )
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources under test, in the canonical order."""
        named = self.vary if self.cross is None else tuple(self.cross)
        return tuple(source for source in SOURCES if source in named)

    def tested(self, recipe: Recipe) -> tuple[int, int] | None:
        """The first of the test examples on which the row is measured, and the one after the last; None: all of them.

        Raises ValueError where the data set has no such part.
        """
        if self.part is None:
            return None
        start = 0
        for name, count in test_parts(recipe.dataset):
            if name == self.part:
                return start, start + count
            start += count
        known = ", ".join(name for name, _ in test_parts(recipe.dataset)) or "none"
        raise ValueError(f"part is {self.part!r}, and the data set's argument 'parts' names: {known}")


class Experiment(Section):
    """A recipe, its variants, what to measure, and the published tables to set it against: one YAML file.

    `name` is also that of the default store, runs/NAME, and `description` heads the tables. `population`: trainings a
    row. `constants`: seeds of the sources that are not under test; 1 each, 0 of `bit`. `measure`: the tables to make;
    of language models, variability means their own. `published`: tables of the papers, as in
    `summers_dinneen_2021.table1`. `cohort`: members at once on each GPU; default: chosen by a short measurement. It
    never changes a result.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]
    description: Printable = ""
    recipe: Recipe
    population: int = 100
    constants: dict[str, Seed] = {}
    variants: Annotated[tuple[Variant, ...], Field(max_length=MOST_VARIANTS)]
    measure: tuple[Literal["variability", "similarity", "divergence"], ...] = ("variability",)
    published: tuple[str, ...] = ()
    cohort: Annotated[int, Field(ge=1)] | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _all_sources(cls, content: Any) -> Any:
        """`vary: all` is what the recipe's kind of model has."""
        if not _trains_language(content):
            return content
        variants = content.get("variants")
        if not isinstance(variants, (list, tuple)):
            return content
        return {**content, "variants": [_with_language_sources(variant) for variant in variants]}

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Experiment:
        _check_sources(list(self.constants))
        names = [variant.name for variant in self.variants]
        if not names:
            raise ValueError("variants: at least one is needed")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two variants are named {name!r}: a row's name must be unique")
        for reference in self.published:
            try:
                tables.published(reference)
            except ConfigError as error:
                raise ValueError(f"published: {error}") from None
        self._check_measures()
        for variant in self.variants:
            try:
                self._check(variant)
            except ValueError as error:
                raise ValueError(f"variant {variant.name!r}: {error}") from None
        members = sum(map(self.population_of, self.variants))
        if members > MOST_MEMBERS:
            raise ValueError(f"the rows ask for {members:,} members, and {MOST_MEMBERS:,} is the most: split it up")
        return self

    def _check_measures(self) -> None:
        if "similarity" in self.measure and self.recipe.features is None:
            raise ValueError("measure: similarity compares representations: name some in recipe.features.layers")
        if "divergence" in self.measure and "trajectory" not in self.recipe.keep:
            raise ValueError("measure: divergence needs recipe.keep: [predictions, trajectory]")

    def _check(self, variant: Variant) -> None:
        size = self.population_of(variant)
        if size < 2:
            raise ValueError(f"population is {size}: a population needs at least 2 members")
        if variant.ensemble > 1 and size // variant.ensemble < 2:
            raise ValueError(
                f"a population of {size} gives {size // variant.ensemble} disjoint ensembles of {variant.ensemble}: "
                f"at least 2 are needed, so set population to {2 * variant.ensemble} or more"
            )
        recipe = self.recipe_of(variant)
        variant.tested(recipe)
        if variant.first_step_precision is not None and variant.onset > 0:
            raise ValueError("first_step_precision concerns step 0, and onset is later: leave one out")
        if variant.onset > recipe.epochs:
            raise ValueError(f"onset={variant.onset} is after the last of {recipe.epochs} epochs")
        if variant.onset > 0 and variant.sources == ("init",):
            raise ValueError("'init' acts at the beginning alone, so with an onset nothing would vary")
        if recipe.language is not None:
            self._check_language(variant)
        if "augment" in variant.sources and variant.vary != ALL_SOURCES and not recipe.augment.any:
            raise ValueError("varies 'augment', but the recipe has no augmentation: add one, or drop the source")
        if "kernels" in variant.sources and recipe.kernels.mode == "reorder" and recipe.batch_size == 1:
            raise ValueError("kernels mode 'reorder' permutes the examples of a batch, and batch_size is 1")

    def _check_language(self, variant: Variant) -> None:
        for source in variant.sources:
            if source not in (*LANGUAGE_SOURCES, "bit"):
                raise ValueError(
                    f"varies {source!r}, which a language model's training does not draw from: known: "
                    f"{', '.join(LANGUAGE_SOURCES)}, bit"
                )
        if variant.views.name != "none":
            raise ValueError(f"views={variant.views.name} is for images: leave it out")
        counted = {"until_step": variant.until_step, "perturbation.step": variant.perturbation.step}
        for key, value in counted.items():
            if value:
                raise ValueError(
                    f"{key}={value}: a language model's epochs have varying numbers of steps: leave it out"
                )
        if variant.first_step_precision is not None:
            raise ValueError("first_step_precision is for models of images: leave it out")

    def population_of(self, variant: Variant) -> int:
        """The number R of members of a variant."""
        if variant.cross is not None:
            size = 1
            for seeds in variant.cross.values():
                size *= len(seeds)
            return size
        return self.population if variant.population is None else variant.population

    def recipe_of(self, variant: Variant) -> Recipe:
        """The recipe of a variant: the experiment's, with the variant's overrides and snapshots."""
        recipe = self.recipe.changed(variant.recipe) if variant.recipe else self.recipe
        return recipe if variant.snapshots is None else recipe.with_snapshots(variant.snapshots)


def _trains_language(content: Any) -> bool:
    recipe = content.get("recipe") if isinstance(content, Mapping) else None
    language = recipe.get("language") if isinstance(recipe, Mapping) else getattr(recipe, "language", None)
    return language is not None


def _with_language_sources(variant: Any) -> Any:
    if isinstance(variant, Mapping) and variant.get("vary") in ("all", ["all"]):
        return {**variant, "vary": list(LANGUAGE_SOURCES)}
    return variant


Model = TypeVar("Model", bound=pydantic.BaseModel)

_LONGEST_CHAIN = 16  # of files that inherit
_LONGEST_SHOWN = 200  # characters of a wrong value
_MOST_SHOWN = 10  # errors at once


def load(path: str | Path, overrides: Sequence[str] = (), *, allow_import: bool = False) -> Experiment:
    """Read an experiment file, apply dotted overrides and validate it.

    Args:
        path: a YAML file, or the name of a shipped experiment (`resnet14`); `experiments/resnet14.yaml` is the shipped
            one where there is no such file.
        overrides: strings `key=value`, keys dotted as in `recipe.optimizer.lr=0.1`, list items by position as in
            `variants.0.population=4`; values are YAML.
        allow_import: accept parts given by `import:`, whose code runs once the experiment is trained. Without it a file
            is data, whoever wrote it. Loading itself imports nothing.

    Raises:
        ConfigError: naming the file, the key and the fix.
    """
    file = find(path)
    experiment = from_mapping(read(file), overrides, origin=str(file))
    if not allow_import:
        recipes = {"recipe": experiment.recipe}
        for number, variant in enumerate(experiment.variants):
            if variant.recipe:
                recipes[f"variants.{number}.recipe"] = experiment.recipe_of(variant)
        refuse_imports(recipes, str(file), "popnet.load(path, allow_import=True)")
    return experiment


def refuse_imports(recipes: Mapping[str, Recipe], origin: str, in_python: str) -> None:
    """Raises ConfigError for a part given by `import:` that is not popnet's own.

    Args:
        recipes: by their place in the file or store `origin`.
        in_python: the call that allows it.
    """
    for place, recipe in recipes.items():
        for name in Recipe.model_fields:
            part = getattr(getattr(recipe, name), "import_path", None)
            if part is not None and part not in OWN_PARTS:
                raise ConfigError(
                    f"{origin}: {place}.{name}: import {part!r} would run code of the module "
                    f"{part.partition(':')[0]!r}: where you trust it, add --allow-import (in Python: {in_python})"
                )


def read(file: Path) -> dict[str, Any]:
    """The content of an experiment file with what it inherits, not validated yet. Raises ConfigError.

    `base: other.yaml` (beside the file, or a shipped experiment's name) gives every key that the file does not:
    mappings are merged key by key, and anything else replaces what was inherited.
    """
    chain: list[Path] = []
    contents: list[dict[str, Any]] = []
    following: Path | None = file
    while following is not None:
        if following.resolve() in [seen.resolve() for seen in chain]:
            raise ConfigError(f"{file}: base: {' -> '.join(map(str, [*chain, following]))} goes in a circle")
        if len(chain) == _LONGEST_CHAIN:
            raise ConfigError(f"{file}: base: more than {_LONGEST_CHAIN} files inherit from each other")
        chain.append(following)
        content = _read_one(following)
        base = content.pop("base", None)
        if base is not None and not isinstance(base, str):
            raise ConfigError(f"{following}: base: must be the name of another experiment file, got {_shown(base)}")
        following = None if base is None else _base_file(following, base)
        contents.append(content)
    merged: dict[str, Any] = {}
    for content in reversed(contents):
        merged = _merge(merged, content)
    return merged


def _read_one(file: Path) -> dict[str, Any]:
    try:
        text = files.read_bytes(file, texts.YAML_BYTES).decode()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    try:
        content = texts.parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{file}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: an experiment is a mapping with the keys name, recipe and variants")
    return content


def _base_file(file: Path, base: str) -> Path:
    beside = file.parent / base
    if _is_file(beside):
        return beside
    try:
        return find(base)
    except ConfigError as error:
        raise ConfigError(f"{file}: base: {error}") from None


def from_mapping(content: Mapping[str, Any], overrides: Sequence[str] = (), origin: str = "experiment") -> Experiment:
    """An experiment from plain data; `origin` is named in errors. Raises ConfigError."""
    merged = dict(content)
    for override in overrides:
        merged = _apply(merged, override)
    try:
        return Experiment.model_validate(merged)
    except pydantic.ValidationError as error:
        lines = [_explain(item, Experiment) for item in error.errors()[:_MOST_SHOWN]]
        raise ConfigError(f"{origin}: " + "; ".join(dict.fromkeys(lines))) from None


def from_store(content: Mapping[str, Any], origin: str) -> Experiment:
    """An experiment as a store holds it, without the published tables that this version knows no more.

    Raises ConfigError.
    """
    references = content.get("published")
    if isinstance(references, list):
        known = tables.published_references()
        content = {**content, "published": [reference for reference in references if reference in known]}
    return from_mapping(content, origin=origin)


def find(path: str | Path) -> Path:
    """The file behind a path or the name of a shipped experiment, alone or as it lies in a checkout's `experiments`.

    Raises ConfigError.
    """
    file = Path(path)
    if _is_file(file):
        return file
    package = Path(__file__).parent
    folders = [package / SHIPPED_FOLDER, package.parent / SHIPPED_FOLDER]
    if file in (Path(file.name), Path(SHIPPED_FOLDER, file.name)):
        for folder in folders:
            shipped = folder / (file.name if file.suffix else file.name + ".yaml")
            if _is_file(shipped):
                return shipped
    names = {shipped.stem for folder in folders for shipped in folder.glob("*.yaml")}
    raise ConfigError(f"{path}: no such file, and no shipped experiment of that name; {nearest(file.stem, names)}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _apply(content: dict[str, Any], override: str) -> dict[str, Any]:
    key, separator, text = override.partition("=")
    parts = key.split(".")
    if not separator or not all(parts):
        raise ConfigError(f"override {override!r}: must read key=value, as in recipe.epochs=10")
    touched = {parts[0]: content[parts[0]]} if parts[0] in content else {}  # the rest may be large
    try:
        tree = OmegaConf.create({"root": touched})
        value = texts.parse_yaml(text)
        for end in range(1, len(parts)):
            section = f"root.{'.'.join(parts[:end])}"
            word = OmegaConf.select(tree, section)
            if isinstance(word, str) and parts[end - 1] in SHORT_FORMS:
                OmegaConf.update(tree, section, {SHORT_FORMS[parts[end - 1]]: word}, force_add=True)
        OmegaConf.update(tree, f"root.{key}", value, merge=True, force_add=True)
        result = OmegaConf.to_container(tree, resolve=False)
    except (OmegaConfBaseException, ValueError, TypeError, LookupError, AssertionError) as error:
        reason = str(error).partition("full_key:")[0]  # what follows names OmegaConf's inner types
        raise ConfigError(f"override {override!r}: {' '.join(reason.split())}") from None
    assert isinstance(result, dict)
    return {**content, **result["root"]}


def _merge(base: Any, change: Any) -> Any:
    if isinstance(base, dict) and isinstance(change, Mapping):
        return {**base, **{k: _merge(base.get(k), v) for k, v in change.items()}}
    return change


def _section_at(model: type[pydantic.BaseModel], location: Sequence[str | int]) -> type[pydantic.BaseModel] | None:
    """The schema class that the given location in the file belongs to."""
    current: type[pydantic.BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        if current is None:
            return None
        field = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
        current = None if field is None else _section_in(field.annotation)
    return current


def _section_in(annotation: Any) -> type[pydantic.BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    if typing.get_origin(annotation) in (tuple, typing.Union, types.UnionType, Annotated):
        return next((found for a in typing.get_args(annotation) if (found := _section_in(a))), None)
    return None


def _explain(error: Any, model: type[pydantic.BaseModel], prefix: str = "") -> str:
    """One pydantic error as one clause that names the key and the fix."""
    location = tuple(part for part in error["loc"] if not str(part).startswith("function-"))
    key = ".".join(filter(None, [prefix, *map(str, location)])) or prefix
    kind = error["type"]
    given = error.get("input")
    if kind == "extra_forbidden":
        section = _section_at(model, location[:-1])
        known = [] if section is None else [f.alias or n for n, f in section.model_fields.items()]
        return f"{key}: unknown key; {nearest(str(location[-1]), known)}"
    if kind == "missing":
        return f"{key}: this key is required"
    if kind == "literal_error" and isinstance(given, str):
        return f"{key}: unknown value {given!r}; {nearest(given, _literals(error['ctx']['expected']))}"
    if kind == "value_error":
        message = str(error["ctx"]["error"])
        return f"{key}: {message}" if key else message
    message = error["msg"].replace("Input should be", "should be")
    return f"{key}: {message}, got {_shown(given)} ({type(given).__name__})"


def _shown(value: Any) -> str:
    """A value in an error: its beginning, where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a huge number"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _literals(expected: str) -> list[str]:
    return [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]


def imported(path: str) -> Any:
    """The object behind `package.module:attribute`, or one that a program handed over (see `popnet.parts`).

    Raises ConfigError naming what was not found.
    """
    module_name, _, attribute = path.partition(":")
    if module_name == parts.PROGRAM:
        return parts.find(attribute)
    try:
        found = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(f"import {path!r}: module {module_name!r} cannot be imported: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"import {path!r}: {part!r} is not there; {nearest(part, vars(found))}")
        found = getattr(found, part)
    return found
