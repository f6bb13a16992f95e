"""torchvision's classification models, without pretrained weights; also the papers' ImageNet ResNets."""

from __future__ import annotations

from typing import Any

from torch import nn

from popnet.errors import ConfigError
from popnet.models.registry import InputShape, register

# Their auxiliary heads would return a tuple in training.
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def classification_models() -> list[str]:
    """The names of torchvision's classification models."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def build_classifier(name: str, input_shape: InputShape, classes: int, **options: Any) -> nn.Module:
    """Build torchvision's model `name`, untrained, with its own initialisation.

    Vision and MaxViT transformers are built for the given image size, which must be square.

    Args:
        options: passed to torchvision's function.

    Raises:
        ConfigError: images without three channels, or a shape or option that torchvision refuses.
    """
    import torchvision

    if input_shape[0] != 3:
        raise ConfigError(
            f"model 'torchvision/{name}' takes images of 3 channels, and these have {input_shape[0]}; "
            f"import a model of your own for other images"
        )
    settings = _defaults(name, input_shape) | options
    try:
        return torchvision.models.get_model(name, weights=None, num_classes=classes, **settings)
    except (AssertionError, TypeError, ValueError) as error:
        raise ConfigError(f"model 'torchvision/{name}' cannot be built for images of {input_shape}: {error}") from error


def _defaults(name: str, input_shape: InputShape) -> dict[str, Any]:
    _, height, width = input_shape
    if name in _WITH_AUXILIARY_HEADS:
        return {"aux_logits": False, "init_weights": True}
    if name.startswith(("vit_", "maxvit")) and height != width:
        raise ConfigError(f"model 'torchvision/{name}' takes square images, and these have {height}x{width} pixels")
    if name.startswith("vit_"):
        return {"image_size": height}
    if name.startswith("maxvit"):
        return {"input_size": (height, width)}
    return {}


@register("resnet50_imagenet")
def resnet50_imagenet(input_shape: InputShape, classes: int) -> nn.Module:
    """torchvision's ResNet-50; 25,557,032 parameters with 1,000 classes (Summers & Dinneen 2021, Sec. 6)."""
    return build_classifier("resnet50", input_shape, classes)


@register("resnet18_imagenet")
def resnet18_imagenet(input_shape: InputShape, classes: int) -> nn.Module:
    """torchvision's ResNet-18; 11,689,512 parameters with 1,000 classes (Jordan 2024, A.2)."""
    return build_classifier("resnet18", input_shape, classes)
