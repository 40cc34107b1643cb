"""From the JSON text that a model wrote to values that a function takes."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from nanobot.errors import ToolError

from ._repair import repair_object
from ._schema import Parameters

__all__ = ["convert_arguments", "decode_arguments"]

_WRAPPER = "arguments"
"""Some models repeat the whole call inside it: `{"arguments": {"path": "."}}`."""


def decode_arguments(text: str, parameter_names: Collection[str] = ()) -> dict[str, Any]:
    """Read the arguments of a tool call as a JSON object, whatever their types.

    An empty text and `null` are no arguments. JSON inside a JSON string is read, an object inside `arguments` is
    unwrapped unless that is the name of a parameter, and JSON that is almost right is repaired where that leaves no
    choice.

    Args:
      text: What the model wrote.
      parameter_names: What the tool's parameters are called.

    Raises:
      ToolError: It is no object, with a text for the model.
    """
    value = _decode(text)
    if isinstance(value, dict) and value.keys() == {_WRAPPER} and _WRAPPER not in parameter_names:
        inner = value[_WRAPPER]
        inner = _decode(inner) if isinstance(inner, str) else inner
        value = inner if isinstance(inner, dict) else value
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ToolError(
            f"The arguments are JSON of type {_json_type(value)}, not an object. Send an object with a member per parameter"
            f"{_such_as(parameter_names)}."
        )
    return value


def _decode(text: str) -> Any:
    if not text.strip():
        return None
    try:
        value = msgspec.json.decode(text)
        if isinstance(value, str):
            value = msgspec.json.decode(value) if value.strip() else None
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        repaired = repair_object(text)
        if repaired is None:
            raise ToolError(
                f"The arguments are not valid JSON ({error}). Send one complete JSON object."
            ) from error
        return repaired
    return value


def convert_arguments(given: dict[str, Any], parameters: Parameters) -> dict[str, Any]:
    """Convert a JSON object to the values of a function's parameters, defaults filled in.

    What can only be meant in one way is taken so: "5" for 5, "true" and 1 for true, null for a parameter that has a
    default and no null, JSON inside a string for a list or an object.

    Raises:
      ToolError: Something is missing, unexpected or of the wrong type; all of it is named, with what was expected.
    """
    try:
        model = msgspec.convert(given, parameters.model, strict=False, str_keys=True)
    except (msgspec.ValidationError, RecursionError):
        try:
            model = msgspec.convert(
                _as_meant(given, parameters), parameters.model, strict=False, str_keys=True
            )
        except (msgspec.ValidationError, RecursionError) as error:
            raise ToolError(_what_is_wrong(given, parameters)) from error
    return {name: getattr(model, name) for name in parameters.types}


def _as_meant(given: dict[str, Any], parameters: Parameters) -> dict[str, Any]:
    meant: dict[str, Any] = {}
    for name, value in given.items():
        schema = parameters.schema["properties"].get(name, {})
        optional = name not in parameters.schema["required"]
        if value is None and optional and not _takes(schema, "null"):
            continue
        if isinstance(value, str) and not _takes(schema, "string"):
            value = _unpacked(value)
        meant[name] = value
    return meant


def _unpacked(text: str) -> Any:
    """The list or object that a string holds as JSON; else the string."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return value if isinstance(value, list | dict) else text


def _takes(schema: Mapping[str, Any], json_type: str) -> bool:
    """Whether a schema allows some value of a JSON type."""
    if "anyOf" in schema:
        return any(_takes(part, json_type) for part in schema["anyOf"])
    if "enum" in schema:
        return any(_json_type(value) == json_type for value in schema["enum"])
    return bool(schema.get("type", json_type) == json_type)


def _what_is_wrong(given: dict[str, Any], parameters: Parameters) -> str:
    properties: dict[str, Any] = parameters.schema["properties"]
    meant = _as_meant(given, parameters)
    wrong = [f"`{name}` is required" for name in parameters.schema["required"] if name not in given]
    for name, value in meant.items():
        if name not in properties:
            close = difflib.get_close_matches(name, properties, n=1)
            wrong.append(
                f"`{name[:100]}` is no parameter"
                + (f" (did you mean `{close[0]}`?)" if close else "")
            )
            continue
        try:
            msgspec.convert(value, parameters.types[name], strict=False, str_keys=True)
        except msgspec.ValidationError as error:
            reason, _, where = str(error).partition(" - at `$")
            wrong.append(f"`{name}{where.rstrip('`')}`: {reason[:1].lower()}{reason[1:]}")
        except RecursionError:
            wrong.append(f"`{name}` is nested too deeply")
    expected = (
        "; ".join(_described(name, properties[name], parameters) for name in properties) or "none"
    )
    return f"Wrong arguments: {'; '.join(wrong)}.\nExpected: {expected}.\nCall the tool again with these corrected."


def _described(name: str, schema: Mapping[str, Any], parameters: Parameters) -> str:
    return (
        f"{name} ({_kind(schema)}{', required' if name in parameters.schema['required'] else ''})"
    )


def _kind(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(part) for part in schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(
            msgspec.json.encode(value).decode() for value in schema["enum"]
        )
    kind = str(schema.get("type", "any value"))
    bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([kind, *bounds])


_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _such_as(parameter_names: Collection[str]) -> str:
    return f": {', '.join(parameter_names)}" if parameter_names else ""
