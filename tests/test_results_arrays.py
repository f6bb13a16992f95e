"""Arrays of every form people hold, each with its right value, or the sentence that says what is wrong."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

from popnet.errors import ConfigError, DataError
from popnet.publish.folder import publish
from popnet.results.arrays.runs import holds_logits, runs_of_arrays, runs_of_object
from popnet.results.found import Options
from popnet.results.reading import read, read_all
from popnet.results.sources import split
from popnet.results.stores.rows import runs_of_store

RUNS, EXAMPLES, CLASSES = 4, 30, 3
_RNG = np.random.default_rng(7)
Y = _RNG.integers(0, CLASSES, EXAMPLES)
Z = (_RNG.normal(size=(RUNS, EXAMPLES, CLASSES)) * 2).astype(np.float32)
P = np.exp(Z - Z.max(axis=2, keepdims=True))
P /= P.sum(axis=2, keepdims=True)
C = Z.argmax(axis=2)
RIGHT = C == Y
ACCURACY = 100 * RIGHT.mean(axis=1)
LOSS = -np.log(P.astype(np.float64)[:, np.arange(EXAMPLES), Y])
F1 = _RNG.random((RUNS, EXAMPLES))
SEEDS = np.array([3, 1, 4, 2])
IDS = _RNG.permutation(EXAMPLES) + 100
HALF = torch.from_numpy(Z).to(torch.bfloat16)
VALUES = np.array([0.91, 0.9, 0.93, 0.92])
TEXT_IDS = np.array([f"q{i}" for i in IDS])


def npy(array, name="runs.npy"):
    return lambda folder: np.save(folder / name, array) or folder / name


def npz(**arrays):
    return lambda folder: np.savez(folder / "runs.npz", **arrays) or folder / "runs.npz"


def pt(content):
    return lambda folder: torch.save(content, folder / "runs.pt") or folder / "runs.pt"


def beside(make, **arrays):
    """The source, with other files in its folder."""

    def write(folder):
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        return make(folder)

    return write


def safetensors(**tensors):
    def write(folder):
        tensor = {key: torch.as_tensor(value).contiguous() for key, value in tensors.items()}
        save_file(tensor, folder / "runs.safetensors")
        return folder / "runs.safetensors"

    return write


def folder_of(contents, aside=None):
    """A folder with a file for each run: an array, or the arrays of an .npz."""

    def write(folder):
        path = folder / "runs"
        path.mkdir()
        for number, content in enumerate(contents):
            if isinstance(content, dict):
                np.savez(path / f"run_{number}.npz", **content)
            else:
                np.save(path / f"run_{number}.npy", content)
        for name, array in (aside or {}).items():
            np.save(path / f"{name}.npy", array)
        return path

    return write


def in_memory(source):
    return lambda folder: source


def shuffled(run, seed):
    """One run's file with its examples in an order of their own."""
    order = np.random.default_rng(seed).permutation(EXAMPLES)
    return {"logits": Z[run][order], "labels": Y[order], "ids": IDS[order]}


def evaluation(run, **other):
    return SimpleNamespace(predictions=Z[run], label_ids=Y, metrics={}) if not other else SimpleNamespace(**other)


def runs_of(source, options, value=None):
    if isinstance(source, Path):
        return runs_of_arrays(source, options, value)
    return runs_of_object(source, "the runs", options)


MANY = np.stack([Z[i % RUNS] + i for i in range(12)])  # twelve runs, by name in another order than by number
LOGITS = {
    "npy, labels beside": (beside(npy(Z), labels=Y), {}),
    "npy, labels beside under the name of Hugging Face": (beside(npy(Z), label_ids=Y), {}),
    "npy, labels given as an array": (npy(Z), {"labels": Y}),
    "npy, labels given as a tensor": (npy(Z), {"labels": torch.from_numpy(Y)}),
    "npz": (npz(logits=Z, labels=Y), {}),
    "npz of double precision": (npz(logits=Z.astype(np.float64), labels=Y), {}),
    "npz of another byte order, by columns": (npz(logits=np.asfortranarray(Z.astype(">f4")), labels=Y), {}),
    "npz with an axis called predictions": (npz(predictions=Z, y_true=Y), {}),
    "npz with keys in capitals": (npz(Logits=Z, Labels=Y), {}),
    "npz of numbered runs": (npz(**{f"run_{i}": z for i, z in enumerate(Z)}, labels=Y), {}),
    "npz of numbered runs, each with an axis": (npz(**{f"run_{i}": z[None] for i, z in enumerate(Z)}, labels=Y), {}),
    "npz with labels of whole floats": (npz(logits=Z, labels=Y.astype(np.float64)), {}),
    "pt": (pt({"logits": torch.from_numpy(Z), "labels": torch.from_numpy(Y)}), {}),
    "pt that requires gradients": (
        pt({"logits": torch.from_numpy(Z.copy()).requires_grad_(), "labels": torch.from_numpy(Y)}),
        {},
    ),
    "pt of NumPy arrays": (pt({"logits": Z, "labels": Y, "accuracy": np.float64(0.5), "epoch": 3}), {}),
    "pt of NumPy arrays by columns, of another order of bytes": (
        pt({"logits": np.asfortranarray(Z.astype(">f8")), "labels": Y}),
        {},
    ),
    "pt, a tensor": (beside(pt(torch.from_numpy(Z)), targets=Y), {}),
    "pt, a list of tensors": (beside(pt([torch.from_numpy(z) for z in Z]), labels=Y), {}),
    "safetensors": (safetensors(logits=Z, labels=Y), {}),
    "folder": (folder_of(list(Z), {"labels": Y}), {}),
    "folder, each with an axis": (folder_of(list(Z[:, None]), {"labels": Y}), {}),
    "folder, two files of two runs": (folder_of([Z[:2], Z[2:]], {"labels": Y}), {}),
    "folder, each with its labels": (folder_of([{"logits": z, "labels": Y} for z in Z]), {}),
    "folder, the examples of each in another order": (folder_of([shuffled(i, i) for i in range(RUNS)]), {"ids": True}),
    "memory, a mapping": (in_memory({"logits": Z, "labels": Y}), {}),
    "memory, a tensor with gradients": (
        in_memory({"logits": torch.from_numpy(Z.copy()).requires_grad_(), "labels": Y}),
        {},
    ),
    "memory, lists": (in_memory({"logits": Z.tolist(), "labels": Y.tolist()}), {}),
    "memory, an array": (in_memory(Z), {"labels": Y}),
    "memory, a list of arrays": (in_memory(list(Z)), {"labels": Y}),
    "memory, a list of tensors": (in_memory([torch.from_numpy(z) for z in Z]), {"labels": Y}),
    "memory, a list of mappings": (in_memory([{"logits": z, "labels": Y} for z in Z]), {}),
    "EvalPrediction, a list": (in_memory([evaluation(i) for i in range(RUNS)]), {}),
    "EvalPrediction with hidden states": (
        in_memory([evaluation(i, predictions=(Z[i], np.zeros((2, EXAMPLES, 8))), label_ids=Y) for i in range(RUNS)]),
        {},
    ),
    "ids": (npz(logits=Z, labels=Y, ids=IDS), {"ids": True}),
    "ids as text": (npz(logits=Z, labels=Y, doc_id=np.array([str(i) for i in IDS])), {"ids": True}),
}


