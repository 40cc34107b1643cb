"""What does one streamed event cost in CPU, and how soon is the first one there?

    python benchmarks/stream_cost.py                      # about two minutes
    python benchmarks/stream_cost.py --short              # about 20 s
    python benchmarks/stream_cost.py --beside ../other    # short answers only, beside the code of another checkout

Microseconds of this process's CPU, all threads counted, per `text.delta` that a reader takes out of `bot.stream(...)`. The
answer has thousands of deltas; what the turn around them costs is in the figure, and small. In the first subjects the model
is an object in this process that hands over all deltas at once; in the last ones it is a service over HTTP that writes them
as fast as they are taken, and its own CPU is not counted.

Then many streams, each subject in a process of its own, with a model on the other core: answers of 200 deltas that come at
once, or one by one every 5 ms, CPU per delta with the turn around them, and `apart_from_turn` without it, by the cost of
answers that have one delta. And 50 streams whose model says a word every 20 ms, and which begin one after the other, lest the
first words wait for the beginnings of other turns: wall milliseconds from the moment in which the service wrote the first to
the one in which the reader has it.
"""

from __future__ import annotations

import argparse
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
    report,
    stay_on_first_core,
)
from benchmarks._model import fast_model
from benchmarks._subjects import Subject, measure
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


def at_once(host: str, bot: Nanobot) -> list[float]:
    """Read `PACED` streams at once, connections made before; returns how late their first deltas were."""
    reader = partial(first_delta, SLEEPS[host])

    async def under_trio() -> list[float]:
        found: list[float] = []

        async def one() -> None:
            found.append(await reader(bot))

        for _ in range(2):
            found.clear()
            async with trio.open_nursery() as nursery:
                for _ in range(PACED):
                    nursery.start_soon(one)
        return found

    async def under_asyncio() -> list[float]:
        await asyncio.gather(*(reader(bot) for _ in range(PACED)))
        return await asyncio.gather(*(reader(bot) for _ in range(PACED)))

    return trio.run(under_trio) if host == "trio" else asyncio.run(under_asyncio())


def first_deltas(short: bool) -> None:
    """Measure how late the first delta of a stream is."""
    stay_on_first_core()
    with ExitStack() as stack:
        root = stack.enter_context(fast_model())
        url = f"{root}/deltas=50,pace={PACE_S}/v1"
        bots = {host: stack.enter_context(bot_at(url)) for host in HOSTS}
        late: dict[str, list[float]] = {host: [] for host in HOSTS}
        for _ in range(2 if short else 20):
            for host, bot in bots.items():
                late[host] += at_once(host, bot)
        for host, values_ms in late.items():
            p99 = round(quantiles(values_ms, n=100)[98], 2)
            name = f"first delta of {PACED} paced streams, {host}"
            report("stream_cost", name, values_ms, "wall ms", p99=p99)


def many(short: bool, beside: str | None) -> None:
    """Measure short answers at once: what each delta costs."""
    checkouts = {"": "", **({", beside": beside} if beside else {})}
    loads = [(SHORT_ANSWER, 0.0, streams) for streams in ((1, 50) if short else (1, 50, 500))]
    loads.append((SHORT_ANSWER, PACE_S / 4, PACED))
    with fast_model() as root:
        for deltas, pace_s, streams in loads:
            wishes = f"deltas={deltas},pace={pace_s:g}" if pace_s else f"deltas={deltas}"
            subjects = [
                Subject(f"{host}{which} {path}", f"nanobot_stream_{host}", path=path, checkout=of)
                for which, of in checkouts.items()
                for host in HOSTS
                for path in (wishes, "deltas=1")
            ]
            turns = 10 if streams == 1 else 1
            rounds = (4 if short else 15) if streams < 500 else 5
            figures = measure(subjects, root, sessions=streams, turns=turns, rounds=rounds)
            for which in checkouts:
                for host in HOSTS:
                    costs = [us / deltas for us in figures[f"{host}{which} {wishes}"].cpu_us]
                    turn_us = figures[f"{host}{which} deltas=1"].median_cpu_us
                    apart = (median(costs) * deltas - turn_us) / (deltas - 1)
                    when = "one by one" if pace_s else "at once"
                    name = f"{deltas} deltas {when}, {host}{which}"
                    facts = {"streams": streams, "apart_from_turn": round(apart, 2)}
                    report("stream_cost", name, costs, "CPU us per delta", **facts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="fewer rounds, about 20 s")
    parser.add_argument("--beside", help="the folder of another checkout of this project")
    options = parser.parse_args()
    if not options.beside:
        long_answers(5 if options.short else 31)
    many(options.short, options.beside)
    if not options.beside:
        first_deltas(options.short)


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
