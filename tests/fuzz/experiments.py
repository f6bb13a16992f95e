"""Experiment files: YAML, inheritance, overrides, the schema."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from popnet import config

from .loaders import Loader

_SHIPPED = Path(__file__).parent.parent.parent / "experiments"
_OVERRIDES = ((), (), ("population=4",), ("recipe.epochs=${recipe.batch_size}", "variants.0.name=x"))

_IMPORTS = b"""name: own
recipe:
  dataset: {import: "fuzz_trap:images"}
  model: {import: "fuzz_trap:network", kwargs: {width: 16}}
  loss: {import: "fuzz_trap:smoothed"}
  epochs: 3
  batch_size: 50
  optimizer: {import: "fuzz_trap:rmsprop", lr: 0.01, kwargs: {alpha: 0.9}}
population: 4
variants:
  - {name: Initialization, vary: [init]}
  - {name: Narrow, vary: [init], recipe: {model: {kwargs: {width: 8}}}}
"""

_ALIASES = b"""name: aliases
recipe: &recipe
  dataset: digits
  model: linear
  epochs: 4
  batch_size: 16
  optimizer: &sgd {name: sgd, lr: 0.1}
population: 4
variants:
  - {name: A, vary: [init], recipe: {optimizer: *sgd}}
  - {name: B, cross: {init: 3, shuffle: [1, 2]}, recipe: {optimizer: {<<: *sgd, lr: 0.2}}}
"""


def _nest(draw: random.Random, content: bytearray) -> None:
    """Something in brackets, many times."""
    opening, closing = draw.choice(((b"[", b"]"), (b"{a: ", b"}"), (b"- ", b"")))
    place, times = draw.randrange(len(content)), draw.choice((3, 30, 300, 3000))
    content[place:place] = opening * times + b"x" + closing * times


def _laugh(draw: random.Random, content: bytearray) -> None:
    """Aliases of aliases."""
    levels, width = draw.randrange(2, 40), draw.randrange(2, 10)
    merge = draw.random() < 0.3
    lines = [b"l0: &l0 {a: b}" if merge else b"l0: &l0 [a, b]"]
    for level in range(1, levels):
        names = ", ".join([f"*l{level - 1}"] * width)
        lines.append(
            f"l{level}: &l{level} {{<<: [{names}]}}".encode() if merge else f"l{level}: &l{level} [{names}]".encode()
        )
    content[:0] = b"\n".join(lines) + b"\n"


def _recurse(draw: random.Random, content: bytearray) -> None:
    place = content.find(b"\n", draw.randrange(len(content))) + 1
    content[place:place] = draw.choice((b"x: &x [*x]\n", b"x: &x {<<: *x}\n", b"x: &x {a: *x}\n", b"? &x [*x]\n: 1\n"))


def _tag(draw: random.Random, content: bytearray) -> None:
    kinds = (
        "python/object/apply:os.system",
        "int",
        "float",
        "bool",
        "binary",
        "set",
        "omap",
        "pairs",
        "timestamp",
        "merge",
    )
    place = content.find(b": ", draw.randrange(len(content))) + 2
    content[place:place] = f"!!{draw.choice(kinds)} ".encode()


def _value(draw: random.Random, content: bytearray) -> None:
    """A value by one of another kind."""
    place = content.find(b": ", draw.randrange(len(content))) + 2
    end = content.find(b"\n", place)
    values = (
        b"[]",
        b"{}",
        b"~",
        b"1:1:1:1",
        b"0x" + b"f" * 5000,
        b"9" * 5000,
        b".inf",
        b"2001-02-30",
        b"=",
        b"<<",
        b"!",
        b"| ",
    )
    content[place : end if end > 0 else None] = draw.choice(values)


def _base(draw: random.Random, content: bytearray) -> None:
    bases = (
        "input.yaml",
        "resnet14",
        "../input.yaml",
        "/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "[]",
        "x" * 5000,
        ".",
        "a\\0",
    )
    content[:0] = f"base: {draw.choice(bases)}\n".encode()


def _line(draw: random.Random, content: bytearray) -> None:
    """A line of the file in another place, or with another indentation."""
    lines = content.split(b"\n")
    line = bytes(draw.choice((b"", b" ", b"  ", b"\t"))) + bytes(draw.choice(lines))
    lines.insert(draw.randrange(len(lines) + 1), line)
    content[:] = b"\n".join(lines)


class Experiments(Loader):
    changes = (_nest, _laugh, _recurse, _tag, _value, _base, _line)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shipped = ("quickstart", "resnet14_onset", "bible_qrnn", "imagenet_resnet18", "is_it_real")
        self.samples = (_ALIASES, _IMPORTS, *((_SHIPPED / f"{name}.yaml").read_bytes() for name in shipped))

    def load(self, content: bytes, number: int) -> None:
        file = self.folder / "input.yaml"
        file.write_bytes(content)
        overrides = _OVERRIDES[number % len(_OVERRIDES)]
        experiment = config.load(file, overrides, allow_import=True)
        assert experiment == config.from_mapping(experiment.model_dump(mode="json", by_alias=True)), (
            "does not come back"
        )
        assert len(experiment.recipe.digest) == 64
        assert "fuzz_trap" not in sys.modules