@pytest.mark.parametrize("form", LOGITS)
def test_logits_of_every_form(form, tmp_path):
    make, known = LOGITS[form]
    source = make(tmp_path)
    options = Options(labels=known.get("labels"))
    found = runs_of(source, options)
    assert found.samples["accuracy"].values.tolist() == pytest.approx(ACCURACY.tolist())
    np.testing.assert_allclose(found.samples["cross_entropy"].values, LOSS.mean(axis=1), rtol=1e-6)
    order = np.argsort(IDS) if "ids" in known else np.arange(EXAMPLES)
    np.testing.assert_allclose(found.samples["cross_entropy"].example_means, LOSS.mean(axis=0)[order], rtol=1e-5)
    assert np.array_equal(found.predictions, C[:, order])
    assert np.array_equal(found.labels, Y[order])
    assert found.ids == (tuple(sorted(IDS.tolist())) if "ids" in known else None)
    assert (found.count, found.examples, found.classes) == (RUNS, EXAMPLES, CLASSES)
    assert holds_logits(source, options)


@pytest.mark.parametrize(
    "make", [pt({"logits": HALF, "labels": torch.from_numpy(Y)}), safetensors(logits=HALF, labels=Y)]
)
def test_bfloat16_widens_exactly(make, tmp_path):
    found = runs_of_arrays(make(tmp_path), Options())
    wide = runs_of_object({"logits": HALF.float().numpy(), "labels": Y}, "wide", Options())
    assert found.digests == wide.digests
    assert np.array_equal(found.samples["cross_entropy"].values, wide.samples["cross_entropy"].values)


# name: (source, options, what its one metric is called, the values of its runs)
OTHERS = {
    "classes": (npz(predictions=C, labels=Y), {}, "accuracy", ACCURACY),
    "classes of bytes": (beside(npy(C.astype(np.uint8)), labels=Y), {}, "accuracy", ACCURACY),
    "classes of one run": (beside(npy(C[1]), labels=Y), {}, "accuracy", ACCURACY[1:2]),
    "classes, a file a run": (folder_of(list(C), {"labels": Y}), {}, "accuracy", ACCURACY),
    "classes in memory": (in_memory(C), {"labels": Y}, "accuracy", ACCURACY),
    "classes in memory, a list of arrays": (in_memory(list(C)), {"labels": Y}, "accuracy", ACCURACY),
    "right": (npz(correct=RIGHT), {}, "accuracy", ACCURACY),
    "right, as 0 and 1": (npz(correct=RIGHT.astype(np.int64)), {}, "accuracy", ACCURACY),
    "right, of one run": (npz(correct=RIGHT[2]), {}, "accuracy", ACCURACY[2:3]),
    "right, in memory": (in_memory({"correct": torch.from_numpy(RIGHT)}), {}, "accuracy", ACCURACY),
    "wrong": (npz(errors=~RIGHT), {}, "accuracy", ACCURACY),
    "exact match": (npz(exact_match=RIGHT), {}, "exact_match", ACCURACY / 100),
    "f1": (npz(f1=F1), {}, "f1", F1.mean(axis=1)),
    "a regression": (npz(squared_error=F1 * 40), {}, "squared_error", 40 * F1.mean(axis=1)),
    "scores of many labels": (npz(f1=F1, labels=np.eye(EXAMPLES, 5, dtype=int)), {}, "f1", F1.mean(axis=1)),
    "scores that are named": (npz(judge=F1, other=Z), {"metrics": ("judge",)}, "judge", F1.mean(axis=1)),
    "scores without a name": (npy(F1), {"metrics": ("judge",)}, "judge", F1.mean(axis=1)),
    "scores of one run, by ids": (npz(f1=F1[0], ids=IDS), {}, "f1", F1[0].mean()),
    "scores, a file a run": (folder_of(list(F1)), {"metrics": ("f1",)}, "f1", F1.mean(axis=1)),
    "values": (npy(VALUES), {}, "value", VALUES),
    "values that are named": (npy(VALUES), {"metrics": ("bleu",)}, "bleu", VALUES),
    "values under a key": (npz(accuracy=VALUES, seeds=SEEDS), {}, "accuracy", VALUES),
    "values under an unknown key": (npz(judge=VALUES), {}, "judge", VALUES),
    "values in memory": (in_memory({"loss": VALUES.tolist()}), {}, "loss", VALUES),
}


@pytest.mark.parametrize("form", OTHERS)
def test_other_forms(form, tmp_path):
    make, options, metric, expected = OTHERS[form]
    source = make(tmp_path)
    found = runs_of(source, Options(**options))
    assert list(found.samples) == [metric]
    np.testing.assert_allclose(found.samples[metric].values, np.atleast_1d(expected), rtol=1e-12)
    assert not holds_logits(source, Options(**options))


