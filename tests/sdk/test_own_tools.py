"""Tools of one's own through the SDK: methods, contexts, threads and cancels, per bot and per run."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import trio
from msgspec import Meta

from nanobot import Nanobot, RunContext, tool
from nanobot.errors import UsageError
from nanobot.messages import ToolMessage, check, messages_from_openai
from nanobot.providers import ModelRequest
from nanobot.testing import Answer, ScriptedProvider, no_leaks
from nanobot.tools import Tool

if TYPE_CHECKING:
    from tests.sdk.conftest import Host


def make(home: Path, *calls: tuple[str, Any], tools: Sequence[Tool] = ()) -> Nanobot:
    """A bot whose model makes these calls first, and then says what it was told."""

    def answer(request: ModelRequest) -> Answer | str:
        if isinstance(request.messages[-1], ToolMessage):
            return " | ".join(
                str(message.content)
                for message in request.messages
                if isinstance(message, ToolMessage)
            )
        return Answer(tool_calls=calls)

    path = home / "config.json"
    config = {
        "agents": {"defaults": {"model": "openai/m", "workspace": str(home / "workspace")}},
        "providers": {"openai": {"apiKey": "sk-test"}},
    }
    path.write_text(json.dumps(config))
    return Nanobot.from_config(path, provider=ScriptedProvider(answer), tools=tools)


class Shop:
    def __init__(self, city: str) -> None:
        self.city = city

    @tool(read_only=True)
    async def stock(
        self, item: Annotated[str, Meta(description="What.")], at_least: int = 1
    ) -> str:
        """Look up how many there are."""
        return f"{at_least} {item} in {self.city}"

    @tool
    def order(self, context: RunContext, item: str) -> dict[str, Any]:
        """Order one."""
        return {
            "item": item,
            "deps": context.deps,
            "session": context.session_key,
            "workspace": context.workspace.name,
            "call": context.tool_call_id != "",
            "abandoned": context.abandoned,
        }


def test_bound_methods_are_tools_of_a_bot_or_of_one_run(host: Host, home: Path) -> None:
    async def story() -> None:
        rome, oslo = Shop("Rome"), Shop("Oslo")
        calls = [("stock", {"item": "tea", "at_least": "5"}), ("order", {"item": "tea"})]
        async with make(home, *calls, tools=[rome.stock]) as bot:
            result = await bot.run("Go", session_key="a", tools=[oslo.order], deps=["mine"])
            assert result.tools_used == ["stock", "order"]
            stock, _, order = result.content.partition(" | ")
            assert stock == "5 tea in Rome"
            assert json.loads(order) == {
                "item": "tea",
                "deps": ["mine"],
                "session": "a",
                "workspace": "workspace",
                "call": True,
                "abandoned": False,
            }
            assert "order" not in bot.tools
            result = await bot.run("Go", session_key="b")
            assert "There is no tool called 'order'. " in result.content

    host.run(story)


def test_bot_tools_lists_what_is_offered(home: Path) -> None:
    with make(home, tools=[Shop("Rome").stock]) as bot:
        names = list(bot.tools.names)
        assert names[-1] == "stock"
        assert {"read_file", "write_file", "grep", "spawn"} <= set(names)
        assert [spec.name for spec in bot.tools.specs] == sorted(names)
        stock = bot.tools.get("stock")
        assert stock is not None
        assert stock.spec.description == "Look up how many there are."


def test_two_tools_of_one_name_are_refused_where_they_meet(home: Path) -> None:
    rome, oslo = Shop("Rome"), Shop("Oslo")
    with pytest.raises(UsageError, match="Two tools are called 'stock'"):
        make(home, tools=[rome.stock, oslo.stock])
    with make(home, tools=[rome.stock]) as bot:
        with pytest.raises(UsageError, match="Two tools are called 'stock'"):
            trio.run(lambda: bot.run("Go", tools=[oslo.stock]))


def test_a_sync_function_that_outlives_a_cancel_may_have_run(host: Host, home: Path) -> None:
    started, release, saw = threading.Event(), threading.Event(), threading.Event()

    @tool
    def stubborn(context: RunContext) -> str:
        started.set()
        while not release.wait(0.01):
            if context.abandoned:
                saw.set()
        return "done"

    @tool
    def later() -> None:
        raise AssertionError

    async def story() -> None:
        async with make(home, ("stubborn", {}), ("later", {}), tools=[stubborn, later]) as bot:
            run = await bot.run_streamed("Go", session_key="a")
            while not started.is_set():
                await host.sleep(0.01)
            await run.cancel()
            result = await run.wait()
            said = messages_from_openai(result.messages[1:])
            assert check(said) == ()
            first, second = (str(m.content) for m in said if isinstance(m, ToolMessage))
            assert "It may have run in part or in full" in first
            assert "was not run" in second
            while not saw.is_set():
                await host.sleep(0.01)
            release.set()

    with no_leaks():
        host.run(story)


def test_a_bot_that_starts_removes_results_that_were_kept_for_long(host: Host, home: Path) -> None:
    place = home / "workspace" / ".nanobot" / "tool-results" / "a"
    place.mkdir(parents=True)
    for name in ("old", "young"):
        (place / name).write_text("text")
    os.utime(place / "old", (0, 0))

    async def story() -> None:
        async with make(home) as bot:
            await bot.run("Go")
            while (place / "old").exists():
                await host.sleep(0.01)
        assert (place / "young").exists()

    host.run(story)
