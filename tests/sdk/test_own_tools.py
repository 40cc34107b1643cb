"""Tools of one's own through the SDK: methods, contexts, threads and cancels, per bot and per run."""

from __future__ import annotations

import asyncio
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
            "cancelled": context.cancel.requested,
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
                "cancelled": False,
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


def test_threads_can_wait_for_the_cancel_that_async_code_gets_anyway(
    host: Host, home: Path
) -> None:
    ended = threading.Semaphore(0)
    started = threading.Semaphore(0)

    @tool(read_only=True)
    def in_a_thread(context: RunContext) -> None:
        started.release()
        assert not context.cancel.wait(0)
        assert context.cancel.wait(60)
        ended.release()

    def work(context: RunContext) -> None:
        started.release()
        assert context.cancel.wait(60)
        ended.release()

    @tool(read_only=True)
    async def of_the_host(context: RunContext) -> None:
        with pytest.raises(UsageError, match="would block the event loop"):
            context.cancel.wait(0)
        assert not context.cancel.requested
        if host.name == "trio":
            await trio.to_thread.run_sync(work, context)  # does not return before the thread does
        else:
            await asyncio.to_thread(work, context)

    @tool(read_only=True, on_host=False)
    async def of_the_engine(context: RunContext) -> None:
        await trio.to_thread.run_sync(work, context)

    tools = [in_a_thread, of_the_host, of_the_engine]

    async def story() -> None:
        calls: list[tuple[str, Any]] = [(each.spec.name, {}) for each in tools]
        async with make(home, *calls, tools=tools) as bot:
            run = await bot.run_streamed("Go")
            for _ in tools:
                while not started.acquire(blocking=False):
                    await host.sleep(0.01)
            await run.cancel()
            assert (await run.wait()).stop_reason == "cancelled"
            for _ in tools:
                while not ended.acquire(blocking=False):
                    await host.sleep(0.01)

    with no_leaks():
        host.run(story)


def test_what_a_tool_with_a_context_raises_comes_alone(home: Path) -> None:
    class Odd(Exception):
        pass

    @tool
    async def fail(context: RunContext) -> None:
        raise Odd("so odd")

    with make(home, ("fail", {}), tools=[fail]) as bot:
        result = trio.run(lambda: bot.run("Go"))
        (said,) = (
            m for m in messages_from_openai(result.messages[1:]) if isinstance(m, ToolMessage)
        )
        assert "Odd: so odd" in str(said.content)


def test_a_sync_function_that_outlives_a_cancel_may_have_run(host: Host, home: Path) -> None:
    started, release, saw = threading.Event(), threading.Event(), threading.Event()

    @tool
    def stubborn(context: RunContext) -> str:
        started.set()
        while not release.wait(0.01):
            if context.cancel.requested:
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


def test_a_tool_that_awaits_something_cancelled_elsewhere_has_failed(home: Path) -> None:
    @tool
    async def lookup() -> str:
        """Look something up."""
        shared = asyncio.ensure_future(asyncio.sleep(60))
        shared.cancel()  # as by whoever else uses it
        await shared
        return "never"

    async def story() -> None:
        async with make(home, ("lookup", {}), tools=[lookup]) as bot:
            result = await bot.run("Go")
        assert "HostCancelled: the function, or what it awaited, was cancelled" in result.content
        assert result.stop_reason == "completed"

    asyncio.run(story())
