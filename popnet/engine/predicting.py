"""Other test sets: what the stored weights of a row's runs predict for pictures that none of them was tested on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from popnet.config import Recipe, refuse_imports
from popnet.data import PictureDataset
from popnet.data.beton import open_beton
from popnet.data.feeding import DevicePictures
from popnet.data.picture_sets import (
    BetonPictures,
    PictureSource,
    check_jpeg_library,
    folder_pictures,
    labels_of_folders,
)
from popnet.data.pictures import PictureImages
from popnet.engine.devices import platform
from popnet.engine.pictures import encoded_pictures, image_shape
from popnet.engine.sharing import load_component
from popnet.errors import ConfigError, DataError, StoreError
from popnet.protocol import ORIGINAL, Member
from popnet.results.stores.rows import stored_population
from popnet.store import Store
from popnet.training.trainer import Trainer, make_parts


def predict(
    source: str,
    pictures: Path,
    output: Path,
    mapping: Path | None = None,
    device: str = "auto",
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    allow_import: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> NDArray[np.float64]:
    """Test the runs of a store's row on other pictures, and write the classes that they predict.

    The file holds `predictions` [runs, pictures], `labels` int64 [pictures] and `seeds`, the runs' ids, by which
    `popnet theory` and `popnet compare` match the same runs on several test sets.

    Args:
        source: a store or one of its rows, whose recipe keeps weights.
        pictures: a folder with a folder of pictures for each class, or a .beton file, labelled as the training set is.
        output: an .npz file.
        mapping: from the folders to the training set's classes (see `labels_of_folders`).
        device: `cpu`, `cuda`, or `auto`: a GPU where there is one.
        force: overwrite.
        allow_import: run the code that the store's recipe names by `import:`; stores can come from anybody.
        progress: is called with the numbers of runs tested and to test.
        tell: is told what of the pictures was left out, or is not as one may expect.

    Returns:
        The runs' accuracies in percent, float64 [runs].

    Raises:
        ConfigError, DataError, StoreError: before any prediction, what is wrong, and where.
    """
    if output.suffix != ".npz":
        raise ConfigError(f"{output}: the predictions are written to an .npz file")
    if output.exists() and not force:
        raise DataError(f"{output}: exists already; --force overwrites it")
    store, _, members = stored_population(source)
    _check_weights(store, members)
    if not allow_import:
        refuse_imports({"recipe": members[0].recipe}, str(store.path), "predict(..., allow_import=True)")
    dataset = load_component(members[0].recipe.dataset)
    if not isinstance(dataset, PictureDataset):
        raise ConfigError(f"{source}: trained on {dataset.name!r}, and other test sets are for pictures in files")
    _check_training_set(store, members[0].recipe, dataset)
    test = _labelled(dataset, pictures, mapping)
    for note in test.notes:
        tell(note)
    kind = torch.device("cpu" if platform(device).device.startswith("cpu") else "cuda")
    recipe, opened = members[0].recipe, encoded_pictures(test)
    constants = dataset.mean, dataset.std, recipe.resize, opened.name_of, recipe.loader.workers
    images = DevicePictures(PictureImages(opened.pictures, opened.labels, *constants), kind)
    shape = image_shape(recipe, dataset)
    found = np.empty((len(members), len(images)), np.min_scalar_type(dataset.classes - 1))
    for row, m in enumerate(members):
        torch.set_num_threads(recipe.threads)
        parts = make_parts(recipe, m.init_seed, shape, dataset.classes, kind)
        trainer = Trainer(m, images, images, dataset.classes, (ORIGINAL,), parts)
        trainer.model.load_state_dict(store.weights(m.id))
        found[row] = trainer.predictions()[0].argmax(axis=1)
        progress(row + 1, len(members))
    labels = np.asarray(test.labels)
    np.savez(output, predictions=found, labels=labels, seeds=np.array([m.id for m in members]))
    return 100.0 * (found == labels).mean(axis=1)


def _check_weights(store: Store, members: list[Member]) -> None:
    recipe = members[0].recipe
    if "weights" not in recipe.keep:
        raise ConfigError(f"{store.path}: keeps no weights: train with `recipe.keep=[predictions,weights]`")
    if recipe.schedule.cycles > 1:
        raise ConfigError(f"{store.path}: predicts by snapshots, of whose weights the last alone is kept")


def _check_training_set(store: Store, recipe: Recipe, dataset: PictureDataset) -> None:
    """That the training set, whose mean and std normalise other pictures too, is the one that the store was made with.

    Of one that is too large to be decoded, mean and std are none of its own, and nothing is read.
    """
    if dataset.is_large:
        return
    made_with = store.datasets().get(recipe.dataset.identity, dataset.digest)
    dataset.forget()
    if made_with != dataset.digest:
        raise StoreError(
            f"{store.path}: was trained with other data under the name {recipe.dataset.label!r} (digest "
            f"{made_with[:12]} there, {dataset.digest[:12]} now), whose mean and std are needed: bring those back"
        )


def _labelled(dataset: PictureDataset, pictures: Path, mapping: Path | None) -> PictureSource:
    names = dataset.class_names or tuple(str(label) for label in range(dataset.classes))
    if pictures.suffix == ".beton":
        if mapping is not None:
            raise ConfigError(f"{mapping}: a mapping is for folders, and {pictures} has its labels in it")
        test: PictureSource = BetonPictures(open_beton(pictures))
    else:
        test = folder_pictures(pictures, labels_of_folders(pictures, names, mapping))
    if test.labels.min(initial=0) < 0 or test.labels.max(initial=0) >= dataset.classes:
        raise DataError(f"{pictures}: its labels are not all in 0 .. {dataset.classes - 1}")
    if test.channels != dataset.train.channels:
        raise DataError(f"{pictures}: has {test.channels} channels, and the training set {dataset.train.channels}")
    if (test.table[:, 4] == 1).any():
        check_jpeg_library()
    return test
