"""The page on approval: its program prints what the page shows, and its configuration is one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from nanobot.config import config_from_tree

PAGE = (Path(__file__).parents[2] / "docs" / "approval.md").read_text()


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


def test_the_configuration_is_read() -> None:
    (text,) = re.findall(r"```json\n(.*?)```\n", PAGE, re.DOTALL)
    config = config_from_tree(json.loads(text), path=None, env={})
    assert config.unknown_keys == ()
    assert config.tools.approval["mcp_*"] == "ask"
