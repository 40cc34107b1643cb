"""Batches of every kind of tool, cancelled at any moment: each call is accounted for, and nothing is left behind."""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path

import pytest
import trio

from nanobot.messages import ToolCall
from nanobot.tools import Batch, RunContext, ToolResult, Toolset, execute_all, tool
from nanobot.tools._threads import FILE_THREADS, TOOL_THREADS
from nanobot.tools.builtin import builtin_tools

OUTCOMES = {"ok", "error", "timed_out", "cancelled_before_start", "interrupted_may_have_run"}


class Underway:
    """Counts calls that are in a tool's own code, in any thread."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_until_none(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, timeout=10)


def tools_of(underway: Underway) -> Toolset:
    @tool
    async def nap(seconds: float) -> str:
        with underway:
            await trio.sleep(seconds)
            return "rested"

    @tool(read_only=True, timeout_s=0.002)
    async def late(seconds: float) -> str:
        with underway:
            await trio.sleep(seconds)
            return "in time"

    @tool(read_only=True)
    async def crowd(seconds: float) -> str:
        with underway:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(trio.sleep, seconds)
            raise ValueError("crowded")

    @tool(read_only=True)
    def compute(context: RunContext, seconds: float) -> str:
        with underway:
            for _ in range(int(seconds * 1000)):
                if context.cancel.requested:
                    break
                threading.Event().wait(0.001)
            return "computed"

    @tool(read_only=True)
    async def chatter(seconds: float) -> str:
        with underway:
            return "word " * 1000

    return Toolset([nap, late, crowd, compute, chatter, *builtin_tools()])


def some_calls(rng: random.Random) -> list[ToolCall]:
    calls = []
    for index in range(rng.randint(1, 6)):
        name = rng.choice(
            ["nap", "late", "crowd", "compute", "chatter", "list_dir", "read_file", "nosuch"]
        )
        arguments = {
            "list_dir": '{"recursive": true}',
            "read_file": '{"path": "large.txt", "limit": 3}',
        }.get(name, f'{{"seconds": {rng.uniform(0, 0.005)}}}')
        calls.append(ToolCall(f"call-{index}", name, arguments))
    return calls


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


async def storm(context: RunContext, root: Path, batches: int) -> None:
    (root / "large.txt").write_text("a line of text\n" * 200_000)
    for n in range(50):
        (root / f"{n}.txt").write_text("")
    rng = random.Random(random.getrandbits(64))
    underway = Underway()
    toolset = tools_of(underway)
    seen: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    at_once = trio.Semaphore(16)

    async def one() -> None:
        batch = Batch(some_calls(rng))
        told: dict[int, ToolResult] = {}

        async def on_result(index: int, result: ToolResult) -> None:
            assert index not in told
            told[index] = result
            await trio.sleep(rng.uniform(0, 0.001))

        with trio.move_on_after(rng.uniform(0, 0.008)) as scope:
            await execute_all(batch, toolset, context, max_result_chars=2000, on_result=on_result)
        results = batch.results
        assert [result.message.tool_call_id for result in results] == [
            call.id for call in batch.calls
        ]
        assert batch.settled or scope.cancelled_caught
        for index, result in enumerate(results):
            seen[result.message.outcome] += 1
            assert index not in told or told[index] is result
        at_once.release()

    async def many(count: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                await at_once.acquire()
                nursery.start_soon(one)

    await many(1)  # so that the engine has what it keeps open
    threads, descriptors = threading.active_count(), open_descriptors()
    await many(batches)
    assert await trio.to_thread.run_sync(
        underway.wait_until_none
    )  # what was left behind sees it and returns
    assert all(seen.values()), seen
    assert threading.active_count() <= threads + FILE_THREADS + TOOL_THREADS + 1
    assert open_descriptors() <= descriptors
    assert list(root.rglob("*.tmp")) == []  # noqa: ASYNC240 - a few dozen names


async def test_a_storm_of_cancels_leaves_nothing_behind(context: RunContext, root: Path) -> None:
    await storm(context, root, 400)


@pytest.mark.slow
async def test_a_long_storm_of_cancels_leaves_nothing_behind(
    context: RunContext, root: Path
) -> None:
    await storm(context, root, 10_000)
