"""Answers for machines, and what holds of every command: help and exit codes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
import typer

from popnet import cli, machine
from popnet.report.verdicts import Verdict

Call = Callable[..., tuple[int, Any]]


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line with --json in this process; returns the exit code and what standard output holds."""

    def run(*words: Any) -> tuple[int, Any]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, words), "--json"])
        return int(ended.value.code or 0), json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    return run


def test_what_json_does_not_know_has_a_form() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [0.5, math.nan]}, index=pd.Index(["x", "y"], name="variant"))
    assert machine.plain(table) == [{"variant": "x", "a": 1, "b": 0.5}, {"variant": "y", "a": 2, "b": None}]
    assert machine.plain(
        {"path": Path("a/b"), "array": np.arange(2), "verdict": Verdict.HOLDS, "all": (math.inf,)}
    ) == {
        "path": "a/b",
        "array": [0, 1],
        "verdict": Verdict.HOLDS.value,
        "all": [None],
    }
    with pytest.raises(TypeError, match="object has no form in JSON"):
        machine.plain(object())


def test_run_and_plan(answer: Call, trained, trained_copy: Path, tmp_path: Path) -> None:
    file = tmp_path / "same.yaml"
    file.write_text(json.dumps(trained.store.experiments()["tiny"]))
    code, planned = answer("plan", file)
    assert code == 0
    assert [row["variant"] for row in planned["rows"]] == [p.name for p in trained.plan.populations]
    assert planned["trainings"] == len(trained.plan.members)
    cost = planned.pop("cost")
    assert cost["hours"] == cost["common_hours"] > 0
    assert cost["unknown"] == ""
    assert answer("run", file, "--plan") == (0, planned)
    code, ran = answer("run", file, "--store", trained_copy, "--workers", 1)
    assert code == 1, "two members fail"
    assert len(ran["failed_members"]) == 2
    assert [row["members"] for row in ran["rows"]] == [4, 2, 2, 2, 0]
    assert Path(ran["tables"]["variability"]).exists()
    (tmp_path / "folder").mkdir()
    file.rename(tmp_path / "folder" / "same.yaml")
    (cost,) = answer("plan", tmp_path / "folder", "--no-measure")[1]
    assert cost["members"] == len(trained.plan.members)
    assert (cost["hours"], cost["unknown"]) == (None, "not asked for")


def test_reading_commands(answer: Call, trained, tmp_path: Path) -> None:
    store = trained.store.path
    code, report = answer("report", store)
    assert code == 0
    assert {cell["variant"] for cell in report["cells"]} >= {"Initialization", "Snapshots"}
    draw, labels = np.random.default_rng(0), np.arange(60) % 3
    sources = [str(tmp_path / f"{name}.npz") for name in "abc"]
    for source in sources:
        np.savez(source, logits=draw.normal(2 * np.eye(3)[labels], size=(6, 60, 3)), labels=labels)
    (accuracy, cross_entropy) = answer("compare", *sources[:2])[1]
    assert accuracy["metric"] == "accuracy"
    assert accuracy["sentence"]
    assert cross_entropy["a"] == "a.npz"
    pairs = answer("compare", *sources, "--metric", "accuracy")[1]
    assert len(pairs) == 3
    assert all(0 <= pair["p_value_holm"] <= 1 for pair in pairs)
    assert answer("power", "--difference", 1, "--sd", 1)[1]["needed"] == [17]
    assert answer("measure", store)[0] == 0
    assert answer("data", "list")[1]["digits"]["ready"] is True
    assert answer("store", "verify", store) == (0, [])


