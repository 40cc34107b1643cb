"""A home folder whose config.json points every model of the page at one scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nanobot.testing import Answer, RecordedRequest, ScriptedServerThread, scripted_server


@dataclass
class World:
    """Where the examples live."""

    home: Path
    workspace: Path
    server: ScriptedServerThread


def answer(request: RecordedRequest) -> Answer | str:
    """What a model would plausibly say to the questions of the page."""
    body = request.json
    messages = body["messages"]
    if messages[-1]["role"] == "tool":
        return f"Here are the files I found: {messages[-1]['content'].splitlines()[0]}"
    said = str(messages[-1]["content"]).lower()
    tools = {tool["function"]["name"] for tool in body.get("tools", [])}
    if ("list" in said or "files" in said) and "list_dir" in tools:
        return Answer(text="Let me look.", tool_calls=[("list_dir", {"path": "."})])
    everything = " ".join(str(message["content"]) for message in messages).lower()
    if "what is my name" in said:
        return "Your name is Alice." if "my name is alice" in everything else "I do not know."
    if "what degree" in said:
        return (
            "Business Administration."
            if "business administration" in everything
            else "I do not know."
        )
    return Answer(text="The secret is that all is well.", reasoning="Thinking about it.")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A fresh HOME with a config, a workspace with two files in it, and a model that answers."""
    workspace = tmp_path / ".nanobot" / "workspace"
    workspace.mkdir(parents=True)
    (workspace / "notes.txt").write_text("a note\n")
    (workspace / "plan.md").write_text("# A plan\n")
    with scripted_server(answer) as server:
        config = {
            "agents": {"defaults": {"model": "openai/gpt-4.1-mini"}},
            "providers": {"openai": {"apiKey": "sk-test", "apiBase": server.base_url}},
            "modelPresets": {
                "fast": {"model": "openai/gpt-4.1-nano"},
                "reasoning": {"model": "openai/o3"},
            },
        }
        (tmp_path / ".nanobot" / "config.json").write_text(json.dumps(config))
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        yield World(tmp_path, workspace, server)
