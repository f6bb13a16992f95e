"""A program's own model, loss, optimiser and arrays: known by what they do, the same bits wherever they are trained."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_engine import Counter
from torch import nn
from user_parts import arrays, random_net, smoothed_loss

import popnet
from popnet import parts
from popnet.errors import ConfigError
from popnet.identity import identity

ROOT = Path(__file__).parent.parent

PROGRAM = """\
import torch
from torch import nn

WIDTH = 8

class Net(nn.Module):
    activations = {"relu", "tanh"}

    def __init__(self, inputs, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes))

    def forward(self, images):
        return scaled(self.layers(images))

def scaled(logits):
    return 0.5 * logits

def build(input_shape, classes, seeds=(1, 2)):
    channels, height, width = input_shape
    return Net(channels * height * width, classes)
"""


def defined(source: str) -> Callable[..., Any]:
    """The function `build` of a program."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "<cell>", "exec"), scope)
    return scope["build"]


def test_equal_programs_are_equal() -> None:
    commented = PROGRAM.replace("def scaled", "# a comment\n\n\ndef scaled")
    assert identity(defined(PROGRAM), "build") == identity(defined(commented), "build")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("WIDTH = 8", "WIDTH = 9"),
        ("0.5 * logits", "0.25 * logits"),
        ("0.5 * logits", "0.5 + logits"),
        ("nn.ReLU", "nn.Tanh"),
        ("(1, 2)", "(1, 3)"),
        ('"tanh"', '"gelu"'),
        ("return Net(", "return NetAgain("),
    ],
)
def test_whatever_changes_is_another(before: str, after: str) -> None:
    changed = PROGRAM.replace(before, after) + "\nclass NetAgain(Net):\n    pass\n"
    assert identity(defined(changed), "build") != identity(defined(PROGRAM), "build")


def test_what_a_function_closes_over_counts() -> None:
    def scaled_by(factor: Any) -> Callable[[Any], Any]:
        return lambda x: x * factor

    values = [1, 2, 1.0, True, torch.ones(2), torch.zeros(2), torch.ones(2, 1), np.ones(2), nn.Linear, nn.Conv2d]
    values += [[1], [2], {"a": 1}, {"a": 2}, np.float32, torch.float32, torch.float64, torch.relu, functools.partial]
    values += [functools.partial(smoothed_loss, labels=1), functools.partial(smoothed_loss, labels=2)]
    found = [identity(scaled_by(value), "scaled") for value in values]
    assert len(set(found)) == len(values)
    assert found == [identity(scaled_by(value), "scaled") for value in values]


def test_a_module_that_holds_itself_and_instances_have_an_identity() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 2))
    before = identity(net, "net")
    assert identity(net, "net") == before
    net[0].weight.data[0, 0] += 1
    assert identity(net, "net") != before

    def recursive(n: int) -> int:
        return n and recursive(n - 1)

    assert identity(recursive, "recursive") == identity(recursive, "recursive")


def test_what_cannot_be_told_apart_is_an_error_that_says_where() -> None:
    lock = threading.Lock()

    def build(input_shape: Any) -> Any:
        return lock

    with pytest.raises(ConfigError, match=r"build: lock: is lock, of which popnet cannot tell"):
        identity(build, "build")


SCRIPT = """\
import json, sys
import numpy as np
import popnet
{program}

def loss(logits, labels):
    return nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)

random = np.random.default_rng(0)
x, y = random.integers(0, 256, (60, 6, 6), dtype=np.uint8), np.arange(60) % 3
result = popnet.run(
    recipe={{"epochs": 2, "batch_size": 16, "optimizer": {{"lr": 0.01}}}},
    model=build, loss=loss, optimizer=lambda groups, lr: torch.optim.RMSprop(groups, lr=lr),
    dataset=(x[:40], y[:40], x[40:], y[40:]),
    store=sys.argv[1], workers=int(sys.argv[2]), population=2,
)
members = result.store.members()
print(json.dumps(dict(zip(members.index, members["weights_digest"]))))
"""


