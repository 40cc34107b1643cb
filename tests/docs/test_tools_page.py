"""The pages on tools say what the model is told: every parameter, in the words of its schema."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from nanobot.tools.builtin import builtin_tools

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "tools.md"
"""Written by hand; the parameters are on generated pages."""

HOW = "run .venv/bin/python docs/generate/tool_pages.py"


def script(path: Path) -> ModuleType:
    """A program that is no module of a package."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED = script(DOCS / "generate" / "tool_pages.py")


@pytest.mark.parametrize("name", sorted(tool.spec.name for tool in builtin_tools()))
def test_every_built_in_tool_has_a_section_that_leads_to_its_parameters(name: str) -> None:
    section = PAGE.read_text().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert section.lstrip().startswith(f"[Parameters](tools/{name}.md).")


def test_parameters_stand_in_one_place_the_generated_one() -> None:
    assert "| parameter |" not in PAGE.read_text()
    for name, page in GENERATED.pages().items():
        assert page.count("| parameter |") == 1, name


def test_no_section_is_about_a_tool_that_is_none() -> None:
    sections = re.findall(r"^## ([a-z_]+)$", PAGE.read_text(), re.MULTILINE)
    assert sections == sorted(tool.spec.name for tool in builtin_tools())


@pytest.mark.parametrize("name", sorted(GENERATED.pages()))
def test_every_built_in_tool_has_a_page_that_is_current(name: str) -> None:
    page = DOCS / "tools" / name
    assert page.is_file(), f"docs/tools/{name} is missing: {HOW}"
    assert page.read_text() == GENERATED.pages()[name], f"docs/tools/{name} is old: {HOW}"


def test_no_page_is_about_a_tool_that_is_none_and_the_menu_has_all() -> None:
    names = {page.name for page in (DOCS / "tools").iterdir()}
    assert names == GENERATED.pages().keys(), HOW
    menu = re.findall(r"tools/(\w+\.md)", (DOCS.parent / "mkdocs.yml").read_text())
    assert sorted(menu) == menu == sorted(names)
