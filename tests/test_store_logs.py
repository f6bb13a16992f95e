"""The CSV that every run leaves: the ledger's members and their epochs, for any other program."""

from __future__ import annotations

import pandas as pd
from conftest import TINY

import popnet
from popnet.config import from_mapping
from popnet.store.logs import write_logs


def test_members_and_their_epochs_are_those_of_the_ledger(trained):
    store, tables = trained.store, trained.store.path / "tables"
    members = store.members()
    read = pd.read_csv(tables / "members.csv", index_col="id")
    assert list(read.index) == list(members.index)
    assert list(read.columns) == list(members.columns)
    assert read["accuracy"].equals(members["accuracy"])
    assert (read["status"] == "failed").sum() == 2, "failures with their errors"
    assert read["error"].notna().sum() == 2
    history = pd.read_csv(tables / "history.csv", index_col=["id", "epoch"])
    done = sorted(members.index[members["status"] == "done"])
    assert list(history.index.unique("id")) == done
    for member in done:
        pd.testing.assert_frame_equal(history.loc[member], store.history(member), check_exact=True)
    assert history["test_accuracy"].isna().any(), "an epoch that was not evaluated"


def test_a_run_that_adds_members_adds_them_there(content, tmp_path):
    store = popnet.run(from_mapping(content | {"population": 2}), tmp_path / "store", workers=2).store
    tables = store.path / "tables"
    before = (tables / "history.csv").read_text().splitlines()
    assert len(before) == 1 + 2 * TINY["recipe"]["epochs"]
    popnet.run(from_mapping(content | {"population": 3}), store.path, workers=2)
    after = (tables / "history.csv").read_text().splitlines()
    assert set(before) < set(after)
    assert len(after) == 1 + 3 * TINY["recipe"]["epochs"]
    (tables / "history.csv").unlink()
    write_logs(store)
    assert (tables / "history.csv").read_text().splitlines() == after, "from the ledger alone"
