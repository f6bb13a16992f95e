"""`popnet export`: predictions as a folder that loads without popnet, in full or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from popnet import cli, publish
from popnet.errors import ConfigError, DataError, StoreError
from popnet.publish import folder
from popnet.results.stores.populations import finished_members, population_logits


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_logits_are_those_of_the_rows_metrics(trained, tmp_path: Path, dtype: str) -> None:
    """Views are averaged, ensembles are runs; a row in which everything failed is left out."""
    told: list[tuple[int, int]] = []
    written = publish.publish(
        trained.store, tmp_path / "out", dtype=dtype, progress=lambda done, total: told.append((done, total))
    )
    assert [entry.row for entry in written] == ["Initialization", "Determinism", "Ensemble (N=2)", "Snapshots"]
    runs = sum(entry.runs for entry in written)
    assert told == [(count, runs) for count in range(1, runs + 1)]
    done = trained.store.done()
    for entry, population in zip(written, trained.plan.populations, strict=False):
        place = tmp_path / "out" / entry.folder
        expected = population_logits(trained.store, population, finished_members(population, done))
        logits = np.load(place / "logits.npy", mmap_mode="r")
        assert logits.dtype == {"fp16": np.float16, "fp32": np.float32}[dtype]
        assert np.array_equal(logits, expected.astype(logits.dtype))
        assert logits.shape == (entry.runs, entry.examples, entry.classes)
        assert np.array_equal(np.load(place / "labels.npy"), trained.store.labels())
        table = pd.read_csv(place / "runs.csv")
        ids = {m.id for m in population.members}
        assert set(table["member"]) <= ids
        assert table["run"].nunique() == entry.runs
        ledger = trained.store.members().loc[table["member"]]
        for source in ("init", "shuffle", "augment", "stochastic", "kernels", "bit"):
            assert table[source].tolist() == ledger[source].tolist()


def test_the_card_and_the_metadata(trained, tmp_path: Path) -> None:
    publish.publish(trained.store, tmp_path / "out", ["Ensemble (N=2)"])
    text = (tmp_path / "out" / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["configs"] == [
        {"config_name": "tiny--ensemble-n-2", "data_files": "tiny/ensemble-n-2/runs.csv"},
    ]
    assert "| Ensemble (N=2) | `tiny/ensemble-n-2` | 2 x 30 x 3 |" in text
    assert "rounded to fp16" in text
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert metadata["format"] == "popnet predictions 1"
    assert list(metadata["experiments"]) == ["tiny"]
    for config in head["configs"]:
        assert len(pd.read_csv(tmp_path / "out" / config["data_files"])) == 4


def test_only_an_earlier_export_is_overwritten(trained, tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish.publish(trained.store, out, ["Determinism"])
    with pytest.raises(ConfigError, match="holds an earlier export: overwrite it with --force"):
        publish.publish(trained.store, out)
    publish.publish(trained.store, out, ["Snapshots"], force=True)
    assert [path.name for path in (out / "tiny").iterdir()] == ["snapshots"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    for force in (False, True):
        with pytest.raises(ConfigError, match="no earlier export: choose another name"):
            publish.publish(trained.store, precious, force=force)
    assert [path.name for path in precious.iterdir()] == ["thesis.tex"]


def test_what_goes_wrong_leaves_what_was_there(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    publish.publish(trained.store, out, ["Determinism"])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(folder, "card", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match="cannot be written: No space left"):
        publish.publish(trained.store, out, force=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_wrong_input_is_named(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no row is called 'Initialisation'; did you mean 'Initialization'"):
        publish.publish(trained.store, tmp_path / "out", ["Initialisation"])
    with pytest.raises(ConfigError, match="dtype 'fp8'"):
        publish.publish(trained.store, tmp_path / "out", dtype="fp8")
    with pytest.raises(DataError, match="no finished run"):
        publish.publish(trained.store, tmp_path / "out", ["Broken"])
    huge = np.full((30, 3), 1e6, np.float32)
    monkeypatch.setattr(publish.folder.Row, "logits", lambda self, store: iter([huge] * len(self.runs)))
    with pytest.raises(DataError, match="beyond fp16's range: use --dtype fp32"):
        publish.publish(trained.store, tmp_path / "out", ["Determinism"])
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was exported is a source of `popnet measure`."""

    def call(*words: object) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        assert ended.value.code == 0
        return capsys.readouterr()

    out = tmp_path / "out"
    printed = call("export", trained.store.path, "--hf", out, "--row", "Determinism", "--quiet", "--json").out
    assert json.loads(printed)["rows"][0]["runs"] == 2
    place = out / "tiny" / "determinism"
    rows = json.loads(call("measure", place / "logits.npy", "--labels", place / "labels.npy", "--json").out)
    assert rows[0]["members"] == 2
    assert rows[0]["disagreement"] == 0


def test_curves_are_the_histories(trained, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folders = publish.write_curves(trained.store, tmp_path / "curves")
    assert {folder.name for folder in folders} == set(trained.store.done())
    read = EventAccumulator(str(folders[0])).Reload()
    history = trained.store.history(folders[0].name)
    for name in history:
        there = history[name].dropna()
        events = read.Scalars(name) if len(there) else []
        assert [event.step for event in events] == there.index.tolist()
        assert [event.value for event in events] == there.astype(np.float32).tolist()
    with pytest.raises(ConfigError, match="is there already"):
        publish.write_curves(trained.store, tmp_path / "curves")


def test_an_export_of_nothing_is_refused(trained, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["export", str(trained.store.path)])
    assert exit_.value.code == 2
    assert "--hf OUT or --tensorboard OUT" in capsys.readouterr().err