PROBABILITIES = {
    "named so": (npz(probabilities=P, labels=Y), None),
    "named in short": (npz(probs=P, labels=Y), None),
    "said": (npz(logits=P, labels=Y), True),
    "said, of numbered runs": (npz(**{f"run_{i}": p for i, p in enumerate(P)}, labels=Y), True),
    "of half precision": (npz(probs=P.astype(np.float16), labels=Y), None),
}


@pytest.mark.parametrize("form", PROBABILITIES)
def test_probabilities(form, tmp_path):
    make, said = PROBABILITIES[form]
    found = runs_of_arrays(make(tmp_path), Options(probabilities=said))
    tolerance = 1e-2 if form == "of half precision" else 1e-6
    np.testing.assert_allclose(found.samples["cross_entropy"].values, LOSS.mean(axis=1), rtol=tolerance)
    np.testing.assert_allclose(found.samples["accuracy"].values, ACCURACY)
    assert "its arrays are read as probabilities" in found.marks


def test_logits_that_look_like_probabilities_are_taken_where_that_is_said(tmp_path):
    found = runs_of_arrays(npz(logits=P, labels=Y)(tmp_path), Options(probabilities=False))
    expected = np.log(np.exp(P.astype(np.float64)).sum(axis=2)) - P[:, np.arange(EXAMPLES), Y]
    np.testing.assert_allclose(found.samples["cross_entropy"].values, expected.mean(axis=1), rtol=1e-6)


def test_a_probability_of_zero_leaves_the_cross_entropy_out(tmp_path):
    hard = np.eye(CLASSES)[C]
    found = runs_of_arrays(npz(probabilities=hard, labels=Y)(tmp_path), Options())
    assert list(found.samples) == ["accuracy"]
    assert any("cross-entropy is left out" in mark for mark in found.marks)


def changed(array, index, value):
    other = np.array(array, copy=True)
    other[index] = value
    return other


def one_value(value):
    return npz(logits=changed(Z, (2, 17, 1), value), labels=Y)


def labelled(index, value, dtype=np.int64):
    return npz(logits=Z, labels=changed(Y.astype(dtype), index, value))


def text_file(name, content=b"what"):
    return lambda folder: (folder / name).write_bytes(content) and folder / name


