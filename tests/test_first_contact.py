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

WITHOUT_NVCC = os.pathsep.join(
    folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "nvcc").exists()
)
NVCC = shutil.which("nvcc")

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
            timeout=900,
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
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the source, as an archive of it would be: without git, and nothing built before."""
    folder = tmp_path_factory.mktemp("source")
    source = Path(shutil.copytree(ROOT, folder / "popnet", ignore=IGNORED, symlinks=True))
    builds("-m", "build", "--no-isolation", "--sdist", "--outdir", str(folder), str(source))
    (built,) = folder.glob("popnet-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def newcomer(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    """On a machine without nvcc."""
    return welcomed(wheel_of(sdist, tmp_path_factory.mktemp("wheel"), WITHOUT_NVCC), tmp_path_factory.mktemp("empty"))


def wheel_of(sdist: Path, folder: Path, path: str, options: str = "") -> Path:
    """The wheel that pip builds of an sdist where the programs of `path` are."""
    arguments = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(sdist)]
    builds("-m", "pip", "wheel", "--quiet", *arguments, PATH=path, CMAKE_ARGS=options)
    (built,) = folder.glob("popnet-*.whl")
    return built


def builds(*words: str, **settings: str) -> None:
    done = subprocess.run(
        [sys.executable, *words],
        env={k: v for k, v in os.environ.items() if not k.startswith(("CUDA", "CMAKE", "PYTHONPATH"))} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]


def welcomed(wheel: Path, place: Path) -> Newcomer:
    venv.create(place / "environment", with_pip=True)
    (place / "work").mkdir()
    somebody = Newcomer(place / "work", place / "environment" / "bin")
    # popnet first: pip must not take the other environment's for it
    somebody.types(f"pip install --quiet --no-deps --no-index {wheel}")
    (site,) = (place / "environment").glob("lib/python*/site-packages")
    (site / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return somebody


def used(somebody: Newcomer) -> tuple[Path, bool]:
    """Which popnet the newcomer's Python imports, and whether that has CUDA kernels."""
    told = somebody.types("python -c", "import popnet, popnet.native as n; print(popnet.__file__, n.cuda_compiled)")
    file, cuda = told.split()
    return Path(file), cuda == "True"


def test_without_nvcc_the_wheel_has_no_cuda_kernels_and_works(newcomer: Newcomer) -> None:
    file, cuda = used(newcomer)
    assert file.is_relative_to(newcomer.programs.parent)
    assert not cuda
    assert "built without CUDA kernels" in newcomer.types("popnet doctor --no-train")


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_with_nvcc_it_has_them_and_works_without_a_gpu_too(
    sdist: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert NVCC is not None
    path = f"{Path(NVCC).parent}:{WITHOUT_NVCC}"
    wheel = wheel_of(sdist, tmp_path_factory.mktemp("wheel"), path, "-DPOPNET_CUDA_ARCHITECTURES=90")
    somebody = welcomed(wheel, tmp_path_factory.mktemp("empty"))
    file, cuda = used(somebody)
    assert file.is_relative_to(somebody.programs.parent)
    assert cuda
    told = somebody.types("popnet doctor")
    assert "built with CUDA kernels" in told
    assert re.search("^(ok|unknown) +same bits", told, re.MULTILINE)


def test_the_whole_way(newcomer: Newcomer) -> None:
    first = re.search(r"First: (popnet \w+)", newcomer.types("popnet --help"))
    assert first is not None
    looked = newcomer.types(first.group(1))

    ran = newcomer.types(offered(looked, "popnet run quickstart"), "population=3", "recipe.epochs=6")
    assert "Random Bit Change" in ran
    assert "0.00±0.00" in ran
    newcomer.types(offered(ran, "popnet report"))
    assert (newcomer.folder / "runs/quickstart.html").read_text().count("<svg") > 0
    newcomer.types(offered(ran, "popnet power"))

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
