"""Predictions from files of every form, and what is said of those that cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from popnet import metrics
from popnet.errors import DataError
from popnet.report import render

MEMBERS, EXAMPLES, CLASSES = 12, 30, 4


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, EXAMPLES)
    logits = rng.normal(size=(MEMBERS, EXAMPLES, CLASSES)) + rng.normal(size=(EXAMPLES, CLASSES))
    return logits.astype(np.float32), labels


def write(form, folder, z, y):
    """Writes the predictions in this form; the place of predictions and of labels."""
    path, labels = folder / f"runs.{form}", folder / "labels.npy"
    np.save(labels, y)
    tensors = {f"run_{i}": torch.from_numpy(member.copy()) for i, member in enumerate(z)}
    if form == "npy":
        np.save(path, z)
    elif form == "npz":
        np.savez(path, logits=z, labels=y)
        labels = path
    elif form == "pt":
        torch.save(torch.from_numpy(z), path)
        labels = folder / "labels.pt"
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


@pytest.mark.parametrize("form", ["npy", "npz", "pt", "safetensors", "txt", "npy 2d", "pt 3d", "safetensors 2d"])
def test_every_form_gives_the_arrays_bits(form, arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("popnet.metrics.predictions.BLOCK_BYTES", 16 * CLASSES * 4 * MEMBERS)
    z, y = arrays
    path, labels = write(form, tmp_path, z, y)
    table = metrics.measure_file(path, labels, resamples=30)
    row = table.loc[path.name].to_dict()
    expected = metrics.variability(z, y, resamples=30).as_dict()
    assert {name: row[name] for name in expected} == expected
    assert (row["population"], row["failed"], row["marks"]) == (MEMBERS, 0, "")
    render(table, "measured")


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
    np.save(tmp_path / "y.npy", y)
    row = metrics.measure_file(path, tmp_path / "y.npy", resamples=10).iloc[0]
    assert row["spearman"] == metrics.spearman(half.float())
    assert row["ensemble_cross_entropy_delta"] == metrics.ensemble_delta(half.float(), y, "cross_entropy")


def test_a_popnet_store_brings_its_labels(trained):
    row = metrics.measure_file(trained.store.path, resamples=10).iloc[0]
    done = trained.store.members().query("status == 'done'")
    assert row["members"] == len(done)
    z = np.stack([trained.store.predictions(member)[0] for member in done.index])
    assert row["disagreement"] == metrics.disagreement(z)


def test_single_metrics_take_a_reader(arrays, tmp_path):
    z, y = arrays
    path, _ = write("npy", tmp_path, z, y)
    reader = metrics.open_predictions(path)
    assert metrics.spearman(reader) == metrics.spearman(z)
    assert metrics.ensemble_delta(reader, y) == metrics.ensemble_delta(z, y)
    assert np.array_equal(metrics.pairwise(reader, y).spearman, metrics.pairwise(z, y).spearman)


def test_runs_are_in_natural_order(arrays, tmp_path):
    z, y = arrays
    path, _ = write("npy 2d", tmp_path, z, y)
    assert np.array_equal(metrics.accuracy(metrics.open_predictions(path), y), metrics.accuracy(z, y))


def wrong(folder, z, y):
    """(what stands on disk, the labels, what the message says), by name."""
    np.save(folder / "y.npy", y)
    np.save(folder / "double.npy", z.astype(np.float64))
    np.save(folder / "flat.npy", z[0, 0])
    np.save(folder / "classes.npy", z.argmax(axis=2)[None])
    np.save(folder / "short.npy", y[:-1])
    np.save(folder / "single.npy", z[:1])
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
    return {
        "double.npy": ("y.npy", "float32, float16 or bfloat16, but are float64"),
        "flat.npy": ("y.npy", r"\[members, examples, classes\]"),
        "classes.npy": ("y.npy", "but are int64"),
        "broken.npy": ("y.npy", "broken.npy: logits of member 3, example 17, class 2 is NaN"),
        "single.npy": ("y.npy", "at least 2 members"),
        "garbage.npy": ("y.npy", "garbage.npy: cannot be read"),
        "garbage.safetensors": ("y.npy", "garbage.safetensors: cannot be read"),
        "absent.npy": ("y.npy", "absent.npy: there is no such file"),
        "text.docx": ("y.npy", "must be one of"),
        "empty": ("y.npy", "holds no"),
        "mixed": ("y.npy", r"b.npy: the shape is \[29, 4\]"),
        "number.pt": ("y.npy", "must hold a tensor"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "double.npy",
        "flat.npy",
        "classes.npy",
        "broken.npy",
        "single.npy",
        "garbage.npy",
        "garbage.safetensors",
        "absent.npy",
        "text.docx",
        "empty",
        "mixed",
        "number.pt",
    ],
)
def test_what_cannot_be_measured_is_named(name, arrays, tmp_path):
    labels, message = wrong(tmp_path, *arrays)[name]
    with pytest.raises(DataError, match=message):
        metrics.measure_file(tmp_path / name, tmp_path / labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("short.npy", r"labels must be \[examples\] = \[30\]"),
        ("words.txt", "cannot be read as integer labels"),
        ("unnamed.npz", "none of them called labels"),
        (None, "name the labels"),
    ],
)
def test_wrong_labels_are_named(labels, message, arrays, tmp_path):
    wrong(tmp_path, *arrays)
    np.save(tmp_path / "z.npy", arrays[0])
    with pytest.raises(DataError, match=message):
        metrics.measure_file(tmp_path / "z.npy", tmp_path / labels if labels else None)
