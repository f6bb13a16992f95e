"""`python -m popnet.run EXPERIMENT.yaml [key=value ...]`: the same as `popnet run`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

if __name__ == "__main__":
    from popnet.cli import main

    main(["run", *sys.argv[1:]])
else:

    class _CallableModule(ModuleType):
        """Importing this module binds its name over the function `popnet.run`; calling it calls the function."""

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            from popnet.api import run

            return run(*arguments, **options)

    sys.modules[__name__].__class__ = _CallableModule
