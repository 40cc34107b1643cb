"""Several calls of one iteration: what runs beside what, in which order, and what is left after a cancel."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from nanobot.messages import ToolCall
from nanobot.tools import (
    Batch,
    RunContext,
    ToolResult,
    Toolset,
    Workspace,
    denied,
    execute_all,
    tool,
)

log_line = tuple[str, str, float]


class Diary:
    """Tools that write down when they start and end."""

    def __init__(self) -> None:
        self.lines: list[log_line] = []
        self.running: set[str] = set()
        self.beside: dict[str, set[str]] = {}

    async def _work(self, name: str, seconds: float) -> str:
        self.lines.append(("start", name, trio.current_time()))
        for other in self.running:
            self.beside.setdefault(other, set()).add(name)
        self.beside[name] = set(self.running)
        self.running.add(name)
        try:
            await trio.sleep(seconds)
        finally:
            self.running.discard(name)
        self.lines.append(("end", name, trio.current_time()))
        return f"{name} done"

    @tool(read_only=True)
    async def read(self, name: str, seconds: float = 1.0) -> str:
        return await self._work(name, seconds)

    @tool
    async def write(self, name: str, seconds: float = 1.0) -> str:
        return await self._work(name, seconds)

    @tool(read_only=True, exclusive=True)
    async def lock(self, name: str, seconds: float = 1.0) -> str:
        return await self._work(name, seconds)

    @tool(read_only=True)
    async def fail(self, name: str, seconds: float = 0.5) -> str:
        await self._work(name, seconds)
        raise ValueError(name)

    @property
    def tools(self) -> Toolset:
        return Toolset([self.read, self.write, self.lock, self.fail])


def calls(*asked: str) -> list[ToolCall]:
    """`"read 2"` becomes a call of `read` that takes two seconds; its name is its place."""
    made = []
    for index, each in enumerate(asked):
        name, _, seconds = each.partition(" ")
        arguments = f'{{"name": "{index}", "seconds": {seconds or 1}}}'
        made.append(ToolCall(f"call-{index}", name, arguments))
    return made


def outcomes(batch: Batch) -> list[str]:
    return [result.message.outcome for result in batch.results]


async def test_neighbors_that_only_read_run_at_once_and_the_rest_in_order(
    autojump_clock: MockClock, context: RunContext
) -> None:
    diary = Diary()
    asked = calls("read 3", "read 1", "write", "write", "read 2", "lock", "read", "read")
    started = trio.current_time()
    results = await execute_all(Batch(asked), diary.tools, context)
    assert [result.message.tool_call_id for result in results] == [call.id for call in asked]
    assert [(what, name, when - started) for what, name, when in sorted(diary.lines, key=lambda line: line[2])] == (
        pytest.approx(
            [
                ("start", "0", 0), ("start", "1", 0), ("end", "1", 1), ("end", "0", 3),
                ("start", "2", 3), ("end", "2", 4), ("start", "3", 4), ("end", "3", 5),
                ("start", "4", 5), ("end", "4", 7), ("start", "5", 7), ("end", "5", 8),
                ("start", "6", 8), ("start", "7", 8), ("end", "6", 9), ("end", "7", 9),
            ]
        )
        or None
    )
