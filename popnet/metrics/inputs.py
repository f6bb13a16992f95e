"""What every metric accepts, checked in one place: logits [members, examples, classes] and labels [examples]."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popnet import native

Array = np.ndarray | torch.Tensor

LOGIT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def logits_tensor(logits: Any, name: str = "logits") -> Tensor:
    """The logits as a tensor [members, examples, classes] of their own dtype, where they are, without a copy.

    Raises ValueError, naming the argument, for another type or dtype, another number of axes, or an empty axis.
    """
    if not isinstance(logits, (Tensor, np.ndarray)):
        raise ValueError(f"{name} must be a NumPy array or a torch tensor, but is {type(logits).__name__}")
    tensor = logits.detach() if isinstance(logits, Tensor) else tensor_of(logits, name)
    if tensor.dtype not in LOGIT_DTYPES:
        raise ValueError(f"{name} must be float32, float16 or bfloat16, but is {dtype_name(tensor.dtype)}")
    if tensor.dim() != 3:
        raise ValueError(f"{name} must be [members, examples, classes], but has shape {list(tensor.shape)}")
    if 0 in tensor.shape:
        raise ValueError(f"{name} must not be empty, but has shape {list(tensor.shape)}")
    return tensor


def labels_array(labels: Any, examples: int, classes: int, name: str = "labels") -> np.ndarray:
    """The labels as int64 [examples], each in 0..classes-1; ValueError names the first that is not."""
    if not isinstance(labels, (Tensor, np.ndarray)):
        raise ValueError(f"{name} must be a NumPy array or a torch tensor, but is {type(labels).__name__}")
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else labels
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers (int64 [examples]), but is {array.dtype}")
    if array.shape != (examples,):
        raise ValueError(f"{name} must be [examples] = [{examples}], but has shape {list(array.shape)}")
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if wrong.size:
        raise ValueError(f"{name} must lie in 0..{classes - 1}, but {name}[{wrong[0]}] is {array[wrong[0]]}")
    return np.ascontiguousarray(array, dtype=np.int64)


def check_finite(
    block: Tensor, name: str = "logits", *, first_member: int = 0, first_example: int = 0, threads: int = 1
) -> None:
    """Raises ValueError, naming member and example, where a contiguous float32 block is not finite."""
    index = native.first_nonfinite(block, threads=threads)
    if index < 0:
        return
    member, example, column = (int(i) for i in np.unravel_index(index, tuple(block.shape)))
    what = "NaN" if bool(torch.isnan(block[member, example, column])) else "infinite"
    raise ValueError(
        f"{name} of member {first_member + member}, example {first_example + example}, class {column} is {what}"
    )


def at_least_two(members: int, metric: str) -> None:
    """Raises ValueError where a metric over pairs is asked of fewer than two members."""
    if members < 2:
        raise ValueError(f"{metric} is a mean over pairs and needs at least 2 members, but logits has {members}")


def thread_count(threads: int | None) -> int:
    """The given number of CPU threads, or one for each core this process may use; never changes a result."""
    if threads is not None:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tensor_of(array: np.ndarray, name: str) -> Tensor:
    """The array's memory as a tensor, which nobody writes to."""
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be float32, float16 or bfloat16, but is {array.dtype}")
    native_order = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(native_order))


def dtype_name(dtype: torch.dtype) -> str:
    """float64 for torch.float64."""
    return str(dtype).removeprefix("torch.")
