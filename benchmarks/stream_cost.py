"""What does one streamed event cost in CPU, and how soon is the first one there?

    python benchmarks/stream_cost.py            # about two minutes
    python benchmarks/stream_cost.py --short    # about 10 s

Microseconds of this process's CPU, all threads counted, per `text.delta` that a reader takes out of `bot.stream(...)`. The
answer has thousands of deltas; what the turn around them costs is in the figure, and small. In the first subjects the model
is an object in this process that hands over all deltas at once; in the last ones it is a service over HTTP that writes them
as fast as they are taken, and its own CPU is not counted.

Then many at once, over HTTP, with a model on the other core: answers of 200 deltas, CPU per delta with the turn around them,
and `apart_from_turn` without it, by the cost of answers that have one delta. And 50 streams whose model says a word every
20 ms, and which begin one after the other, lest the first words wait for the beginnings of other turns: wall milliseconds
from the moment in which the service wrote the first to the one in which the reader has it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from itertools import count, repeat
from statistics import median, quantiles

import trio

from benchmarks._harness import (
    bot_at,
    bot_on,
    model_service,
    parse,
    report,
    stay_on_first_core,
)
from benchmarks._model import fast_model
from nanobot import STREAM_EVENT_TEXT_DELTA, Nanobot
from nanobot.testing import Answer, ScriptedProvider

DELTAS = 5_000
SHORT_ANSWER = 200
PACED = 50
PACE_S = 0.02
HOSTS = ("trio", "asyncio")

Reader = Callable[[Nanobot], Awaitable[float]]
Sleep = Callable[[float], Awaitable[None]]
SLEEPS: dict[str, Sleep] = {"trio": trio.sleep, "asyncio": asyncio.sleep}

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


async def first_delta(sleep: Sleep, bot: Nanobot) -> float:
    """Milliseconds from the moment that the first delta names to the one in which it is there; reads to the end."""
    late_ms = None
    await sleep(next(numbers) % PACED * PACE_S / 2)
    async for event in bot.stream("hello", session_key=new_session()):
        if event.type == STREAM_EVENT_TEXT_DELTA and late_ms is None:
            late_ms = (time.monotonic() - float(event.delta.split()[0])) * 1000
    assert late_ms is not None
    return late_ms


async def deltas_of(bot: Nanobot) -> float:
    """How many deltas one answer has."""
    deltas = 0
    async for event in bot.stream("hello", session_key=new_session()):
        deltas += event.type == STREAM_EVENT_TEXT_DELTA
    return deltas


def at_once(host: str, bot: Nanobot, reader: Reader, streams: int) -> tuple[float, list[float]]:
    """CPU seconds of so many streams at once, connections made before, and what their readers return."""

    async def under_trio() -> tuple[float, list[float]]:
        found: list[float] = []

        async def one() -> None:
            found.append(await reader(bot))

        cpu = 0.0
        for _ in range(2):
            found.clear()
            cpu = time.process_time()
            async with trio.open_nursery() as nursery:
                for _ in range(streams):
                    nursery.start_soon(one)
        return time.process_time() - cpu, found

    async def under_asyncio() -> tuple[float, list[float]]:
        await asyncio.gather(*(reader(bot) for _ in range(streams)))
        cpu = time.process_time()
        found = await asyncio.gather(*(reader(bot) for _ in range(streams)))
        return time.process_time() - cpu, found

    return trio.run(under_trio) if host == "trio" else asyncio.run(under_asyncio())


def many(short: bool) -> None:
    """Measure short answers at once: what each delta costs, and how late the first one is."""
    stay_on_first_core()
    with ExitStack() as stack:
        root = stack.enter_context(fast_model())

        def bots(wishes: str) -> dict[str, Nanobot]:
            url = f"{root}/{wishes}/v1"
            return {host: stack.enter_context(bot_at(url)) for host in HOSTS}

        long, one = bots(f"deltas={SHORT_ANSWER}"), bots("deltas=1")
        for streams in (1, 50) if short else (1, 50, 500):
            rounds = (3 if short else 15) if streams < 500 else 5
            values: dict[str, list[float]] = {host: [] for host in HOSTS}
            without: dict[str, list[float]] = {host: [] for host in HOSTS}
            for number in range(rounds + 1):
                for host in HOSTS:
                    cpu_s, deltas = at_once(host, long[host], deltas_of, streams)
                    assert set(deltas) == {SHORT_ANSWER}, deltas
                    turn_s, _ = at_once(host, one[host], deltas_of, streams)
                    if number:  # the first round imports and compiles
                        values[host].append(cpu_s / streams / SHORT_ANSWER * 1e6)
                        more_s = (cpu_s - turn_s) / streams / (SHORT_ANSWER - 1)
                        without[host].append(more_s * 1e6)
            for host, costs in values.items():
                facts = {"streams": streams, "apart_from_turn": round(median(without[host]), 2)}
                name = f"{SHORT_ANSWER} deltas at once, {host}"
                report("stream_cost", name, costs, "CPU us per delta", **facts)
        paced = bots(f"deltas=50,pace={PACE_S}")
        late: dict[str, list[float]] = {host: [] for host in HOSTS}
        for _ in range(2 if short else 20):
            for host in HOSTS:
                late[host] += at_once(host, paced[host], partial(first_delta, SLEEPS[host]), PACED)[
                    1
                ]
        for host, values_ms in late.items():
            p99 = round(quantiles(values_ms, n=100)[98], 2)
            name = f"first delta of {PACED} paced streams, {host}"
            report("stream_cost", name, values_ms, "wall ms", p99=p99)


def main() -> None:
    short = parse(__doc__)
    long_answers(3 if short else 31)
    many(short)


def long_answers(rounds: int) -> None:
    """Measure answers of thousands of deltas, one at a time."""
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
