"""Results as tables and figures, beside the published ones."""

from popnet.report.tables import published, published_references, render

__all__ = ["published", "published_references", "render"]
