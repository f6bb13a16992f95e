"""A look at a run that goes on, and the page that is rewritten while it does."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import asdict, replace
from pathlib import Path
from threading import Thread

import pytest
from conftest import TINY

import popnet
from popnet.cli import main
from popnet.config import from_mapping
from popnet.engine import journal
from popnet.engine.progress import Silent
from popnet.errors import ConfigError, DataError, StoreError
from popnet.report import watch as watching
from popnet.report.live import duration, live, rate
from popnet.report.look import State, look
from popnet.report.watch import watch
from popnet.store import Store, progress
from popnet.store.progress import FINISHED, Progress, Running


def told(store: Path) -> Progress:
    found = progress.read(store)
    assert found is not None
    return found


def going_on(store: Path, **changes) -> Store:
    """Make a finished store one in which a run goes on, as far as anybody can see; it is locked until it is closed."""
    progress.write(store, replace(told(store), **{"ended": "", **changes}))
    locked = Store(store)
    locked.lock()
    return locked


def test_a_run_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_WRITES", 0.0)
    seen = []

    class Reader(Silent):
        def running(self, members):
            seen.append((told(tmp_path / "store"), look(tmp_path / "store")))

    content = {**TINY, "variants": [*TINY["variants"], {"name": "Late", "vary": ["shuffle"], "onset": 2}]}
    popnet.run(from_mapping(content), tmp_path / "store", workers=1, reporter=Reader())
    last = told(tmp_path / "store")
    assert (last.experiment, last.ended, last.running) == ("tiny", FINISHED, ())
    assert (last.members, last.done, last.failed) == (7, 7, 0)
    assert last.trained == last.epochs < 7 * 4, "shared beginnings are counted once"
    assert last.seconds_left == 0
    during = [run for said, _ in seen for run in said.running]
    assert {run.beginning for run in during} == {True, False}
    assert all(0 <= run.epoch <= run.epochs for run in during)
    assert all(run.epochs == (2 if run.beginning else 4) for run in during)
    assert {at.state for _, at in seen} == {State.RUNNING}
    assert all(at.all is not None and at.all.planned == 7 and at.all.to_come >= 0 for _, at in seen)


def test_an_interrupted_run_says_why(tmp_path):
    class Stop(Silent):
        def member(self, failed=False):
            raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="the disk is full"):
        popnet.run(from_mapping(TINY), tmp_path / "store", workers=1, reporter=Stop())
    assert told(tmp_path / "store").ended == "the disk is full"
    (block,) = live([look(tmp_path / "store")], None).blocks
    assert block.text == "The run was cut short: the disk is full."


def test_rates_and_times():
    begun = Progress("tiny", "cpu", {}, began=100.0, updated=100.0, members=4, epochs=40)
    assert (begun.epochs_per_second, begun.seconds_left) == (None, None)
    later = replace(begun, updated=120.0, trained=10)
    assert (later.epochs_per_second, later.seconds_left) == (0.5, 60.0)
    assert rate(later.epochs_per_second, "epochs") == "30 epochs a minute"
    assert rate(1 / 7200, "members") == "0.5 members an hour"
    assert rate(None, "epochs") == "not known yet"
    assert [duration(seconds) for seconds in (0, 59.4, 60, 3601, 90061)] == [
        "0 s",
        "59 s",
        "1 min 0 s",
        "1 h",
        "1 d 1 h",
    ]


def test_a_look_counts_each_member_once_and_says_what_failed(trained_copy):
    finished = look(trained_copy)
    assert finished.state is State.ENDED
    assert finished.all is not None
    assert (finished.all.done, finished.all.failed, finished.all.to_come) == (finished.all.planned - 2, 2, 0)
    assert sum(row.planned for row in finished.rows) > finished.all.planned
    assert [failure.rows for failure in finished.failures] == [("Broken",)] * 2
    assert all(failure.error for failure in finished.failures)

    members = Store(trained_copy).members()
    failed = str(members.index[members["status"] == "failed"][0])
    locked = going_on(trained_copy, running=(Running(failed, 1, 4),))
    again = look(trained_copy)
    locked.unlock()
    assert again.state is State.RUNNING
    assert again.all is not None
    assert (again.all.running, again.all.failed, len(again.failures)) == (1, 1, 1), "it is being trained again"

    progress.write(trained_copy, replace(told(trained_copy), began=time.time() + 60, running=()))
    assert look(trained_copy).failures == (), "what an earlier run could not train is to come"


def test_what_a_run_was_left_as_is_told_apart(trained_copy, tmp_path):
    assert look(tmp_path / "nothing").state is State.WAITED_FOR
    assert look(Store(tmp_path / "empty", create=True).path).state is State.WAITED_FOR
    locked = Store(trained_copy)
    locked.lock()
    assert look(trained_copy).state is State.STARTING, "the last run has ended, and somebody has the lock"
    (trained_copy / progress.FILE).unlink()
    assert look(trained_copy).state is State.STARTING
    locked.unlock()
    without = look(trained_copy)
    assert (without.state, without.progress) == (State.ENDED, None)
    assert without.finished[0] > 0
    (trained_copy / progress.FILE).write_text("")
    assert look(trained_copy) == without, "cut short by a loss of power"


def test_a_killed_run_is_not_waited_for(trained_copy):
    going_on(trained_copy).unlock()
    killed = look(trained_copy)
    assert killed.state is State.ENDED
    assert "was killed" in live([killed], None).blocks[0].text


def test_looking_takes_nothing_that_a_run_waits_for(trained_copy):
    locked = going_on(trained_copy)
    before = {path: path.read_bytes() for path in trained_copy.rglob("*") if path.is_file() and "-shm" not in path.name}
    writer = sqlite3.connect(trained_copy / "ledger.sqlite", isolation_level=None, timeout=0)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE members SET seconds = 1")
    assert look(trained_copy).state is State.RUNNING, "in the middle of a transaction"
    writer.execute("ROLLBACK")
    after = {path: path.read_bytes() for path in trained_copy.rglob("*") if path.is_file() and "-shm" not in path.name}
    writer.close()
    locked.unlock()
    assert after == before


def test_a_page_waits_for_its_store_and_ends_with_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "_RESTRAINT", 0.0)
    store, page, said = tmp_path / "store", tmp_path / "page.html", []
    results = []
    watcher = Thread(target=lambda: results.append(watch([store], page, "Mine", interval=0.05, tell=said.append)))
    watcher.start()
    while not page.exists():
        watcher.join(0.01)
    waiting = page.read_text()
    assert f"Waiting for a run in {store}: start it with popnet run EXPERIMENT --store {store}." in waiting
    assert 'http-equiv="refresh"' in waiting
    popnet.run(from_mapping(TINY), store, workers=2)
    watcher.join()
    ended = page.read_text()
    assert "tiny: 4 of 4 members done" in ended
    assert "<h1>Mine</h1>" in ended
    assert "<script" not in ended
    assert "refresh" not in ended
    assert said[0] == f"{store}: no run yet"
    assert said[-1] == "tiny: 4 of 4 members done"
    ((report, evidence),) = results
    assert (len(report.sections), len(evidence)) == (1, 1)


def test_a_page_is_whole_at_any_moment(trained_copy, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("before")
    with page.open() as reader:
        watch([trained_copy], page)
        assert reader.read() == "before", "what is open stays as it was"
    assert page.read_text().rstrip().endswith("</html>")
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_runs_that_leave_nothing_still_leave_a_page(tmp_path):
    content = {**TINY, "recipe": {**TINY["recipe"], "optimizer": {"name": "sgd", "lr": 1e30, "weight_decay": 5e-4}}}
    popnet.run(from_mapping(content), tmp_path / "store", workers=1)
    with pytest.raises(DataError, match="no finished runs"):
        watch([tmp_path / "store"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "0 of 4 members done, 4 failed" in page
    assert page.count("(Initialization): ") == 4
    assert "<script" not in page


def test_ctrl_c_ends_the_watching_alone(trained_copy, tmp_path, monkeypatch, capsys):
    locked = going_on(trained_copy)

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(watching.time, "sleep", interrupted)
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(trained_copy), "--watch", "--html", str(page)])
    locked.unlock()
    assert stopped.value.code == 130
    assert "the runs go on" in capsys.readouterr().err
    assert "<script" not in page.read_text()
    assert "The run goes on in" in page.read_text()


def test_the_command(trained_copy, tmp_path, capsys):
    page, csv = tmp_path / "page.html", tmp_path / "cells.csv"
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(trained_copy), "--watch", "--html", str(page), "--csv", str(csv)])
    assert stopped.value.code == 0
    captured = capsys.readouterr()
    assert f"open {page.as_uri()}" in captured.err
    assert "Initialization" in captured.out, "the report in the end"
    assert csv.exists()
    assert 'id="progress"' not in page.read_text(), "a run that is over has the page that the report always has"


def test_wrong_arguments(trained_copy, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(trained_copy), "--watch"])
    assert stopped.value.code == 2
    assert "name it with --html FILE" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="interval is 0"):
        watch([trained_copy], tmp_path / "page.html", interval=0)
    assert not (tmp_path / "page.html").exists()


def test_progress_is_written_and_read_as_it_is(tmp_path):
    one = Progress("x", "cpu", {"torch": "2"}, 1.0, 2.0, 3, 12, 1, 0, 5, (Running("a", 1, 4), Running("b", 0, 2, True)))
    progress.write(tmp_path, one)
    assert progress.read(tmp_path) == one
    assert json.loads((tmp_path / progress.FILE).read_text()) == json.loads(json.dumps(asdict(one)))
    assert progress.read(tmp_path / "elsewhere") is None
    progress.write(tmp_path / "elsewhere", one)  # a folder that cannot be written does not end the run