# name: (source, options, value, the error, what its sentence says)
FAULTS = {
    "NaN": (one_value(np.nan), {}, DataError, r"logits of run 2, example 17, class 1 is NaN"),
    "infinite": (one_value(np.inf), {}, DataError, r"logits of run 2, example 17, class 1 is infinite"),
    "NaN in scores": (npz(f1=changed(F1, (1, 3), np.nan)), {}, DataError, r"f1 of run 1, example 3 is nan"),
    "NaN in values": (npz(accuracy=changed(VALUES, 2, np.nan)), {}, DataError, r"accuracy of run 2 is nan"),
    "a label of half": (labelled(4, 0.5, float), {}, DataError, r"label of example 4 is 0.5, which is no class"),
    "a label of -100": (labelled(4, -100), {}, DataError, r"label of example 4 is -100, which is negative"),
    "a label beyond the classes": (labelled(4, 3), {}, DataError, r"label of example 4 is 3, which is beyond the 3"),
    "labels of tokens": (
        npz(predictions=Z, label_ids=np.zeros((RUNS, EXAMPLES), int)),
        {},
        DataError,
        "several for each",
    ),
    "many labels": (npz(logits=Z[0], labels=np.eye(EXAMPLES, 3)), {}, DataError, "several for each example"),
    "labels of other examples": (
        npz(logits=Z, labels=Y[:-1]),
        {},
        DataError,
        r"29 labels for predictions of 30 examples",
    ),
    "no labels": (npz(logits=Z), {}, DataError, r"holds no labels: name their file with --labels"),
    "no labels of classes": (npy(C), {}, DataError, r"holds no labels"),
    "labels are not their own predictions": (npy(Y, "labels.npy"), {}, DataError, r"holds no labels"),
    "two kinds of labels": (npz(logits=Z, labels=Y, targets=Y), {}, ConfigError, "may each be meant"),
    "other labels given than held": (
        npz(logits=Z, labels=Y),
        {"labels": (Y + 1) % CLASSES},
        DataError,
        "runs of one source need one test set",
    ),
    "labels that are text": (npz(logits=Z, labels=np.array(["cat"] * EXAMPLES)), {}, DataError, "must be integers"),
    "booleans without a name": (npy(RIGHT), {}, ConfigError, "name the array `correct` or `errors`"),
    "booleans of an unknown name": (npz(flags=RIGHT), {}, ConfigError, "name the array `correct` or `errors`"),
    "booleans among predictions": (npz(predictions=RIGHT, labels=Y), {}, ConfigError, "`correct` or `errors`"),
    "right by half": (npz(correct=RIGHT * 0.5), {}, DataError, "neither 0 nor 1"),
    "probabilities, or logits": (
        npz(logits=P, labels=Y),
        {},
        ConfigError,
        r"sum to 1: say --probabilities, or --logits",
    ),
    "probabilities without a name": (beside(npy(P), labels=Y), {}, ConfigError, r"say --probabilities, or --logits"),
    "probabilities in one file of several": (
        folder_of([Z[0], P[1], Z[2]], {"labels": Y}),
        {},
        ConfigError,
        r"say --probabilities, or --logits",
    ),
    "sigmoids": (npz(logits=1 / (1 + np.exp(-Z)), labels=Y), {}, ConfigError, r"do not sum to 1: say --logits"),
    "percentages": (npz(logits=100 * P, labels=Y), {}, ConfigError, r"sum to 100, as percentages do"),
    "classes as floats": (
        beside(npy(C.T.astype(float)), labels=Y),
        {},
        ConfigError,
        "all its values are whole numbers",
    ),
    "probabilities that sum to 2": (npz(probs=2 * P, labels=Y), {}, DataError, r"run 0, example 0 sum to 2, not 1"),
    "logits called probabilities": (npz(probs=Z, labels=Y), {}, DataError, r"run 0, example 0 sum to"),
    "logits said to be probabilities": (npz(logits=Z, labels=Y), {"probabilities": True}, DataError, "sum to"),
    "one column": (npz(logits=Z[:, :, :1], labels=Y * 0), {}, DataError, "one class alone"),
    "a regression": (npz(predictions=F1[0], labels=Y.astype(float)), {}, DataError, "give the scores of each example"),
    "integers as logits": (
        npz(logits=C, labels=Y),
        {},
        DataError,
        r"logits must be floats \[runs, examples, classes\]",
    ),
    "four axes": (npz(logits=Z[None], labels=Y), {}, DataError, r"must be floats \[runs, examples, classes\]"),
    "nothing": (npz(logits=Z[:, :0], labels=Y[:0]), {}, DataError, r"is empty: its shape is \[4, 0, 3\]"),
    "nothing in an .npy": (npy(np.zeros(0)), {}, DataError, r"is empty"),
    "no runs": (npz(labels=Y, seeds=SEEDS), {}, DataError, "holds no predictions, scores or values of runs"),
    "text alone": (npz(names=np.array(["a", "b"])), {}, DataError, "must be floats"),
    "classes turned": (
        npz(predictions=C.T, labels=Y),
        {},
        DataError,
        r"shape is \[30, 4\] for 30 labels: transpose it",
    ),
    "a negative class": (
        npz(predictions=changed(C, (1, 2), -1), labels=Y),
        {},
        DataError,
        "run 1 predicts class -1 on example 2",
    ),
    "single precision scores of an unknown name": (npz(judge=F1), {}, DataError, r"holds no labels"),
    "two models in one file": (
        npz(student=Z, teacher=Z + 1, labels=Y),
        {},
        ConfigError,
        r"name one of them, as in .*:student",
    ),
    "a history": (npz(train_loss=np.arange(90.0), epoch=np.arange(90)), {}, ConfigError, "those of a history"),
    "one run's scores as runs": (
        npz(exact_match=RIGHT[0].astype(float)),
        {},
        ConfigError,
        r"30 numbers are all 0 or 1",
    ),
    "one run's scores, a file a run": (folder_of(list(F1)), {}, ConfigError, "say which score of each example it is"),
    "one run's scores as values": (
        npz(f1=_RNG.random(164)),
        {},
        ConfigError,
        r"holds 164 numbers: give scores of examples",
    ),
    "one run's scores in an .npy": (npy(_RNG.random(1319)), {}, ConfigError, r"holds 1,319 numbers: give scores"),
    "scores turned": (npz(f1=F1.T), {}, ConfigError, r"\[30, 4\], more runs than examples: transpose it"),
    "right or wrong turned": (
        npz(correct=RIGHT.T),
        {},
        ConfigError,
        r"\[30, 4\], more runs than examples: transpose it",
    ),
    "accuracies by epoch": (npz(accuracy=F1), {}, ConfigError, r"\[runs, examples\] or \[runs, epochs\]"),
    "accuracies by epoch, named": (npz(val_acc=F1), {"metrics": ("val_acc",)}, ConfigError, r"or \[runs, epochs\]"),
    "losses by epoch": (npz(loss=F1), {}, ConfigError, r"\[runs, examples\] or \[runs, epochs\]"),
    "scores by epoch": (npz(test_f1=F1), {}, ConfigError, r"\[runs, examples\] or \[runs, epochs\]"),
    "scores by epoch, that say so": (npz(f1=F1, epoch=np.arange(30)), {}, ConfigError, "holds `epoch`"),
    "epochs of one run": (
        npz(**{f"epoch_{i}": z for i, z in enumerate(Z)}, labels=Y),
        {},
        ConfigError,
        "are named by epoch: keep one",
    ),
    "a metric that is not there": (
        npz(f1=F1, bleu=F1),
        {"metrics": ("f1", "rouge")},
        ConfigError,
        "no array is called 'rouge'",
    ),
    "scores of other lengths": (npz(f1=F1, bleu=F1[:, :9]), {}, DataError, r"shape of a run is \[9\]"),
    "values of other lengths": (npz(f1=VALUES, bleu=VALUES[:2]), {}, DataError, "different numbers of runs"),
    "seeds twice": (npz(logits=Z, labels=Y, seeds=[1, 2, 2, 3]), {}, DataError, "seed 2 occurs 2 times"),
    "too few seeds": (npz(logits=Z, labels=Y, seeds=[1, 2, 3]), {}, DataError, "3 seeds for 4 runs"),
    "seeds of half": (
        npz(logits=Z, labels=Y, seeds=[1, 2, 3, 3.5]),
        {},
        DataError,
        "seed 3 is 3.5, which is no integer",
    ),
    "ids twice": (npz(logits=Z, labels=Y, ids=changed(IDS, 3, IDS[9])), {}, DataError, "occurs more than once"),
    "too few ids": (npz(logits=Z, labels=Y, ids=IDS[:-2]), {}, DataError, "28 ids for 30 examples"),
    "a group that is not there": (
        npz(f1=F1, group=IDS),
        {"cluster": "groups"},
        ConfigError,
        "no array is called 'groups'",
    ),
    "too few groups": (npz(f1=F1, group=IDS[:5]), {"cluster": "group"}, DataError, "5 groups for 30 examples"),
    "other labels in one file": (
        folder_of([{"logits": z, "labels": changed(Y, 5, (Y[5] + (i == 2)) % CLASSES)} for i, z in enumerate(Z)]),
        {},
        DataError,
        r"run_2\.npz\[labels\]: the label of example 5 is",
    ),
    "other examples in one file": (
        folder_of([shuffled(0, 0), shuffled(1, 1), {k: v[:-1] for k, v in shuffled(2, 2).items()}]),
        {},
        DataError,
        r"run_2\.npz: 1 examples are in it or in .*run_0\.npz but not in both",
    ),
    "other shape in one file": (
        folder_of([Z[0], Z[1, :-1]], {"labels": Y}),
        {},
        DataError,
        r"run_1\.npy: the shape of a run is \[29",
    ),
    "other kind in one file": (
        folder_of([Z[0], C[1]], {"labels": Y}),
        {},
        DataError,
        r"run_1\.npy: holds classes, but .* logits",
    ),
    "ids in some files": (
        folder_of([shuffled(0, 0), {"logits": Z[1], "labels": Y}]),
        {},
        DataError,
        "holds no ids, as other",
    ),
    "an empty folder": (folder_of([]), {}, DataError, "this folder holds no .npy"),
    "a pickle": (text_file("runs.pkl", pickle.dumps(Z)), {}, DataError, "a pickle runs code"),
    "joblib": (text_file("runs.joblib"), {}, DataError, "a pickle runs code"),
    "objects in an .npy": (
        lambda folder: np.save(folder / "a.npy", np.array([{}], object), allow_pickle=True) or folder / "a.npy",
        {},
        DataError,
        "holds Python objects, and reading these runs code",
    ),
    "code in a .pt": (pt({"logits": torch.nn.Linear(2, 2)}), {}, DataError, "holds more than tensors and arrays"),
    "no .npy": (text_file("a.npy"), {}, DataError, r"a\.npy: cannot be read as \.npy: no .npy file"),
    "no .npz": (text_file("a.npz"), {}, DataError, r"a\.npz: cannot be read as \.npz"),
    "no .pt": (text_file("a.pt"), {}, DataError, r"a\.pt: cannot be read as \.pt"),
    "no .safetensors": (text_file("a.safetensors"), {}, DataError, r"a\.safetensors: cannot be read as"),
    "no file": (lambda folder: folder / "absent.npy", {}, DataError, "there is no such file"),
    "no format": (text_file("a.docx"), {}, DataError, "must be one of .npy"),
    "a number in a .pt": (pt({"epoch": 3}), {}, DataError, "must hold a tensor"),
    "a sparse tensor": (pt({"logits": torch.from_numpy(Z[0]).to_sparse()}), {}, DataError, "sparse"),
    "float8": (pt({"logits": torch.zeros(2, 3, 3, dtype=torch.float8_e5m2)}), {}, DataError, "type float8_e5m2"),
    "options of tables": (npz(logits=Z, labels=Y), {"where": (("model", "a"),)}, ConfigError, "--where is for tables"),
    "last": (npz(logits=Z, labels=Y), {"last": True}, ConfigError, "--last is for tables"),
    "labels in a file of words": (npy(Z), {"labels": "words.txt"}, DataError, "cannot be read as integer labels"),
    "lists of unequal lengths": (in_memory({"logits": [[1.0, 2.0], [3.0]]}), {}, DataError, "is no array"),
    "objects": (in_memory({"logits": [object()]}), {}, DataError, "must hold numbers or text"),
    "EvalPrediction of tokens": (
        in_memory(evaluation(0, predictions=Z, label_ids=np.zeros((4, 30), int))),
        {},
        DataError,
        "several for each example",
    ),
    "EvalPrediction that leaves a label out": (
        in_memory(evaluation(0, predictions=Z[0], label_ids=changed(Y, 0, -100))),
        {},
        DataError,
        "is -100, which is negative",
    ),
    "EvalPrediction of two heads": (
        in_memory(evaluation(0, predictions=(Z[0], Z[1]), label_ids=Y)),
        {},
        DataError,
        "of which 2 are",
    ),
    "EvalPrediction with two labels": (
        in_memory(evaluation(0, predictions=Z[0], label_ids=(Y, Y))),
        {},
        DataError,
        "label_ids are several arrays",
    ),
    "EvalPrediction without labels": (
        in_memory(evaluation(0, predictions=Z[0], label_ids=None)),
        {},
        DataError,
        "holds no labels",
    ),
    "EvalPrediction of a regression": (
        in_memory(evaluation(0, predictions=F1[0][:, None], label_ids=F1[1])),
        {},
        DataError,
        "which is no class",
    ),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named(fault, tmp_path, monkeypatch):
    make, options, error, sentence = FAULTS[fault]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("one two")
    with pytest.raises(error, match=sentence) as raised:
        runs_of(make(tmp_path), Options(**options))
    assert "\n" not in str(raised.value)


def test_one_evaluation_is_one_run():
    found = runs_of_object(evaluation(1), "the run", Options())
    assert found.samples["accuracy"].values.tolist() == pytest.approx([ACCURACY[1]])
    assert found.found() == "1 run x 30 examples"


def test_files_are_in_natural_order(tmp_path):
    path = folder_of(list(MANY), {"labels": Y, "seeds": np.arange(12)})(tmp_path)
    found = runs_of_arrays(path, Options())
    expected = runs_of_object(MANY, "all", Options(labels=Y))
    assert found.digests == expected.digests
    assert found.seeds == tuple(range(12))


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (SEEDS, (3, 1, 4, 2)),
        (SEEDS.astype(float), (3, 1, 4, 2)),
        (SEEDS.astype(str), (3, 1, 4, 2)),
        (np.array(["a", "b", "c", "01"]), ("a", "b", "c", "01")),
        (np.array([b"a", b"b", b"c", b"d"]), ("a", "b", "c", "d")),
    ],
)
def test_seeds(seeds, expected, tmp_path):
    assert runs_of_arrays(npz(logits=Z, labels=Y, seeds=seeds)(tmp_path), Options()).seeds == expected


