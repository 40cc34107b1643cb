"""Every built-in tool, cancelled at any moment: no process, thread, open file or hidden file is left, whatever it is."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
import pytest
import trio

from nanobot.config import WebSearchSettings
from nanobot.messages import ToolCall
from nanobot.testing import no_leaks
from nanobot.tools import RunContext, Tool, Toolset, execute
from nanobot.tools._execute import PreparedCall, prepare
from nanobot.tools._threads import FILE_THREADS
from nanobot.tools.builtin import WebFetch, WebSearch, builtin_tools
from tests.tools.web_server import Request, loopback_network, response, web_server

ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "apply_patch": {"edits": [{"path": "a.txt", "action": "add", "new_text": "more\n"}]},
    "edit_file": {"path": "a.txt", "old_text": "line 3\n", "new_text": "line 3!\n"},
    "exec": {"command": "sleep 1000 & setsid sleep 1000 & seq 1 2000; sleep 1000"},
    "find_files": {"query": "b"},
    "grep": {"pattern": "line 5", "output_mode": "content"},
    "list_dir": {"recursive": True},
    "read_file": {"path": "a.txt"},
    "spawn": {"task": "think", "wait": True},
    "web_fetch": {"url": "http://127.0.0.1:{port}/slow"},
    "web_search": {"query": "nanobot"},
    "write_file": {"path": "new/folder/c.txt", "content": "x" * 100_000},
}
"""A call of each; who adds a tool adds one here."""


AT_ONCE: Final = 6


class Spawner:
    """Stands for a run's subagents: one that never ends, and tells whether it is still waited for."""

    waiting = 0

    async def spawn(self, task: str, label: str, *, wait: bool) -> str:
        self.waiting += 1
        try:
            await trio.sleep_forever()
        finally:
            self.waiting -= 1
        raise AssertionError


def nobody(*_: object) -> NoReturn:
    raise AssertionError("this service is not asked here")


def tool_called(name: str, port: int) -> Tool:
    if name == "web_fetch":
        return WebFetch(loopback_network()).fetch
    if name == "web_search":
        settings = WebSearchSettings(provider="searxng", base_url=f"http://127.0.0.1:{port}")
        return WebSearch(settings, loopback_network(), {}, nobody).search
    (tool,) = (each for each in builtin_tools() if each.spec.name == name)
    return tool


async def slowly(request: Request) -> bytes:
    await trio.sleep(random.random() * 0.2)
    return response('{"results": []}', kind="application/json")


@pytest.mark.parametrize("name", sorted(tool.spec.name for tool in builtin_tools()))
async def test_a_tool_that_is_cancelled_at_any_moment_leaves_nothing(
    name: str, context: RunContext, root: Path
) -> None:
    for each in "ab":
        (root / f"{each}.txt").write_text("".join(f"line {n}\n" for n in range(20_000)))
    spawner = Spawner()
    context = msgspec.structs.replace(context, spawner=spawner)
    rng = random.Random(random.getrandbits(64))
    async with no_leaks(within_s=10), web_server(slowly) as server:
        toolset = Toolset([tool_called(name, server.port)])

        call = ToolCall("1", name, arguments_of(name, server.port))
        assert isinstance(prepare(call, toolset), PreparedCall)  # else nothing of it is run

        async def one(within_s: float) -> None:
            with trio.move_on_after(within_s):
                await execute(call, toolset, context)

        threads = threading.active_count()
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(one, rng.uniform(0, 0.15))
            # Trio keeps idle threads for a while, for files and for waiting for processes; rounds do not add up.
            assert threading.active_count() <= threads + FILE_THREADS + AT_ONCE
    assert spawner.waiting == 0
    hidden = [path.name for path in root.rglob("*") if path.name.startswith(".") and path.is_file()]  # noqa: ASYNC240
    assert hidden == []


def arguments_of(name: str, port: int) -> str:
    given: Mapping[str, Any] = ARGUMENTS[name]
    return msgspec.json.encode(given).decode().replace("{port}", str(port))
