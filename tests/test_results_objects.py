"""What a program holds in memory: numbers of runs, and what only looks like them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import popnet
from popnet.errors import ConfigError, DataError
from popnet.results.found import Options
from popnet.results.objects import read_object

_RNG = np.random.default_rng(5)
A = [91.44, 91.80, 91.61, 91.48, 91.67]
B = [91.02, 91.55, 91.10, 91.31, 91.12]
LABELS = _RNG.integers(0, 3, 60)
PREDICTED = [np.where(_RNG.random(60) < skill, LABELS, (LABELS + 1) % 3) for skill in (0.9, 0.6)]
RIGHT = [predicted == LABELS for predicted in PREDICTED]
LOSSES = [_RNG.exponential(size=1000), _RNG.exponential(size=1000)]

ALL_0_OR_1 = 'all 0 or 1, .* give right and wrong answers as "correct": array'
WHOLE = "whole and few of them differ, as classes"
UNNAMED = "name the array `correct` or `errors`"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (RIGHT[0].astype(int).tolist(), ALL_0_OR_1),
        (RIGHT[0].astype(float), ALL_0_OR_1),
        (torch.tensor(RIGHT[0]).float(), ALL_0_OR_1),
        (pd.Series(RIGHT[0].astype(int)), ALL_0_OR_1),
        ((100 * RIGHT[0]).tolist(), "all 0 or 100"),
        (torch.tensor(RIGHT[0]), UNNAMED),
        (RIGHT[0], UNNAMED),
        (RIGHT[0].tolist(), UNNAMED),
        (list(RIGHT[0]), UNNAMED),
        (pd.Series(RIGHT[0]), UNNAMED),
        (LOSSES[0].tolist(), "holds 1,000 numbers: give .* `seeds` beside them"),
        (LOSSES[0], r"holds 1,000 numbers: give .*\[1, examples\]"),
        (torch.tensor(LOSSES[0]), "holds 1,000 numbers"),
        (pd.Series(LOSSES[0]), "holds 1,000 numbers"),
        (PREDICTED[0], WHOLE),
        (PREDICTED[0].tolist(), WHOLE),
        (np.ma.masked_array(A, np.array(A) > 91.7), "holds masked values"),
        ([*A[:2], float("nan")], "value of run 2 is nan"),
    ],
)
def test_examples_are_not_taken_for_runs(values: Any, sentence: str) -> None:
    with pytest.raises((ConfigError, DataError), match=sentence):
        read_object(values, Options(), "A")


def test_what_the_sentences_ask_for_is_read() -> None:
    (right,) = read_object({"correct": RIGHT[0][None]}, Options(), "A")
    assert (right.count, right.examples) == (1, 60)
    assert right.samples["accuracy"].values.tolist() == pytest.approx([100 * RIGHT[0].mean()])
    (errors,) = read_object({"squared_error": LOSSES[0][None]}, Options(), "A")
    assert (errors.count, errors.examples) == (1, 1000)
    (values,) = read_object({"value": LOSSES[0], "seeds": np.arange(1000)}, Options(), "A")
    assert (values.count, values.examples) == (1000, None)


@pytest.mark.parametrize("wrap", [list, tuple, np.array, torch.tensor, pd.Series])
def test_numbers_of_runs(wrap: Any) -> None:
    (runs,) = read_object(wrap(A), Options(metrics=("accuracy",)), "A")
    assert runs.samples["accuracy"].values.tolist() == pytest.approx(A, rel=1e-6)
    assert runs.seeds is None


@pytest.mark.parametrize("values", [[91, 92, 91, 93, 90], np.array([3, 1, 2]), torch.tensor([3, 1, 2])])
def test_whole_numbers_of_few_runs(values: Any) -> None:
    assert read_object(values, Options(), "A")[0].count == len(values)


@pytest.mark.parametrize(
    "call",
    [
        lambda: popnet.compare(PREDICTED[0].astype(float), PREDICTED[1].astype(float), LABELS),
        lambda: popnet.compare(PREDICTED[0].astype(float).tolist(), PREDICTED[1].astype(float).tolist(), LABELS),
        lambda: popnet.compare(_RNG.random(60), _RNG.random(60), LABELS),
        lambda: popnet.compare(RIGHT[0].astype(int).tolist(), RIGHT[1].astype(int).tolist(), LABELS),
        lambda: popnet.compare((PREDICTED[0], LABELS), (PREDICTED[1], LABELS), LABELS),
        lambda: popnet.compare({"correct": np.tile(RIGHT[0], (5, 1)).T}, {"correct": np.ones((60, 5))}, LABELS),
    ],
    ids=["float classes", "lists", "P(positive)", "right answers", "pairs with labels", "transposed"],
)
def test_predictions_with_labels_that_are_no_classes(call: Any) -> None:
    with pytest.raises((ConfigError, DataError)):
        call()


def test_a_history_is_no_runs() -> None:
    history = {name: [0.5, 0.7, 0.8] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
    with pytest.raises(ConfigError, match="as the history of one run does, epoch by epoch"):
        popnet.compare(history, {name: [*values, 0.9] for name, values in history.items()}, metric="val_accuracy")


# ---- pandas ----------------------------------------------------------------------------------------------------------


def test_a_series_in_another_order_is_refused() -> None:
    a, b, labels = pd.Series(PREDICTED[0]), pd.Series(PREDICTED[1]), pd.Series(LABELS)
    assert popnet.compare(a, b, labels) == popnet.compare(PREDICTED[0], PREDICTED[1], LABELS)
    mixed = b.sample(frac=1, random_state=1)
    sentence = r"index is not 0, 1, 2, ... in order .* give `.to_numpy\(\)` of each"
    for call in (
        lambda: popnet.compare(a, mixed, labels),
        lambda: popnet.compare(a, [mixed, b], labels),
        lambda: popnet.compare(a, {"predictions": mixed}, labels),
        lambda: popnet.compare(a, [{"predictions": mixed}], labels),
        lambda: popnet.compare(a[5:], b[5:], labels),
    ):
        with pytest.raises(ConfigError, match=sentence):
            call()
    with pytest.raises(ConfigError, match="the labels have another index than its Series"):
        popnet.compare(a, b, labels.sample(frac=1, random_state=2))


def test_labels_of_a_split_are_read_beside_arrays() -> None:
    labels = pd.Series(LABELS, index=np.random.default_rng(0).permutation(60))
    assert popnet.compare(*PREDICTED, labels) == popnet.compare(*PREDICTED, LABELS)


def test_the_index_of_values_is_their_seeds_where_it_says_so() -> None:
    a = pd.Series(A, index=pd.Index([4, 2, 0, 1, 3], name="seed"))
    assert read_object(a, Options(), "A")[0].seeds == (4, 2, 0, 1, 3)
    assert read_object(a.rename_axis("init"), Options(seed_column="init"), "A")[0].seeds == (4, 2, 0, 1, 3)
    assert read_object(a.rename_axis(None), Options(), "A")[0].seeds is None


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (pd.Index([0, 1, 2, 3, 4], name="epoch"), "its index is `epoch`, of a history"),
        (pd.Index([0, 1, 2, 3, 4], name="fold"), "its index is `fold`, of parts"),
        (pd.Index(["a", "a", "a", "b", "b"], name="model"), "holds 'a' more than once"),
        (pd.MultiIndex.from_arrays([list("aaabb"), range(5)]), "its index has 2 levels"),
    ],
)
def test_an_index_that_says_what_else_the_numbers_are(index: Any, sentence: str) -> None:
    with pytest.raises((ConfigError, DataError), match=sentence):
        read_object(pd.Series(A, index=index), Options(), "A")


# ---- records ---------------------------------------------------------------------------------------------------------


def test_records_are_a_table() -> None:
    records = [[{"seed": seed, "accuracy": np.float64(v)} for seed, v in enumerate(values)] for values in (A, B)]
    frames = [pd.DataFrame({"seed": range(5), "accuracy": values}) for values in (A, B)]
    found, expected = (popnet.compare(*pair, metric="accuracy") for pair in (records, frames))
    assert (found.difference, found.interval) == (expected.difference, expected.interval)


def test_a_table_of_another_kind_is_refused() -> None:
    class Frame:
        columns = ("a", "b")
        shape = (2, 2)

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            return np.eye(2)

    with pytest.raises(ConfigError, match=r"must be a pandas DataFrame, .* give its `to_pandas\(\)`"):
        read_object(Frame(), Options(), "A")