def test_ids_groups_and_what_is_kept(tmp_path):
    groups = np.array([f"text {i % 7}" for i in IDS])
    source = npz(logits=Z, labels=Y, example_ids=TEXT_IDS, passage=groups)(tmp_path)
    keep = frozenset(sorted(TEXT_IDS.tolist())[5:20])
    found = runs_of_arrays(source, Options(cluster="passage", keep=keep))
    assert found.ids == tuple(sorted(keep))
    assert found.matched_by == "example_ids"
    assert found.found() == "4 runs x 15 examples, matched by `example_ids`"
    place = {key: number for number, key in enumerate(TEXT_IDS.tolist())}
    chosen = [place[key] for key in found.ids]
    assert np.array_equal(found.labels, Y[chosen])
    assert np.array_equal(found.predictions, C[:, chosen])
    codes = dict(zip(groups[chosen], found.clusters))
    assert [codes[group] for group in groups[chosen]] == found.clusters.tolist()
    assert len(set(codes.values())) == len(codes)


def test_files_with_other_examples_are_read_for_those_that_are_kept(tmp_path):
    short = {key: array[:-1] for key, array in shuffled(1, 1).items()}
    path = folder_of([shuffled(0, 0), short])(tmp_path)
    found = runs_of_arrays(path, Options(keep=frozenset(short["ids"].tolist())))
    assert found.examples == EXAMPLES - 1
    assert found.ids == tuple(sorted(short["ids"].tolist()))


