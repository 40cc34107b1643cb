"""The page on tracing: its first program prints the spans that the page shows, its second logs what the page says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.programs import output_of

PAGE = (Path(__file__).parents[2] / "docs" / "tracing.md").read_text()
TRACES, LOGS = re.findall(r"```python\n(.*?)```\n", PAGE, re.DOTALL)


def test_the_spans_are_those_of_the_page(docs_home: Path) -> None:
    (shown,) = re.findall(r"```text\n(.*?)```\n", PAGE, re.DOTALL)
    printed = output_of(TRACES, docs_home).partition("---\n")[2].splitlines()
    # A run that had to wait for longer than a millisecond says so, which depends on the machine.
    assert [line for line in printed if not line.endswith(" wait")] == shown.splitlines()


def test_the_log_is_lines_of_json(docs_home: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOGS], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    (ended,) = [line for line in lines if line["logger"] == "nanobot.runs"]
    assert (ended["session_key"], ended["stop_reason"]) == ("user:7", "completed")
