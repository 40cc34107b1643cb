"""One server of a bot, on a virtual clock: sessions are fakes, and what is tested is when they come and go."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import trio_home
from nanobot.config import McpServer
from nanobot.errors import ToolError
from nanobot.tools.mcp import McpServers
from nanobot.tools.mcp._server import McpMissing, Server
from nanobot.tools.mcp._session import (
    Answer,
    ConnectionLost,
    ListedTool,
    OpenSession,
    Refused,
    ServerFailed,
    Session,
    SessionForgotten,
)


class FakeSession:
    """A session of a `Script`: what it does is looked up there at the moment it is asked."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def list_tools(self) -> tuple[ListedTool, ...]:
        self._script.listings += 1
        await self._script.list()
        return tuple(ListedTool(name, "", {}, False) for name in self._script.names)

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answer:
        return await self._script.call(tool)

    async def ping(self) -> None:
        self._script.pings += 1
        await self._script.ping()


class Script:
    """A server that can be told what to do, and that counts what was done to it."""

    def __init__(self) -> None:
        self.names = ["look"]
        self.opened: list[float] = []
        self.closed = 0
        self.listings = 0
        self.pings = 0
        self.start: Callable[[], Awaitable[None]] = _at_once
        self.list: Callable[[], Awaitable[None]] = _at_once
        self.ping: Callable[[], Awaitable[None]] = _at_once
        self.call: Callable[[str], Awaitable[Answer]] = _seen
        self.end: Callable[[], Awaitable[None]] = _at_once
        self.announce: Callable[[str], None] = lambda _: None
        self.lose: Callable[[ServerFailed], None] = lambda _: None

    @asynccontextmanager
    async def open(
        self, server: McpServer, announce: Callable[[str], None]
    ) -> AsyncIterator[Session]:
        self.opened.append(trio.current_time())
        await self.start()
        self.announce = announce
        lost: list[ServerFailed] = []
        with trio.CancelScope() as scope:  # noqa: ASYNC100 - around whatever the block does

            def lose(failure: ServerFailed) -> None:
                lost.append(failure)
                scope.cancel()

            self.lose = lose
            try:
                yield FakeSession(self)
            finally:
                self.closed += 1
                await self.end()  # noqa: ASYNC102 - how it waits is the test's choice
        if lost:
            raise lost[0]

    async def load(self) -> OpenSession:
        return self.open


async def _at_once() -> None:
    pass


async def _seen(tool: str) -> Answer:
    return Answer(True, (f"{tool}: seen",))


@asynccontextmanager
async def kept(script: Script, **settings: Any) -> AsyncIterator[Server]:
    """A server that is being kept, for the length of a block."""
    server = Server("s", McpServer(command="x", **settings), script.load)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.keep)
        await wait_all_tasks_blocked()
        yield server
        server.stop()


def failing(error: Exception) -> Callable[..., Awaitable[Any]]:
    async def fail(*_: Any) -> Any:
        raise error

    return fail


async def for_ever(*_: Any) -> Any:
    await trio.sleep_forever()


async def test_its_tools_are_there_when_it_is_ready(autojump_clock: MockClock) -> None:
    script = Script()
    async with kept(script) as server:
        await server.ready()
        assert [tool.name for tool in server.listed] == ["look"]
        assert await server.call("look", {}) == Answer(True, ("look: seen",))
    assert script.closed == 1


