"""How many members a GPU trains at once: as many as its memory holds and its throughput rewards."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

import torch

from popnet.training.memory import is_full
from popnet.training.slots import Slot

_MOST = 16
_MEMORY = 0.8  # of what is free; the rest is left to workspaces, so that no library has to choose other kernels
_GAIN = 1.05
_STEPS = 40


def fitting(free: int, each: int) -> int:
    """How many more slots of `each` bytes fit into `free` bytes, a reserve left alone."""
    return int(_MEMORY * free) // max(each, 1)


def grown(limit: int, rate: Callable[[int], float]) -> int:
    """The number of slots to keep: doubled while that pays.

    Args:
        limit: no more than so many.
        rate: steps a second, over all, of so many slots; is called with 1, 2, 4, ... and last perhaps with `limit`.
    """
    kept, best = 1, rate(1)
    while kept < limit:
        more = min(2 * kept, limit)
        found = rate(more)
        if found < _GAIN * best:
            break
        kept, best = more, found
    return kept


def choose(first: Slot, open_slot: Callable[[], Slot]) -> list[Slot]:
    """The slots to train in, prepared like `first`; what was tried beyond is cleared.

    Args:
        first: a prepared slot with graphs, alone on the device.
        open_slot: makes one more, prepared. May find the device full, which ends the growth.
    """
    slots = [first]
    device = torch.cuda.current_device()
    each = torch.cuda.memory_reserved(device)  # the data set counts too: an estimate on the safe side
    limit = min(_MOST, 1 + fitting(torch.cuda.mem_get_info(device)[0], each))

    def rate(count: int) -> float:
        try:
            while len(slots) < count:
                slots.append(open_slot())
        except Exception as error:
            if not is_full(error):
                for slot in slots[1:]:
                    slot.close()
                raise
            traceback.clear_frames(error.__traceback__)  # which hold what fills the memory
            return 0.0
        for slot in slots[:count]:
            _enqueue(slot, 4)
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        for _ in range(_STEPS):
            for slot in slots[:count]:
                _enqueue(slot, 1)
        torch.cuda.synchronize(device)
        return count * _STEPS / (time.perf_counter() - began)

    kept = grown(limit, rate)
    for slot in slots[kept:]:
        slot.close()
    torch.cuda.empty_cache()  # of what a slot that did not fit has left
    return slots[:kept]


def _enqueue(slot: Slot, steps: int) -> None:
    with slot.entered():
        slot.measure(steps)
