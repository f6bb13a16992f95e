"""Who trains which member where. `run` is the whole way from an experiment to a filled store."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import pandas as pd
import torch

from popnet import config, protocol
from popnet.config import Experiment, Recipe
from popnet.data import Dataset, PictureDataset, Text, missing
from popnet.data.choice import described, in_order_of_class
from popnet.engine.devices import available_cores, platform, visible_gpus
from popnet.engine.journal import Journal
from popnet.engine.language import check_language_model, language_prediction_bytes
from popnet.engine.local import Gpus, LocalExecutor
from popnet.engine.narration import reading
from popnet.engine.pictures import Shared, check_loader, image_shape, share_any
from popnet.engine.progress import Reporter, Silent
from popnet.engine.sharing import load_component, target_labels
from popnet.engine.training import Executor, Training, kept_views, missing_members
from popnet.errors import ConfigError, DataError, PopnetError, StoreError, nearest
from popnet.protocol import Member, Plan, steps_per_epoch
from popnet.results.stores.divergence import divergence_table
from popnet.results.stores.language_populations import language_table
from popnet.results.stores.populations import similarity_table, variability_table
from popnet.store import Store
from popnet.store.logs import write_logs
from popnet.store.repair import set_damage_aside
from popnet.training.features import module_of
from popnet.training.optimizers import FlatParameters
from popnet.training.optimizers import build as build_optimizer
from popnet.training.perturbations import target
from popnet.training.rack import MOST_SLOTS
from popnet.training.trainer import initialised_model, make_loss

AnyDataset = Dataset | PictureDataset | Text

EXECUTORS = ("local", "ray")


TABLES: Mapping[str, Callable[[Plan, Store], pd.DataFrame]] = {
    "variability": variability_table,
    "language": language_table,
    "similarity": similarity_table,
    "divergence": divergence_table,
}
"""The tables that a run can be asked for, by the names of `measure`; a language model's variability is `language`."""


class Interrupted(PopnetError):
    """The run was stopped by Ctrl-C or SIGTERM; what is finished is in the store. `code`: the exit code for a shell."""

    def __init__(self, number: int) -> None:
        self.code = 128 + number
        super().__init__(
            f"stopped by {signal.Signals(number).name}: finished members are kept; the same command goes on from here"
        )


@dataclass(frozen=True)
class Result:
    """A finished run: its plan and the store that holds its members.

    Attributes:
        at_once: for how many members there was room at the same time, each number that held in turn. A GPU has room for
            one, then for as many as were asked for or found best, and for fewer once its memory has turned out too
            small. Empty where nothing was left to train.
    """

    plan: Plan
    store: Store
    at_once: tuple[int, ...] = ()

    @property
    def main_table(self) -> str:
        """The table that says how much members differ: `language` of language models, else `variability`."""
        return "variability" if self.plan.experiment.recipe.language is None else "language"

    def table(self, name: str | None = None) -> pd.DataFrame:
        """The table of one measure, by default the main one: a row for each variant, indexed by `variant`, in order.

        Columns of `variability`: the fields of `popnet.metrics.Variability`, then population, failed, diverged and
        marks. Of `language`: those of `popnet.metrics.LanguageVariability`, and the same. Of `similarity`: the mean
        linear CKA of each layer over all pairs of members, with its noise floor. `divergence` has a row for each
        variant, member and epoch, see
        `popnet.results.stores.divergence`.
        """
        name = self.main_table if name is None else name
        if name not in TABLES:
            raise ConfigError(f"no table {name!r}; {nearest(name, TABLES)}")
        if name in ("variability", "language") and name != self.main_table:
            kind = "language models" if self.main_table == "language" else "models of images"
            raise ConfigError(
                f"no table {name!r}: {self.plan.experiment.name} trains {kind}: ask for {self.main_table!r}"
            )
        return TABLES[name](self.plan, self.store)

    def _repr_html_(self) -> str:
        """The main table, for a notebook; SDs as `popnet run` prints them."""
        from popnet.report.answers import table_html
        from popnet.results.measuring import sample_sds

        table, sd = (self.table(), "n") if self.plan.experiment.published else (sample_sds(self.table()), "n - 1")
        return table_html(table.rename_axis(f"variant (SD: {sd} in the denominator)"))


def plan(experiment: Experiment | str | Path, device: str = "auto") -> Plan:
    """The members that an experiment needs on this machine, each once, without training; see `Plan.members`."""
    if not isinstance(experiment, Experiment):
        experiment = config.load(experiment)
    if device == "auto" and experiment.recipe.language is not None:
        device = "cpu"  # where language models train
    return protocol.plan(experiment, platform(device))


