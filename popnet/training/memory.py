"""How a device says that its memory is full, or that it is lost."""

from __future__ import annotations

import torch

from popnet import native
from popnet.errors import CaptureFailed, DeviceTooSmall

_FULL = (
    "out of memory",
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "DEVICE_ALLOCATION_FAILED"),
    *("CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_NOT_INITIALIZED"),
    *("was unable to find an engine to execute this computation", "nable to find a valid cuDNN algorithm"),
)
"""What PyTorch's allocator, the CUDA runtime, cuBLAS and cuDNN say, where they raise no class of their own. A library
whose first memory was refused is not initialised; cuDNN passes over every engine for whose workspace there is no room,
and finds none in the end. Either can have another reason, which one member alone on the device meets as well."""

_LOST = ("CUDA error: ", "CUDA driver error: ", "cuDNN error: ")
"""How PyTorch begins to say that a call of CUDA, cuBLAS or cuDNN failed, where it raises no class of its own."""


def is_full(error: BaseException) -> bool:
    """Whether one member fewer on the device can help."""
    if isinstance(error, (DeviceTooSmall, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _FULL)


def is_lost(error: BaseException) -> bool:
    """Whether nothing more may be computed in this process: CUDA repeats most such errors at every call that follows.

    Some it does not repeat, such as that of a launch with wrong arguments; a new process is right after these too.
    """
    if isinstance(error, CaptureFailed):
        return True
    of_cuda = isinstance(error, (torch.AcceleratorError, native.CudaError))
    of_cuda = of_cuda or (isinstance(error, RuntimeError) and str(error).startswith(_LOST))
    return of_cuda and not is_full(error)
