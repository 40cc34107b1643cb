"""JSON schemas as services take them that hold a model's answer to one."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["strict_schema"]

_SAID_IN_WORDS: Final = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matches the regular expression {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} members",
    "maxProperties": "at most {} members",
    "default": "{} if nothing better is known",
}
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
_JSON_TYPES: Final = {str: "string", bool: "boolean", int: "integer", float: "number"}


class _Inexpressible(Exception):
    """Something in a schema that no strict one can say."""


def strict_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Write a schema so that every service which enforces schemas takes it; None if it cannot be written so.

    Enforced schemas know structure only: each object lists its members, requires all of them and allows no others. Bounds,
    patterns and defaults are said in the descriptions; whoever reads the answer checks them. An object with any keys, a
    tuple, and a value of any type cannot be said at all.

    Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas,
    https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
    """
    try:
        return _strict(schema)
    except _Inexpressible:
        return None


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    strict: dict[str, Any] = {}
    said = [str(schema["description"])] if schema.get("description") else []
    said += [
        words.format(schema[key])
        for key, words in _SAID_IN_WORDS.items()
        if schema.get(key) is not None
    ]
    if said:
        strict["description"] = "; ".join(said)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return strict | {"anyOf": [_strict(choice) for choice in choices]}
    if "const" in schema:
        schema = {**schema, "enum": [schema["const"]]}
    if "enum" in schema:
        return strict | _enum(schema["enum"])
    match schema.get("type"):
        case "object":
            return strict | _object(schema)
        case "array" if isinstance(items := schema.get("items"), dict):
            return strict | {"type": "array", "items": _strict(items)}
        case "string" if schema.get("format") in _FORMATS:
            return strict | {"type": "string", "format": schema["format"]}
        case "string" | "integer" | "number" | "boolean" | "null" as kind:
            return strict | {"type": kind}
    raise _Inexpressible


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    if not properties or schema.get("additionalProperties"):
        raise _Inexpressible
    return {
        "type": "object",
        "properties": {name: _strict(part) for name, part in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


def _enum(values: list[Any]) -> dict[str, Any]:
    kinds = {type(value) for value in values}
    if len(kinds) != 1 or not kinds <= _JSON_TYPES.keys():
        if kinds == {type(None)}:
            return {"type": "null"}
        split = [[value for value in values if type(value) is kind] for kind in kinds]
        return {"anyOf": [_enum(part) for part in split]} if len(kinds) > 1 else _nothing()
    return {"type": _JSON_TYPES[kinds.pop()], "enum": list(values)}


def _nothing() -> dict[str, Any]:
    raise _Inexpressible
