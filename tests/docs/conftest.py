"""Where the documentation's programs run: a fresh HOME, two files in its workspace, and a model that knows the pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanobot.testing import Answer, HttpResponse, RecordedRequest, scripted_server


def answer(request: RecordedRequest) -> Answer | HttpResponse | str:
    """What the pages say that the model says."""
    messages: list[dict[str, Any]] = request.json["messages"]
    last = messages[-1]
    said = " ".join(str(message["content"]) for message in messages if message["role"] == "user")
    if last["role"] == "tool":
        if last["content"].startswith("in "):
            return f"It is {last['content']}."
        if "shown its result" in last["content"]:
            return "I wait for them."
        if "not run:" in last["content"]:
            return f"Not done: {last['content'].partition('not run: ')[2]}"
        if "paid back" in last["content"]:
            return str(last["content"])
        if "deposit" in said:
            return f"The lawyer says: {last['content']}"
        return "There are notes.txt and plan.md."
    question = str(last["content"])
    if "Ask the lawyer" in question:
        return Answer(tool_calls=[("ask_lawyer", {"question": "May a deposit be kept?"})])
    if "May a deposit be kept" in question:
        return "No, not for longer than 14 days."
    if "Extract" in question:
        return '{"name":"Ada","age":36}'
    if "that you started" in question:
        return "notes.txt is a note, plan.md is a plan."
    if described := re.search(r"Describe (\S+)\.", question):
        return f"{described[1]} is what it is called."
    if "Compare" in question:
        files = ("notes.txt", "plan.md")
        return Answer(tool_calls=[("spawn", {"task": f"Describe {name}."}) for name in files])
    if "files" in question:
        return Answer(tool_calls=[("list_dir", {"path": "."})])
    if refund := re.search(r"Refund (\d+) for order (\d+)", question):
        arguments = {"order": int(refund[2]), "amount": int(refund[1])}
        return Answer(tool_calls=[("refund", arguments)])
    if order := re.search(r"order (\d+)", question):
        return Answer(tool_calls=[("order_status", {"number": int(order[1])})])
    if "What is my name" in question:
        known = re.search(r"My name is (\w+)", said)
        return f"Your name is {known[1]}." if known else "I do not know your name."
    if introduced := re.search(r"My name is (\w+)", question):
        return f"Nice to meet you, {introduced[1]}."
    if "fail" in question:
        return HttpResponse(401)
    if "story" in question:
        return Answer(["Once ", "upon ", "a ", "time."], between_deltas_s=0.5)
    return "Hello from a scripted model."


@pytest.fixture
def docs_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The HOME that the pages assume; programs started as child processes inherit it."""
    workspace = tmp_path / ".nanobot" / "workspace"
    workspace.mkdir(parents=True)
    (workspace / "notes.txt").write_text("a note\n")
    (workspace / "plan.md").write_text("# A plan\n")
    with scripted_server(answer) as server:
        config = {
            "agents": {"defaults": {"model": "openai/gpt-4.1-mini"}},
            "providers": {"openai": {"apiKey": "sk-test", "apiBase": server.base_url}},
        }
        (tmp_path / ".nanobot" / "config.json").write_text(json.dumps(config))
        monkeypatch.setenv("HOME", str(tmp_path))
        yield tmp_path
