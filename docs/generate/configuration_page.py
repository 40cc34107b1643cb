"""Writes docs/configuration.md from the Structs that read config.json.

python docs/generate/configuration_page.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from nanobot.config import Settings

PAGE = Path(__file__).parents[1] / "configuration.md"

HEAD = """# Configuration

This page is written by `docs/generate/configuration_page.py` from the Structs that read the file.

`config.json` is in `~/.nanobot`, or wherever `--config` and `Nanobot.from_config(path)` say. All of
it may be missing. `nanobot config get KEY` and `nanobot config set KEY VALUE` read and change one
setting, `nanobot status` says what comes of it all and lists keys that nothing reads, and
`nanobot config schema` prints a JSON Schema for editors:

```sh
nanobot config schema > ~/.nanobot/schema.json
nanobot config set '$schema' ./schema.json
```

- Keys are written in camelCase; snake_case is read as well.
- `${NAME}` in any text is replaced by an environment variable. All variables that are missing are
  reported together.
- An `apiKey` that is not set falls back to the provider's usual variable, such as
  `OPENAI_API_KEY`.
- The file is replaced in one step and is readable by its owner only (mode 0600). Keys that nanobot
  does not know are kept.
"""


def page() -> str:
    """The whole page."""
    root = msgspec.json.schema(Settings)
    lines = [HEAD, *_section(Settings.__name__, "", root, set())]
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, path: str, root: dict[str, Any], done: set[str]) -> Iterator[str]:
    """One object of the file, and below it those that are in it."""
    schema = root["$defs"][name]
    done.add(name)
    inner: list[tuple[str, str]] = []
    rows = []
    for key, member in schema["properties"].items():
        where = f"{path}.{key}" if path else key
        found = [(below, where + more) for below, more in _objects(member)]
        inner += found
        if found and _plain(member) == "":
            continue
        default = "" if key in schema.get("required", ()) else _default(member)
        rows.append(
            f"| `{key}` | {_plain(member)} | {default} | {_escaped(member.get('description', ''))} |"
        )
    if path:
        yield f"## `{path}`\n"
        yield f"{cleandoc(schema['description'])}\n"
    if rows:
        yield "| key | value | default | |\n|---|---|---|---|"
        yield from rows
        yield ""
    for below, where in inner:
        if below in done and below != "ModelPreset":
            yield f"## `{where}`\n\n{cleandoc(root['$defs'][below]['description'])}\n"
        else:
            yield from _section(below, where, root, done)


def _objects(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The Structs that a value may be made of, each with the path from the value to it."""
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2], ""
    for choice in schema.get("anyOf", ()):
        yield from _objects(choice)
    if isinstance(schema.get("items"), dict):
        yield from ((name, f"[]{more}") for name, more in _objects(schema["items"]))
    if isinstance(schema.get("additionalProperties"), dict):
        inside = _objects(schema["additionalProperties"])
        yield from ((name, f".<name>{more}") for name, more in inside)


def _plain(schema: dict[str, Any]) -> str:
    """What a value that is no object may be, in words."""
    if "$ref" in schema:
        return ""
    if "anyOf" in schema:
        return " or ".join(filter(None, map(_plain, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    match schema.get("type"):
        case "array":
            return f"list of {_plain(schema['items']) or 'objects'}"
        case "object":
            values = schema.get("additionalProperties")
            if isinstance(values, dict) and "$ref" in values:
                return ""
            return "object"
        case "string":
            return "secret text" if schema.get("writeOnly") else "text"
        case "integer" | "number" as kind:
            return ("whole number" if kind == "integer" else "number") + _limits(schema)
        case "boolean":
            return "true or false"
        case "null":
            return "null"
    return "anything"


def _limits(schema: dict[str, Any]) -> str:
    low = schema.get("minimum")
    above = schema.get("exclusiveMinimum")
    high = schema.get("maximum")
    high = None if high == 2**53 else high
    if above is not None:
        return f" above {above:g}" + (f", at most {high:g}" if high is not None else "")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    return f", at least {low:g}" if low is not None else ""


def _default(schema: dict[str, Any]) -> str:
    if "default" not in schema:
        return ""
    return f"`{json.dumps(schema['default'], ensure_ascii=False)}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
