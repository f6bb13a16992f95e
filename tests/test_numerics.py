"""The switches that torch holds for a whole process: set while a block computes, and then as the program had them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from popnet.training.numerics import numerics

CUDA = torch.device("cuda")  # whose switches can be set where there is none
NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")

USED = {
    "nothing": "",
    "old": "matmul.allow_tf32 = True; cudnn.allow_tf32 = False",
    "old, by name": "torch.set_float32_matmul_precision('medium')",
    "new": "matmul.fp32_precision = 'tf32'; cudnn.conv.fp32_precision = 'ieee'",
    "new, for all": "torch.backends.fp32_precision = 'tf32'",
    "new, for all of CUDA": "torch.backends.fp32_precision = 'ieee'; cudnn.fp32_precision = 'tf32'",
    "both": "matmul.allow_tf32 = True; cudnn.rnn.fp32_precision = 'ieee'; cudnn.conv.fp32_precision = 'none'",
}
"""What a program may have set before popnet runs in it, by what it used for that."""

PROGRAM = """
import json, os, sys, torch
from popnet.training.numerics import numerics
matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
new = hasattr(matmul, "fp32_precision")

def read(look):
    try:
        return str(look())
    except RuntimeError:
        return "cannot be read"

def settings():
    looks = [lambda: matmul.allow_tf32, lambda: cudnn.allow_tf32, torch.get_float32_matmul_precision]
    if new:
        switches = (torch.backends, cudnn, matmul, cudnn.conv, cudnn.rnn, torch.backends.mkldnn.matmul)
        looks += [lambda switch=switch: switch.fp32_precision for switch in switches]
    found = [read(look) for look in looks]
    for switch in (torch.backends, cudnn) if new else ():  # and what follows it
        for value in ("tf32", "ieee"):
            switch.fp32_precision = value
            found += [read(look) for look in looks]
    return found

def computed():
    found = []
    for precision in ("fp32", "tf32", "bf16"):
        with numerics(torch.device("cuda"), precision):
            if new:
                found.append([switch.fp32_precision for switch in (cudnn, matmul, cudnn.conv, cudnn.rnn)])
            else:
                found.append(["tf32" if switch.allow_tf32 else "ieee" for switch in (cudnn, matmul)])
    return found

for used in sys.argv[1:]:
    for blocks in (False, True):  # each in a process of its own
        if os.fork() == 0:
            exec(used)
            found = computed() if blocks else None
            print(json.dumps([settings(), found]), flush=True)
            os._exit(0)
        os.wait()
"""


def test_tf32_is_as_the_program_had_it() -> None:
    """Whichever of torch's two ways it was set by; inside the block it is as the recipe says."""
    used = {key: text for key, text in USED.items() if NEW or "fp32_precision" not in text}
    ended = subprocess.run([sys.executable, "-c", PROGRAM, *used.values()], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(lines) == 2 * len(used), ended.stderr
    for key, (before, _), (after, inside) in zip(used, lines[::2], lines[1::2], strict=True):
        assert after == before, key
        assert [set(found) for found in inside] == [{"ieee"}, {"tf32"}, {"ieee"}], key


@pytest.mark.skipif(not NEW, reason="needs PyTorch 2.9, whose new switches for TF32 the old ones cannot read")
def test_code_that_reads_the_old_switches_is_told_of_the_new_ones() -> None:
    """In a process of its own: once read there, the old switches stay in use."""
    code = """
import torch
from popnet.training.numerics import numerics
with numerics(torch.device("cuda"), "fp32"), torch.backends.cudnn.flags(enabled=False):
    pass
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "TrainingError: code of the recipe uses PyTorch's old switches for TF32" in ended.stderr


def switches() -> dict[str, Any]:
    cudnn = torch.backends.cudnn
    return {
        "deterministic": (cudnn.deterministic, cudnn.benchmark),
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "filled": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("hardware", [False, True])
def test_determinism_is_as_the_program_had_it(hardware: bool) -> None:
    before = switches()
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = True
        asked = switches()
        with numerics(CUDA, "fp32", hardware):
            assert switches() == {
                "deterministic": (not hardware, hardware),
                "algorithms": not hardware,
                "warn only": False,
                "filled": False,
            }
        assert switches() == asked
        with pytest.raises(KeyError), numerics(CUDA, "fp32", hardware):
            raise KeyError
        assert switches() == asked
    finally:
        torch.use_deterministic_algorithms(before["algorithms"])
        torch.backends.cudnn.benchmark = False
