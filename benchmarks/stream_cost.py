"""What does one streamed event cost in CPU?

    python benchmarks/stream_cost.py            # about half a minute
    python benchmarks/stream_cost.py --short    # about 10 s

Microseconds of this process's CPU, all threads counted, per `text.delta` that a reader takes out of `bot.stream(...)`. The
answer has thousands of deltas; what the turn around them costs is in the figure, and small. In the first subjects the model
is an object in this process that hands over all deltas at once; in the last ones it is a service over HTTP that writes them
as fast as they are taken, and its own CPU is not counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count, repeat

import trio

from benchmarks._harness import bot_at, bot_on, model_service, parse, report
from nanobot import STREAM_EVENT_TEXT_DELTA, Nanobot
from nanobot.testing import Answer, ScriptedProvider

DELTAS = 5_000

numbers = count()


def new_session() -> str:
    return f"user:{next(numbers)}"


async def read(bot: Nanobot) -> float:
    """CPU seconds of one streamed answer."""
    cpu, deltas = time.process_time(), 0
    async for event in bot.stream("hello", session_key=new_session()):
        deltas += event.type == STREAM_EVENT_TEXT_DELTA
    assert deltas == DELTAS, deltas
    return time.process_time() - cpu


async def only_run(bot: Nanobot) -> float:
    """The same answer with nobody reading its events."""
    cpu = time.process_time()
    result = await bot.run("hello", session_key=new_session())
    assert result.error is None
    return time.process_time() - cpu


def read_sync(bot: Nanobot) -> float:
    cpu, deltas = time.process_time(), 0
    for event in bot.stream_sync("hello", session_key=new_session()):
        deltas += event.type == STREAM_EVENT_TEXT_DELTA
    assert deltas == DELTAS, deltas
    return time.process_time() - cpu


def main() -> None:
    rounds = 7 if parse(__doc__) else 31
    answer = Answer(["word "] * DELTAS)
    with ExitStack() as stack:
        url = stack.enter_context(model_service(f"--answer={'w' * DELTAS}", f"--deltas={DELTAS}"))

        def here() -> Nanobot:
            provider = ScriptedProvider(repeat(answer), record=False)
            return stack.enter_context(bot_on(provider))

        def there() -> Nanobot:
            return stack.enter_context(bot_at(url))

        def under_trio(bot: Nanobot) -> Callable[[], float]:
            return lambda: trio.run(read, bot)

        def under_asyncio(bot: Nanobot) -> Callable[[], float]:
            return lambda: asyncio.run(read(bot))

        unread, blocking = here(), here()
        subjects: dict[str, Callable[[], float]] = {
            "trio": under_trio(here()),
            "asyncio": under_asyncio(here()),
            "no loop": lambda: read_sync(blocking),
            "trio, nobody reads": lambda: trio.run(only_run, unread),
            "trio, over HTTP": under_trio(there()),
            "asyncio, over HTTP": under_asyncio(there()),
        }
        values: dict[str, list[float]] = {subject: [] for subject in subjects}
        for once in subjects.values():
            once()  # connect, import, compile
        for _ in range(rounds):
            for subject, once in subjects.items():
                values[subject].append(once() / DELTAS * 1e6)
        for subject, figures in values.items():
            report("stream_cost", subject, figures, "CPU us per delta", deltas=DELTAS)


if __name__ == "__main__":
    main()