def test_store_commands(answer: Call, trained, trained_copy: Path, tmp_path: Path, capsys) -> None:
    """A damaged store is repaired, merged, exported and tidied up: each answer says what the command did."""
    member = trained.store.members().query("status == 'done'").index[0]
    path = trained_copy / "members" / f"{member}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    into = tmp_path / "into"
    done = len(trained.store.done())
    code, merged = answer("store", "merge", into, trained_copy, trained.store.path)
    assert code == 1, "a member is damaged in one of the two"
    assert [entry["left"] for entry in merged] == [[member], []]
    assert merged[0]["store"] == str(trained_copy)
    assert merged[0]["taken"] + 1 == len(trained.store.members())
    assert (merged[1]["taken"], merged[1]["known"]) == (1, merged[0]["taken"])
    assert answer("store", "export", into, tmp_path / "all.npz", "--row", "Snapshots") == (
        0,
        {"file": str(tmp_path / "all.npz"), "members": 2},
    )
    code, repaired = answer("store", "repair", trained_copy)
    assert (code, len(repaired["repaired"])) == (0, 1)
    assert repaired["repaired"][0].startswith(f"{path}: ")
    assert answer("store", "repair", trained_copy) == (0, {"store": str(trained_copy), "repaired": []})
    code, pruned = answer("store", "prune", trained_copy, "--dry-run")
    assert code == 0
    assert pruned["dry_run"]
    assert str(trained_copy / "damaged" / f"members-{path.name}") in pruned["files"]
    assert answer("store", "prune", trained_copy)[1] == pruned | {"dry_run": False}
    assert answer("store", "prune", trained_copy)[1]["files"] == []
    assert len(trained.store.done()) == done, "the source of a merge is only read"


def test_messages_are_beside_the_answer(answer: Call, trained_copy: Path, tmp_path: Path, capsys) -> None:
    path = next((trained_copy / "members").glob("*.safetensors"))
    path.unlink()
    for words in (["merge", tmp_path / "into", trained_copy], ["repair", trained_copy]):
        with pytest.raises(SystemExit):
            cli.main(["store", *map(str, words), "--json"])
        written = capsys.readouterr()
        json.loads(written.out)
        assert path.stem in written.err


def test_commands_that_write_files_name_them(answer: Call, tmp_path: Path) -> None:
    code, made = answer("new", "mine", "--folder", tmp_path, "--own")
    assert (code, made["files"]) == (0, [str(tmp_path / "mine.yaml"), str(tmp_path / "mine_parts.py")])
    assert made["next"][0] == ["popnet", "plan", str(tmp_path / "mine.yaml"), "--allow-import"]
    assert answer("data", "fetch", "digits") == (0, {"name": "digits", "folder": None})
    out = tmp_path / "digits.beton"
    code, written = answer("data", "write", "digits", out, "--split", "test")
    assert (code, written["file"], written["examples"], written["size"]) == (0, str(out), 899, out.stat().st_size)
    assert written["checksum"] == (tmp_path / "digits.beton.sha256").read_text().split()[0]


def test_every_answer_has_a_form_for_machines_which_the_manual_gives() -> None:
    manual = (Path(__file__).parent.parent / "docs" / "command-line.md").read_text()
    rows = [line.split("|")[1] for line in manual.splitlines() if line.startswith("| `")]
    root = typer.main.get_command(cli.app)
    for path in commands(root):
        command: Any = root
        for name in path:
            command = command.commands[name]
        if not getattr(command, "commands", None) and path != ("schema",):  # a schema is JSON anyway
            assert "--json" in [option for parameter in command.params for option in parameter.opts], path
            assert any(f"`{' '.join(path)}`" in row for row in rows), path


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


@pytest.mark.parametrize(
    "path", list(commands(typer.main.get_command(cli.app))), ids=lambda path: "-".join(path) or "popnet"
)
def test_help_fits_80_columns_without_colour(path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    with pytest.raises(SystemExit) as ended:
        cli.main([*path, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_exit_codes_are_in_the_help(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for code in ("0 done", "2 wrong input", "70 a defect", "130 or 143 stopped"):
        assert code in text


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (ZeroDivisionError("popped"), 70)])
def test_interruptions_and_defects_have_codes_of_their_own(error, code, monkeypatch, capsys) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("popnet.data.available", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "list"])
    assert ended.value.code == code
    written = capsys.readouterr()
    assert written.out == ""
    if code == 70:
        assert "ZeroDivisionError: popped" in written.err
