"""BERT for pairs of sentences (`popnet.data.text_pairs`), from a local folder. Needs `popnet[bert]`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from popnet.data.text_pairs import tokens
from popnet.errors import ConfigError


class PairClassifier(nn.Module):
    """A sequence classifier of `transformers` behind the signature of all models here: a float batch in, logits out."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, batch: Tensor) -> Tensor:
        """batch: float [batch, 3, length, 1], bytes as `popnet.data.text_pairs.encode` writes them."""
        ids, segments, mask = tokens(batch)
        return self.classifier(input_ids=ids, token_type_ids=segments, attention_mask=mask).logits


def bert(folder: str, classes: int = 2, sha256: str | None = None, pretrained: bool = True) -> nn.Module:
    """A pretrained BERT with a new classification layer.

    The new layer is drawn from torch's random state (so `init` is its seed); all else is the checkpoint's. Dropout is
    made of `nn.Dropout` modules, which popnet replaces by its own, seeded by `stochastic`.

    Args:
        folder: a local folder with `config.json` and weights, as `transformers` saves them. Nothing is downloaded.
        classes: of the labels.
        sha256: of the weights' file, in hexadecimal. Give it in an experiment: a member's id knows the folder's name,
            not what is in it.
        pretrained: False takes the configuration only and draws all weights anew.

    Raises:
        ConfigError: `transformers` is not installed, or the folder holds no such model, or another one.
    """
    try:
        from transformers import AutoConfig, BertForSequenceClassification
        from transformers.utils import logging
    except ImportError:
        raise ConfigError("BERT needs transformers: pip install 'popnet[bert]'") from None
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # the new layer is meant to be new
    if sha256 is not None:
        _check_weights(Path(folder), sha256)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, num_labels=classes)
        config._attn_implementation = "eager"  # the others draw their dropout outside nn.Dropout
        if not pretrained:
            return PairClassifier(BertForSequenceClassification(config))
        made = BertForSequenceClassification.from_pretrained(
            folder, config=config, local_files_only=True, attn_implementation="eager", dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: no BERT to load here: {' '.join(str(error).split())}") from None
    return PairClassifier(made)


def _check_weights(folder: Path, sha256: str) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256.lower():
                raise ConfigError(f"{folder / name}: its SHA-256 is {found}, and the experiment asks for {sha256}")
            return
    raise ConfigError(f"{folder}: no model.safetensors or pytorch_model.bin to compare with sha256")
