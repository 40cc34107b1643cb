"""What a bot no longer holds once its runs have ended, and what the garbage collector has no work with."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot import Nanobot, tool
from nanobot.testing import Answer, scripted_server
from tests.sdk.bots import make_bot


class Payload:
    """What a caller gave along, and would miss if it stayed."""


@pytest.mark.parametrize(
    "run", [asyncio.run, lambda main: trio.run(lambda: main)], ids=["asyncio", "trio"]
)
def test_a_run_is_let_go_of_when_it_has_ended_also_if_it_came_before_the_engine_was_there(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    with scripted_server(["One.", "Two.", "Three."]) as server:
        bot = make_bot(tmp_path, server.base_url)
        run(nothing_is_kept(bot))


async def nothing_is_kept(bot: Nanobot) -> None:
    async with bot:
        payloads = [Payload() for _ in range(3)]
        kept = [weakref.ref(payload) for payload in payloads]
        for number, payload in enumerate(payloads):
            result = await bot.run("Hello.", session_key=f"user:{number}", deps=payload)
            assert result.error is None
        del payload, payloads
        gc.collect()
        assert [one() for one in kept] == [None] * 3


TURNS = 20


@tool
async def broken() -> str:
    """Does not work."""
    raise ValueError("broken")


async def plain(bot: Nanobot, key: str) -> None:
    await bot.run("Hello.", session_key=key)


async def streamed(bot: Nanobot, key: str) -> None:
    async for _ in bot.stream("Hello.", session_key=key):
        pass


async def cancelled(bot: Nanobot, key: str) -> None:
    stream = await bot.run_streamed("Hello.", session_key=key)
    async for _ in stream.stream_events():
        break
    await stream.cancel()


KINDS: dict[str, tuple[Callable[[Nanobot, str], Coroutine[Any, Any, None]], list[Any]]] = {
    "plain": (plain, ["Yes."]),
    "streamed": (streamed, ["Yes."]),
    "cancelled": (cancelled, [Answer("Yes.", before_first_delta_s=3600)]),
    "a tool that fails": (plain, [Answer(tool_calls=[("broken", {})]), "Yes."]),
    "a subagent": (
        plain,
        [Answer(tool_calls=[("spawn", {"task": "Look.", "wait": True})]), "It is there.", "Yes."],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "run", [asyncio.run, lambda main: trio.run(lambda: main)], ids=["asyncio", "trio"]
)
def test_a_turn_leaves_nothing_behind_that_only_the_garbage_collector_would_find(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None], kind: str
) -> None:
    turn, script = KINDS[kind]
    with scripted_server(script * (TURNS + 2)) as server:
        run(no_cycles(make_bot(tmp_path, server.base_url, tools=[broken]), turn))


async def no_cycles(
    bot: Nanobot, turn: Callable[[Nanobot, str], Coroutine[Any, Any, None]]
) -> None:
    async with bot:
        for _ in range(2):  # what is made once, like a connection, is another matter
            await turn(bot, "user:1")
        gc.collect()
        gc.disable()
        try:
            for _ in range(TURNS):
                await turn(bot, "user:1")
            assert gc.collect() < TURNS
        finally:
            gc.enable()
