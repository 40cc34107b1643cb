"""The page on typed results: its programs print what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.programs import output_of

PAGE = (Path(__file__).parents[2] / "docs" / "typed-results.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```\n", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(2))
def test_a_program_prints_what_the_page_shows(number: int, docs_home: Path) -> None:
    program, printed = PROGRAMS[number]
    assert output_of(program, docs_home) == printed
