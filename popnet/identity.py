"""What an object of a running program is, as a digest: of a function, of what it does.

A model, loss or optimiser that is handed over from Python has no import path to know it by, and code behind a name can
change. So a digest is taken of the program in memory, down to what decides the result:

* a function: its bytecode and constants, defaults, closure, attributes, and the global names that it reads, each the
  same way;
* a class: its bases and everything in it; a module of the user's: the attributes that the code names;
* anything of the standard library or of an installed package: its name, and the version of Python or the package;
* an array or a tensor: type, shape and bytes; any other object: what pickle would save of it.

So equal digests mean equal code on equal values, in any process and at any time, and a change of any of these, of a
constant or of a function three calls away too, is another digest. Comments and line numbers do not count, docstrings
do, and so does Python's minor version, whose bytecode is its own. Outside of it lies what code looks up only while it
runs: files, environment variables, attributes by computed names, and what compiled modules of one's own do.
"""

from __future__ import annotations

import builtins
import copyreg
import dis
import functools
import hashlib
import importlib
import importlib.metadata
import sys
import sysconfig
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from popnet.errors import ConfigError

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))

_BY_NAME = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
"""Compiled, so known by their names."""

_BOOKKEEPING = frozenset(
    f"__{name}__"
    for name in (
        *("module", "qualname", "doc", "dict", "weakref", "annotations", "annotate", "annotations_cache"),
        *("firstlineno", "static_attributes", "slotnames", "abstractmethods", "dataclass_fields", "dataclass_params"),
    )
) | {"_abc_impl"}
"""Entries of a class that decide nothing, or follow from the others."""

_READS = ("LOAD_GLOBAL", "LOAD_NAME")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM")


def identity(value: Any, name: str) -> str:
    """SHA-256, in hexadecimal, of what `value` is; `name` is what errors call it.

    Raises:
        ConfigError: it holds something that cannot be told apart from its like, such as an open file.
    """
    try:
        return _Digest().add(value, name).hexdigest()
    except RecursionError:
        raise ConfigError(f"{name}: is nested too deeply to be told apart from others") from None


