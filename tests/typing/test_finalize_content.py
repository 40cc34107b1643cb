"""The ways to write `finalize_content` that type checkers take. mypy reads this file; the test runs them."""

from __future__ import annotations

from pathlib import Path

from nanobot import Nanobot
from nanobot.agent import AgentHook, AgentHookContext
from nanobot.testing import InMemoryStore, ScriptedProvider


class Plain(AgentHook):
    def finalize_content(self, context: AgentHookContext, content: str) -> str:
        return content + " plain"


class AsInTheExistingNanobot(AgentHook):
    def finalize_content(self, context: AgentHookContext, content: str | None) -> str | None:
        return content and content + " optional"


class Awaited(AgentHook):
    async def finalize_content(self, context: AgentHookContext, content: str) -> str:
        return content + " awaited"


def test_each_of_them_is_asked(tmp_path: Path) -> None:
    hooks = [Plain(), AsInTheExistingNanobot(), Awaited()]
    model = ScriptedProvider(["said"])
    with Nanobot.from_config(provider=model, store=InMemoryStore(), workspace=tmp_path) as bot:
        assert bot.run_sync("Hi", hooks=hooks).content == "said plain optional awaited"