def run(
    experiment: Experiment | str | Path,
    store: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    executor: str = "local",
    reporter: Reporter | None = None,
    order: Callable[[list[Member]], list[Member]] = list,
    checkpoint_minutes: float = 10.0,
    hang_minutes: float = 10.0,
    cohort: int | None = None,
    wait: bool = False,
    verify: bool = True,
) -> Result:
    """Train every member that the store lacks, and return what the tables are made from.

    Args:
        experiment: an experiment, its file, or the name of a shipped one.
        store: folder; default `runs/NAME`. Created where missing; a run that was interrupted goes on.
        workers: processes; default one for each core that the process may use, or that the Ray cluster has, divided by
            the recipe's threads; on GPUs, one for each that is visible.
        device: `cpu`, `cuda`, or `auto`: a GPU where there is one.
        executor: `local`, or `ray`: the machines of a Ray cluster (extra `popnet[ray]`).
        reporter: is told of progress; default silent.
        order: the order in which members are started; never changes a result.
        checkpoint_minutes: a training that takes longer saves how far it is so often, at the end of an epoch.
        hang_minutes: a worker that does no training step for so long (before its first: six times as long) is
            ended, and its member trained again.
        cohort: members that each GPU trains at the same time; default the experiment's, else chosen from memory and a
            short measurement. Never changes a result, and without a GPU nothing at all.
        wait: where another run has the store, until that ends; otherwise a StoreError.
        verify: read the files of the finished members first: one that does not match its digest is named, set aside
            (folder `damaged`) and its member trained again. Without, only files that are missing are noticed.

    Raises:
        ConfigError, DataError, StoreError: before any training, whatever is wrong.
        Interrupted: Ctrl-C or SIGTERM; what is finished is kept.
    """
    if not isinstance(experiment, Experiment):
        experiment = config.load(experiment)
    with _missing_data_named(experiment):
        wanted = plan(experiment, "cpu" if executor == "ray" and device == "auto" else device)
        _check_arguments(wanted, workers, executor, checkpoint_minutes, hang_minutes)
        gpus = _gpus(wanted, workers, executor, experiment.cohort if cohort is None else cohort)
    recipes = {m.recipe.digest: m.recipe for m in wanted.members}
    threads = max(recipe.threads for recipe in recipes.values())
    datasets = _load(recipes)
    _check_models(wanted, datasets)
    steps = {
        key: steps_per_epoch(recipe, _examples(recipe, datasets[_dataset_key(recipe)]))
        for key, recipe in recipes.items()
    }
    opened = Store(Path("runs") / experiment.name if store is None else store, create=True)
    reporter = reporter or Silent()
    opened.lock(wait, reporter.message)
    try:
        opened.remove_leftovers()
        _identify(datasets, reporter)
        opened.register(
            experiment,
            {recipe.dataset.identity: datasets[_dataset_key(recipe)].digest for recipe in recipes.values()},
            _training_sets(recipes.values(), datasets, reporter),
        )
        if verify:
            set_damage_aside(opened, {m.id for m in wanted.members}, reporter.message)
        labels = {key: opened.save_labels(target_labels(dataset)) for key, dataset in datasets.items()}
        missing = order(missing_members(wanted, opened))
        at_once: tuple[int, ...] = ()
        if missing:
            _check_space(wanted, missing, datasets, opened)
            training = Training(wanted, opened, missing, steps, 60.0 * checkpoint_minutes)
            with (
                _shared(datasets, recipes.values(), labels) as shared,
                _executor(executor, workers, shared, threads, 60.0 * hang_minutes, wanted, gpus) as workplace,
                Journal(opened.path, wanted, reporter) as journal,
            ):
                for line in dict.fromkeys(reading(r, shared[_dataset_key(r)]) for r in recipes.values()):
                    journal.detail(line)
                _train(training, workplace, journal)
            at_once = tuple(training.at_once)
        opened.remove_checkpoints()
        write_logs(opened)
    finally:
        opened.unlock()
    return Result(wanted, opened, at_once)


