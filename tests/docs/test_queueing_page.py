"""The page on queueing: its programs print what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.programs import output_of

PAGE = (Path(__file__).parents[2] / "docs" / "queueing.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```\n", PAGE, re.DOTALL)


def test_every_program_has_its_output() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") == 3


@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
def test_a_program_prints_what_the_page_shows(program: str, printed: str, docs_home: Path) -> None:
    assert output_of(program, docs_home) == printed
