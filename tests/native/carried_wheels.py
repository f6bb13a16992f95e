"""Makes the wheels that were carried along in .whl/ importable, on a machine that can download nothing.

    python tests/native/carried_wheels.py      prints the folder that belongs on PYTHONPATH

A wheel is unpacked into that folder unless Python finds that very version already. `make gpu-wheels` fetches them.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WHEELS = ROOT / ".whl"
SITE = ROOT / "build" / f"wheels-{sys.implementation.cache_tag}"


def lacking(folder: Path) -> list[Path]:
    """The wheels in `folder` whose version of their package Python does not find."""
    return [wheel for wheel in sorted(folder.glob("*.whl")) if not _found(*wheel.name.split("-")[:2])]


def install(wheels: list[Path], site: Path) -> None:
    """Unpack them into `site`, what they need not included. Raises CalledProcessError where pip cannot."""
    if wheels:
        options = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade")
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), *map(str, wheels)]
        subprocess.run(command, check=True, stdout=sys.stderr)


def _found(name: str, version: str) -> bool:
    try:
        return importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    install(lacking(WHEELS), SITE)
    print(SITE)
