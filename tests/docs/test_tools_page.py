"""The page on tools says what the model is told: every parameter, in the words of its schema."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nanobot.tools import Tool
from nanobot.tools.builtin import builtin_tools

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"
"""Written by hand but for its tables: where one is wrong, the failure shows the right one."""


@pytest.mark.parametrize("tool", builtin_tools(), ids=lambda tool: tool.spec.name)
def test_every_built_in_tool_has_a_section_with_its_parameters(tool: Tool) -> None:
    page = PAGE.read_text()
    section = page.partition(f"\n## {tool.spec.name}\n")[2].partition("\n## ")[0]
    assert section, f"docs/tools.md has no section on {tool.spec.name}"
    expected = "\n".join(table(tool.spec.parameters))
    parts = (part.strip() for part in section.split("\n\n"))
    written = "\n".join(part for part in parts if part.startswith("| parameter |"))
    assert written == expected, f"the table of {tool.spec.name} should be:\n{expected}"


def test_no_section_is_about_a_tool_that_is_none() -> None:
    sections = re.findall(r"^## ([a-z_]+)$", PAGE.read_text(), re.MULTILINE)
    assert sections == sorted(tool.spec.name for tool in builtin_tools())


def table(schema: dict[str, Any]) -> list[str]:
    """A row per parameter; those of a list's items follow it."""
    rows = ["| parameter | type | default | |", "|---|---|---|---|"]
    return rows + rows_of(schema, "")


def rows_of(schema: dict[str, Any], prefix: str) -> list[str]:
    rows = []
    for name, each in schema["properties"].items():
        default = "required" if name in schema["required"] else f"`{shown(each.get('default'))}`"
        text = each.get("description", "").replace("|", "\\|")
        rows.append(f"| `{prefix}{name}` | {kind(each)} | {default} | {text} |")
        if "properties" in each.get("items", {}):
            rows += rows_of(each["items"], f"{prefix}{name}[].")
    return rows


def shown(default: object) -> str:
    return {"True": "true", "False": "false"}.get(str(default), str(default)) or '""'


def kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{choice}`" for choice in schema["enum"])
    bounds = [
        schema.get("minimum", schema.get("minItems")),
        schema.get("maximum", schema.get("maxItems")),
    ]
    low, high = ("" if bound is None else f"{bound:,}" for bound in bounds)
    return f"{schema['type']}{f', {low} to {high}' if high else f', at least {low}' if low else ''}"
