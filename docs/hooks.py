"""MkDocs hook: the reference of the experiment file is written from the schema each time the site is built."""

from typing import Any

from popnet.schema import reference

MARKER = "<!-- the reference, from the schema -->"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Put the generated reference where the page's marker is."""
    return markdown.replace(MARKER, reference()) if MARKER in markdown else markdown
