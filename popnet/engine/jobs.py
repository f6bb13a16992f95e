"""What the engine hands to an executor, and what it hears back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from popnet.protocol import Member, View
from popnet.store import Finished


@dataclass(frozen=True)
class Job:
    """Train one member to its end, or, where `checkpoints` are given, only its beginning, saving one at each epoch.

    `dataset` is the key of its data set; `fork` a checkpoint to start from.
    """

    member: Member
    views: tuple[View, ...]
    dataset: str
    store: Path
    fork: Path | None = None
    checkpoints: tuple[tuple[int, Path], ...] = ()

    @property
    def last_epoch(self) -> int:
        return self.checkpoints[-1][0] if self.checkpoints else self.member.recipe.epochs


@dataclass(frozen=True)
class Progressed:
    """An epoch is over."""

    epoch: int


@dataclass(frozen=True)
class Checkpointed:
    """The shared beginning has reached this epoch, and its file is in place."""

    epoch: int


@dataclass(frozen=True)
class Done:
    """The job is over; for a member with what was made, for a beginning with None."""

    finished: Finished | None


@dataclass(frozen=True)
class Failed:
    """The job raised an error. `fatal`: no other job can succeed either (the disk is full)."""

    error: str
    details: str
    seconds: float
    fatal: bool = False


@dataclass(frozen=True)
class Died:
    """The worker ended without a word: killed, or out of memory."""

    reason: str


Event = Progressed | Checkpointed | Done | Failed | Died