def test_labels_by_ids_of_their_own(tmp_path):
    order = np.random.default_rng(3).permutation(EXAMPLES)
    np.savez(tmp_path / "truth.npz", labels=Y[order], ids=IDS[order])
    options = Options(labels=tmp_path / "truth.npz")
    found = runs_of_arrays(npz(logits=Z, ids=IDS)(tmp_path), options)
    np.testing.assert_allclose(found.samples["accuracy"].values, ACCURACY)
    with pytest.raises(DataError, match=r"its labels are matched by ids, which .* does not hold"):
        runs_of_arrays(npz(logits=Z)(tmp_path), options)
    np.savez(tmp_path / "truth.npz", labels=Y[:5], ids=IDS[:5])
    with pytest.raises(DataError, match="holds no label of 25 examples"):
        runs_of_arrays(npz(logits=Z, ids=IDS)(tmp_path), options)


def test_one_array_of_several_is_picked(tmp_path):
    source = npz(student=Z, teacher=Z + 1, labels=Y)(tmp_path)
    found = runs_of_arrays(source, Options(), "student")
    assert found.name == "runs.npz:student"
    np.testing.assert_allclose(found.samples["accuracy"].values, ACCURACY)
    with pytest.raises(ConfigError, match="no array is called 'studnet'; did you mean 'student'"):
        runs_of_arrays(source, Options(), "studnet")
    with pytest.raises(ConfigError, match="cannot be picked"):
        runs_of_arrays(folder_of(list(Z))(tmp_path), Options(), "student")


def test_one_name_with_two_endings_is_refused(tmp_path):
    path = folder_of(list(Z), {"labels": Y})(tmp_path)
    np.savez(path / "run_2.npz", logits=Z[2])
    with pytest.raises(DataError, match="holds one name with several endings, as run_2: keep one file a run"):
        runs_of_arrays(path, Options())


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["resnet_1", "resnet_2", "vgg_1", "vgg_2"], "`resnet_1`, `vgg_1` are not named alike"),
        (["seed1", "seed2", "mean"], "`seed1`, `mean` are not named alike"),
        (["seed1_epoch90", "seed1_epoch180"], "are named by epoch"),
        (["ckpt-100", "ckpt-200"], "are named by checkpoint"),
        (["global_step=10", "global_step=20"], "are named by step"),
    ],
)
def test_files_that_are_not_runs_of_one_kind(names, sentence, tmp_path):
    for name, run in zip(names, Z):
        np.savez(tmp_path / f"{name}.npz", logits=run, labels=Y)
    with pytest.raises(ConfigError, match=sentence):
        runs_of_arrays(tmp_path, Options())


@pytest.mark.parametrize(
    "names", [["seed1_epoch90", "seed2_epoch90"], ["a", "b", "c"], ["3fa94bd0", "3fa94bd1", "11111111", "deadbeef"]]
)
def test_files_that_are_runs(names, tmp_path):
    for name, run in zip(names, Z):
        np.savez(tmp_path / f"{name}.npz", logits=run, labels=Y)
    assert runs_of_arrays(tmp_path, Options()).count == len(names)


def test_more_runs_than_examples_are_runs_where_something_says_so(tmp_path):
    for more in ({"seeds": np.arange(30)}, {"ids": np.arange(4)}):
        assert runs_of_arrays(npz(f1=F1.T, **more)(tmp_path), Options()).count == 30
    found = runs_of_arrays(npz(loss=F1, ids=IDS)(tmp_path), Options())
    assert found.found() == "4 runs x 30 examples, matched by `ids`"
    assert runs_of_arrays(npz(accuracy=np.linspace(0, 1, 500), seeds=np.arange(500))(tmp_path), Options()).count == 500


def test_files_side_by_side_are_compared(tmp_path):
    for name, noise in (("a", 0.0), ("b", 0.5)):
        (tmp_path / name).mkdir()
        npz(logits=Z + noise * Z[::-1], labels=Y, ids=IDS)(tmp_path / name)
    a, b = read_all([str(tmp_path / name / "runs.npz") for name in "ab"], Options())[""]
    assert a.ids == b.ids


# ---- what may be something else than runs, or examples ---------------------------------------------------------------

N = 40
LABELS = _RNG.integers(0, 3, N)
CLASSES_OF_RUN = np.where(_RNG.random(N) < 0.7, LABELS, (LABELS + 1) % 3)
POSITIVE = _RNG.random(N)
GOOD = _RNG.random((N, 5)) < 0.8
HISTORY = {
    "loss": [0.9, 0.5, 0.4],
    "accuracy": [0.6, 0.8, 0.9],
    "val_loss": [1.0, 0.7, 0.8],
    "val_accuracy": VALUES[:3],
}

