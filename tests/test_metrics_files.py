"""Logits from files of every form, as the metrics take them, and what is said of those that cannot be measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from popnet import metrics
from popnet.errors import ConfigError, DataError
from popnet.results.arrays.logits import logits_of_object, open_logits, open_stored
from popnet.results.found import Options

MEMBERS, EXAMPLES, CLASSES = 12, 30, 4


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, EXAMPLES)
    logits = rng.normal(size=(MEMBERS, EXAMPLES, CLASSES)) + rng.normal(size=(EXAMPLES, CLASSES))
    return logits.astype(np.float32), labels


def write(form, folder, z, y):
    """Writes the predictions in this form; the place of predictions and of labels, None where they are found."""
    path, labels = folder / f"runs.{form}", folder / "truth.npy"
    np.save(labels, y)
    tensors = {f"run_{i}": torch.from_numpy(member.copy()) for i, member in enumerate(z)}
    if form == "npy":
        np.save(path, z)
    elif form == "npz":
        np.savez(path, logits=z, labels=y)
        labels = None
    elif form == "pt":
        torch.save(torch.from_numpy(z), path)
        labels = folder / "truth.pt"
        torch.save(torch.from_numpy(y), labels)
    elif form == "safetensors":
        save_file(tensors | {"labels": torch.from_numpy(y)}, path)
        labels = path
    elif form == "txt":
        path = folder / "runs.npz"
        np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
        labels = folder / "labels.txt"
        np.savetxt(labels, y, fmt="%d")
    else:
        path = folder / "runs"
        path.mkdir()
        suffix, lead = form.split()
        for name, tensor in tensors.items():
            member = tensor[None] if lead == "3d" else tensor
            if suffix == "npy":
                np.save(path / f"{name}.npy", member.numpy())
            elif suffix == "pt":
                torch.save([member], path / f"{name}.pt")
            else:
                save_file({"logits": member, "other": torch.zeros(1)}, path / f"{name}.safetensors")
    return path, labels


def opened(path, labels=None, **options):
    return open_logits(path, Options(labels=labels, **options))


@pytest.mark.parametrize("form", ["npy", "npz", "pt", "safetensors", "txt", "npy 2d", "pt 3d", "safetensors 2d"])
def test_every_form_gives_the_arrays_bits(form, arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("popnet.metrics.predictions.BLOCK_BYTES", 16 * CLASSES * 4 * MEMBERS)
    z, y = arrays
    predictions, labels = opened(*write(form, tmp_path, z, y))
    assert np.array_equal(labels, y)
    found = metrics.variability(predictions, labels, resamples=30).as_dict()
    assert found == metrics.variability(z, y, resamples=30).as_dict()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_half_precision(form, dtype, arrays, tmp_path):
    z, y = arrays
    half = torch.from_numpy(z).to(dtype)
    path = tmp_path / f"runs.{form}"
    if form == "pt":
        torch.save({"logits": half}, path)
    else:
        save_file({"logits": half}, path)
    predictions, labels = opened(path, y)
    assert metrics.spearman(predictions) == metrics.spearman(half.float())
    assert metrics.ensemble_delta(predictions, labels, "cross_entropy") == metrics.ensemble_delta(
        half.float(), y, "cross_entropy"
    )


def test_double_precision_is_rounded(arrays, tmp_path):
    z, y = arrays
    wide = z.astype(np.float64) + 1e-9
    np.savez(tmp_path / "runs.npz", logits=wide, labels=y)
    predictions, _ = opened(tmp_path / "runs.npz")
    block = predictions.read([3, 4, 5, 1], slice(7, 19))
    assert np.array_equal(block.numpy(), wide.astype(np.float32)[[3, 4, 5, 1], 7:19])
    wide[3, 17, 2] = -1e39
    np.savez(tmp_path / "runs.npz", logits=wide, labels=y)
    with pytest.raises(DataError, match="logits of run 3, example 17, class 2 is -1e\\+39, beyond float32"):
        metrics.accuracy(*opened(tmp_path / "runs.npz"))


def test_probabilities_are_measured_as_their_logarithms(arrays, tmp_path):
    z, y = arrays
    p = torch.softmax(torch.from_numpy(z).double(), 2).numpy()
    p[2, 5] = [0, 0.5, 0.5, 0]
    np.savez(tmp_path / "runs.npz", probabilities=p, labels=y)
    predictions, labels = opened(tmp_path / "runs.npz")
    block = predictions.read(range(MEMBERS), slice(0, EXAMPLES)).numpy()
    assert np.array_equal(block, np.log(np.maximum(p, np.finfo(np.float32).tiny)).astype(np.float32))
    assert block[2, 5].tolist() == pytest.approx([-87.33654, -0.6931472, -0.6931472, -87.33654])
    np.testing.assert_array_equal(metrics.accuracy(predictions, labels), metrics.accuracy(block, labels))
    p[2, 5] = 0.5
    np.savez(tmp_path / "runs.npz", probabilities=p, labels=y)
    with pytest.raises(DataError, match="probabilities of run 2, example 5 sum to 2, not 1"):
        metrics.accuracy(*opened(tmp_path / "runs.npz"))
    p[2, 5] = [1.5, -0.5, 0, 0]
    np.savez(tmp_path / "runs.npz", probabilities=p, labels=y)
    with pytest.raises(DataError, match=r"probabilities of run 2, example 5 leave 0\.\.1"):
        metrics.accuracy(*opened(tmp_path / "runs.npz"))


def test_logits_that_look_like_probabilities_are_asked_about(arrays, tmp_path):
    z, y = arrays
    p = torch.softmax(torch.from_numpy(z), 2).numpy()
    np.savez(tmp_path / "runs.npz", logits=p, labels=y)
    with pytest.raises(ConfigError, match="say --probabilities, or --logits"):
        opened(tmp_path / "runs.npz")
    as_logits, _ = opened(tmp_path / "runs.npz", probabilities=False)
    assert np.array_equal(as_logits.read(range(MEMBERS), slice(0, EXAMPLES)).numpy(), p)


@pytest.mark.parametrize("form", ["npz", "safetensors", "folder"])
def test_examples_are_in_the_order_of_their_ids(form, arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("popnet.metrics.predictions.BLOCK_BYTES", 16 * CLASSES * 4 * MEMBERS)
    z, y = arrays
    ids = np.random.default_rng(1).permutation(EXAMPLES)
    order = np.argsort(ids)
    path = tmp_path / f"runs.{form}"
    if form == "npz":
        np.savez(path, logits=z, labels=y, ids=ids)
    elif form == "safetensors":
        save_file({name: torch.from_numpy(a) for name, a in (("logits", z), ("labels", y), ("ids", ids))}, path)
    else:
        path.mkdir()
        for run, member in enumerate(z):
            own = np.random.default_rng(run).permutation(EXAMPLES)
            np.savez(path / f"{run}.npz", logits=member[own], labels=y[own], ids=ids[own])
    predictions, labels = opened(path)
    assert np.array_equal(labels, y[order])
    found = metrics.variability(predictions, labels, resamples=30).as_dict()
    assert found == metrics.variability(z[:, order], y[order], resamples=30).as_dict()


def test_a_store_is_read_in_its_original_view(trained):
    done = trained.store.members().query("status == 'done'")
    predictions = open_stored(trained.store, list(done.index))
    z = np.stack([trained.store.predictions(member)[0] for member in done.index])
    assert (predictions.members, predictions.examples, predictions.classes) == z.shape
    assert metrics.disagreement(predictions) == metrics.disagreement(z)
    assert np.array_equal(predictions.read([2, 0, 1], slice(3, 9)).numpy(), z[[2, 0, 1], 3:9])
    with pytest.raises(DataError, match="holds no finished member"):
        open_stored(trained.store, [])


def test_a_language_model_has_no_logits_here(trained_copy):
    from popnet.store import open_store

    store = open_store(trained_copy)
    member = store.members().query("status == 'done'").index[0]
    save_file({"target_log_probabilities": torch.zeros(1, 5)}, store.predictions_path(member))
    with pytest.raises(DataError, match="is a language model, which has no logits of all test tokens"):
        open_stored(store, [member])


def test_single_metrics_take_a_reader(arrays, tmp_path):
    z, y = arrays
    reader, labels = opened(*write("npy", tmp_path, z, y))
    assert metrics.spearman(reader) == metrics.spearman(z)
    assert metrics.ensemble_delta(reader, labels) == metrics.ensemble_delta(z, y)
    assert np.array_equal(metrics.pairwise(reader, labels).spearman, metrics.pairwise(z, y).spearman)


def test_what_is_in_memory_is_read_alike(arrays):
    z, y = arrays
    predictions, labels = logits_of_object({"logits": torch.from_numpy(z), "labels": y}, Options())
    assert np.array_equal(labels, y)
    assert np.array_equal(predictions.read(range(MEMBERS), slice(0, EXAMPLES)).numpy(), z)


def test_runs_are_in_natural_order(arrays, tmp_path):
    z, y = arrays
    path, labels = write("npy 2d", tmp_path, z, y)
    assert np.array_equal(metrics.accuracy(*opened(path, labels)), metrics.accuracy(z, y))


def wrong(folder, z, y):
    """What stands on disk."""
    np.save(folder / "y.npy", y)
    np.save(folder / "flat.npy", z[0, 0])
    np.save(folder / "classes.npy", z.argmax(axis=2))
    np.save(folder / "short.npy", y[:-1])
    np.save(folder / "single.npy", z[:1])
    np.save(folder / "z.npy", z)
    broken = z.copy()
    broken[3, 17, 2] = np.nan
    np.save(folder / "broken.npy", broken)
    (folder / "garbage.npy").write_bytes(b"no array at all")
    (folder / "garbage.safetensors").write_bytes(b"no tensors at all")
    (folder / "text.docx").write_text("what")
    (folder / "words.txt").write_text("one two")
    (folder / "empty").mkdir()
    (folder / "mixed").mkdir()
    np.save(folder / "mixed" / "a.npy", z[0])
    np.save(folder / "mixed" / "b.npy", z[0, :-1])
    torch.save({"epoch": 3}, folder / "number.pt")
    np.savez(folder / "unnamed.npz", a=y, b=y)


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("flat.npy", "y.npy", "holds 4 single numbers beside labels"),
        ("classes.npy", "y.npy", "holds classes, and what varies between runs is measured on logits"),
        ("broken.npy", "y.npy", "logits of member 3, example 17, class 2 is NaN"),
        ("single.npy", "y.npy", "at least 2 members"),
        ("garbage.npy", "y.npy", "garbage.npy: cannot be read"),
        ("garbage.safetensors", "y.npy", "garbage.safetensors: cannot be read"),
        ("absent.npy", "y.npy", "absent.npy: there is no such file"),
        ("text.docx", "y.npy", "must be one of"),
        ("empty", "y.npy", "holds no"),
        ("mixed", "y.npy", r"b.npy: the shape of a run is \[29, 4\]"),
        ("number.pt", "y.npy", "must hold a tensor"),
        ("z.npy", "short.npy", "29 labels for predictions of 30 examples"),
        ("z.npy", "words.txt", "cannot be read as integer labels"),
        ("z.npy", "unnamed.npz", "none of them is called labels"),
        ("z.npy", None, "name their file with --labels"),
    ],
)
def test_what_cannot_be_measured_is_named(name, labels, message, arrays, tmp_path):
    wrong(tmp_path, *arrays)
    with pytest.raises((ConfigError, DataError, ValueError), match=message):
        metrics.variability(*opened(tmp_path / name, labels and tmp_path / labels), resamples=10)
