"""MkDocs hook: the experiment file's reference is written from the schema, and marks for the tests are taken out."""

import re
from typing import Any

from popnet.schema import reference

MARKER = "<!-- the reference, from the schema -->"

NOT_RUN = re.compile(r"^(```\w+) no-run\b", re.MULTILINE)
"""How a page tells the tests not to run a block; MkDocs would not know it for one."""


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Put the generated reference where the page's marker is, and leave of each block's head what MkDocs knows."""
    if MARKER in markdown:
        markdown = markdown.replace(MARKER, reference())
    return NOT_RUN.sub(r"\1", markdown)
