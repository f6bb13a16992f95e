"""Tokens a second of training a QRNN: popnet's fo-pooling against a loop of torch operations, and against an LSTM.

    python benchmarks/qrnn.py [--device cuda] [--json benchmarks/results/qrnn.json]

All at the paper's sizes (Summers & Dinneen 2021, Section 3.3): segments of 70 positions of 20 texts, embedding 256, 3
layers of 512 hidden units, 10,000 words; float32, forward and backward, on one thread, as one member trains on a CPU.
The loop is fo-pooling as one writes it: tanh and sigmoid of all gates at once, then one step in time after the other;
both sides' outputs and gradients are compared first. The LSTM is torch.nn.LSTM of the same layer sizes.

Three lines, from the operation outwards: fo-pooling of one layer, on which the target stands; the three recurrent
layers; and a whole training step with embedding, dropout, decoder, loss, clipping and update, of which the matrix
products that all sides share take the most. Best of several rounds in which the sides take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import torch
from loader import cpu_model
from torch import Tensor, nn

from popnet import config, models
from popnet.config import Recipe
from popnet.data.resident import ResidentText
from popnet.models import qrnn
from popnet.models.fo_pooling import fo_pool
from popnet.protocol import Platform, Seeds, member
from popnet.training.language import LanguageTrainer

TARGET = 3.0
TREEBANK_TOKENS = 929_589
LENGTH, BATCH, WORDS = 70, 20, 10_000
SIZES = (256, 512, 512, 256)

Side = Callable[[], object]


def fo_pool_loop(gates: Tensor, initial: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The same as `popnet.models.fo_pooling.fo_pool`, a step in time after the other."""
    z, f, o = gates.chunk(3, dim=2)
    z, f, o = z.tanh(), f.sigmoid(), o.sigmoid()
    h, states = initial, []
    for t in range(len(gates)):
        h = f[t] * z[t] + (1.0 - f[t]) * h
        states.append(h)
    output = o * torch.stack(states)
    return (output if mask is None else output * mask), h


def pooling(pool: Callable[..., tuple[Tensor, Tensor]], device: str) -> Callable[[], tuple[Tensor, Tensor]]:
    """Forward and backward of one layer's pooling; returns its output and the gates' gradient."""
    draw = torch.Generator().manual_seed(1)
    gates = torch.randn(LENGTH, BATCH, 3 * SIZES[1], generator=draw).to(device).requires_grad_()
    initial = torch.randn(BATCH, SIZES[1], generator=draw).to(device)
    outer = torch.randn(LENGTH, BATCH, SIZES[1], generator=draw).to(device)

    def run() -> tuple[Tensor, Tensor]:
        gates.grad = None
        output, _ = pool(gates, initial)
        output.backward(outer)
        assert gates.grad is not None
        return output.detach(), gates.grad

    return run


def layers_of_qrnn(device: str) -> Side:
    model = models.build_language("qrnn", WORDS).to(device)
    x = torch.randn(LENGTH, BATCH, SIZES[0], device=device, requires_grad=True)
    start = model.start(BATCH)

    def run() -> None:
        y = x
        for layer, state in zip(model.layers, start):
            y, _ = layer(y, state, None, None)
        y.sum().backward()

    return run


def layers_of_lstm(device: str) -> Side:
    layers = nn.ModuleList(nn.LSTM(inputs, size) for inputs, size in pairwise(SIZES)).to(device)
    x = torch.randn(LENGTH, BATCH, SIZES[0], device=device, requires_grad=True)

    def run() -> None:
        y = x
        for layer in layers:
            y, _ = layer(y)
        y.sum().backward()

    return run


