"""What the examples meet: a HOME with a configuration, two files in the workspace, and a model that follows a script."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanobot.testing import Answer, HttpResponse, RecordedRequest, scripted_server

EXAMPLES = Path(__file__).parents[2] / "examples"
LETTERS = {
    "Ada": {
        "customer": "Ada",
        "kind": "order",
        "items": [{"name": "lamp", "quantity": 2}, {"name": "chair"}],
        "due": "2026-12-24",
    },
    "Charles": {"customer": "Charles", "kind": "complaint", "items": [], "due": None},
}


def answer(request: RecordedRequest) -> Answer | HttpResponse | str:
    """What the model of the examples says."""
    messages: list[dict[str, Any]] = request.json["messages"]
    asked = [str(message["content"]) for message in messages if message["role"] == "user"]
    question, last = asked[-1], messages[-1]
    if "response_format" in request.json or "cannot be used" in question:
        for name, found in LETTERS.items():
            if name in " ".join(asked):
                return json.dumps({"name": name, "age": 36} if "aged 36" in question else found)
        return "I cannot tell."
    if last["role"] == "tool":
        return _after_tool(str(last["content"]))
    if "has finished" in question:
        return "One is a note, the other a plan."
    if described := re.search(r"Describe (\S+)\.", question):
        return f"{described[1]} is what it is called."
    if "subagent describe each" in question:
        return Answer(
            tool_calls=[
                ("spawn", {"task": f"Describe {name}."}) for name in ("notes.txt", "plan.md")
            ]
        )
    if refund := re.search(r"Refund (\d+) for order (\d+)", question):
        arguments = {"order": int(refund[2]), "amount": int(refund[1])}
        return Answer(tool_calls=[("refund", arguments)])
    if cancelled := re.search(r"Cancel order (\d+)", question):
        return Answer(tool_calls=[("cancel_order", {"number": int(cancelled[1])})])
    if order := re.search(r"Where is order (\d+)", question):
        return Answer(tool_calls=[("order_status", {"number": int(order[1])})])
    if "files" in question:
        return Answer(tool_calls=[("list_dir", {"path": "."})])
    if "What degree" in question:
        known = re.search(r"graduated in ([\w ]+)\.", " ".join(asked))
        return f"In {known[1]}." if known else "I do not know."
    if "What is my name" in question:
        known = re.search(r"My name is (\w+)", " ".join(asked))
        return f"Your name is {known[1]}." if known else "I do not know your name."
    if "fail" in question:
        return HttpResponse(401)
    if "never ends" in question:
        return Answer(["And then ", "another thing. "], between_deltas_s=60)
    if "story" in question:
        return Answer(["Once ", "upon ", "a time."])
    return "Hello from a scripted model."


def _after_tool(content: str) -> str:
    if "shown its result" in content:
        return "I wait."
    if "not run:" in content:
        return f"Not done: {content.partition('not run: ')[2]}"
    if content.startswith(("Error", "{")) or "paid back" in content or "cancelled" in content:
        return content
    return "There are notes.txt and plan.md."


@pytest.fixture
def example_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The HOME of somebody who has configured nanobot."""
    workspace = tmp_path / ".nanobot" / "workspace"
    workspace.mkdir(parents=True)
    (workspace / "notes.txt").write_text("a note\n")
    (workspace / "plan.md").write_text("# A plan\n")
    with scripted_server(answer) as server:
        config = {
            "agents": {"defaults": {"model": "openai/gpt-4.1-mini"}},
            "providers": {"openai": {"apiKey": "sk-test", "apiBase": server.base_url}},
            "sessions": {"durability": "fast"},
        }
        (tmp_path / ".nanobot" / "config.json").write_text(json.dumps(config))
        monkeypatch.setenv("HOME", str(tmp_path))
        yield tmp_path


@pytest.fixture
def run_example(
    example_home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Runs an example as `python examples/NAME ARGUMENTS` does, and returns the lines it printed."""

    def run(name: str, *arguments: str) -> list[str]:
        path = EXAMPLES / name
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        runpy.run_path(str(path), run_name="__main__")
        return capfd.readouterr().out.splitlines()

    return run