# name: (source, options, what the sentence says)
DOUBTS = {
    "right answers [examples, runs] beside labels": (npz(correct=GOOD, labels=LABELS), {}, "40 labels: transpose it"),
    "right answers [examples, runs], labels given": (npz(correct=GOOD), {"labels": LABELS}, "40 labels: transpose it"),
    "right answers of one run, other labels": (npz(correct=GOOD[:, 0], labels=LABELS[:7]), {}, "7 labels for pred"),
    "errors squared [examples, runs]": (npz(squared_error=F1.T, labels=F1[0]), {}, "30 labels: transpose it"),
    "errors squared, texts as labels": (npz(squared_error=F1.T, labels=TEXT_IDS), {}, "30 labels: transpose it"),
    "errors squared, many labels": (npz(f1=F1.T, labels=np.eye(30, 4)), {}, "30 labels: transpose it"),
    "logits [examples, runs, classes]": (npz(logits=Z.swapaxes(0, 1), labels=Y), {}, "30 labels: transpose it"),
    "a model's name is no label": (npz(correct=GOOD, label=np.array("resnet")), {}, "more runs than examples"),
    "a history of Keras": (in_memory(HISTORY), {"metrics": ("val_accuracy",)}, "as the history of one run does"),
    "a history of Keras in a file": (npz(**HISTORY), {}, "holds `.*`, `val_.*`, as the history of one run does"),
    "a history of two splits": (npz(train_acc=VALUES, test_acc=VALUES), {}, "`train_acc`, `test_acc`, as the history"),
    "values by fold": (npz(accuracy=VALUES, fold=np.arange(4)), {}, "holds `fold`, so its numbers are of parts"),
    "values of two models": (npz(accuracy=VALUES, model=np.array(list("aabb"))), {}, "`model` tells its values apart"),
    "float classes, labels inside": (
        npz(a=CLASSES_OF_RUN.astype(float), labels=LABELS),
        {},
        "save classes as integers",
    ),
    "float classes, labels beside": (
        beside(npy(CLASSES_OF_RUN.astype(float)), labels=LABELS),
        {},
        "save classes as integers",
    ),
    "float classes, labels given": (npy(CLASSES_OF_RUN.astype(float)), {"labels": LABELS}, "save classes as integers"),
    "float classes, a metric named": (
        npy(CLASSES_OF_RUN.astype(float)),
        {"labels": LABELS, "metrics": ("accuracy",)},
        "save classes as integers",
    ),
    "float classes, a metric named, labels inside": (
        npz(a=CLASSES_OF_RUN.astype(float), labels=LABELS),
        {"metrics": ("accuracy",)},
        "save classes as integers",
    ),
    "float classes without labels": (npy(CLASSES_OF_RUN.astype(float)), {}, "as classes of examples"),
    "float classes called exact matches": (
        folder_of([CLASSES_OF_RUN.astype(float)] * 2),
        {"metrics": ("exact_match",)},
        "but rather classes",
    ),
    "float classes, other labels beside": (
        beside(npy(CLASSES_OF_RUN[:9] * 1.0), labels=LABELS),
        {},
        "save classes as integers",
    ),
    "P(positive), labels inside": (npz(a=POSITIVE, labels=LABELS), {}, "give logits or probabilities of every class"),
    "P(positive), labels inside, a metric named": (
        npz(a=POSITIVE, labels=LABELS),
        {"metrics": ("accuracy",)},
        "give logits or probabilities of every class",
    ),
    "P(positive), labels beside": (beside(npy(POSITIVE), labels=LABELS), {}, "give logits or probabilities of every"),
    "P(positive), labels given": (npy(POSITIVE), {"labels": LABELS}, "give logits or probabilities of every class"),
    "P(positive), other labels given": (npy(POSITIVE), {"labels": LABELS[:-3]}, "give logits or probabilities of"),
    "keys of splits": (in_memory({f"split{i}": z for i, z in enumerate(Z)}), {"labels": Y}, "are named by split"),
    "right, in percent": (npz(accuracy=100.0 * RIGHT[0]), {}, "are all 0 or 100"),
    "labels after predictions": (npz(arr_0=C[0], arr_1=Y), {"labels": Y}, "run 1 equals the labels on every example"),
    "labels after predictions in a .pt": (pt([torch.tensor(C[0]), torch.tensor(Y)]), {"labels": Y}, "run 1 equals"),
    "a pair of predictions and labels": (in_memory((C[0], Y)), {"labels": Y}, "run 1 equals the labels"),
    "a pair of labels and predictions": (in_memory((Y.tolist(), C[0].tolist())), {"labels": Y}, "run 0 equals"),
    "right answers as classes": (in_memory(RIGHT[0].astype(int)), {"labels": Y}, "all 0 or 1, and labels go to 2"),
    "masked": (in_memory(np.ma.masked_array(Z, Z > 2)), {"labels": Y}, "holds masked values"),
    "masked in a list": (in_memory([np.ma.masked_array(C[0], C[0] == 1), C[1]]), {"labels": Y}, "holds masked values"),
    "masked labels": (in_memory(Z), {"labels": np.ma.masked_array(Y, Y == 0)}, "holds masked values"),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_what_may_be_something_else_is_refused(doubt, tmp_path):
    make, options, sentence = DOUBTS[doubt]
    with pytest.raises((ConfigError, DataError), match=sentence) as raised:
        runs_of(make(tmp_path), Options(**options))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["fold_0", "fold_1", "fold_2"], "fold"),
        (["preds_rank0", "preds_rank1"], "rank"),
        (["seed1_fold0", "seed1_fold1"], "fold"),
        (["kfold-1", "kfold-2"], "fold"),
        (["1_fold1", "1_fold2"], "fold"),
        (["1st_fold", "2nd_fold"], "fold"),
        (["shard1", "shard2"], "shard"),
        (["part.1", "part.2"], "part"),
        (["preds-00000-of-00002", "preds-00001-of-00002"], "part"),
        (["Batch 1", "Batch 2"], "batch"),
        (["worker__1", "worker__2"], "worker"),
        (["cv1", "cv2"], "cv"),
        (["chunks_1", "chunks_2"], "chunk"),
    ],
)
def test_files_of_parts_are_no_runs(names, word, tmp_path):
    for name, run in zip(names, Z):
        np.savez(tmp_path / f"{name}.npz", logits=run, labels=Y)
    with pytest.raises(ConfigError, match=f"are named by {word}, as what holds different examples"):
        runs_of_arrays(tmp_path, Options())


@pytest.mark.parametrize("names", [["fold0_seed1", "fold0_seed2"], ["batch64_1", "batch64_2"], ["apart1", "apart2"]])
def test_files_of_one_part_are_runs(names, tmp_path):
    for name, run in zip(names, Z):
        np.savez(tmp_path / f"{name}.npz", logits=run, labels=Y)
    assert runs_of_arrays(tmp_path, Options()).count == 2


