"""Writes docs/tools/: one page per built-in tool, made from what the model is told of it.

    .venv/bin/python docs/generate/tool_pages.py

A test compares the pages with the tools.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nanobot.tools import Tool
from nanobot.tools.builtin import builtin_tools

FOLDER = Path(__file__).parents[1] / "tools"


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    return {f"{tool.spec.name}.md": page_of(tool) for tool in builtin_tools()}


def page_of(tool: Tool) -> str:
    """One tool: what the model is told, how it is run, and where it is explained."""
    spec = tool.spec
    schema = json.dumps(spec.parameters, indent=2, ensure_ascii=False)
    parts = [
        "<!-- Made by docs/generate/tool_pages.py from the tool itself. -->",
        f"# {spec.name}",
        spec.description,
        "\n".join(table(spec.parameters)),
        "\n".join(f"- {line}" for line in traits_of(tool)),
        f"What it does in detail, and what bounds it: [Tools](../tools.md#{spec.name}).",
        "## As the model is told",
        f"```json\n{schema}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def traits_of(tool: Tool) -> list[str]:
    """How it is run, as sentences."""
    traits = tool.traits
    beside = (
        "Only reads: runs beside other calls that only read."
        if traits.read_only and not traits.exclusive
        else "Runs alone, in the order of the calls."
    )
    asks = {
        "ask": "Asks for [approval](../approval.md) before each call, unless `tools.approval` says otherwise.",
        "never": "Asks nobody, unless `tools.approval` says so; see [approval](../approval.md).",
    }[traits.approval]
    bound = (
        "Bounds its results itself."
        if traits.bounds_result
        else "Results over `maxToolResultChars` are cut, and kept in a file."
    )
    limit = [] if traits.timeout_s is None else [f"May take {traits.timeout_s:g} s."]
    return [beside, asks, bound, *limit]


def table(schema: dict[str, Any]) -> list[str]:
    """A row per parameter; those of a list's items follow it."""
    rows = ["| parameter | type | default | |", "|---|---|---|---|"]
    return rows + _rows_of(schema, "")


def _rows_of(schema: dict[str, Any], prefix: str) -> list[str]:
    rows = []
    for name, each in schema["properties"].items():
        default = "required" if name in schema["required"] else f"`{_shown(each.get('default'))}`"
        text = each.get("description", "").replace("|", "\\|")
        rows.append(f"| `{prefix}{name}` | {_kind(each)} | {default} | {text} |")
        if "properties" in each.get("items", {}):
            rows += _rows_of(each["items"], f"{prefix}{name}[].")
    return rows


def _shown(default: object) -> str:
    return {"True": "true", "False": "false"}.get(str(default), str(default)) or '""'


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{choice}`" for choice in schema["enum"])
    bounds = [
        schema.get("minimum", schema.get("minItems")),
        schema.get("maximum", schema.get("maxItems")),
    ]
    low, high = ("" if bound is None else f"{bound:,}" for bound in bounds)
    return f"{schema['type']}{f', {low} to {high}' if high else f', at least {low}' if low else ''}"


def write() -> None:
    """Make the folder hold exactly these pages."""
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
