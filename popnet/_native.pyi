# The compiled kernels, documented and type-checked where they are called: popnet/native.py.
from typing import Any

def __getattr__(name: str) -> Any: ...
