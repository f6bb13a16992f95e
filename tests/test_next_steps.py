"""What a command proposes to do next makes sense for what it has just done."""

from __future__ import annotations

from pathlib import Path

import popnet
from popnet.config import from_mapping
from popnet.next_steps import after_run


def proposed(experiment: popnet.Experiment | str) -> list[list[str]]:
    return list(after_run(popnet.plan(experiment, "cpu"), Path("runs/mine")))


def test_rows_of_the_same_sources_are_compared() -> None:
    report, compare = proposed("is_it_real")
    assert report == ["popnet", "report", "runs/mine", "--html", "runs/mine.html"]
    assert compare == ["popnet", "compare", "runs/mine:Baseline", "runs/mine:Half the rate"]


def test_rows_of_different_sources_are_not_rivals() -> None:
    _, power = proposed("quickstart")
    assert power == ["popnet", "power", "--difference", "0.3", "--from", "runs/mine:All Nondeterminism Sources"]
    assert [words[1] for words in proposed("bible_qrnn")] == ["report"], "perplexities have no points"


def test_a_control_alone_is_reported(content) -> None:
    control = from_mapping(content | {"variants": [{"name": "Determinism", "replicas": True}]})
    assert [words[1] for words in proposed(control)] == ["report"]
