"""How far a run is, as it says itself while it goes on: `progress.json` in its store.

The driver writes the file about once a second; whoever wants to know reads it, and never disturbs the run. Whether a
run goes on at all, the store's lock says: that goes with the process, however it ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pydantic

from popnet.untrusted.files import read_bytes
from popnet.untrusted.texts import parse_json

FILE = "progress.json"

FINISHED = "finished"
"""How a run ends that nothing stops; members may have failed."""


@dataclass(frozen=True)
class Running:
    """A member in training, of which `epoch` of `epochs` are over.

    `beginning`: what is trained is the beginning that several members share.
    """

    member: str
    epoch: int
    epochs: int
    beginning: bool = False


@dataclass(frozen=True)
class Progress:
    """One run, from what the store lacked when it began.

    Attributes:
        experiment: its name.
        device, versions: of the platform that trains, as in a member's identity.
        began, updated: seconds since 1970, by the driver's clock.
        members, epochs: to be trained in all, shared beginnings counted once.
        done, failed, trained: members finished, members that could not be trained, and epochs, so far.
        running: what is trained now.
        ended: how the run ended: FINISHED, or what stopped it; empty while it goes on, or where it was killed.
    """

    experiment: str
    device: str
    versions: Mapping[str, str]
    began: float
    updated: float
    members: int = 0
    epochs: int = 0
    done: int = 0
    failed: int = 0
    trained: int = 0
    running: tuple[Running, ...] = ()
    ended: str = ""

    @property
    def seconds(self) -> float:
        return self.updated - self.began

    @property
    def epochs_per_second(self) -> float | None:
        """None before the first epoch is over."""
        return self.trained / self.seconds if self.trained and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None before the first epoch is over."""
        rate = self.epochs_per_second
        return None if rate is None else max(self.epochs - self.trained, 0) / rate


def write(folder: Path, progress: Progress) -> None:
    """Put it into the store, whole at any moment.

    A disk that is full does not end the run here: its results have to be written too, and then it is said.
    """
    aside = folder / f".{FILE}.part"
    with suppress(OSError):
        aside.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        aside.replace(folder / FILE)


def read(folder: Path) -> Progress | None:
    """What the last run in this store said last; None where none has said anything.

    The file is not flushed to disk, so a loss of power may leave it empty: then nothing was said, and the next run says
    it anew.
    """
    try:
        return _SHAPE.validate_python(parse_json(read_bytes(folder / FILE, _MOST_BYTES)))
    except (OSError, ValueError):
        return None


_SHAPE = pydantic.TypeAdapter(Progress)
_MOST_BYTES = 1 << 24