async def test_ready_waits_for_a_slow_server_as_long_as_its_tools_may_take_and_once_only(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    script.start = for_ever
    async with kept(script, tool_timeout=7) as server:
        for _ in range(2):
            await server.ready()
            assert trio.current_time() == 7
        assert server.listed == ()


async def test_a_late_server_is_used_from_then_on(autojump_clock: MockClock) -> None:
    script = Script()

    async def late() -> None:
        await trio.sleep(20)

    script.start = late
    async with kept(script, tool_timeout=7) as server:
        await server.ready()
        await trio.sleep(20)
        assert [tool.name for tool in server.listed] == ["look"]


@pytest.mark.parametrize("hangs", ["start", "list"])
async def test_a_server_that_hangs_while_it_starts_is_started_again_after_a_minute(
    autojump_clock: MockClock, hangs: str
) -> None:
    script = Script()
    setattr(script, hangs, for_ever)
    async with kept(script) as server:
        await trio.sleep(60.1)
        setattr(script, hangs, _at_once)
        await trio.sleep(0.2)
        assert script.opened == pytest.approx([0, 60.2])
        assert await server.call("look", {})


async def test_a_server_that_cannot_be_started_is_tried_less_and_less_often_but_for_ever(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script()
    script.start = failing(ServerFailed("no such program", said="token=canary"))
    with caplog.at_level(logging.CRITICAL):
        async with kept(script) as server:
            await server.ready()
            assert trio.current_time() == 0
            await trio.sleep(3600)
            waits = [later - earlier for earlier, later in itertools.pairwise(script.opened)]
            assert waits[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
            assert waits[12:] == pytest.approx([60] * len(waits[12:]))
            with pytest.raises(ToolError, match="'s' is not available: no such program") as error:
                await server.call("look", {})
            assert "canary" not in str(error.value)


async def test_a_call_waits_for_a_server_that_is_being_started_again(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    async with kept(script) as server:
        script.lose(ServerFailed("it was hit by a bus"))
        await wait_all_tasks_blocked()
        assert await server.call("look", {})
        assert script.opened == pytest.approx([0, 0.2])


async def test_a_call_does_not_wait_for_ever_and_names_what_happened(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    async with kept(script) as server:
        script.start = for_ever
        script.lose(ServerFailed("it was hit by a bus"))
        await wait_all_tasks_blocked()
        with pytest.raises(ToolError, match="not available: it was hit by a bus"):
            await server.call("look", {})
        assert trio.current_time() == 5
        assert [tool.name for tool in server.listed] == ["look"]  # still offered: it may come back


async def test_a_call_whose_connection_ends_says_that_it_may_have_run(
    autojump_clock: MockClock,
) -> None:
    script = Script()

    async def lost(tool: str) -> Answer:
        script.lose(ServerFailed("it exited with status 3"))
        raise ConnectionLost

    script.call = lost
    async with kept(script) as server:
        with pytest.raises(
            ToolError, match=r"lost during this call: it exited with status 3\. .*may have run"
        ):
            await server.call("look", {})


async def test_a_call_in_a_session_that_the_server_forgot_is_repeated_in_a_new_one(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    calls = []

    async def forget_once(tool: str) -> Answer:
        calls.append(tool)
        if len(calls) == 1:
            script.ping = failing(SessionForgotten())
            raise SessionForgotten
        return await _seen(tool)

    script.call = forget_once
    async with kept(script) as server:
        assert (await server.call("look", {})).ok
        assert script.closed == 1
        assert len(calls) == 2


async def test_a_refusal_is_told_in_the_server_s_words_and_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    script.call = failing(Refused("no such tool"))
    async with kept(script) as server:
        with pytest.raises(ToolError, match="refuses this: no such tool"):
            await server.call("look", {})
        await trio.sleep(100)
        assert len(script.opened) == 1


async def test_after_a_call_that_ran_out_of_time_a_server_that_answers_is_left_alone(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    script.call = for_ever
    async with kept(script, tool_timeout=30) as server:
        with trio.move_on_after(30):
            await server.call("look", {})
        await trio.sleep(100)
        assert script.pings == 1
        assert len(script.opened) == 1


async def test_after_a_call_that_ran_out_of_time_a_server_that_hangs_is_started_again(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    script.call = script.ping = for_ever
    async with kept(script, tool_timeout=30) as server:
        with trio.move_on_after(30):
            await server.call("look", {})
        await trio.sleep(100)
        assert script.opened == pytest.approx([0, 35.2])


async def test_an_answer_that_is_lost_puts_the_server_in_doubt_though_the_connection_stands(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    script.call = failing(ConnectionLost())
    async with kept(script) as server:
        with pytest.raises(ToolError, match="lost during this call"):
            await server.call("look", {})
        assert script.pings == 1
        assert len(script.opened) == 1


async def test_a_call_that_somebody_cancels_says_nothing_about_the_server(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    script.call = for_ever
    async with kept(script, tool_timeout=30) as server:
        with trio.move_on_after(3):
            await server.call("look", {})
        await trio.sleep(100)
        assert script.pings == 0


async def test_tools_that_change_are_listed_again_but_not_more_than_once_a_second(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    async with kept(script) as server:
        script.names.append("listen")
        for _ in range(100):
            script.announce("tools")
            await trio.sleep(0.1)
        assert [tool.name for tool in server.listed] == ["look", "listen"]
        assert 9 <= script.listings - 1 <= 11


async def test_a_server_that_no_longer_lists_its_tools_is_started_again(
    autojump_clock: MockClock,
) -> None:
    script = Script()
    async with kept(script) as server:
        script.list = failing(Refused("never heard of it"))
        script.announce("tools")
        await wait_all_tasks_blocked()
        script.list = _at_once
        assert await server.call("look", {})
        assert len(script.opened) == 2


async def test_stopping_waits_for_nothing(mock_clock: MockClock) -> None:
    for prepare in (_at_once, for_ever):
        script = Script()
        script.start = prepare
        async with kept(script):
            pass  # the clock stands still: whoever waits for it never gets out
        assert script.closed == (prepare is _at_once)


async def test_stopping_waits_for_no_ping(mock_clock: MockClock) -> None:
    script = Script()
    script.ping = for_ever
    async with kept(script):
        script.announce("trouble")
        await wait_all_tasks_blocked()
    assert script.closed == 1


async def test_closing_waits_half_a_second_for_a_session_that_does_not_end(
    autojump_clock: MockClock,
) -> None:
    scripts = {"fine": Script(), "stuck": Script(), "starting": Script()}
    scripts["stuck"].end = scripts["starting"].start = for_ever

    async def load() -> OpenSession:
        def opened(
            server: McpServer, announce: Callable[[str], None]
        ) -> AbstractAsyncContextManager[Session]:
            return scripts[server.command].open(server, announce)

        return opened

    settings = {name: McpServer(command=name, tool_timeout=1) for name in scripts}
    servers = McpServers(settings, home=trio_home(), load=load)
    await servers.ready()
    started = trio.current_time()
    with trio.fail_after(60):
        await servers.aclose()
    assert trio.current_time() - started == 0.5
    assert [script.closed for script in scripts.values()] == [1, 1, 0]


async def test_a_tool_that_is_enabled_but_not_there_is_named(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script()
    script.names = ["look", "touch"]
    async with kept(script, enabled_tools=("look", "smell")) as server:
        assert [tool.name for tool in server.listed] == ["look"]
    assert "MCP server s has no tool smell" in caplog.text


async def test_without_the_package_there_are_no_tools_and_no_attempts(
    autojump_clock: MockClock,
) -> None:
    async def missing() -> OpenSession:
        raise McpMissing

    server = Server("s", McpServer(command="x"), missing)
    with trio.fail_after(math.inf):
        await server.keep()
    assert server.listed == ()
    with pytest.raises(ToolError, match="`mcp` is not installed"):
        await server.call("look", {})
