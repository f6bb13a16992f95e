"""A newcomer's path: from the source to a wheel, into an empty environment, to a report of one's own model.

Nothing is typed that was not read before: each command is a line `next: ...` of an earlier step's output, or stands in
the README. Only sizes are added to commands, as overrides, so that the whole takes a few minutes.

The environment starts without popnet. Third-party packages, PyTorch above all, are not installed again: a .pth file
shows it the site-packages of the environment that runs this test. A folder named by a .pth file has its own .pth files
ignored, so an editable popnet there stays invisible.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_docs import blocks

ROOT = Path(__file__).parent.parent
IGNORED = shutil.ignore_patterns(
    *(".git", ".venv", "build", "dist", "runs", "*.so", "*.egg-info", "__pycache__", ".*_cache", "shared")
)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Newcomer:
    """Somebody at a shell in an empty folder, with one environment's programs on the path."""

    folder: Path
    programs: Path

    def types(self, line: str, *more: str) -> str:
        """Run a command line, with more words; returns all that it printed."""
        words = [*shlex.split(line), *more]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "POPNET"))}
        environment |= {"PATH": f"{self.programs}:/usr/bin:/bin", "COLUMNS": "80"}
        done = subprocess.run(
            [str(self.programs / words[0]), *words[1:]],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}"
        return done.stdout


def offered(output: str, beginning: str) -> str:
    """The command with this beginning that an output offers."""
    found = re.findall(r"^next: (.*)$", output, re.MULTILINE)
    matching = [command for command in found if command.startswith(beginning)]
    assert matching, f"{beginning!r} is not among {found} of\n{output}"
    return matching[0]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, which is built from a copy of the source; without CUDA, as on a machine without nvcc."""
    folder = tmp_path_factory.mktemp("source")
    source = Path(shutil.copytree(ROOT, folder / "popnet", ignore=IGNORED, symlinks=True))
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)],
        env={**os.environ, "CMAKE_ARGS": "-DPOPNET_CUDA=OFF"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert len(list((folder / "dist").glob("popnet-*.tar.gz"))) == 1
    (built,) = (folder / "dist").glob("popnet-*.whl")
    return built


@pytest.fixture(scope="module")
def newcomer(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    place = tmp_path_factory.mktemp("empty")
    venv.create(place / "environment", with_pip=True)
    (place / "work").mkdir()
    somebody = Newcomer(place / "work", place / "environment" / "bin")
    # popnet first: pip must not take the other environment's for it
    somebody.types(f"pip install --quiet --no-deps --no-index {wheel}")
    (site,) = (place / "environment").glob("lib/python*/site-packages")
    (site / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return somebody


def test_it_is_the_wheel_that_is_used(newcomer: Newcomer) -> None:
    told = newcomer.types("python -c", "import popnet, popnet.native as n; print(popnet.__file__, n.cuda_compiled)")
    file, cuda = told.split()
    assert Path(file).is_relative_to(newcomer.programs.parent)
    assert cuda == "False"


def test_the_whole_way(newcomer: Newcomer) -> None:
    first = re.search(r"First: (popnet \w+)", newcomer.types("popnet --help"))
    assert first is not None
    looked = newcomer.types(first.group(1))

    ran = newcomer.types(offered(looked, "popnet run quickstart"), "population=3", "recipe.epochs=6")
    assert "Random Bit Change" in ran
    assert "0.00±0.00" in ran
    newcomer.types(offered(ran, "popnet report"))
    assert (newcomer.folder / "runs/quickstart.html").read_text().count("<svg") > 0
    newcomer.types(offered(ran, "popnet compare"))

    written = newcomer.types(offered(looked, "popnet new"), "--epochs", "2", "--population", "4")
    assert "Twice as wide" in newcomer.types(offered(written, "popnet plan"))
    own = newcomer.types(offered(written, "popnet run"))
    assert "Twice as wide" in own
    compared = newcomer.types(offered(own, "popnet compare"))
    assert "runs/mine:Baseline" in compared
    assert "points of accuracy" in compared
    newcomer.types(offered(compared, "popnet power"))
    newcomer.types(offered(own, "popnet report"))
    assert "mine_parts:network" in (newcomer.folder / "runs/mine.html").read_text()


def test_own_parts_from_python_as_the_readme_shows_them(newcomer: Newcomer) -> None:
    own = next(block for block in blocks(ROOT / "README.md") if "model=" in block.text and block.language == "python")
    (newcomer.folder / "notebook.py").write_text(own.text)
    newcomer.types("python notebook.py")
    assert (newcomer.folder / "runs/notebook/ledger.sqlite").exists()
