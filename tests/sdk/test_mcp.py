"""MCP servers through the SDK: offered and called in every host, never another bot's, and gone with the bot."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from nanobot import Nanobot
from nanobot.errors import BotClosed, UsageError
from nanobot.testing import Answer, RecordedRequest, no_leaks, scripted_server
from nanobot.tools import tool
from tests.sdk.bots import KEY

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

SERVER = Path(__file__).parents[1] / "tools" / "mcp" / "stdio_server.py"


def small(misbehaves: str = "", **settings: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-S", str(SERVER), misbehaves], **settings}


def make_bot(folder: Path, base_url: str, **servers: dict[str, Any]) -> Nanobot:
    folder.mkdir(exist_ok=True)
    config = {
        "agents": {"defaults": {"model": "scripted/m"}},
        "providers": {"scripted": {"apiKey": KEY, "apiBase": base_url}},
        "tools": {"mcpServers": servers},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return Nanobot.from_config(folder / "config.json", workspace=folder / "workspace")


def offered(request: RecordedRequest) -> list[str]:
    """Names of the MCP tools that the model was offered."""
    names = [each["function"]["name"] for each in request.json.get("tools", ())]
    return [name for name in names if name.startswith("mcp_")]


def echoing(request: RecordedRequest) -> Answer | str:
    """A model that has its first MCP tool that echoes say what the user said, and tells what came back."""
    if request.last_role == "tool":
        return f"It said: {request.json['messages'][-1]['content']}"
    (name,) = [name for name in offered(request) if name.endswith("_echo")]
    return Answer(tool_calls=[(name, {"text": request.user_texts[-1].splitlines()[0]})])


def test_a_run_starts_the_server_and_its_first_turn_is_offered_the_tools(
    host: Host, tmp_path: Path
) -> None:
    async def story() -> None:
        async with no_leaks(within_s=5), make_bot(tmp_path, server.base_url, small=small()) as bot:
            assert not [name for name in bot.tools.names if name.startswith("mcp_")]
            result = await bot.run("good morning")
            assert result.content == "It said: good morning"
            assert result.tools_used == ["mcp_small_echo"]
            assert "mcp_small_echo" in bot.tools

    with scripted_server(echoing) as server:
        host.run(story)


def test_the_tools_can_be_had_before_the_first_run(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        servers = {"small": small(), "broken": small("dies at start")}
        async with no_leaks(within_s=5), make_bot(tmp_path, server.base_url, **servers) as bot:
            for _ in range(2):
                tools = await bot.runtime.connect()
                assert "mcp_small_echo" in tools
                assert tools is bot.tools
            assert not bot.sessions.list()

    with scripted_server(echoing) as server:
        host.run(story)
    assert server.requests == ()


def test_they_can_be_had_without_a_loop_and_not_after_the_end(tmp_path: Path) -> None:
    with no_leaks(within_s=5):
        with make_bot(tmp_path, "http://127.0.0.1:9/v1", small=small()) as bot:
            assert "mcp_small_echo" in bot.runtime.connect_sync()
        with pytest.raises(BotClosed):
            bot.runtime.connect_sync()


def test_a_program_without_a_loop_uses_them_too(tmp_path: Path) -> None:
    with scripted_server(echoing) as server, no_leaks(within_s=5):
        with make_bot(tmp_path, server.base_url, small=small()) as bot:
            assert bot.run_sync("good evening").content == "It said: good evening"


def test_two_bots_have_servers_of_their_own(host: Host, tmp_path: Path) -> None:
    def name_pid(request: RecordedRequest) -> Answer | str:
        if request.last_role == "tool":
            return str(request.json["messages"][-1]["content"])
        (name,) = [name for name in offered(request) if name.endswith("_pid")]
        return Answer(tool_calls=[(name, {})])

    async def story() -> None:
        async with (
            make_bot(tmp_path / "a", server.base_url, alpha=small()) as alpha,
            make_bot(tmp_path / "b", server.base_url, beta=small()) as beta,
        ):
            pids = [(await bot.run("who?")).content for bot in (alpha, beta, alpha)]
            assert pids[0] == pids[2] != pids[1]
            assert not [name for name in alpha.tools.names if name.startswith("mcp_beta")]
            assert not [name for name in beta.tools.names if name.startswith("mcp_alpha")]

    with scripted_server(name_pid) as server:
        host.run(story)


def test_a_bot_that_moves_to_another_loop_starts_its_servers_there(tmp_path: Path) -> None:
    async def ask() -> str:
        return (await bot.run("hello", session_key=os.urandom(4).hex())).content

    with scripted_server(echoing) as server, no_leaks(within_s=5):
        bot = make_bot(tmp_path, server.base_url, small=small())
        for _ in range(2):
            assert trio.run(ask) == "It said: hello"
        bot.close()


async def test_a_run_waits_for_a_slow_server_only_as_long_as_it_may_take_itself(
    tmp_path: Path,
) -> None:
    with scripted_server(["never asked"]) as server:
        async with make_bot(tmp_path, server.base_url, slow=small("hangs at list")) as bot:
            with trio.fail_after(20):
                result = await bot.run("hello", timeout_s=1)
            assert result.stop_reason == "timeout"
        assert server.requests == ()


async def test_a_run_that_is_cancelled_while_it_waits_for_a_server_ends_at_once(
    tmp_path: Path,
) -> None:
    with scripted_server(["never asked"]) as server:
        async with (
            no_leaks(within_s=5),
            make_bot(tmp_path, server.base_url, slow=small("hangs at initialize")) as bot,
        ):
            with trio.move_on_after(0.3) as scope, trio.fail_after(20):
                await bot.run("hello")
            assert scope.cancelled_caught
        assert server.requests == ()


async def test_the_servers_outlive_the_run_that_started_them(tmp_path: Path) -> None:
    with scripted_server(echoing) as server:
        async with make_bot(tmp_path, server.base_url, small=small()) as bot:
            with trio.move_on_after(0.05):
                await bot.run("hello")
            assert (await bot.run("good morning", session_key="b")).content.endswith("good morning")


async def test_a_tool_of_a_run_that_has_the_name_of_an_mcp_tool_is_refused(tmp_path: Path) -> None:
    @tool
    def mcp_small_echo(text: str) -> str:
        return text

    with scripted_server(echoing) as server:
        async with make_bot(tmp_path, server.base_url, small=small()) as bot:
            with pytest.raises(UsageError, match="MCP server 'small', tool 'echo'"):
                await bot.run("hello", tools=[mcp_small_echo])
