"""Answers and progress fit 80 columns, lose nothing by it, and are plain text where nobody wants colours."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from rich.console import Console
from rich.text import Text

from popnet import cli, next_steps, prose
from popnet.engine import progress
from popnet.engine.progress import ConsoleReporter
from popnet.report.tables import render

Call = Callable[..., tuple[str, str]]
STYLE = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run the command line in this process, at 80 columns; returns standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def run(*words: Any) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, words)])
        written = capsys.readouterr()
        assert ended.value.code in (0, 1, None), written.err
        return written.out, written.err

    return run


@pytest.fixture
def words(trained, trained_copy: Path, reported: Path, tmp_path: Path) -> dict[str, list[Any]]:
    """Each command with an answer for people, on stores that are there."""
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "tiny.yaml"
    file.write_text(json.dumps(trained.store.experiments()["tiny"]))
    draw, labels = np.random.default_rng(0), np.arange(60) % 3
    rows = [tmp_path / f"a rather long name of a source, number {number}.npz" for number in range(3)]
    for row in rows:  # a store's rows of different sources share their first member, so they are not compared
        np.savez(row, logits=draw.normal(2 * np.eye(3)[labels], size=(6, 60, 3)), labels=labels)
    return {
        "run": ["run", file, "--store", trained_copy, "--workers", 1],
        "plan": ["plan", file],
        "plan, shipped": ["plan", "resnet14"],
        "plan, folder": ["plan", file.parent, "--no-measure"],
        "report": ["report", reported, trained_copy],
        "measure": ["measure", trained_copy],
        "compare": ["compare", *rows[:2]],
        "compare three": ["compare", *rows],
        "power": ["power", "--difference", 0.2, "--error", 5.6, "--examples", 10000, "--classes", 10],
        "data list": ["data", "list"],
        "doctor": ["doctor", "--no-train"],
    }


COMMANDS = (
    *("run", "plan", "plan, shipped", "plan, folder", "report", "measure", "compare", "compare three", "power"),
    *("data list", "doctor"),
)


def too_long(text: str) -> list[str]:
    """Lines of more than 80 characters, but for commands to copy and words that cannot be broken."""
    lines = [line.rstrip() for line in text.splitlines()]
    return [line for line in lines if len(line) > 80 and " " in line.strip() and not line.startswith(next_steps.MARK)]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_answer_fits_80_columns_and_is_plain_text(command: str, words: dict[str, list[Any]], call: Call) -> None:
    out, err = call(*words[command])
    assert out
    assert "\x1b" not in out + err
    assert too_long(out) == []
    assert "…" not in out, "nothing is cut off"


@pytest.mark.parametrize(
    "words", [["plan", "resnet14", "--no-measure"], ["doctor", "--no-train"], ["report"]], ids=lambda w: w[0]
)
def test_no_color_on_a_terminal_means_plain_text(
    words: list[str], trained, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*words, str(trained.store.path)] if words == ["report"] else words
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which rich takes any output for a terminal
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured, _ = call(*words)
    assert STYLE.search(coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    out, err = call(*words)
    assert "\x1b" not in out + err
    assert out == STYLE.sub("", coloured)


def test_names_are_printed_as_they_are(call: Call, tmp_path: Path) -> None:
    name = "[red]Initialization[/red] with a name that is longer than a column of any table, [/b] and [0]"
    content = copy.deepcopy(TINY) | {"description": "of [bold] things", "population": 2}
    content["variants"] = [{"name": name, "vary": ["init"]}]
    content["recipe"] |= {"epochs": 1, "schedule": {"name": "constant"}}
    (tmp_path / "tiny.yaml").write_text(json.dumps(content))
    for words in (["plan", "tiny.yaml"], ["run", "tiny.yaml", "--workers", 1], ["report", "runs/tiny"]):
        out, _ = call(*words)
        assert too_long(out) == []
        assert "[red]" in out
        assert "[/b]" in out
    assert "of [bold] things" in out


def test_a_table_of_language_models_fits_whole() -> None:
    columns = ("ppl_mean", "ppl_sd", "ppl_sd_error", "disagreement", "ensemble_ppl_delta")
    row = dict.fromkeys(columns, 1234.5678) | {"target_spearman": 0.98765, "logit_spearman": 0.98765, "members": 1000}
    console = Console(file=io.StringIO(), width=80)
    table = pd.DataFrame([row], index=pd.Index(["All Nondeterminism Sources"], name="variant"))
    render(table, "QRNN, Penn Treebank", console=console)
    out = console.file.getvalue()  # type: ignore[attr-defined]
    assert too_long(out) == []
    assert "…" not in out


def told(monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    """What a large run that takes its time writes at 80 columns."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=80, **options)
    reporter = ConsoleReporter(console)
    reporter.begin(members=100_000, epochs=50_000_000)
    for _ in range(3):
        now += 20.0
        reporter.epoch()
        reporter.member(failed=True)
    reporter.end()
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(monkeypatch).splitlines()
    assert len(lines) == 4
    assert lines[0] == "0 of 100000 members, 0.05 epochs/s, 277777:46:20 left"
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)


def test_the_bar_of_a_terminal_fits_80_columns_and_has_no_style_without_colours(monkeypatch) -> None:
    out = told(monkeypatch, force_terminal=True, color_system=None, legacy_windows=False)
    assert not STYLE.search(out)
    drawn = re.split(r"[\r\n]|\x1b\[[\d?]*[A-Za-z]", out)
    assert any("epochs/s" in line for line in drawn)
    assert max(map(len, drawn)) <= 80


def test_prose_breaks_between_words_alone() -> None:
    def shown(text: str | Text, head: str | Text = "", width: int = 40) -> list[str]:
        console = Console(file=io.StringIO(), width=width)
        prose.show(console, text, head)
        return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]

    path = "/a/path/that/is/longer/than/the/whole/console/is/wide.txt"
    assert shown(f"written to {path}, as [asked]") == ["written to", f"{path},", "as [asked]"]
    assert shown("one two three four five six seven eight", "head: ") == [
        "head: one two three four five six seven",
        "      eight",
    ]
    assert shown("first line\nsecond", "> ") == ["> first line", "  second"]
    assert shown("", "empty:") == ["empty:"]
    assert shown("x" * 30, "a head of its own: ", width=10) == ["a head of its own: " + "x" * 30]
