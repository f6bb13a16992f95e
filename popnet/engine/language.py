"""What an engine asks of a language model before it trains any: whether it can, and how much it will store."""

from __future__ import annotations

from typing import Any

import torch

from popnet.config import Recipe
from popnet.data import Text
from popnet.errors import ConfigError, PopnetError
from popnet.protocol import Member
from popnet.training.language import initialised_language_model
from popnet.training.perturbations import target


def check_language_model(member: Member, text: Text) -> None:
    """Build the member's model and show it two words. Raises ConfigError naming what cannot train."""
    recipe = member.recipe
    _check_lengths(recipe, text)
    try:
        model: Any = initialised_language_model(recipe, member.init_seed, len(text.vocabulary))
        with torch.no_grad():
            tokens = torch.from_numpy(text.train_tokens[:2]).long()[:, None]
            output = model.eval()(tokens, model.start(1))
            shape = list(model.logits(output.dropped).shape)
    except PopnetError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"recipe.model {recipe.model.label!r} cannot be built, or take words: {reason}") from error
    if shape != [2, 1, len(text.vocabulary)]:
        raise ConfigError(
            f"recipe.model {recipe.model.label!r} gives {shape} for two words; logits "
            f"[2, 1, {len(text.vocabulary)}] are needed"
        )
    if next(model.buffers(), None) is not None:
        raise ConfigError(f"recipe.model {recipe.model.label!r} has buffers, which averaged weights do not cover")
    if member.perturbation is not None:
        target(model, member.perturbation.tensor)


def language_prediction_bytes(recipe: Recipe, text: Text) -> int:
    """Bytes of one member's predictions, generously."""
    assert recipe.language is not None
    tokens, words = len(text.test_tokens), len(text.vocabulary)
    return recipe.schedule.cycles * 4 * (3 * tokens + recipe.language.logit_positions * words) + 65536


def _check_lengths(recipe: Recipe, text: Text) -> None:
    assert recipe.language is not None
    tokens = len(text.train_tokens)
    if recipe.train_examples is not None:
        if recipe.train_examples > tokens:
            raise ConfigError(f"recipe.train_examples={recipe.train_examples}: the training part has {tokens} tokens")
        tokens = recipe.train_examples
    needed = {
        "training": (tokens, 3 * recipe.batch_size, f"recipe.batch_size={recipe.batch_size}"),
        "validation": (
            len(text.validation_tokens),
            2 * recipe.language.validation_batch,
            f"recipe.language.validation_batch={recipe.language.validation_batch}",
        ),
        "test": (len(text.test_tokens), 2, "a test"),
    }
    for part, (there, least, reason) in needed.items():
        if there < least:
            raise ConfigError(
                f"dataset {recipe.dataset.label!r}: {reason} needs a {part} part of at least {least} tokens, "
                f"and this one has {there}"
            )
    if recipe.language.logit_positions >= len(text.test_tokens):
        raise ConfigError(
            f"recipe.language.logit_positions={recipe.language.logit_positions}: the test part has "
            f"{len(text.test_tokens) - 1} tokens to predict"
        )
