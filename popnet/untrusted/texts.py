"""YAML and JSON as plain data, of bounded size.

YAML's anchors make a few lines stand for any amount of data: what is counted is what a text expands to, while it is
being read and before anything is built from it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

YAML_BYTES = 1 << 20
JSON_BYTES = 1 << 26
DEPTH = 32
"""Of mappings and lists in each other; popnet's own have 6."""

_NODES = 50_000
_CHARACTERS = 1 << 14
_DIGITS = 1_000  # Python writes integers of no more than 4,300, so that errors could not name longer ones
_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "merge")
)
_INTEGER = "tag:yaml.org,2002:int"
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


def parse_yaml(text: str) -> Any:
    """Mappings with any keys, lists, text, numbers, booleans and null; a date is text.

    Raises ValueError: no YAML, other tags, or more than 50,000 values, 16,384 characters a value, 1,000 an integer or
    32 levels, counting an alias for all that it stands for.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()  # type: ignore[no-untyped-call]
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from None


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - as in PyYAML, and not changed
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0
        self._size: dict[yaml.Node, int] = {}
        self._height: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node with all below it; an alias counts like what it stands for."""
        before = self._nodes
        self._count(1)
        self._depth += 1
        self._check_depth(0)
        alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if alias and (node is None or node not in self._size):
            raise ValueError("an alias stands for something that contains it")
        if alias:
            self._count(self._size[node])  # type: ignore[index]
        elif node is not None:
            self._enter(node, self._nodes - before)
        self._check_depth(self._height.get(node, 0))  # type: ignore[arg-type]
        self._depth -= 1
        return node

    def _enter(self, node: yaml.Node, size: int) -> None:
        if node.tag not in _TAGS:
            raise ValueError(f"the tag {node.tag[:100]!r} is no plain data")
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > _CHARACTERS:
                raise ValueError(f"a value has more than {_CHARACTERS:,} characters")
            if node.tag == _INTEGER and len(node.value) > _DIGITS:
                raise ValueError(f"an integer has more than {_DIGITS:,} digits: {node.value[:20]}...")
            if _UNPRINTABLE.search(node.value):
                raise ValueError(f"control characters in {node.value[:100]!r}")
            below = []
        else:
            below = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        self._size[node] = size
        self._height[node] = 1 + max((self._height[part] for part in below), default=0)

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > _NODES:
            raise ValueError(f"it stands for more than {_NODES:,} values")

    def _check_depth(self, below: int) -> None:
        if self._depth + below > DEPTH + 1:
            raise ValueError(f"nested more than {DEPTH} levels deep")


def parse_json(text: str | bytes, most: int = JSON_BYTES) -> Any:
    """A JSON text of at most `most` characters. Raises ValueError: no JSON, longer, or nested too deeply."""
    if not isinstance(text, (str, bytes)):
        raise ValueError(f"no text, but {type(text).__name__}")
    if len(text) > most:
        raise ValueError(f"more than {most:,} characters")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
