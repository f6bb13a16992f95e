"""What the engine hands to an executor, and what it hears back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from popnet.protocol import Member, Platform, View
from popnet.store import Finished


@dataclass(frozen=True)
class Job:
    """Train one member to its end, or, where `checkpoints` are given, only its beginning, saving one at each epoch.

    Attributes:
        dataset: the key of its data set.
        outputs: the files to write, by what they hold: predictions, and what else the recipe keeps.
        fork: a checkpoint of the member's beginning to start from.
        partial: where the job saves how far it is every `checkpoint_seconds` (at the end of an epoch), and from where
            it goes on; None where the optimiser's state cannot be saved.
    """

    member: Member
    views: tuple[View, ...]
    dataset: str
    outputs: tuple[tuple[str, Path], ...]
    fork: Path | None = None
    checkpoints: tuple[tuple[int, Path], ...] = ()
    partial: Path | None = None
    checkpoint_seconds: float = float("inf")

    @property
    def last_epoch(self) -> int:
        return self.checkpoints[-1][0] if self.checkpoints else self.member.recipe.epochs

    @property
    def forked_epoch(self) -> int:
        """The epoch of the checkpoint that it starts from."""
        return 0 if self.fork is None else int(self.fork.stem.rpartition("-")[2])


@dataclass(frozen=True)
class Ready:
    """A worker's first words: how many members it takes at once, and what kind of device it is, on which machine.

    It says so again when the number changes.
    """

    room: int
    platform: Platform
    machine: str


@dataclass(frozen=True)
class Stepped:
    """Training steps (or batches of an evaluation) were done since the last word: the worker does not hang."""


@dataclass(frozen=True)
class Fingerprinted:
    """The job's graphs are captured. `fingerprint`: what they compute (docs/store.md); `place`: on which device."""

    fingerprint: str
    place: str


@dataclass(frozen=True)
class Progressed:
    """An epoch is over."""

    epoch: int


@dataclass(frozen=True)
class Checkpointed:
    """The shared beginning has reached this epoch, and its file is in place."""

    epoch: int


@dataclass(frozen=True)
class Noted:
    """Something that a person should read."""

    text: str


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
    """The worker ended without a word: killed, out of memory, or hanging. `counts`: the member may be to blame."""

    reason: str
    counts: bool = True


@dataclass(frozen=True)
class Lost:
    """A worker's last words, with the number of the job that noticed the error: its process computes nothing more.

    That job need not have caused it: errors of CUDA belong to the process, and the first call to end reports them.
    """

    error: str


Event = Stepped | Fingerprinted | Progressed | Checkpointed | Noted | Done | Failed | Died
ENDS = (Done, Failed, Died)
"""The events after which a job runs no more."""
