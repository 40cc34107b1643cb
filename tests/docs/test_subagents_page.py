"""The page on subagents: its program prints what the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "subagents.md").read_text()


def test_the_program_prints_what_the_page_shows(docs_home: Path) -> None:
    ((program, printed),) = re.findall(
        r"```python\n(.*?)```\n\n```text\n(.*?)```\n", PAGE, re.DOTALL
    )
    completed = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=docs_home,
        check=False,
    )
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout == printed
