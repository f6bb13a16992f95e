"""Every code block of the documentation and the README is run, page by page, in an empty folder.

```python blocks of a page share one interpreter, ```sh blocks one shell folder; a block with title="FILE" is written
there first, and a YAML block that is a whole experiment must load. ```sh no-run marks what takes minutes or installs.
```console blocks show output that was printed once; their commands' options are checked, not run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    options: str
    text: str

    @property
    def file(self) -> str | None:
        found = re.search(r'title="([^"]+)"', self.options)
        return found.group(1) if found else None


def blocks(page: Path) -> list[Block]:
    return [Block(*match) for match in BLOCK.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_runs(page: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    program = ["import subprocess", *(line for block in blocks(page) for line in program_of(block))]
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
        for line in block.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield f"subprocess.run({command(words)!r}, check=True)"
    elif block.language == "yaml" and "name" in (yaml.safe_load(block.text) or {}):
        yield "import popnet"
        yield f"open('checked.yaml', 'w').write({block.text!r})"
        yield "popnet.load('checked.yaml', allow_import=True)"


def command(words: list[str]) -> list[str]:
    if words[0] == "popnet":
        return [sys.executable, "-c", "from popnet.cli import main; main()", *words[1:]]
    assert words[0] == "python", words
    return [sys.executable, *words[1:]]


def test_links_between_pages_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