# name: (source, options, how many runs)
NO_DOUBTS = {
    "two splits, with seeds": (npz(train_acc=VALUES, test_acc=VALUES, seeds=SEEDS), {}, 4),
    "values beside the labels of others": (beside(npy(VALUES), labels=Y), {}, 4),
    "values with seeds and labels": (npz(accuracy=VALUES, seeds=SEEDS, labels=Y), {}, 4),
    "counts of right answers": (npy(np.array([7.0, 8.0, 7.0, 9.0])), {}, 4),
    "many whole values with seeds": (npz(score=CLASSES_OF_RUN + 3, seeds=np.arange(N)), {"metrics": ("score",)}, N),
    "right answers with labels": (npz(correct=GOOD.T, labels=LABELS), {}, 5),
    "names of runs": (npz(accuracy=VALUES, name=np.array(list("abcd"))), {}, 4),
    "one test, named": (npz(accuracy=VALUES, split=np.array("test")), {}, 4),
    "a mask that hides nothing": (in_memory(np.ma.masked_array(Z, np.zeros_like(Z, bool))), {"labels": Y}, 4),
}


@pytest.mark.parametrize("form", NO_DOUBTS)
def test_what_is_clear_is_read(form, tmp_path):
    make, options, runs = NO_DOUBTS[form]
    assert runs_of(make(tmp_path), Options(**options)).count == runs


# ---- what popnet itself writes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "out"
    published = publish(trained.store, folder, dtype="fp32")
    return folder, published


def test_an_export_is_its_store(trained, exported):
    folder, published = exported
    for row in published:
        stored = runs_of_store(f"{trained.store.path}:{row.row}")
        for source in (f"{folder}:{row.row}", str(folder / row.folder)):
            path, value = split(source)
            found = runs_of_arrays(path, Options(), value)
            assert (found.digests, found.members, found.seeds) == (stored.digests, stored.members, stored.seeds)
            assert np.array_equal(found.samples["accuracy"].values, stored.samples["accuracy"].values)
            assert np.array_equal(found.labels, stored.labels)
    assert runs_of_arrays(folder, Options(), published[0].row).name == f"{folder}:{published[0].row}"


def test_an_export_of_half_precision_has_the_members_of_its_store(trained, tmp_path):
    publish(trained.store, tmp_path / "half", ["Initialization"])
    found = read(str(tmp_path / "half"))[0]
    stored = runs_of_store(f"{trained.store.path}:Initialization")
    assert found.members == stored.members
    assert found.seeds == stored.seeds
    assert found.digests != stored.digests


def test_the_row_of_an_export_is_named(exported, tmp_path):
    folder, published = exported
    with pytest.raises(ConfigError, match=f"holds {len(published)} rows: name one, as in .*:Initialization"):
        runs_of_arrays(folder, Options())
    with pytest.raises(ConfigError, match=r"no row is called 'Initialisation'; did you mean 'Initialization'"):
        runs_of_arrays(folder, Options(), "Initialisation")
    with pytest.raises(ConfigError, match="is one row of an export"):
        runs_of_arrays(folder / published[0].folder, Options(), "Initialization")


@pytest.mark.parametrize("place", ["../elsewhere", "/etc", "a/../../b", "a/b/c", ""])
def test_an_export_names_no_folder_outside(place, tmp_path):
    rows = [{"row": "a", "experiment": "e", "folder": place}]
    (tmp_path / "metadata.json").write_text(json.dumps({"format": "popnet predictions 1", "rows": rows}))
    with pytest.raises(DataError, match="is no row's folder"):
        runs_of_arrays(tmp_path, Options())


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("run,member,replica,init\n0,m0,0,1\n", "lists 1 runs, and logits.npy holds 4"),
        ("run,member,replica,init\n0,m0,0,one\n", "is not as `popnet export` writes it"),
        ("run,member,replica,init\n1,m0,0,1\n", "not counted from 0"),
        ("run,member,replica\n", "not counted from 0"),
    ],
)
def test_an_export_that_was_changed_is_refused(table, sentence, tmp_path):
    np.save(tmp_path / "logits.npy", Z)
    np.save(tmp_path / "labels.npy", Y)
    (tmp_path / "runs.csv").write_text(table)
    with pytest.raises(DataError, match=sentence):
        runs_of_arrays(tmp_path, Options())


def test_a_members_file_is_no_population(trained):
    member = trained.store.members().query("status == 'done'").index[0]
    with pytest.raises(ConfigError, match="its views and not runs: name the store"):
        runs_of_arrays(Path(trained.store.predictions_path(member)), Options())


# ---- what it takes ---------------------------------------------------------------------------------------------------


def test_numpy_alone_reads_arrays(tmp_path):
    """Neither torch, which a .pt alone needs, nor the kernels, nor pandas."""
    sources = [npz(logits=Z, labels=Y)(tmp_path), beside(npy(Z), labels=Y)(tmp_path)]
    save_numpy({"logits": Z, "labels": Y}, tmp_path / "a.safetensors")
    save_file({"logits": HALF, "labels": torch.from_numpy(Y)}, tmp_path / "b.safetensors")
    sources += [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    program = (
        "import sys; from pathlib import Path\n"
        "from popnet.results.arrays.runs import runs_of_arrays\nfrom popnet.results.found import Options\n"
        "for path in sys.argv[1:]: assert runs_of_arrays(Path(path), Options()).count == 4\n"
        "heavy = {'torch', 'pandas', 'scipy.stats', 'scipy.optimize', 'popnet.native', 'popnet.config', 'popnet.store'}"
        " & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program, *map(str, sources)], check=True)


def test_a_pickle_in_a_pt_makes_arrays_and_nothing_else(tmp_path):
    """A type of objects over bytes would be pointers of the file's choice, if NumPy were told to make it."""

    class Array:
        def __init__(self, dtype):
            self.dtype = dtype

        def __reduce__(self):
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (2,), self.dtype, False, b"x" * 16)

    for dtype in (np.dtype(object), np.dtype("U4"), np.dtype([("a", "f8")])):
        torch.save({"logits": Array(dtype)}, tmp_path / "a.pt")
        with pytest.raises(DataError, match=r"a\.pt\[logits\]: is no array of numbers"):
            runs_of_arrays(tmp_path / "a.pt", Options())