def _executor(
    name: str,
    workers: int | None,
    datasets: Mapping[str, Shared],
    threads: int,
    hang_seconds: float,
    wanted: Plan,
    gpus: Gpus | None,
) -> AbstractContextManager[Executor]:
    if name == "ray":
        from popnet.engine.ray import RayExecutor

        return RayExecutor(workers, datasets, threads, hang_seconds, wanted.platform)
    if gpus is not None:
        return LocalExecutor(len(gpus.names), datasets, threads, hang_seconds, gpus)
    return LocalExecutor(workers or max(available_cores() // threads, 1), datasets, threads, hang_seconds)


def _gpus(wanted: Plan, workers: int | None, executor: str, cohort: int | None) -> Gpus | None:
    """The GPUs of a plan for them; None of one for CPUs. Raises ConfigError."""
    if cohort is not None and cohort < 1:
        raise ConfigError(f"cohort is {cohort}: at least 1 is needed")
    if cohort is not None and cohort > MOST_SLOTS:
        raise ConfigError(f"cohort is {cohort}: a GPU trains at most {MOST_SLOTS} members at once")
    if wanted.platform.device.startswith("cpu"):
        return None
    names = visible_gpus()
    if workers is not None and workers > len(names):
        raise ConfigError(f"workers is {workers}, and {len(names)} GPU(s) are visible: a process has one of its own")
    if executor != "local":
        raise ConfigError(f"executor {executor!r} trains on CPUs: use executor 'local' for a GPU, or device 'cpu'")
    if any(m.recipe.language is not None for m in wanted.members):
        raise ConfigError("language models train on CPUs: use device 'cpu'")
    return Gpus(names[:workers], cohort)


def _train(training: Training, executor: Executor, reporter: Reporter) -> None:
    reporter.begin(training.members, training.epochs)
    try:
        with _stopped_by_signals():
            training.run(executor, reporter)
    finally:
        reporter.end()


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into `Interrupted` while the block runs (in the main thread, where signals arrive)."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shared(
    datasets: Mapping[str, AnyDataset], recipes: Collection[Recipe], labels: Mapping[str, str]
) -> Iterator[dict[str, Shared]]:
    """The data sets in shared memory, for as long as the block runs. `labels`: what names their test labels."""
    shared: dict[str, Shared] = {}
    try:
        for key, dataset in datasets.items():
            users = [recipe for recipe in recipes if _dataset_key(recipe) == key]
            shared[key] = share_any(dataset, labels[key], users)
        yield shared
    finally:
        for entry in shared.values():
            with suppress(OSError):
                os.close(entry.memory.descriptor)


def _check_arguments(
    wanted: Plan, workers: int | None, executor: str, checkpoint_minutes: float, hang_minutes: float
) -> None:
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}: at least 1 is needed")
    if executor not in EXECUTORS:
        raise ConfigError(f"unknown executor {executor!r}; {nearest(executor, EXECUTORS)}")
    if executor == "ray" and find_spec("ray") is None:
        raise ConfigError("executor 'ray' needs Ray: pip install 'popnet[ray]'")
    for name, minutes in (("checkpoint_minutes", checkpoint_minutes), ("hang_minutes", hang_minutes)):
        if not minutes > 0:
            raise ConfigError(f"{name} is {minutes:g}: it must be above 0 (inf: never)")
    on_cpu = wanted.platform.device.startswith("cpu")
    for m in wanted.members:
        if on_cpu and m.seeds.kernels != 1 and m.recipe.kernels.mode == "hardware":
            raise ConfigError(
                "recipe.kernels.mode=hardware: a CPU's kernels are deterministic, so nothing would vary: use "
                "recipe.kernels.mode=reorder, the seeded proxy"
            )
        if on_cpu and m.recipe.precision not in ("fp32", "bf16"):
            raise ConfigError(f"recipe.precision={m.recipe.precision} needs a CUDA device: use fp32 or bf16 on a CPU")


def _dataset_key(recipe: Recipe) -> str:
    return recipe.dataset.model_dump_json()


def _load(recipes: Mapping[str, Recipe]) -> dict[str, AnyDataset]:
    """Each data set once. Raises ConfigError, or DataError with what is wrong of all of them."""
    each = {_dataset_key(recipe): recipe for recipe in recipes.values()}
    made: dict[str, AnyDataset] = {}
    problems: list[str] = []
    for key, r in each.items():
        try:
            made[key] = load_component(r.dataset, language=r.language is not None)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("; ".join(dict.fromkeys(problems)))
    return made


@contextmanager
def _missing_data_named(experiment: Experiment) -> Iterator[None]:
    """Where the block finds that an experiment cannot be run here, say too which of its data sets are not here."""
    try:
        yield
    except ConfigError as error:
        recipes = [experiment.recipe, *(experiment.recipe_of(variant) for variant in experiment.variants)]
        named = {_dataset_key(recipe): recipe.dataset for recipe in recipes if recipe.dataset.name is not None}
        absent = [missing(str(dataset.name), dataset.kwargs.get("root")) for dataset in named.values()]
        sentences = [sentence for sentence in dict.fromkeys(absent) if sentence is not None]
        if not sentences:
            raise
        raise ConfigError("; ".join([str(error), *sentences])) from error


def _identify(datasets: Mapping[str, AnyDataset], reporter: Reporter) -> None:
    """Find the digests of pictures in files, which takes a while, and say what their user should know of them."""
    for dataset in datasets.values():
        if isinstance(dataset, PictureDataset):
            dataset.identify(reporter.message)
        for note in () if isinstance(dataset, Text) else dataset.notes:
            reporter.message(note)


