"""The pages that have generators, whole or in part, are what their generators write today."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["cli", "configuration", "performance"])
def test_a_page_is_what_its_generator_writes(name: str) -> None:
    path = DOCS / "generate" / f"{name}_page.py"
    spec = importlib.util.spec_from_file_location(f"generate_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    current = (DOCS / f"{name}.md").read_text("utf-8")
    assert current == generator.page(), f"run: python docs/generate/{name}_page.py"
