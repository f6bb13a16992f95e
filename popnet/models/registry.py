"""The names of the models, and the one function that builds them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from popnet.errors import ConfigError, nearest

InputShape = tuple[int, int, int]
"""Channels, height and width of one image."""

Builder = Callable[..., nn.Module]
"""Takes (input_shape, classes, **options), returns the model."""

TORCHVISION_PREFIX = "torchvision/"

_builders: dict[str, Builder] = {}

_language_builders: dict[str, Builder] = {}
"""Those that take (vocabulary, **options)."""


def register(*names: str) -> Callable[[Builder], Builder]:
    """Decorator that enters a builder under one or several names."""

    def enter(builder: Builder) -> Builder:
        for name in names:
            if name in _builders:
                raise ValueError(f"model {name!r} is registered twice")
            _builders[name] = builder
        return builder

    return enter


def register_language(name: str) -> Callable[[Builder], Builder]:
    """Decorator that enters the builder of a language model, which takes (vocabulary, **options)."""

    def enter(builder: Builder) -> Builder:
        if name in _builders or name in _language_builders:
            raise ValueError(f"model {name!r} is registered twice")
        _language_builders[name] = builder
        return builder

    return enter


def names() -> tuple[str, ...]:
    """The registered models of images in alphabetical order, torchvision's own (`torchvision/NAME`) not among them."""
    return tuple(sorted(_builders))


def language_names() -> tuple[str, ...]:
    """The registered language models in alphabetical order."""
    return tuple(sorted(_language_builders))


def canonical_name(name: str) -> str:
    """The one spelling of a model's name: the width of `resnet14_x1/8` becomes a decimal, `resnet14_x0.125`.

    An experiment should keep this spelling, so that equal models hash equally. Names without a fraction stay
    as they are.
    """
    fraction = re.fullmatch(r"(.+_x)(\d+)/(\d+)", name)
    if fraction is None or int(fraction[3]) == 0:
        return name
    return f"{fraction[1]}{int(fraction[2]) / int(fraction[3]):g}"


def check_name(name: str) -> str:
    """Return the canonical name of a model that exists, without building it.

    Raises:
        ConfigError: no such model; the message proposes the nearest names.
    """
    canonical = canonical_name(name)
    if canonical in _builders or canonical in _language_builders:
        return canonical
    from popnet.models.torchvision import classification_models  # imports torchvision, which takes a second

    outside = [TORCHVISION_PREFIX + known for known in classification_models()]
    if canonical in outside:
        return canonical
    if canonical.startswith(TORCHVISION_PREFIX):
        proposal = nearest(canonical, outside)
    else:
        own = nearest(canonical, [*_builders, *_language_builders])
        proposal = f"{own}; torchvision's models are named {TORCHVISION_PREFIX}NAME"
    raise ConfigError(f"unknown model {name!r}: {proposal}")


def build(name: str, input_shape: InputShape = (3, 32, 32), classes: int = 10, **options: Any) -> nn.Module:
    """Build a model, initialised from torch's current random state on the default device.

    Args:
        name: one of `names()`, or `torchvision/NAME` for any classification model of torchvision.
        input_shape: channels, height and width of one image; the model takes float [batch, *input_shape].
        classes: the model returns logits, float [batch, classes].
        **options: what the model's family takes beyond that, such as `hidden` of `hidden_fc`.

    Raises:
        ConfigError: unknown name or option, or a shape that the model cannot take.
    """
    canonical = check_name(name)
    if canonical in _language_builders:
        raise ConfigError(f"model {canonical!r} is a language model: use build_language(name, vocabulary)")
    shape = _check_shape(canonical, input_shape)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ConfigError(f"model {canonical!r}: classes must be a positive integer, not {classes!r}")
    if canonical in _builders:
        builder = _builders[canonical]
        _check_options(canonical, builder, options)
        return builder(shape, classes, **options)
    from popnet.models.torchvision import build_classifier

    return build_classifier(canonical.removeprefix(TORCHVISION_PREFIX), shape, classes, **options)


def build_language(name: str, vocabulary: int, **options: Any) -> nn.Module:
    """Build a language model, initialised from torch's current random state; see `popnet.models.qrnn`.

    Args:
        name: one of `language_names()`.
        vocabulary: how many words there are.
        **options: what the model's family takes beyond that, such as `hidden` of `qrnn`.

    Raises:
        ConfigError: unknown name or option.
    """
    if name not in _language_builders:
        raise ConfigError(f"unknown language model {name!r}: {nearest(name, _language_builders)}")
    _check_options(name, _language_builders[name], options, given=1)
    return _language_builders[name](vocabulary, **options)


def require_size(name: str, input_shape: InputShape, smallest: int, reason: str) -> None:
    """Raise ConfigError where an image is smaller, in either direction, than a model's layers need.

    `reason` completes "because ...".
    """
    _, height, width = input_shape
    if min(height, width) < smallest:
        raise ConfigError(
            f"model {name!r} needs images of at least {smallest}x{smallest} pixels, because {reason}; "
            f"these have {height}x{width}"
        )


def _check_shape(name: str, shape: InputShape) -> InputShape:
    numbers = tuple(shape)
    if len(numbers) != 3 or not all(isinstance(n, int) and n > 0 for n in numbers):
        raise ConfigError(
            f"model {name!r}: input_shape must be (channels, height, width), positive integers, not {shape!r}"
        )
    return numbers[0], numbers[1], numbers[2]


def _check_options(name: str, builder: Builder, options: dict[str, Any], given: int = 2) -> None:
    """`given`: how many of the builder's first parameters are no options."""
    known = list(inspect.signature(builder).parameters)[given:]
    for option in options:
        if option not in known:
            proposal = nearest(option, known) if known else "it takes none"
            raise ConfigError(f"model {name!r} has no option {option!r}: {proposal}")
