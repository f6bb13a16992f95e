"""Whether a user's model can be captured, tried in a process of its own.

A capture that fails leaves torch's generator and memory pool unusable, so the process that trains must not be the first
to try what runs code unknown to popnet.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import torch

from popnet import parts
from popnet.data.resident import ResidentImages
from popnet.errors import DeviceTooSmall, TrainingError
from popnet.protocol import Member
from popnet.training.capture import LatestOperation, first_line
from popnet.training.memory import is_full

_SECONDS = 300.0
_NO_ROOM = 3
"""The exit code that says nothing about the model."""


def capture_fails(member: Member, train: ResidentImages, classes: int) -> str | None:
    """Why the step of a member cannot be captured, or None; on the device of the data, with blank images.

    Raises:
        DeviceTooSmall: there is no memory to try it.
    """
    examples = member.recipe.batch_size + len(train) % member.recipe.batch_size
    shape = (min(examples, len(train)), *train.images.shape[1:])
    trial = (member, shape, train.mean, train.std, classes, str(train.images.device))
    content = (sys.path, parts.handed_on(), trial)
    command = [sys.executable, "-m", "popnet.training.probe"]
    try:
        ended = subprocess.run(command, input=pickle.dumps(content), capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"a trial of its capture did not end within {_SECONDS:.0f} s"
    if ended.returncode == 0:
        return None
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    if ended.returncode == _NO_ROOM:
        raise DeviceTooSmall(f"there is no memory to try a capture: {lines[-1]}")
    return f"its capture fails: {lines[-1] if lines else f'exit code {ended.returncode}'}"


def main() -> None:
    """Capture what standard input describes; an error ends the process with what it says and the operation before."""
    path, functions, trial = pickle.load(sys.stdin.buffer)
    sys.path.extend(folder for folder in path if folder not in sys.path)
    parts.receive(functions)
    with LatestOperation() as latest:
        try:
            _try(*trial)
        except TrainingError:
            return  # no failure of a capture: the member meets it too, and fails by its own name
        except Exception as error:  # a user's code may raise whatever it likes
            print(
                first_line(error) + ("" if latest.name is None else f", in {latest.name} or after it"), file=sys.stderr
            )
            sys.exit(_NO_ROOM if is_full(error) else 1)


def _try(member: Member, shape: tuple[int, ...], mean: Any, std: Any, classes: int, device: str) -> None:
    from popnet.training.rack import Rack
    from popnet.training.slots import Slot  # which itself starts this program

    labels = torch.zeros(shape[0], dtype=torch.int64)
    blank = ResidentImages(torch.zeros(shape, dtype=torch.uint8), labels, mean, std).to(torch.device(device))
    slot = Slot(Rack(torch.device(device)), probe=False)
    with slot.entered():
        slot.prepare(member, blank, blank, classes)
        slot.synchronize()


if __name__ == "__main__":
    main()