def _training_sets(
    recipes: Collection[Recipe], datasets: Mapping[str, AnyDataset], reporter: Reporter
) -> dict[str, tuple[int, bool]]:
    """What a store keeps of each training set that a recipe takes a part of; a part that is drawn is said, too."""
    facts = {}
    said = set()
    for recipe in recipes:
        dataset, examples = datasets[_dataset_key(recipe)], recipe.train_examples
        if examples is None or isinstance(dataset, Text):
            continue
        drawn = in_order_of_class(dataset.train_labels)
        facts[recipe.dataset.identity] = len(dataset.train_labels), drawn
        if drawn and examples < len(dataset.train_labels):
            said.add(
                f"data set {recipe.dataset.label}: {described(dataset.train_labels, examples)}, as they lie by class"
            )
    for line in sorted(said):
        reporter.message(line)
    return facts


def _examples(recipe: Recipe, dataset: AnyDataset) -> int:
    if recipe.train_examples is not None:
        return recipe.train_examples
    return len(dataset.train_tokens if isinstance(dataset, Text) else dataset.train_labels)


def _check_models(wanted: Plan, datasets: Mapping[str, AnyDataset]) -> None:
    """Build each recipe's model once and show it two images: what cannot train is said before anything trains."""
    checked = set()
    for m in wanted.members:
        recipe = m.recipe
        dataset = datasets[_dataset_key(recipe)]
        key = (recipe.digest, None if m.perturbation is None else m.perturbation.tensor)
        if key in checked:
            continue
        checked.add(key)
        if isinstance(dataset, Text):
            check_language_model(m, dataset)
            continue
        if recipe.train_examples is not None:
            dataset.check_size(recipe.train_examples)
        if recipe.drop_last and _examples(recipe, dataset) < recipe.batch_size:
            raise ConfigError(
                f"recipe.batch_size={recipe.batch_size} with drop_last leaves no batch of "
                f"{_examples(recipe, dataset)} training images"
            )
        input_shape = image_shape(recipe, dataset)
        _check_pixels(recipe, input_shape)
        check_loader(recipe, dataset)
        model = _built(m, input_shape, dataset.classes).eval()
        with torch.inference_mode():
            try:
                shape = tuple(model(torch.zeros(2, *input_shape, dtype=torch.float32)).shape)
            except Exception as error:
                raise ConfigError(
                    f"recipe.model {recipe.model.label!r} cannot take images {[2, *input_shape]} "
                    f"of data set {dataset.name!r}: {error}"
                ) from error
        if shape != (2, dataset.classes):
            raise ConfigError(
                f"recipe.model {recipe.model.label!r} gives {list(shape)} for two images; "
                f"logits [2, {dataset.classes}] are needed"
            )
        if m.perturbation is not None:
            target(model, m.perturbation.tensor)
        for layer in recipe.features.layers if recipe.features is not None else ():
            module_of(model, layer)


def _built(m: Member, input_shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """The member's model, after building its loss and optimiser too. Raises ConfigError naming the part that fails."""
    part = f"model {m.recipe.model.label!r}"
    try:
        model = initialised_model(m.recipe, m.init_seed, input_shape, classes)
        part = f"loss {m.recipe.loss.label!r}"
        make_loss(m.recipe)
        part = f"optimizer {m.recipe.optimizer.name or m.recipe.optimizer.import_path!r}"
        build_optimizer(model, FlatParameters(model), m.recipe.optimizer)
    except PopnetError:
        raise
    except Exception as error:
        raise ConfigError(f"recipe: {part} cannot be built: {type(error).__name__}: {error}") from error
    return model


def _check_pixels(recipe: Recipe, input_shape: tuple[int, int, int]) -> None:
    channels, height, width = input_shape
    augment = recipe.augment
    if augment.cutout > min(height, width):
        raise ConfigError(f"recipe.augment.cutout={augment.cutout} is larger than the {height} x {width} images")
    if augment.fill is not None and len(augment.fill) != channels:
        raise ConfigError(f"recipe.augment.fill has {len(augment.fill)} values; the images have {channels} channels")


def _check_space(wanted: Plan, missing: list[Member], datasets: Mapping[str, AnyDataset], store: Store) -> None:
    needed, views = 0, kept_views(wanted, store.done())
    for m in missing:
        dataset = datasets[_dataset_key(m.recipe)]
        if isinstance(dataset, Text):
            needed += language_prediction_bytes(m.recipe, dataset)
            continue
        needed += len(views[m.id]) * len(dataset.test_labels) * dataset.classes * 4 + 65536
    free = store.free_bytes()
    if needed > free:
        raise StoreError(
            f"{store.path}: the disk is too full: {len(missing)} members need {needed / 1e6:,.1f} MB for their "
            f"predictions, and {free / 1e6:,.1f} MB are free"
        )
