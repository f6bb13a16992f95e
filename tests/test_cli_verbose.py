"""`popnet run --verbose`: what a run tells of each member, and what it does not tell without being asked."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import TINY

from popnet import cli
from popnet.config import Loader, from_mapping
from popnet.engine.jobs import Job
from popnet.engine.narration import Narration, reading
from popnet.engine.pictures import SharedPictures
from popnet.protocol import ORIGINAL, Plan, Platform, plan

Call = Callable[..., tuple[int, str, list[str]]]

ROWS = [
    {"name": "Late shuffling", "vary": ["shuffle"], "onset": 2, "population": 3},
    {"name": "The same members under another name", "vary": ["shuffle"], "onset": 2, "population": 3},
    {"name": "Broken", "vary": ["init"], "population": 2, "recipe": {"optimizer": {"lr": 1e30}}},
]


@pytest.fixture
def planned() -> Plan:
    content = copy.deepcopy(TINY) | {"variants": ROWS, "population": 3}
    return plan(from_mapping(content), Platform("cpu:avx2:avx2", (("torch", "2"),)))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run the experiment of ROWS; returns the exit code, standard output and the lines of standard error."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(copy.deepcopy(TINY) | {"variants": ROWS, "population": 3}))

    def run(*words: str) -> tuple[int, str, list[str]]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["run", "tiny.yaml", "--workers", "1", *words])
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err.splitlines()

    return run


def test_each_member_has_a_line_when_it_begins_and_one_when_it_ends(call: Call) -> None:
    code, out, lines = call("--verbose", "--json")
    assert code == 1, "two members fail"
    json.loads(out)
    assert lines[0] == "data set synthetic: loader resident, in shared memory"
    assert re.fullmatch(r"1 at a time, on cpu:\S+", lines[1])
    told = [line for line in lines if re.match(r"(beginning|member) \w{8}\b(?!\w)", line)]
    rows = "Late shuffling + 1 more"
    short = told[0][10:18]
    assert told[:2] == [
        f"beginning {short}: epochs 1 to 2, for 3 members",
        f"beginning {short} ends: members go on from it",
    ]
    members = told[2:]
    assert [line[16:] for line in members[:6:2]] == [f"begins after 2 shared epochs: {rows}"] * 3
    for begins, ends in zip(members[:6:2], members[1:6:2]):
        assert begins[:15] == ends[:15]
        assert re.fullmatch(rf"member \w{{8}} ends after \d+\.\d s, accuracy \d+\.\d\d%: {re.escape(rows)}", ends)
    assert [line[16:] for line in members[6:]] == ["begins: Broken"] * 2
    failures = [line for line in lines if " failed: " in line]
    assert [line[7:15] for line in failures] == [line[7:15] for line in members[6:]]
    assert max(map(len, told)) <= 80


def test_nothing_of_it_is_told_unasked(call: Call) -> None:
    _, _, lines = call()
    assert not [line for line in lines if " begins" in line or " ends" in line or "at a time" in line]


def test_quiet_and_verbose_contradict_each_other(call: Call) -> None:
    code, out, lines = call("-q", "-v")
    assert (code, out) == (2, "")
    assert lines == ["popnet: --quiet and --verbose contradict each other: give one of them"]
    assert not Path("runs").exists()


def job_of(planned: Plan, **changes: Any) -> Job:
    return Job(planned.members[-1], (ORIGINAL,), "data", (), **changes)


def test_what_goes_on_from_a_checkpoint_says_so(planned: Plan) -> None:
    told = Narration(planned)
    job = job_of(planned)
    short = job.member.id[:8]
    assert told.begins(job, 3, 0) == f"member {short} goes on after epoch 3, from a checkpoint: Broken"
    forked = replace(job, fork=Path("store/checkpoints/abc-2.safetensors"))
    assert told.begins(forked, 2, 0) == f"member {short} begins after 2 shared epochs: Broken"
    assert told.begins(forked, 3, 0) == f"member {short} goes on after epoch 3, from a checkpoint: Broken"
    beginning = replace(job, checkpoints=((4, Path("x-4.safetensors")),))
    assert told.begins(beginning, 1, 9) == f"beginning {short}: epochs 2 to 4, for 9 members, from a checkpoint"


def test_a_line_has_80_characters_however_long_the_rows_names_are(planned: Plan) -> None:
    long = [
        replace(p, variant=p.variant.model_copy(update={"name": f"{p.name} {'x' * 90}"})) for p in planned.populations
    ]
    told = Narration(Plan(planned.experiment, planned.platform, tuple(long)))
    for m in planned.members:
        line = told.begins(replace(job_of(planned), member=m), 3, 0)
        assert len(line) == 80
        assert "…" in line
    assert line.endswith("…")


def test_a_language_model_has_a_perplexity(planned: Plan) -> None:
    job = job_of(planned)
    recipe = SimpleNamespace(language=object())
    member = SimpleNamespace(id=job.member.id, recipe=recipe)
    finished = SimpleNamespace(seconds=12.34, cross_entropy=5.0)
    line = Narration(planned).ends(replace(job, member=member), finished)  # type: ignore[arg-type]
    assert line == f"member {job.member.id[:8]} ends after 12.3 s, perplexity 148.41: Broken"


def test_the_loader_that_was_chosen_is_named(planned: Plan) -> None:
    recipe = planned.members[0].recipe
    files = (Path("train.beton"), Path("test.beton"))
    mapped = SharedPictures(None, files, 3, (), (), "")  # type: ignore[arg-type]
    decoded = replace(mapped, files=(None, None))
    assert reading(recipe, mapped) == "data set synthetic: loader ffcv, from train.beton"
    assert reading(recipe, decoded) == "data set synthetic: loader resident, in shared memory"
    named = recipe.model_copy(update={"loader": Loader(name="ffcv", path="own.beton")})
    assert reading(named, decoded) == "data set synthetic: loader ffcv, from own.beton"
