"""The JSON Schema of experiment files, for editors: completion, descriptions, and red lines under unknown keys."""

from __future__ import annotations

from typing import Any

from popnet.config import SHORT_FORMS, Experiment

URL = "https://json-schema.org/draft/2020-12/schema"


def experiment_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of an experiment file, short forms such as `model: resnet14` included.

    It describes the file's shape; what depends on several keys at once is checked by `popnet.load`.
    """
    schema = Experiment.model_json_schema(by_alias=True, mode="validation")
    for section in [schema, *schema["$defs"].values()]:
        properties = section.get("properties", {})
        for key, accepted in _SPELLINGS.items():
            if key in properties:
                properties[key] = _also(properties[key], accepted)
    return {"$schema": URL, **schema}


_INTEGER = {"type": "integer", "minimum": 0}
_SPELLINGS: dict[str, dict[str, Any]] = {
    **{key: {"type": "string"} for key in SHORT_FORMS},
    "vary": {"type": "string", "description": "`all`, or one source"},
    "cross": {
        "type": "object",
        "additionalProperties": {"anyOf": [_INTEGER, {"type": "array", "items": _INTEGER}]},
    },
}
"""What a key may be besides what its class says: the forms that the schema's validators expand."""


def _also(property_: dict[str, Any], accepted: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {k: property_.pop(k) for k in ("title", "description", "default") if k in property_}
    options = property_.pop("anyOf", [property_])
    return {**kept, "anyOf": [accepted, *options]}