class _Digest:
    """A running hash that objects are added to; what was added before is only referred to."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}  # the objects too, which keeps their numbers theirs

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def add(self, value: Any, path: str) -> _Digest:
        if isinstance(value, _PLAIN) and type(value) in _PLAIN:
            self._put(type(value).__name__, repr(value))
        elif type(value) is tuple:
            self._put("tuple", len(value))
            for item in value:
                self.add(item, path)
        elif type(value) in (set, frozenset):
            self._put(type(value).__name__, *sorted(identity(item, path) for item in value))
        elif isinstance(value, types.CodeType):
            self._code(value, path)
        elif isinstance(value, _BY_NAME):
            self._compiled(value, path)
        elif id(value) in self._seen:
            self._put("again", self._seen[id(value)][0])
        else:
            self._seen[id(value)] = (len(self._seen), value)
            self._object(value, path)
        return self

    def _put(self, *words: object) -> None:
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            self._hash.update(b"%d:" % len(data) + data)

    def _object(self, value: Any, path: str) -> None:
        if isinstance(value, types.ModuleType):
            self._module(value, (), path)
        elif isinstance(value, types.FunctionType):
            self._function(value, path)
        elif isinstance(value, type):
            self._class(value, path)
        elif isinstance(value, types.MethodType):
            self._put("method")
            self.add(value.__func__, path).add(value.__self__, path)
        elif isinstance(value, (staticmethod, classmethod)):
            self._put(type(value).__name__)
            self.add(value.__func__, path)
        elif isinstance(value, property):
            self._put("property")
            self.add((value.fget, value.fset, value.fdel), path)
        elif isinstance(value, functools.cached_property):
            self._put("cached_property")
            self.add(value.func, path)
        elif isinstance(value, torch.Tensor):
            self._tensor(value, path)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self._put("array", value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
        elif type(value) is list:
            self._put("list")
            self.add(tuple(value), path)
        elif type(value) is dict:
            self._put("dict", len(value))
            for key, item in value.items():
                self.add(key, path).add(item, f"{path}: {key}")
        else:
            self._reduced(value, path)

    def _function(self, function: types.FunctionType, path: str) -> None:
        release = _release(function.__module__)
        if release is not None:
            self._put("of", release, function.__module__, function.__qualname__)
            return
        self._put("function")
        self.add((function.__code__, function.__defaults__, function.__kwdefaults__), path)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            self._put("cell", name)
            try:
                content = cell.cell_contents
            except ValueError:  # nothing in it yet
                continue
            self.add(content, f"{path}: {name}")
        self._names(function, path)
        self.add(dict(function.__dict__), path)

    def _names(self, function: types.FunctionType, path: str) -> None:
        """What the function's global names mean, and the modules that it imports by itself."""
        instructions = list(_instructions(function.__code__))
        attributes = tuple(sorted({str(i.argval) for i in instructions if i.opname in _ATTRIBUTES}))
        for name in sorted({str(i.argval) for i in instructions if i.opname in _READS}):
            self._put("global", name)
            if name in function.__globals__:
                value = function.__globals__[name]
                if isinstance(value, types.ModuleType):
                    self._module(value, attributes, f"{path}: {name}")
                else:
                    self.add(value, f"{path}: {name}")
            elif hasattr(builtins, name):
                self._put("builtin")
        for name in sorted(_imports(instructions)):
            self._put("import", name)
            try:
                module = importlib.import_module(name, function.__globals__.get("__package__"))
            except Exception:  # it is not there, or a user's module raises: the function will tell, when it is called
                continue
            self._module(module, attributes, f"{path}: {name}")

    def _code(self, code: types.CodeType, path: str) -> None:
        self._put("code", f"{sys.version_info.major}.{sys.version_info.minor}", code.co_code, code.co_exceptiontable)
        self._put(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        self.add((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_consts), path)

    def _module(self, module: types.ModuleType, attributes: tuple[str, ...], path: str) -> None:
        """An installed module by its release; a user's by those of `attributes` that it has."""
        release = _release(module.__name__)
        if release is not None:
            self._put("module", module.__name__, release)
            return
        self._put("module", module.__name__)
        for name in attributes:
            found = vars(module).get(name, module)
            if isinstance(found, types.ModuleType) and found is not module:
                self._module(found, attributes, f"{path}.{name}")
            elif found is not module:
                self._put(name)
                self.add(found, f"{path}.{name}")

    def _class(self, cls: type, path: str) -> None:
        release = _release(cls.__module__)
        if release is not None:
            self._put("of", release, cls.__module__, cls.__qualname__)
            return
        self._put("class", cls.__name__)
        self.add((type(cls), cls.__bases__), path)
        for name, value in sorted(vars(cls).items()):
            if name not in _BOOKKEEPING:
                self._put(name)
                self.add(value, f"{path}: {cls.__name__}.{name}")

    def _compiled(self, value: Any, path: str) -> None:
        owner = getattr(value, "__self__", None)
        if isinstance(value, types.BuiltinFunctionType) and not isinstance(owner, (types.ModuleType, type(None), type)):
            self._put("bound", value.__name__)
            self.add(owner, path)
            return
        module = getattr(value, "__module__", None) or getattr(getattr(value, "__objclass__", None), "__module__", "")
        self._put("compiled", module, value.__qualname__, _release(module or "builtins"))

    def _tensor(self, value: torch.Tensor, path: str) -> None:
        kept = value.detach().to("cpu").contiguous()
        self._put("tensor", value.dtype, tuple(value.shape), value.requires_grad)
        self._put(kept.reshape(-1).view(torch.uint8).numpy().tobytes())
        self.add(type(value), path)

    def _reduced(self, value: Any, path: str) -> None:
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:  # an object's own method may raise anything
            raise ConfigError(
                f"{path}: is {type(value).__name__}, of which popnet cannot tell when it changes ({error}): make it "
                "inside the function, or pass plain values"
            ) from None
        self._put("object")
        self.add(type(value), path)
        if isinstance(reduced, str):  # a global name, as of torch.float32
            self._put(reduced)
            if _release(type(value).__module__) is None:
                raise ConfigError(f"{path}: is {type(value).__name__}, of which popnet cannot tell when it changes")
            if hasattr(value, "__wrapped__"):  # by functools.lru_cache
                self.add(value.__wrapped__, path)
            return
        for part in reduced:
            self.add(list(part) if isinstance(part, Iterator) else part, path)


def _instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    """Those of the code and of all code inside it."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)


def _imports(instructions: Sequence[dis.Instruction]) -> set[str]:
    """The modules that code imports, a dot for each level of a relative import (pushed two instructions before)."""
    return {
        "." * int(level.argval) + str(instruction.argval)
        for level, instruction in zip(instructions, instructions[2:])
        if instruction.opname == "IMPORT_NAME"
    }


@functools.lru_cache(maxsize=1024)
def _release(module_name: str | None) -> str | None:
    """The release of Python or of the installed package that a module is of; None for a module of the user's."""
    module = sys.modules.get(module_name or "")
    if module is None or module_name is None or module_name == "__main__":
        return None
    package = module_name.partition(".")[0]
    file = getattr(module, "__file__", None)
    specification = getattr(module, "__spec__", None)
    frozen = file is None and getattr(specification, "origin", None) in ("built-in", "frozen")
    if frozen or module_name == "builtins":
        return _python()
    if package == "popnet":
        return "popnet"  # whose own changes are the protocol's REVISION
    if file is None:
        return None
    installed = any(folder in file for folder in ("/site-packages/", "/dist-packages/"))
    if installed:
        return f"{package} {_version(package)}"
    standard = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    return _python() if file.startswith(tuple(f"{folder}/" for folder in standard)) else None


def _python() -> str:
    return f"Python {sys.version_info.major}.{sys.version_info.minor}"


def _version(package: str) -> str:
    version = getattr(sys.modules.get(package), "__version__", None)
    if version is not None:
        return str(version)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
