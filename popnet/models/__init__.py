"""Models: one file per family, built by name.

Parameter names matter. The papers' optimiser grouping (`groups: released`) trains parameters whose name
contains `bias`, or both `bn` and `weight`, at a tenth of the rate. The batch norms of the ResNets' shortcuts
and of VGG are therefore named without `bn`, as in the programs that produced the papers' numbers, and all
others with it.

Images go in as float [batch, channels, height, width], in either memory layout; logits come out as [batch,
classes]. Language models are built by their vocabulary: `build_language`.
"""

from popnet.models import fully_connected, mnist_cnn, qrnn, resnet, resnet9, shufflenet, small_cnn, torchvision, vgg
from popnet.models.registry import (
    build,
    build_language,
    canonical_name,
    check_name,
    language_names,
    names,
    register,
    register_language,
)

__all__ = [
    "build",
    "build_language",
    "canonical_name",
    "check_name",
    "fully_connected",
    "language_names",
    "mnist_cnn",
    "names",
    "qrnn",
    "register",
    "register_language",
    "resnet",
    "resnet9",
    "shufflenet",
    "small_cnn",
    "torchvision",
    "vgg",
]
