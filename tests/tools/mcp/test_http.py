"""Servers over HTTP: what they return, how they misbehave, and that they cost nobody else anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot.config import McpServer
from nanobot.testing import no_leaks
from tests.tools.mcp.servers import opened, small, texts

CONNECT = "nanobot.tools.mcp._connect"
PROGRAM = "tests.tools.mcp.http_server"
ROOT = Path(__file__).parents[3]


class Running:
    """The server of this folder as it runs; `log` has a line per request."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._log = folder / "log"

    def settings(self, path: str = "/mcp", **settings: Any) -> McpServer:
        return McpServer(url=f"http://127.0.0.1:{self.port}{path}", **settings)

    @property
    def log(self) -> list[str]:
        return self._log.read_text().splitlines()


@asynccontextmanager
async def running(folder: Path, misbehaves: str = "") -> AsyncIterator[Running]:
    command = [sys.executable, "-S", "-m", PROGRAM, str(folder / "log"), misbehaves]
    run = partial(
        trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False, cwd=ROOT
    )
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(run, command)
        assert process.stdout is not None
        yield Running(folder, int(await process.stdout.receive_some()))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["/mcp", "/stream", "/sse"])
async def test_tools_over_each_transport(tmp_path: Path, path: str) -> None:
    async with no_leaks(), running(tmp_path) as server:
        settings = server.settings(path, headers={"Authorization": "Bearer canary"})
        async with opened(web=settings) as servers:
            await servers.ready()
            assert await texts(servers, tmp_path, "mcp_web_echo", '{"text": "häh?"}') == "häh?"
            assert await texts(servers, tmp_path, "mcp_web_fail") == "Error: the disk is full"
            large = await texts(servers, tmp_path, "mcp_web_large", '{"bytes": 900000}')
            assert "900,000 characters" in large
            seen = json.loads(await texts(servers, tmp_path, "mcp_web_environment"))
            assert seen["authorization"] == "Bearer canary"
    if path != "/sse":
        assert server.log[-1] == "DELETE True"


async def test_many_calls_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as server, opened(web=server.settings("/stream")) as servers:
        await servers.ready()

        async def one(number: int) -> None:
            said = await texts(servers, tmp_path, "mcp_web_echo", json.dumps({"text": str(number)}))
            assert said == str(number)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one, number)


@pytest.mark.parametrize("misbehaves", ["", "does not let go"])
async def test_a_session_that_the_server_forgot_is_opened_anew_and_the_call_repeated(
    tmp_path: Path, misbehaves: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, misbehaves) as server, opened(web=server.settings()) as servers:
        await servers.ready()
        assert await texts(servers, tmp_path, "mcp_web_pid") == "forgotten"
        assert await texts(servers, tmp_path, "mcp_web_echo", '{"text": "again"}') == "again"
        assert server.log.count("POST initialize") == 2
    (record,) = [record for record in caplog.records if record.name == "actors.supervisor"]
    assert record.exc_info
    assert "it has forgotten the session" in str(record.exc_info[1])


async def test_a_tool_that_appears_is_offered_to_the_next_turn(tmp_path: Path) -> None:
    async with running(tmp_path) as server, opened(web=server.settings("/stream")) as servers:
        await servers.ready()
        with trio.fail_after(10):
            while "GET /stream" not in server.log:  # noqa: ASYNC110 - another process
                await trio.sleep(0.01)
        assert await texts(servers, tmp_path, "mcp_web_grow") == "grown"
        with trio.fail_after(10):
            while "mcp_web_new" not in {tool.spec.name for tool in servers.known}:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_a_cancelled_call_is_cancelled_at_the_server_too(tmp_path: Path) -> None:
    async with running(tmp_path) as server, opened(web=server.settings()) as servers:
        await servers.ready()
        with trio.move_on_after(0.2):
            await texts(servers, tmp_path, "mcp_web_hang")
        with trio.fail_after(10):
            while not server.log[-1].startswith("cancelled "):  # noqa: ASYNC110 - another process
                await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("misbehaves", "path", "reason"),
    [
        ("500", "/mcp", "refuses to begin"),
        ("html", "/mcp", "refuses to begin"),
        ("hangs", "/mcp", "not available"),
        ("", "/nowhere/sse", "HTTP status 405"),
    ],
)
async def test_a_hostile_service_harms_neither_turns_nor_other_servers(
    tmp_path: Path, misbehaves: str, path: str, reason: str
) -> None:
    async with no_leaks(), running(tmp_path, misbehaves) as server:
        bad = server.settings(path, tool_timeout=2)
        async with opened(bad=bad, good=small()) as servers:
            with trio.fail_after(60):
                await servers.ready()
                while not servers.known:  # noqa: ASYNC110 - a busy machine may start the good one late
                    await trio.sleep(0.01)
            assert await texts(servers, tmp_path, "mcp_good_echo", '{"text": "fine"}') == "fine"
            with pytest.raises(Exception, match=reason):
                await servers._servers[0].call("echo", {})


async def test_an_http_error_in_a_call_is_an_error_result(tmp_path: Path) -> None:
    async with (
        running(tmp_path, "500 in a call") as server,
        opened(web=server.settings()) as servers,
    ):
        await servers.ready()
        said = await texts(servers, tmp_path, "mcp_web_echo", '{"text": "x"}')
        assert said.startswith("Error: The MCP server 'web' refuses this:")
        with trio.fail_after(10):
            while server.log[-1] != "POST ping":  # noqa: ASYNC110 - another process
                await trio.sleep(0.01)
        assert server.log.count("POST initialize") == 1


async def test_nobody_listening_is_said_without_the_address(tmp_path: Path) -> None:
    async with opened(web=McpServer(url="http://127.0.0.1:9/mcp?key=canary")) as servers:
        await servers.ready()
        with pytest.raises(Exception, match="it cannot be reached") as error:
            await servers._servers[0].call("echo", {})
        assert "canary" not in str(error.value)


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_a_service_that_dies_in_a_call_is_reported(tmp_path: Path, path: str) -> None:
    async with running(tmp_path) as server, opened(web=server.settings(path)) as servers:
        await servers.ready()
        with trio.fail_after(20):
            assert "was lost during this call" in await texts(servers, tmp_path, "mcp_web_die")


async def test_a_goodbye_that_is_not_answered_holds_nobody_up(tmp_path: Path) -> None:
    async with no_leaks(), running(tmp_path, "does not let go") as server:
        with trio.fail_after(20):
            async with opened(web=server.settings()) as servers:
                await servers.ready()
        assert server.log[-1] == "DELETE True"


async def test_a_session_ends_though_its_goodbye_is_never_answered(tmp_path: Path) -> None:
    """By itself: `McpServers` would cut it off too, which must not hide that it does not end."""
    open_session = (await trio.to_thread.run_sync(import_module, CONNECT)).open_session
    async with no_leaks(), running(tmp_path, "does not let go") as server:
        with trio.fail_after(60):  # without a limit it would be for ever
            async with open_session(server.settings(), lambda _: None) as session:
                assert await session.list_tools()
        assert server.log[-1] == "DELETE True"
