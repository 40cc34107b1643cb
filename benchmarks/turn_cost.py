"""What does one turn cost in CPU, when the model answers at once?

    python benchmarks/turn_cost.py            # about a minute
    python benchmarks/turn_cost.py --short    # about 10 s

Microseconds of this process's CPU per turn, all threads counted, one turn after the other, each in a session of its own. The
model is an object in this process, so that nothing but the bot is measured; one subject goes over HTTP to a service whose
own CPU is not counted. The rounds interleave the subjects.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import trio

from benchmarks._harness import bot_at, bot_on, model_service, parse, report
from nanobot import Nanobot
from nanobot.agent import AgentHook, AgentHookContext
from nanobot.providers import ModelRequest
from nanobot.testing import Answer, ScriptedProvider

Measured = Callable[[], float]
Options = Callable[[], dict[str, Any]]

numbers = count()


class Observer(AgentHook):
    """A hook at the one point that every turn reaches once."""

    async def after_run(self, context: AgentHookContext) -> None:
        """See it pass."""


def answer(request: ModelRequest) -> Answer | str:
    said = request.messages[-1]
    if "look" in str(said.content) and not hasattr(said, "tool_call_id"):
        return Answer(tool_calls=[("list_dir", {"path": "."})])
    return "It is fine."


def new_session() -> dict[str, Any]:
    return {"session_key": f"user:{next(numbers)}"}


async def several(bot: Nanobot, message: str, turns: int, options: Options) -> float:
    """CPU seconds of so many turns."""
    cpu = time.process_time()
    for _ in range(turns):
        result = await bot.run(message, **options())
        assert result.error is None
    return time.process_time() - cpu


def several_sync(bot: Nanobot, message: str, turns: int) -> float:
    cpu = time.process_time()
    for _ in range(turns):
        assert bot.run_sync(message, **new_session()).error is None
    return time.process_time() - cpu


def subjects(stack: ExitStack, turns: int) -> Iterator[tuple[str, Measured]]:
    base_url = stack.enter_context(model_service("--answer=It is fine."))

    def bot() -> Nanobot:
        provider = ScriptedProvider(answer, record=False)
        return stack.enter_context(bot_on(provider))

    def under_trio(bot: Nanobot, message: str, options: Options) -> Measured:
        return lambda: trio.run(several, bot, message, turns, options)

    def under_asyncio(bot: Nanobot, message: str, options: Options) -> Measured:
        return lambda: asyncio.run(_timed(several(bot, message, turns, options)))

    def without_a_loop(bot: Nanobot) -> Measured:
        return lambda: several_sync(bot, "hello", turns)

    def hooked() -> dict[str, Any]:
        return {**new_session(), "hooks": [Observer()]}

    yield "trio", under_trio(bot(), "hello", new_session)
    yield "asyncio", under_asyncio(bot(), "hello", new_session)
    yield "no loop", without_a_loop(bot())
    yield "trio, a hook", under_trio(bot(), "hello", hooked)
    yield "asyncio, a hook", under_asyncio(bot(), "hello", hooked)
    yield "trio, a call of list_dir", under_trio(bot(), "look", new_session)
    yield "asyncio, a call of list_dir", under_asyncio(bot(), "look", new_session)
    yield (
        "trio, over HTTP",
        under_trio(stack.enter_context(bot_at(base_url)), "hello", new_session),
    )
    yield (
        "asyncio, over HTTP",
        under_asyncio(stack.enter_context(bot_at(base_url)), "hello", new_session),
    )


async def _timed(measured: Awaitable[float]) -> float:
    return await measured


def main() -> None:
    short = parse(__doc__)
    turns, rounds = (50, 5) if short else (200, 15)
    with ExitStack() as stack:
        measured = dict(subjects(stack, turns))
        values: dict[str, list[float]] = {subject: [] for subject in measured}
        for once in measured.values():
            once()  # connect, import, compile
        for _ in range(rounds):
            for subject, once in measured.items():
                values[subject].append(once() / turns * 1e6)
        for subject, figures in values.items():
            report("turn_cost", subject, figures, "CPU us per turn", turns_per_round=turns)


if __name__ == "__main__":
    main()
