"""What every metric accepts, checked in one place: logits [members, examples, classes] and labels [examples]."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

Array = np.ndarray | torch.Tensor


def logits_array(logits: Any, name: str = "logits") -> np.ndarray:
    """The logits as a contiguous float32 array [members, examples, classes]; float16 and bfloat16 widen exactly.

    Raises ValueError, naming the argument, for another dtype, another number of axes, an empty axis, or values that
    are not finite (naming the first such member and example).
    """
    array = _numpy(logits, name)
    if array.ndim != 3:
        raise ValueError(f"{name} must be [members, examples, classes], but has shape {list(array.shape)}")
    if 0 in array.shape:
        raise ValueError(f"{name} must not be empty, but has shape {list(array.shape)}")
    array = np.ascontiguousarray(array, dtype=np.float32)
    check_finite(array, name)
    return array


def labels_array(labels: Any, examples: int, classes: int, name: str = "labels") -> np.ndarray:
    """The labels as int64 [examples], each in 0..classes-1; ValueError names the first that is not."""
    array = _numpy_any(labels, name)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers (int64 [examples]), but is {array.dtype}")
    if array.shape != (examples,):
        raise ValueError(f"{name} must be [examples] = [{examples}], but has shape {list(array.shape)}")
    array = np.ascontiguousarray(array, dtype=np.int64)
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if wrong.size:
        raise ValueError(f"{name} must lie in 0..{classes - 1}, but {name}[{wrong[0]}] is {array[wrong[0]]}")
    return array


def check_finite(array: np.ndarray, name: str = "logits", first_member: int = 0) -> None:
    """Raises ValueError, naming member and example, where `array` [members, examples, classes] is not finite."""
    finite = np.isfinite(array)
    if finite.all():
        return
    member, example, column = (int(i) for i in np.argwhere(~finite)[0])
    what = "NaN" if np.isnan(array[member, example, column]) else "infinite"
    raise ValueError(f"{name} of member {first_member + member}, example {example}, class {column} is {what}")


def at_least_two(members: int, metric: str) -> None:
    """Raises ValueError where a metric over pairs is asked of fewer than two members."""
    if members < 2:
        raise ValueError(
            f"{metric} is a mean over pairs and needs at least 2 members, but logits has {members}"
        )


def _numpy(array: Any, name: str) -> np.ndarray:
    if isinstance(array, torch.Tensor):
        if array.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"{name} must be float32, float16 or bfloat16, but is {array.dtype}")
        return array.detach().to("cpu", torch.float32).numpy()
    array = _numpy_any(array, name)
    if array.dtype not in (np.float32, np.float16):
        raise ValueError(
            f"{name} must be float32 or float16 (bfloat16 as a torch tensor), but is {array.dtype}"
        )
    return array


def _numpy_any(array: Any, name: str) -> np.ndarray:
    if isinstance(array, torch.Tensor):
        return array.detach().cpu().numpy()
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} must be a NumPy array or a torch tensor, but is {type(array).__name__}")
    return array
