"""How the host waits for a device: asleep, since it has one thread for each slot, and other work for its cores.

PyTorch's own waiting, as in `stream.synchronize()` and before each copy to the host, keeps a core busy.
"""

from __future__ import annotations

import torch
from torch import Tensor


def wait_for(stream: torch.cuda.Stream) -> None:
    """Wait until everything is done that is on the stream by now."""
    event = torch.cuda.Event(blocking=True)
    event.record(stream)
    event.synchronize()


def on_host(tensor: Tensor) -> Tensor:
    """The tensor in the CPU's memory, once what the current stream of its device makes of it is there."""
    if tensor.device.type == "cuda":
        wait_for(torch.cuda.current_stream(tensor.device))
    return tensor.cpu()
