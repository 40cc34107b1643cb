"""What do the tool calls of a turn cost, and what does a subagent?

    python benchmarks/tool_turn.py            # about a minute
    python benchmarks/tool_turn.py --short    # about 10 s

Microseconds of this process's CPU per turn, all threads counted: a turn in which the model, an object in this process, asks
for five calls at once and then answers. `hundred at once` is the same, with 100 runs under way. The rounds interleave the
subjects; the first, without tools, is what to subtract. The ratios to it are what machines can be compared by. Two more
subjects, each with a store and in a process of its own, ask a model over HTTP: a turn in which it calls one tool and is asked
again, and `times` relative to a turn in which it does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import trio

from benchmarks._harness import bot_on, parse, report
from benchmarks._model import fast_model
from benchmarks._subjects import Subject, measure
from nanobot import Nanobot, tool
from nanobot.messages import ToolMessage
from nanobot.providers import ModelRequest
from nanobot.testing import Answer, ScriptedProvider

CALLS = 5
PLAIN = Subject("a plain turn over HTTP", "nanobot_tool")
WITH_TOOL = Subject("a turn with one tool call over HTTP", "nanobot_tool", path="tool=look")

numbers = count()


@tool(read_only=True, on_host=False)
async def read(number: int) -> str:
    """Read something, at once."""
    return f"read {number}"


@tool(on_host=False)
async def change(number: int) -> str:
    """Change something, in order."""
    return f"changed {number}"


@tool(read_only=True)
def in_thread(number: int) -> str:
    """Read something in a thread."""
    return f"read {number}"


@tool(on_host=False, approval="ask")
async def asked(number: int) -> str:
    """Change something, after asking."""
    return f"changed {number}"


def answer(request: ModelRequest) -> Answer | str:
    last = request.messages[-1]
    name = str(last.content).split()[0]
    if isinstance(last, ToolMessage) or name == "hello" or name.startswith("["):
        return "It is fine."
    if name == "list_dir":
        return Answer(tool_calls=[(name, {"path": "."}) for _ in range(CALLS)])
    if name == "spawn":
        return Answer(tool_calls=[(name, {"task": "hello", "wait": True})] * CALLS)
    return Answer(tool_calls=[(name, {"number": number}) for number in range(CALLS)])


async def one(bot: Nanobot, message: str) -> None:
    result = await bot.run(
        message,
        session_key=f"user:{next(numbers)}",
        tools=[read, change, in_thread, asked],
        approver=lambda _: True,
    )
    assert result.error is None
    assert len(result.tools_used) == (0 if message == "hello" else CALLS)


async def in_turn(bot: Nanobot, message: str, turns: int) -> float:
    """CPU seconds of so many turns, one after the other."""
    cpu = time.process_time()
    for _ in range(turns):
        await one(bot, message)
    return time.process_time() - cpu


async def at_once(bot: Nanobot, message: str, turns: int) -> float:
    """CPU seconds of so many turns, 100 under way."""
    cpu = time.process_time()
    for _ in range(max(1, turns // 100)):
        async with trio.open_nursery() as nursery:
            for _ in range(min(turns, 100)):
                nursery.start_soon(one, bot, message)
    return time.process_time() - cpu


def subjects(stack: ExitStack, turns: int) -> Iterator[tuple[str, Callable[[], float]]]:
    def measured(how: Any, message: str) -> Callable[[], float]:
        bot = stack.enter_context(bot_on(ScriptedProvider(answer, record=False)))
        return lambda: trio.run(how, bot, message, turns)

    yield "no tools", measured(in_turn, "hello")
    for name in ("read", "change", "in_thread", "list_dir", "asked", "spawn"):
        yield f"{CALLS} calls of {name}", measured(in_turn, name)
    yield f"{CALLS} calls of read, hundred at once", measured(at_once, "read")


def two_requests(short: bool) -> None:
    """Measure a turn of two requests beside one of one request."""
    with fast_model() as base_url:
        figures = measure(
            [PLAIN, WITH_TOOL],
            base_url,
            sessions=100,
            turns=3 if short else 5,
            rounds=2 if short else 11,
        )
    plain = figures[PLAIN.name].median_cpu_us
    for name, of in figures.items():
        times = round(of.median_cpu_us / plain, 2)
        report("tool_turn", name, of.cpu_us, "CPU us per turn", sessions=100, times=times)


def main() -> None:
    short = parse(__doc__)
    two_requests(short)
    turns, rounds = (30, 2) if short else (200, 11)
    with ExitStack() as stack:
        once = dict(subjects(stack, turns))
        values: dict[str, list[float]] = {subject: [] for subject in once}
        for subject in once.values():
            subject()  # import and compile
        for _ in range(rounds):
            for name, subject in once.items():
                values[name].append(subject() / turns * 1e6)
        for name, figures in values.items():
            report("tool_turn", name, figures, "CPU us per turn", turns_per_round=turns)
        for name, figures in values.items():
            # Within a round, so that a machine that is slow, or busy, is so for both.
            ratios = [
                figure / plain for figure, plain in zip(figures, values["no tools"], strict=True)
            ]
            report("tool_turn", name, ratios, "times a turn without tools", turns_per_round=turns)


if __name__ == "__main__":
    main()
