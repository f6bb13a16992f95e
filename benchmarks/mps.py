"""CUDA's Multi-Process Service: processes that share a GPU run on it at the same time instead of in turn."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "nvidia-cuda-mps-control"
_SECONDS = 20.0


@contextmanager
def mps() -> Iterator[tuple[dict[str, str], str | None]]:
    """The service of this block alone, in a folder of its own; no setting of the card is changed.

    Gives the variables for the processes that are to use it and None, or no variables and why there is no service.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        yield {}, f"there is no {PROGRAM} on PATH"
        return
    with tempfile.TemporaryDirectory(prefix="mps-", ignore_cleanup_errors=True) as folder:
        pipes, logs = Path(folder, "pipes"), Path(folder, "logs")
        pipes.mkdir()
        logs.mkdir()
        variables = {"CUDA_MPS_PIPE_DIRECTORY": str(pipes), "CUDA_MPS_LOG_DIRECTORY": str(logs)}
        obstacle = _control(program, ["-d"], "", variables, logs)
        if obstacle is not None:
            yield {}, obstacle
            return
        try:
            yield variables, None
        finally:
            _control(program, [], "quit -t 2\n", variables, logs)


def _control(program: str, arguments: list[str], told: str, variables: dict[str, str], logs: Path) -> str | None:
    """Run the control program; what went wrong, or None."""
    output = logs / "control"  # a file: the service would hold a pipe open
    with output.open("w") as file:
        try:
            code = subprocess.run(
                [program, *arguments],
                input=told,
                stdout=file,
                stderr=file,
                text=True,
                env={**os.environ, **variables},
                timeout=_SECONDS,
            ).returncode
        except (subprocess.TimeoutExpired, OSError) as error:
            return f"{PROGRAM}: {error}"
    lines = output.read_text(errors="replace").strip().splitlines()
    return None if code == 0 else f"{PROGRAM}: {lines[-1] if lines else f'exit code {code}'}"
