"""The page on hooks: its program prints what it shows, and its tables have every method and every field."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from nanobot.agent import AgentHook, AgentHookContext
from tests.docs.programs import output_of

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()


def test_the_program_prints_what_the_page_shows(docs_home: Path) -> None:
    ((program, printed),) = re.findall(
        r"```python\n(.*?)```\n\n```text\n(.*?)```\n", PAGE, re.DOTALL
    )
    assert output_of(program, docs_home) == printed


def test_every_method_has_its_line() -> None:
    methods = {name for name in vars(AgentHook) if not name.startswith("_")} - {"reraise"}
    assert set(re.findall(r"(?m)^\| `(\w+)\(", PAGE)) == methods


def test_every_field_has_its_line_and_its_docstring() -> None:
    fields = {field.name for field in dataclasses.fields(AgentHookContext)} - {"_segment"}
    table = PAGE.partition("## The context")[2].partition("##")[0]
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"(?m)^\|([^|]*)\|", table))))
    assert named == fields | {"streamed_content", "streamed_reasoning"}
    documented = AgentHookContext.__doc__ or ""
    assert [name for name in fields if f"{name}:" not in documented] == []