class LSTM(nn.Module):
    """The language model with LSTM layers in place of the QRNN's."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, SIZES[0])
        self.layers = nn.ModuleList(nn.LSTM(inputs, size) for inputs, size in pairwise(SIZES))
        self.decoder_bias = nn.Parameter(torch.zeros(vocabulary))

    def start(self, batch: int) -> list[None]:
        return [None] * len(self.layers)

    def masks(self, dropout: qrnn.Probabilities, batch: int, draw: qrnn.Draw) -> qrnn.Masks:
        words, first = draw(1, WORDS, dropout.words), draw(batch, SIZES[0], dropout.input)
        hidden = [draw(batch, size, dropout.hidden) for size in SIZES[1:]]
        return qrnn.Masks(None if words is None else words[0], first, tuple(hidden), (None,) * len(hidden))

    def forward(self, tokens: Tensor, state: list, masks: qrnn.Masks) -> qrnn.Output:
        x = self.embedding(tokens) * masks.words[tokens][..., None] * masks.input
        after = []
        for layer, carried, mask in zip(self.layers, state, masks.outputs):
            raw, (h, c) = layer(x, carried)
            after.append((h.detach(), c.detach()))
            x = raw * mask
        return qrnn.Output(x, raw, tuple(after))

    def logits(self, output: Tensor) -> Tensor:
        return nn.functional.linear(output, self.embedding.weight, self.decoder_bias)


def whole_step(device: str, model: str) -> Side:
    """One training step of a member: everything but the choice of the segment's length."""
    recipe = config.load("ptb_qrnn").recipe
    if model == "lstm":
        recipe = Recipe.model_validate(recipe.model_dump(by_alias=True) | {"model": {"import": "qrnn:LSTM"}})
    one = Seeds()
    tokens = torch.randint(WORDS, (BATCH * 4 * LENGTH,), generator=torch.Generator().manual_seed(1))
    text = ResidentText(tokens, tokens[:200], tokens[:200], WORDS)
    trainer = LanguageTrainer(member(recipe, one, one, Platform("benchmark", ())), text, device)
    state = trainer.model.start(BATCH)
    segment = trainer._train[: LENGTH + 1]
    return lambda: trainer._step(segment, state, 1, 0, 0, 1e-3)


def with_loop(run: Side) -> Side:
    def looped() -> None:
        with patch.object(qrnn, "fo_pool", fo_pool_loop):
            run()

    return looped


def rates(sides: dict[str, Side], seconds: float, device: str) -> dict[str, float]:
    """Tokens a second of each side: the best of rounds in which they take turns, for about so many seconds."""
    best = dict.fromkeys(sides, float("inf"))
    for run in sides.values():
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, run in sides.items():
            _synchronise(device)
            began = time.perf_counter()
            run()
            _synchronise(device)
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: LENGTH * BATCH / least for name, least in best.items()}


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def check(device: str) -> None:
    """Both ways compute the same."""
    for ours, theirs in zip(pooling(fo_pool, device)(), pooling(fo_pool_loop, device)()):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each line")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = options.device
    check(device)
    layers, step = layers_of_qrnn(device), whole_step(device, "qrnn")
    lines = {
        "fo-pooling": {"popnet": pooling(fo_pool, device), "loop": pooling(fo_pool_loop, device)},
        "recurrent layers": {"popnet": layers, "loop": with_loop(layers), "LSTM": layers_of_lstm(device)},
        "training step": {"popnet": step, "loop": with_loop(step), "LSTM": whole_step(device, "lstm")},
    }
    print(f"{'tokens a second':18}{'popnet':>12}{'loop':>12}{'LSTM':>12}{'of loop':>9}{'of LSTM':>9}")
    results = {}
    for name, sides in lines.items():
        found = results[name] = rates(sides, options.seconds, device)
        cells = [f"{found[side]:12,.0f}" if side in found else f"{'':12}" for side in ("popnet", "loop", "LSTM")]
        ratios = [f"{found['popnet'] / found[side]:8.2f}x" if side in found else "" for side in ("loop", "LSTM")]
        print(f"{name:18}" + "".join(cells) + "".join(ratios))
    ratio = results["fo-pooling"]["popnet"] / results["fo-pooling"]["loop"]
    print(f"fo-pooling against the loop {ratio:.1f}x   target {TARGET:.0f}x: {'met' if ratio >= TARGET else 'MISSED'}")
    epoch = TREEBANK_TOKENS / results["training step"]["popnet"]
    print(f"an epoch of the Penn Treebank's {TREEBANK_TOKENS:,} tokens: {epoch:,.0f} s, its evaluation not counted")
    if options.json:
        record = {
            "machine": f"{cpu_model()}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu, one thread",
            "torch": torch.__version__,
            "load_average": os.getloadavg()[0],
            "tokens_per_second": results,
            "fo_pooling_over_loop": ratio,
            "treebank_epoch_seconds": epoch,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
