"""How a device says that its memory is full, or that it is lost."""

from __future__ import annotations

import torch

from popnet.errors import CaptureFailed, DeviceTooSmall

_FULL = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "DEVICE_ALLOCATION_FAILED")
"""What PyTorch's allocator, the CUDA runtime, cuBLAS and cuDNN say, where they raise no class of their own."""


def is_full(error: BaseException) -> bool:
    """Whether one member fewer on the device can help."""
    if isinstance(error, (DeviceTooSmall, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _FULL)


def is_lost(error: BaseException) -> bool:
    """Whether nothing more can be computed in this process: CUDA repeats such an error at every call that follows."""
    return isinstance(error, CaptureFailed) or (isinstance(error, torch.AcceleratorError) and not is_full(error))
