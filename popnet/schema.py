"""The JSON Schema of experiment files, for editors: completion, descriptions, and red lines under unknown keys."""

from __future__ import annotations

import inspect
import json
from typing import Any

from popnet.config import SHORT_FORMS, Experiment

URL = "https://json-schema.org/draft/2020-12/schema"


def experiment_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of an experiment file, short forms such as `model: resnet14` included.

    It describes the file's shape; what depends on several keys at once is checked by `popnet.load`. Keys are required
    only of a whole experiment, without `base`, for what is inherited need not be said.
    """
    schema = Experiment.model_json_schema(by_alias=True, mode="validation")
    for section in [schema, *schema["$defs"].values()]:
        _accept_spellings(section)
        section.pop("required", None)
    base = {"type": "string", "description": "another experiment file, or a shipped one's name, to inherit from"}
    properties = {"base": base, **schema.pop("properties")}
    whole = {"anyOf": [{"required": ["base"]}, {"required": ["name", "recipe", "variants"]}]}
    return {"$schema": URL, **schema, "properties": properties, **whole}


_INTEGER = {"type": "integer", "minimum": 0}
_SPELLINGS: dict[str, dict[str, Any]] = {
    **{key: {"type": "string"} for key in SHORT_FORMS},
    "resized_crop": {"type": "boolean", "description": "`true`: with its defaults"},
    "vary": {"type": "string", "description": "`all`, or one source"},
    "cross": {
        "type": "object",
        "additionalProperties": {"anyOf": [_INTEGER, {"type": "array", "items": _INTEGER}]},
    },
}
"""What a key may be besides what its class says: the forms that the schema's validators expand."""


def _accept_spellings(section: dict[str, Any]) -> None:
    properties = section.get("properties", {})
    for key, accepted in _SPELLINGS.items():
        if key in properties:
            properties[key] = _also(properties[key], accepted)


def _also(property_: dict[str, Any], accepted: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {k: property_.pop(k) for k in ("title", "description", "default") if k in property_}
    options = property_.pop("anyOf", [property_])
    return {**kept, "anyOf": [accepted, *options]}


def reference() -> str:
    """Every key of the experiment file in Markdown: a table for each section, with types, bounds and defaults."""
    schema = Experiment.model_json_schema(by_alias=True, mode="validation")
    for section in [schema, *schema["$defs"].values()]:
        _accept_spellings(section)
    sections = {"Experiment": schema, **schema["$defs"]}
    return "\n\n".join(_section(name, content) for name, content in sections.items() if "properties" in content)


def _section(name: str, content: dict[str, Any]) -> str:
    required = content.get("required", [])
    rows = [
        f"| `{key}` | {_values(value)} | {'' if key in required else _default(value)} |"
        for key, value in content["properties"].items()
    ]
    text = inspect.cleandoc(content.get("description", ""))
    return "\n".join([f"## {name}", "", text, "", "| key | values | default |", "| --- | --- | --- |", *rows])


def _default(value: dict[str, Any]) -> str:
    return f"`{json.dumps(value['default'])}`" if value.get("default") is not None else "none"


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _values(value: dict[str, Any]) -> str:
    """What a key accepts, in words."""
    if "$ref" in value:
        section = value["$ref"].rpartition("/")[2]
        return f"[{section}](#{section.lower()})"
    if "anyOf" in value:
        return ", or ".join(dict.fromkeys(_values(option) for option in value["anyOf"]))
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if value.get("type") == "array":
        items = value.get("items") or {"anyOf": value.get("prefixItems", [{}])}
        return f"list of {_values(items)}"
    bounds = " ".join(f"{sign} {value[key]}" for key, sign in _BOUNDS.items() if key in value and value[key] < 2**63)
    return " ".join(filter(None, [_TYPES.get(value.get("type", ""), "anything"), bounds]))


_TYPES = {"null": "none", "object": "mapping", "string": "text", "number": "number", "integer": "integer"}
_TYPES |= {"boolean": "`true` or `false`"}
