"""What a store holds, for other programs: predictions as logits are published, learning curves for TensorBoard."""

from popnet.publish.curves import write_curves
from popnet.publish.folder import publish

__all__ = ["publish", "write_curves"]
