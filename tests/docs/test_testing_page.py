"""The page on testing: its programs print what it shows, and its test suite passes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.programs import output_of

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```\n", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_a_program_prints_what_the_page_shows(number: int, docs_home: Path) -> None:
    program, printed = PROGRAMS[number]
    assert [line.rstrip() for line in output_of(program, docs_home).splitlines()] == [
        line.rstrip() for line in printed.splitlines()
    ]


def test_the_suite_passes(tmp_path: Path) -> None:
    (suite,) = re.findall(r"```python title=\"test_bot.py\"\n(.*?)```\n", PAGE, re.DOTALL)
    (tmp_path / "test_bot.py").write_text(suite)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr
