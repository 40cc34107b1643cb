"""A hundred runs at once, each with five tools in one answer: nothing is mixed up, in a run or between runs."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from nanobot.agent import StreamEvent
from nanobot.messages import ToolMessage
from nanobot.testing import Answer, RecordedRequest, no_leaks, scripted_server
from nanobot.tools import RunContext, Tool, tool
from tests.sdk.bots import NOTHING, make_bot, rest_of, shown

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

RUNS = 100
CALLS = 5


class Steps:
    """Five tools that take any time they like, and the order in which each run's calls began and ended."""

    def __init__(self) -> None:
        self.log: defaultdict[str, list[str]] = defaultdict(list)
        self._chance = random.Random(7)

    def tools(self) -> list[Tool]:
        async def step(context: RunContext, name: str, word: str) -> str:
            log = self.log[context.session_key]
            log.append(f"+{name}")
            await trio.sleep(self._chance.random() * 0.02)
            log.append(f"-{name}")
            return f"{context.session_key} {name} {word}"

        @tool(read_only=True, on_host=False)
        async def read_a(context: RunContext, word: str) -> str:
            return await step(context, "read_a", word)

        @tool(read_only=True, on_host=False)
        async def read_b(context: RunContext, word: str) -> str:
            return await step(context, "read_b", word)

        @tool(on_host=False)
        async def write_c(context: RunContext, word: str) -> str:
            return await step(context, "write_c", word)

        @tool
        async def read_d(context: RunContext, word: str) -> str:
            self.log[context.session_key].append("+read_d")
            self.log[context.session_key].append("-read_d")
            return f"{context.session_key} read_d {word}"

        @tool
        def write_e(context: RunContext, word: str) -> str:
            self.log[context.session_key].append("+write_e")
            self.log[context.session_key].append("-write_e")
            return f"{context.session_key} write_e {word}"

        return [read_a, read_b, write_c, read_d, write_e]


NAMES = ["read_a", "read_b", "write_c", "read_d", "write_e"]


def order_of(session: str) -> list[str]:
    """The order in which a session's model asks for the tools; neighbors among them may be read-only or not."""
    return random.Random(session).sample(NAMES, CALLS)


def answer(request: RecordedRequest) -> Answer | str:
    session = request.user_texts[0].splitlines()[0]
    if request.last_role == "tool":
        return f"done {session}"
    return Answer(tool_calls=[(name, {"word": f"{session}/{name}"}) for name in order_of(session)])


@pytest.mark.parametrize("streamed", [False, True])
def test_a_hundred_runs_with_five_tools_each_keep_their_order(
    host: Host, tmp_path: Path, streamed: bool
) -> None:
    steps = Steps()

    async def story() -> None:
        async with no_leaks(), make_bot(tmp_path, server.base_url, tools=steps.tools()) as bot:

            async def one() -> None:
                session = f"session-{next(numbers)}"
                events: list[StreamEvent] = []
                if streamed:
                    stream = await bot.run_streamed(session, session_key=session)
                    events = [event async for event in stream.stream_events()]
                    result = await stream.wait()
                else:
                    result = await bot.run(session, session_key=session)
                assert result.content == f"done {session}"
                assert result.tools_used == order_of(session)
                check_events(events, session)

            numbers = iter(range(RUNS))
            await host.gather(*[one] * RUNS)
            assert await rest_of(bot) == NOTHING

    with scripted_server(answer) as server:
        host.run(story)

    followed = [request for request in server.requests if request.last_role == "tool"]
    assert len(followed) == RUNS
    for request in followed:
        check_results(request)
    assert len(steps.log) == RUNS
    for session, log in steps.log.items():
        check_log(log, session)


def check_results(request: RecordedRequest) -> None:
    """The model is told each result under its call, in the order of its calls."""
    session = request.user_texts[0].splitlines()[0]
    results = [message for message in shown(request) if isinstance(message, ToolMessage)]
    assert [message.content for message in results] == [
        f"{session} {name} {session}/{name}" for name in order_of(session)
    ]


def check_events(events: list[StreamEvent], session: str) -> None:
    if not events:
        return
    started = [event.name for event in events if event.type == "tool.started"]
    ended = [event.name for event in events if event.type == "tool.completed"]
    assert started == order_of(session)
    assert sorted(str(name) for name in ended) == sorted(NAMES)


def check_log(log: list[str], session: str) -> None:
    """What writes runs alone: nothing begins or ends between its beginning and its end, and what came before it has ended."""
    order = order_of(session)
    for name in NAMES:
        if name in ("read_a", "read_b"):
            continue
        start = log.index(f"+{name}")
        assert log[start + 1] == f"-{name}"
        before = order[: order.index(name)]
        assert sorted(log[:start]) == sorted([f"{sign}{each}" for each in before for sign in "+-"])


def test_the_check_of_the_order_can_fail() -> None:
    session = json.dumps("x")
    log = [f"{sign}{name}" for name in order_of(session) for sign in "+-"]
    check_log(log, session)
    with pytest.raises(AssertionError):
        check_log(list(reversed(log)), session)
