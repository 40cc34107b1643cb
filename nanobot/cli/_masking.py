"""Settings as they may be shown: what is secret is hidden, references to variables are not. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from ._json_schema import definition, is_secret

__all__ = ["HIDDEN", "masked"]

HIDDEN: Final = "(hidden)"

_REFERENCE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_TABLES: Final = frozenset(
    {"env", "extraHeaders", "extraQuery", "headers"}
)  # where people put tokens
_TELLING: Final = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)


def masked(value: Any, schema: dict[str, Any], root: dict[str, Any], name: str = "") -> Any:
    """The value with every secret replaced; `schema` is that of the value, `name` the key it stands under.

    Keys that the schema does not know are judged by their names.
    """
    known = definition(schema, root)
    if isinstance(value, dict):
        properties = known.get("properties", {})
        others = known.get("additionalProperties")
        inside = name in _TABLES
        return {
            key: _hidden(member)
            if inside
            else masked(
                member, properties.get(key, others if isinstance(others, dict) else {}), root, key
            )
            for key, member in value.items()
        }
    if isinstance(value, list):
        items = known.get("items")
        return [
            masked(item, items if isinstance(items, dict) else {}, root, name) for item in value
        ]
    unknown = not known and _TELLING.search(name) is not None
    return _hidden(value) if is_secret(known) or unknown else value


def _hidden(value: Any) -> Any:
    if not isinstance(value, str) or not value or _REFERENCE.fullmatch(value):
        return value
    return HIDDEN
