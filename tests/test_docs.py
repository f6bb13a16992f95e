"""Every code block of the documentation and the README is run, page by page, in an empty folder.

```python blocks of a page share one interpreter, ```sh blocks one shell folder; a block with title="FILE" is written
there first, and a YAML block that is a whole experiment must load. ```sh no-run marks what takes minutes, installs, or
needs other machines: of it, the commands, options, files and make targets must exist. ```console blocks show a command
with what it printed, up to a last line "..." where there is one: a slow test runs them, and compares on the kind of
machine that printed it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
import yaml

import popnet
from popnet.cli import app
from popnet.doctor import RECORDED
from popnet.engine.devices import platform
from popnet.report.panels import dots
from popnet.report.quantities import Value, quantity

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "results").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OTHER_PROGRAMS = {"pip", "ray", "tensorboard"}
"""Whose commands are shown, and not looked into."""

BEGINNING = """
import subprocess
from popnet.cli import main as _main

def _popnet(*words):
    try:
        _main(list(words))
    except SystemExit as ended:
        assert ended.code in (None, 0), f"exit code {ended.code} of popnet {' '.join(words)}"
"""


@dataclass(frozen=True)
class Block:
    language: str
    options: str
    text: str

    @property
    def file(self) -> str | None:
        found = re.search(r'title="([^"]+)"', self.options)
        return found.group(1) if found else None

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command line of a shell's block, those of a transcript too."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        elif self.language != "sh" or self.file is not None:
            return []
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> list[Block]:
    return [Block(*match) for match in BLOCK.findall(page.read_text(encoding="utf-8"))]


def name(page: Path) -> str:
    return page.stem


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_code_runs(page: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    program = [BEGINNING, *(line for block in blocks(page) for line in program_of(block))]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def program_of(block: Block) -> Iterator[str]:
    """The block as lines of one Python program."""
    if block.file is not None:
        yield f"open({block.file!r}, 'w').write({block.text!r})"
    if "no-run" in block.options:
        return
    if block.language == "python":
        yield block.text
    elif block.language == "sh":
        for program, *words in block.commands:
            if program == "popnet":
                yield f"_popnet(*{words!r})"
            else:
                yield f"subprocess.run({[sys.executable if program == 'python' else program, *words]!r}, check=True)"
    elif block.language == "yaml" and "name" in (yaml.safe_load(block.text) or {}):
        yield "import popnet"
        yield f"open('checked.yaml', 'w').write({block.text!r})"
        yield "popnet.load('checked.yaml', allow_import=True)"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_commands_that_are_shown_exist(page: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for program, *words in (words for block in blocks(page) for words in block.commands):
        if program == "popnet":
            parse(typer.main.get_command(app), words)
        elif program == "python" and words[0] == "-m":
            assert find_spec(words[1]), words
        elif program == "python":
            assert (ROOT / words[0]).exists(), words
        elif program == "make":
            assert set(words) <= set(targets), words
        else:
            assert program in OTHER_PROGRAMS or find_program(program), program


def parse(command: Any, words: list[str]) -> None:
    """Raises where there is no such command, option or number of arguments."""
    context = command.make_context("popnet", list(words))
    if hasattr(command, "resolve_command"):
        _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(inner, rest)


def find_program(program: str) -> bool:
    return subprocess.run(["which", program], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.language == "console" for block in blocks(page))], ids=name
)
def test_transcripts_are_what_is_printed(page: Path, tmp_path: Path) -> None:
    here = platform("cpu")
    recorded = (here.device, dict(here.versions)["torch"]) in RECORDED
    for block in blocks(page):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
        if block.language != "console":
            continue
        ((program, *words),) = block.commands
        assert program == "popnet"
        done = subprocess.run(
            [sys.executable, "-c", "from popnet.cli import main; main()", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, words
        if recorded:
            shown, printed = block.text.partition("\n")[2].split(), done.stdout.split()
            assert (printed[: len(shown) - 1] == shown[:-1]) if shown[-1] == "..." else (printed == shown), words


def test_the_readmes_figure_is_drawn_from_the_run_whose_table_it_shows() -> None:
    results, readme = ROOT / "docs" / "results", (ROOT / "README.md").read_text(encoding="utf-8")
    table = pd.read_csv(results / "quickstart.csv").set_index(["variant", "quantity"])
    kind = quantity("disagreement")
    values = {}
    for variant in popnet.load("quickstart").variants:
        value, error = table.loc[(variant.name, kind.name), ["measured", "error"]]
        marked = f"{variant.name}\N{NO-BREAK SPACE}¹" if "kernels" in variant.sources else variant.name
        values[marked] = Value(value, error)
        printed = [f"{table.loc[(variant.name, name), 'measured']:.2f}" for name in ("accuracy_mean", kind.name)]
        assert re.search(rf"^[^\n]* 8 +{printed[0]} [^\n]* {printed[1]} ", readme, re.MULTILINE), variant.name
    assert (results / "quickstart.svg").read_text(encoding="utf-8") == dots(values, kind.header)
    assert "(docs/results/quickstart.svg)" in readme


def test_the_python_reference_holds_every_public_function_and_class() -> None:
    shown = set(re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE))
    for module in (popnet.data, popnet.metrics):
        missing = {f"{module.__name__}.{public}" for public in module.__all__} - shown
        assert not missing


def test_links_between_pages_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
