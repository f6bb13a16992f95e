"""Predictions as a folder that anyone can load, in the layout in which the logits of many runs are published."""

from popnet.publish.folder import publish

__all__ = ["publish"]
