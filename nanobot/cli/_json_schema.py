"""The JSON Schema of `config.json`, from the same Structs that read it. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from nanobot.config import Settings

__all__ = ["config_schema", "definition", "is_secret"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_REFERENCE: Final = {
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}",
    "description": "Taken from an environment variable.",
}


def config_schema() -> dict[str, Any]:
    """The schema, for editors: each key with its description, limits and default; `${VAR}` may stand for any value."""
    schema = msgspec.json.schema(Settings)
    definitions = {name: _with_references(one) for name, one in schema["$defs"].items()}
    root = definitions.pop("Settings")
    root["properties"] = {"$schema": {"type": "string"}, **root["properties"]}
    return {"$schema": _DIALECT, **root, "title": "nanobot config.json", "$defs": definitions}


def definition(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, with a `$ref` to a definition of the root followed."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: dict[str, Any] = root["$defs"][str(reference).rpartition("/")[2]]
    return found


def is_secret(schema: dict[str, Any]) -> bool:
    """Whether a value of this schema is one that must not be shown."""
    return bool(schema.get("writeOnly")) or any(map(is_secret, schema.get("anyOf", ())))


def _with_references(schema: dict[str, Any]) -> dict[str, Any]:
    """Let `${VAR}` stand where something else than any text is asked for."""
    changed = {key: value for key, value in schema.items() if key not in ("properties", "items")}
    if "properties" in schema:
        changed["properties"] = {
            key: _with_references(value) for key, value in schema["properties"].items()
        }
    if isinstance(schema.get("items"), dict):
        changed["items"] = _with_references(schema["items"])
    choices = schema.get("anyOf")
    if choices is not None:
        if any(map(_restricts, choices)):
            changed["anyOf"] = [*choices, _REFERENCE]
    elif _restricts(schema):
        kept: dict[str, Any] = {
            key: changed.pop(key) for key in ("description", "default") if key in changed
        }
        changed = {**kept, "anyOf": [changed, _REFERENCE]}
    return changed


def _restricts(schema: dict[str, Any]) -> bool:
    plain = schema.get("type") in ("integer", "number", "boolean")
    return plain or "enum" in schema or "pattern" in schema or "minLength" in schema