def run_script(folder: Path, store: Path, workers: int, hash_seed: int, program: str = PROGRAM) -> dict[str, str]:
    """The weights' digests of the members in the store after a program of one's own was run."""
    file = folder / "mine.py"
    file.write_text(SCRIPT.format(program=program))
    done = subprocess.run(
        [sys.executable, str(file), str(store), str(workers)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_script_trains_its_own_parts_to_the_same_bits_in_any_process(tmp_path: Path) -> None:
    first = run_script(tmp_path, tmp_path / "one", 1, hash_seed=1)
    second = run_script(tmp_path, tmp_path / "two", 2, hash_seed=2, program="# moved down\n" + PROGRAM)
    assert len(first) == 2
    assert None not in first.values()
    assert first == second


RECIPE: dict[str, Any] = {"epochs": 1, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.1}}


def test_equal_parts_are_found_in_the_store_again(tmp_path: Path) -> None:
    counts = []
    for population in (2, 2, 3):
        counter = Counter()
        own = {"model": random_net, "dataset": arrays(), "population": population}
        result = popnet.run(recipe=RECIPE, store=tmp_path / "store", workers=1, reporter=counter, **own)
        counts.append(counter.trained)
    assert counts == [2, 0, 1]
    assert result.table().loc["All Nondeterminism Sources", "members"] == 3
    text = (tmp_path / "store" / "store.json").read_text()
    assert "<program>:random_net@" in text
    assert "<program>:arrays@" in text


def test_own_parts_are_the_same_bits_as_imported_ones(tmp_path: Path) -> None:
    def digests(name: str, **own: Any) -> list[str]:
        result = popnet.run(recipe=RECIPE, store=tmp_path / name, workers=2, population=2, **own)
        return sorted(result.store.members()["weights_digest"])

    handed = digests("handed", model=random_net, dataset=arrays(), loss=smoothed_loss)
    named = {"model": {"import": "user_parts:random_net"}, "dataset": {"import": "user_parts:arrays"}}
    assert handed == digests("named", **named, loss={"import": "user_parts:smoothed_loss"})


def test_a_module_changed_after_its_import_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stale_nets.py"
    file.write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    import stale_nets  # type: ignore[import-not-found]

    file.write_text(PROGRAM.replace("WIDTH = 8", "WIDTH = 100"))
    own = {"model": stale_nets.build, "dataset": arrays(), "population": 2}
    result = popnet.run(recipe=RECIPE, store=tmp_path / "store", workers=1, **own)
    assert result.table()["failed"].sum() == 2
    assert result.store.members()["error"].str.contains("changed after it was imported").all()


def test_what_was_handed_over_is_gone_afterwards(tmp_path: Path) -> None:
    own = {"model": random_net, "dataset": arrays(), "population": 2}
    result = popnet.run(recipe=RECIPE, store=tmp_path / "store", workers=1, **own)
    with pytest.raises(ConfigError, match="was handed over by a Python program"):
        popnet.run(result.plan.experiment, tmp_path / "other")
    assert popnet.run(recipe=RECIPE, store=tmp_path / "store", **own).table().equals(result.table())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "quickstart"}, "not both"),
        ({"recipe": None}, "give an experiment"),
        ({"model": 3}, "model is int: a function or a class"),
        ({"dataset": (1, 2, 3)}, r"dataset is tuple: \(x_train"),
        ({"recipe": {**RECIPE, "model": "linear"}}, "model is given twice"),
        ({"recipe": {**RECIPE, "epocs": 3}}, "did you mean"),
        ({"optimizer": torch.optim.SGD}, "exactly one of"),
        ({"model": lambda shape: None}, "cannot be built"),
    ],
)
def test_what_is_wrong_is_said_before_anything_trains(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    own = {"recipe": RECIPE, "model": random_net, "dataset": arrays(), **change}
    with pytest.raises(ConfigError, match=message):
        popnet.run(store=tmp_path / "store", **own)
    assert not (tmp_path / "store").exists()


def test_what_cannot_be_sent_is_said_before_anything_trains(tmp_path: Path) -> None:
    class Unsendable:
        def __call__(self, classes: int) -> nn.Module:
            return nn.Linear(1, classes)

        def __reduce_ex__(self, protocol: Any) -> Any:
            if sys._getframe(1).f_globals["__name__"] == "popnet.identity":
                return super().__reduce_ex__(protocol)
            raise TypeError("not to be sent")

    with pytest.raises(ConfigError, match="Unsendable: cannot be sent to a worker process: not to be sent"):
        parts.Parts({parts.key(Unsendable()): Unsendable()})
