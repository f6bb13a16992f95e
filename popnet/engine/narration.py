"""What `popnet run --verbose` tells of a run: where it trains, and a line for each member that begins and ends.

A member's line has at most 80 characters. It goes by the first 8 characters of its id, enough to find it in the ledger,
and by the rows of the table that it stands in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from popnet.config import Recipe
from popnet.engine.jobs import Job
from popnet.engine.pictures import Shared, SharedPictures
from popnet.protocol import Plan
from popnet.store import Finished

_WIDTH = 80


def reading(recipe: Recipe, shared: Shared) -> str:
    """Where a recipe's training examples come from, once the loader is chosen."""
    mapped = shared.files[0] if isinstance(shared, SharedPictures) else None
    file = recipe.loader.path if recipe.loader.name == "ffcv" and recipe.loader.path is not None else mapped
    loader = "resident, in shared memory" if file is None else f"ffcv, from {file}"
    return f"data set {recipe.dataset.label}: loader {loader}"


class Narration:
    """The lines of one run. Members that share a beginning are trained after it, from a copy of its state."""

    def __init__(self, plan: Plan) -> None:
        self._device = plan.platform.device
        self._rows: dict[str, list[str]] = {}
        for population in plan.populations:
            for m in population.members:
                self._rows.setdefault(m.id, []).append(population.name)

    def places(self, count: int) -> str:
        """How many members are trained at the same time; a GPU says so after its first measurement."""
        return f"{count} at a time, on {self._device}"

    def begins(self, job: Job, epoch: int, sharing: int) -> str:
        """A training starts after `epoch` epochs; `sharing`: how many members wait for it where it is a beginning."""
        short = job.member.id[:8]
        resumed = epoch > job.forked_epoch
        if job.checkpoints:
            origin = ", from a checkpoint" if resumed else ""
            return f"beginning {short}: epochs {epoch + 1} to {job.last_epoch}, for {sharing} members{origin}"
        if resumed:
            return self._with_rows(f"member {short} goes on after epoch {epoch}, from a checkpoint", job)
        shared = f" after {epoch} shared epochs" if epoch > 0 else ""
        return self._with_rows(f"member {short} begins{shared}", job)

    def ends(self, job: Job, finished: Finished | None) -> str:
        """A training is over: of a member in how many seconds, with what result."""
        short = job.member.id[:8]
        if finished is None:
            return f"beginning {short} ends: members go on from it"
        if job.member.recipe.language is None:
            result = f"accuracy {finished.accuracy:.2f}%"
        else:
            result = f"perplexity {math.exp(finished.cross_entropy):.2f}"
        return self._with_rows(f"member {short} ends after {finished.seconds:.1f} s, {result}", job)

    def _with_rows(self, line: str, job: Job) -> str:
        return f"{line}: {_fitted(self._rows[job.member.id], _WIDTH - len(line) - 2)}"


def _fitted(names: Sequence[str], room: int) -> str:
    """All names where they fit, else the first, cut where it must be, and how many more there are."""
    if len(text := ", ".join(names)) <= room:
        return text
    more = f" + {len(names) - 1} more" if len(names) > 1 else ""
    name, room = names[0], room - len(more)
    return f"{name if len(name) <= room else name[: max(room - 1, 0)] + '…'}{more}"
