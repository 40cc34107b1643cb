"""The page on approval: its program prints what the page shows, and its configuration is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nanobot.config import config_from_tree
from tests.docs.programs import output_of

PAGE = (Path(__file__).parents[2] / "docs" / "approval.md").read_text()


def test_the_program_prints_what_the_page_shows(docs_home: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```\n", PAGE, re.DOTALL)
    assert len(programs) == PAGE.count("```python") == 2
    for program, printed in programs:
        assert output_of(program, docs_home) == printed


def test_the_configuration_is_read() -> None:
    (text,) = re.findall(r"```json\n(.*?)```\n", PAGE, re.DOTALL)
    config = config_from_tree(json.loads(text), path=None, env={})
    assert config.unknown_keys == ()
    assert config.tools.approval["mcp_*"] == "ask"
