"""Every program on the page about actors prints what the page says it prints, and the page leaves nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import actors
from tests.docs.programs import output_of

PAGE = (Path(__file__).parents[2] / "docs" / "actors.md").read_text("utf-8")
PROGRAM = re.compile(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)

programs = [
    pytest.param(program, printed, id=f"program {number}")
    for number, (program, printed) in enumerate(PROGRAM.findall(PAGE), start=1)
]


def test_the_page_has_programs() -> None:
    assert len(programs) >= 8


@pytest.mark.parametrize(("program", "printed"), programs)
def test_a_program_prints_what_the_page_shows(program: str, printed: str, tmp_path: Path) -> None:
    assert output_of(program, tmp_path) == printed


@pytest.mark.parametrize("name", sorted(set(actors.__all__) - {"CallState"}))
def test_the_reference_names_everything_public(name: str) -> None:
    assert f"::: actors.{name}\n" in PAGE or f"| `{name}` |" in PAGE
