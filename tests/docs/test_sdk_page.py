"""Every program on the SDK page prints what the page says it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.programs import output_of

PAGE = Path(__file__).parents[2] / "docs" / "python-sdk.md"
PROGRAM = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)

programs = [
    pytest.param(program, printed, id=f"program {number}")
    for number, (program, printed) in enumerate(PROGRAM.findall(PAGE.read_text()), start=1)
]


def test_the_page_has_programs() -> None:
    assert len(programs) >= 8


@pytest.mark.parametrize(("program", "printed"), programs)
def test_a_program_prints_what_the_page_shows(program: str, printed: str, docs_home: Path) -> None:
    assert output_of(program, docs_home) == printed
