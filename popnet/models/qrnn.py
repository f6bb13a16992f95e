"""The quasi-recurrent language model (Bradbury et al. 2016), in the form of Merity et al. (2017).

Summers & Dinneen 2021 (Section 3.3) train it with an embedding of 256, 3 layers of 512 hidden units, on the Penn
Treebank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from popnet.errors import ConfigError
from popnet.models.fo_pooling import fo_pool
from popnet.models.registry import register_language

Draw = Callable[[int, int, float], Tensor | None]
"""Takes (rows, elements, p); draws a dropout mask [rows, elements] of entries 0 and 1 / (1 - p), or None for p = 0."""


class Probabilities(Protocol):
    """How much is dropped where; `popnet.config.LanguageDropout` states what each means."""

    @property
    def words(self) -> float: ...
    @property
    def input(self) -> float: ...
    @property
    def hidden(self) -> float: ...
    @property
    def output(self) -> float: ...
    @property
    def weights(self) -> float: ...


@dataclass(frozen=True)
class Masks:
    """What one training step drops; None is nothing. Layers in order.

    Attributes:
        words: [vocabulary].
        input: [batch, embedding], the same at every position, as all of the following.
        outputs: for each layer, [batch, its size].
        weights: for each layer, as its linear map's weight.
    """

    words: Tensor | None
    input: Tensor | None
    outputs: tuple[Tensor | None, ...]
    weights: tuple[Tensor | None, ...]


class LayerState(NamedTuple):
    """What a layer carries from segment to segment: its pooling state [batch, size], and its last input [batch, in]."""

    cell: Tensor
    last_input: Tensor


State = tuple[LayerState, ...]


class Output(NamedTuple):
    """The last layer's output after dropout and before, each [length, batch, embedding], and the state to carry on."""

    dropped: Tensor
    raw: Tensor
    state: State


class QRNNLayer(nn.Module):
    """One linear map over a window of inputs, the present one first, then fo-pooling."""

    def __init__(self, inputs: int, size: int, window: int) -> None:
        super().__init__()
        self.inputs, self.size, self.window = inputs, size, window
        self.linear = nn.Linear(window * inputs, 3 * size)

    def forward(
        self, x: Tensor, state: LayerState, weight_mask: Tensor | None, output_mask: Tensor | None
    ) -> tuple[Tensor, LayerState]:
        """x: [length, batch, inputs]; returns [length, batch, size] and the state after the last position."""
        weight = self.linear.weight if weight_mask is None else self.linear.weight * weight_mask
        source = x
        if self.window == 2:
            source = torch.cat([x, torch.cat([state.last_input[None], x[:-1]])], dim=2)
        gates = functional.linear(source, weight, self.linear.bias)
        output, cell = fo_pool(gates, state.cell, output_mask)
        return output, LayerState(cell.detach(), x[-1].detach())


class QRNN(nn.Module):
    """Embedding, QRNN layers, and a decoder that shares the embedding's weights and adds its own bias."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        sizes = [embedding, *[hidden] * (layers - 1), embedding]
        self.layers = nn.ModuleList(QRNNLayer(sizes[i], sizes[i + 1], window=2 if i == 0 else 1) for i in range(layers))
        self.decoder_bias = nn.Parameter(torch.zeros(vocabulary))
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def start(self, batch: int) -> State:
        """The state before a text: zeros."""
        zeros = self.decoder_bias.new_zeros
        return tuple(LayerState(zeros(batch, layer.size), zeros(batch, layer.inputs)) for layer in self._layers())

    def masks(self, dropout: Probabilities, batch: int, draw: Draw) -> Masks:
        """One step's masks, always drawn in the same order."""
        words = draw(1, self.embedding.num_embeddings, dropout.words)
        first = draw(batch, self.embedding.embedding_dim, dropout.input)
        outputs, weights = [], []
        for layer in self._layers():
            rows, columns = layer.linear.weight.shape
            weights.append(draw(rows, columns, dropout.weights))
            last = layer is self.layers[-1]
            outputs.append(draw(batch, layer.size, dropout.output if last else dropout.hidden))
        return Masks(None if words is None else words[0], first, tuple(outputs), tuple(weights))

    def forward(self, tokens: Tensor, state: State, masks: Masks | None = None) -> Output:
        """What the model makes of a segment.

        Args:
            tokens: int64 [length, batch].
            state: of `start`, or of the segment before.
            masks: what to drop; nothing if not given.
        """
        nothing = (None,) * len(self.layers)
        masks = Masks(None, None, nothing, nothing) if masks is None else masks
        x = self.embedding(tokens)
        if masks.words is not None:
            x = x * masks.words[tokens][..., None]
        if masks.input is not None:
            x = x * masks.input
        after = []
        for index, layer in enumerate(self._layers()):
            last = index == len(self.layers) - 1
            x, carried = layer(x, state[index], masks.weights[index], None if last else masks.outputs[index])
            after.append(carried)
        mask = masks.outputs[-1]
        return Output(x if mask is None else x * mask, x, tuple(after))

    def logits(self, output: Tensor) -> Tensor:
        """[..., vocabulary] from the last layer's output, [..., embedding]."""
        return functional.linear(output, self.embedding.weight, self.decoder_bias)

    def _layers(self) -> list[QRNNLayer]:
        return [layer for layer in self.layers if isinstance(layer, QRNNLayer)]


@register_language("qrnn")
def qrnn(vocabulary: int, embedding: int = 256, hidden: int = 512, layers: int = 3) -> nn.Module:
    """4,539,920 parameters with 10,000 words.

    Windows of 2 inputs in the first layer and 1 in the others; the last layer's size is the embedding's. Embedding
    uniform in +-0.1, decoder bias 0, linear maps as PyTorch initialises them.
    """
    sizes = {"vocabulary": vocabulary, "embedding": embedding, "hidden": hidden, "layers": layers}
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"model 'qrnn': {name} must be a positive integer, not {value!r}")
    return QRNN(vocabulary, embedding, hidden, layers)
