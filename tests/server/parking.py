"""A bot whose model wants something done that somebody has to approve, and whose runs are parked for that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nanobot import Nanobot, Park, tool
from nanobot.testing import Answer, ScriptedProvider

CALL = Answer("A moment. ", tool_calls=[("launch", {"target": "moon"})])

launched: list[str] = []
"""What was launched in this process. A test that asks for it clears it first."""


@tool(approval="ask")
async def launch(target: str) -> str:
    """Launch."""
    launched.append(target)
    return f"launched to {target}"


def make_bot(folder: Path, model: Any) -> Nanobot:
    """A bot in a folder of its own; `model` is what a `ScriptedProvider` is made of."""
    config = {"agents": {"defaults": {"model": "scripted/m"}}}
    config["providers"] = {"scripted": {"apiKey": "k", "apiBase": "http://127.0.0.1:9/v1"}}
    (folder / "config.json").write_text(json.dumps(config))
    return Nanobot.from_config(
        folder / "config.json",
        workspace=folder / "workspace",
        provider=ScriptedProvider(model),
        tools=[launch],
        approver=Park(),
    )
