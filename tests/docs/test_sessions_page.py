"""Every program on the pages about sessions and memory prints what its page says it prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanobot.testing import RecordedRequest, scripted_server
from tests.docs.programs import output_of

PAGES = [Path(__file__).parents[2] / "docs" / name for name in ("sessions.md", "memory.md")]
PROGRAM = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```\n", re.DOTALL)

programs = [
    pytest.param(program, printed, id=f"{page.stem}, program {number}")
    for page in PAGES
    for number, (program, printed) in enumerate(PROGRAM.findall(page.read_text()), start=1)
]


def answer(request: RecordedRequest) -> str:
    """What the page says that the model says."""
    messages = request.json["messages"]
    everything = " ".join(str(message["content"]) for message in messages)
    if "You keep the notes" in str(messages[0]["content"]):
        known = "degree in Business Administration" in everything
        return "The user has a degree in Business Administration." if known else "Nothing of note."
    if "What degree" in str(messages[-1]["content"]):
        return "Business Administration." if "Business Administration" in everything else "?"
    return "Hello."


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The HOME that the page assumes; programs started as child processes inherit it."""
    (tmp_path / ".nanobot").mkdir()
    with scripted_server(answer) as server:
        config = {
            "agents": {"defaults": {"model": "openai/gpt-4.1-mini"}},
            "providers": {"openai": {"apiKey": "sk-test", "apiBase": server.base_url}},
        }
        (tmp_path / ".nanobot" / "config.json").write_text(json.dumps(config))
        monkeypatch.setenv("HOME", str(tmp_path))
        yield tmp_path


def test_every_program_of_the_pages_is_here() -> None:
    assert len(programs) == sum(page.read_text().count("```python") for page in PAGES) >= 6


@pytest.mark.parametrize(("program", "printed"), programs)
def test_a_program_prints_what_the_page_shows(program: str, printed: str, home: Path) -> None:
    assert output_of(program, home) == printed
