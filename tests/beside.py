"""Members beside each other in the slots of one device, each on a thread of its own, as a cohort trains them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from popnet.protocol import ORIGINAL, Member
from popnet.store import digest
from popnet.training.slots import Slot

Bits = tuple[str, str, str]
"""Of a trained member: digests of its weights and predictions, and its history."""


def train_beside(slots: Sequence[Slot], members: Sequence[Member], sets: Any) -> list[Bits]:
    """Train each member in the slot of its place, all begun at the same moment.

    Args:
        sets: training images, test images, number of classes.
    """
    begin = threading.Barrier(len(members))

    def train(slot: Slot, m: Member) -> Bits:
        with slot.entered():
            try:
                made = slot.trainer(m, *sets, (ORIGINAL,))
            except BaseException:
                begin.abort()  # or the others would wait for this one
                raise
            begin.wait(300)
            made.run()
            return digest(made.weights()), digest(made.prediction_tensors()), str(made.history)

    with ThreadPoolExecutor(len(members)) as threads:
        return list(threads.map(train, slots, members))


def prepared_slots(rack: Any, m: Member, sets: Any, count: int) -> list[Slot]:
    """So many slots with graphs for members like `m`. Raises DeviceTooSmall where one computes other bits."""
    slots = [Slot(rack) for _ in range(count)]
    for slot in slots:
        with slot.entered():
            slot.prepare(m, *sets)
    return slots
