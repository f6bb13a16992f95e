"""The JSON file that a benchmark enters its rows in: the results of one machine, whole at every moment."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

SAME = ("device", "torch", "cuda", "cudnn")
"""Facts of the machine that must not differ within a file. A driver may: it is noted only."""


def machine(device: torch.device) -> dict[str, Any]:
    """What the results depend on: the card or the processor, and the versions of what computes there."""
    if device.type == "cpu":
        return {"device": cpu_model(), "cores": os.cpu_count(), "torch": torch.__version__}
    return {
        "device": torch.cuda.get_device_name(device),
        "driver": _driver(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def cpu_model() -> str:
    """The processor's name."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _driver() -> str | None:
    path = Path("/proc/driver/nvidia/version")
    found = re.search(r"\b\d+\.\d+(\.\d+)*\b", path.read_text()) if path.exists() else None
    return found and found[0]


class ResultsFile:
    """The sections of one file, one a benchmark.

    Args:
        path: is made at the first `write`; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._sections: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            try:
                self._sections = json.loads(path.read_text())
            except json.JSONDecodeError as error:
                raise SystemExit(f"{path} is no JSON file ({error}): move it away, or name another one") from None

    def section(self, name: str, facts: dict[str, Any]) -> dict[str, Any]:
        """A benchmark's section with the rows so far under `rows`, to be filled.

        Args:
            facts: of the machine, and `sizes`, what the benchmark measures.

        Raises:
            SystemExit: the file holds results of another machine, or this benchmark's in other sizes.
        """
        for known in self._sections.values():
            for fact in SAME:
                if known.get(fact) != facts.get(fact):
                    self._refuse(fact, known.get(fact), facts.get(fact))
        made = self._sections.setdefault(name, {**facts, "rows": {}})
        if made.get("sizes") != facts.get("sizes"):
            self._refuse("sizes", made.get("sizes"), facts.get("sizes"))
        return made

    def write(self) -> None:
        """Bring the file up to date: written aside, then renamed."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_name(self._path.name + ".part")
        aside.write_text(json.dumps(self._sections, indent=2) + "\n")
        aside.replace(self._path)

    def _refuse(self, fact: str, theirs: Any, ours: Any) -> None:
        raise SystemExit(
            f"{self._path} holds results of {fact} {theirs}, and here it is {ours}: name another file with --json"
        )
