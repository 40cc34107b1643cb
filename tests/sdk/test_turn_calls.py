"""What a plain turn may cost, counted in calls of functions: they are the same on every machine, whatever else it does.

A limit that a change passes is raised in the commit that says what the cost buys. How many microseconds a turn takes is the
question of benchmarks/plain_turn.py.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import trio

from nanobot.testing import scripted_server
from tests.sdk.bots import make_bot

TURNS = 20
ALLOWED = {
    "one session": 1_750,
    "a session of a hundred turns": 2_150,
    "twenty sessions": 1_450,
}
"""Python functions that are called or resumed in a turn, in all threads, ours and Trio's; with a tenth to spare under
CPython 3.11, whose comprehensions are functions, too."""


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
    per_turn = calls.of.total() / TURNS
    most = "\n".join(
        f"{count / TURNS:7.1f} {code.co_qualname}" for code, count in calls.of.most_common(40)
    )
    print(f"{load}: {per_turn:.0f} calls\n{most}")
    assert per_turn <= ALLOWED[load], most
