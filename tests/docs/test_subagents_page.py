"""The page on subagents: its programs print what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.programs import output_of

PAGE = (Path(__file__).parents[2] / "docs" / "subagents.md").read_text()


def test_the_programs_print_what_the_page_shows(docs_home: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```\n", PAGE, re.DOTALL)
    assert len(programs) == 2
    for program, printed in programs:
        assert output_of(program, docs_home) == printed
