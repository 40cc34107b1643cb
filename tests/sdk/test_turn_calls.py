"""What a plain, a streamed and a tool turn may cost, counted in calls of functions: they are the same on every machine, whatever
else it does.

A limit that a change passes is raised in the commit that says what the cost buys. How many microseconds a turn takes is the
question of benchmarks/plain_turn.py.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import trio

from nanobot import STREAM_EVENT_TEXT_DELTA, tool
from nanobot.testing import Answer, RecordedRequest, scripted_server
from tests.sdk.bots import make_bot

TURNS = 20
DELTAS = 500
ALLOWED = {
    "one session": 1_290,
    "a session of a hundred turns": 1_340,
    "twenty sessions": 970,
    "a turn with a tool call": 2_150,
    "an event under trio": 21,
    "an event under asyncio": 23,
}
"""Python functions that are called or resumed in a turn, or for an event of a stream, in all threads, ours and Trio's; with a
tenth to spare under CPython 3.11, whose comprehensions are functions, too."""


class Calls:
    """Counts calls of Python functions while a block runs, in all threads that are started inside of `watching`."""

    def __init__(self) -> None:
        self.of: Counter[CodeType] = Counter()
        self.on = False

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self.on and event == "call":
            self.of[frame.f_code] += 1

    def __enter__(self) -> None:
        threading.setprofile(self)
        sys.setprofile(self)

    def __exit__(self, *_raised: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)


def assert_allowed(load: str, calls: Calls, units: int) -> None:
    """Each of so many turns, or events, took no more calls than it may."""
    of_each = calls.of.total() / units
    most = "\n".join(
        f"{count / units:7.1f} {code.co_qualname}" for code, count in calls.of.most_common(40)
    )
    print(f"{load}: {of_each:.1f} calls\n{most}")
    assert of_each <= ALLOWED[load], most


async def calls_of_a_turn(folder: Path, base_url: str, sessions: int, before: int) -> Calls:
    calls = Calls()
    with calls:
        async with make_bot(folder, base_url) as bot:

            async def talk(key: str, turns: int) -> None:
                for _ in range(turns):
                    result = await bot.run("What is it like?", session_key=key)
                    assert result.error is None

            async def all_talk(turns: int) -> None:
                async with trio.open_nursery() as nursery:
                    for number in range(sessions):
                        nursery.start_soon(talk, f"s{number}", turns)

            await all_talk(before)
            calls.on = True
            await all_talk(TURNS // sessions)
            calls.on = False
    return calls


@pytest.mark.parametrize(
    ("load", "sessions", "before"),
    [("one session", 1, 2), ("a session of a hundred turns", 1, 100), ("twenty sessions", 20, 2)],
)
def test_a_plain_turn_takes_no_more_calls_than_it_did(
    load: str, sessions: int, before: int, tmp_path: Path
) -> None:
    with scripted_server(lambda _: "It is fine, thank you.", record=False) as server:
        calls = trio.run(calls_of_a_turn, tmp_path, server.base_url, sessions, before)
    assert_allowed(load, calls, TURNS)


@tool(read_only=True, on_host=False)
async def look() -> str:
    """Look around."""
    return "It is all there."


def looks_first(request: RecordedRequest) -> Answer | str:
    """A model that calls the tool, and answers when it has the result."""
    asked = request.json["messages"][-1]["role"] != "tool"
    return Answer(tool_calls=[("look", {})]) if asked else "It is fine, thank you."


async def calls_of_a_tool_turn(folder: Path, base_url: str) -> Calls:
    calls = Calls()
    with calls:
        async with make_bot(folder, base_url) as bot:

            async def talk(turns: int) -> None:
                for _ in range(turns):
                    result = await bot.run("Look!", session_key="s", tools=[look])
                    assert result.tools_used == ["look"]

            await talk(2)
            calls.on = True
            await talk(TURNS)
            calls.on = False
    return calls


def test_a_turn_with_a_tool_call_takes_no_more_calls_than_it_did(tmp_path: Path) -> None:
    with scripted_server(looks_first, record=False) as server:
        calls = trio.run(calls_of_a_tool_turn, tmp_path, server.base_url)
    assert_allowed("a turn with a tool call", calls, TURNS)


async def calls_of_a_stream(folder: Path, base_url: str) -> Calls:
    calls = Calls()
    with calls:
        async with make_bot(folder, base_url) as bot:

            async def read() -> None:
                deltas = 0
                async for event in bot.stream("Tell me.", session_key="s"):
                    deltas += event.type == STREAM_EVENT_TEXT_DELTA
                assert deltas == DELTAS

            await read()
            calls.on = True
            await read()
            calls.on = False
    return calls


@pytest.mark.parametrize("host", ["trio", "asyncio"])
def test_an_event_of_a_stream_takes_no_more_calls_than_it_did(host: str, tmp_path: Path) -> None:
    answer = Answer(["word "] * DELTAS)
    with scripted_server(lambda _: answer, record=False) as server:
        calls = (
            trio.run(calls_of_a_stream, tmp_path, server.base_url)
            if host == "trio"
            else asyncio.run(calls_of_a_stream(tmp_path, server.base_url))
        )
    assert_allowed(f"an event under {host}", calls, DELTAS)
