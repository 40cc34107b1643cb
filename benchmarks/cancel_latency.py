"""How long does it take until a cancelled run is really over?

    python benchmarks/cancel_latency.py            # about 15 s
    python benchmarks/cancel_latency.py --short    # about 5 s

Wall milliseconds from a cancel to the moment where nothing of the run is alive: its `finally` blocks have run, what there was
of the answer is stored, and its connection is closed. A hundred runs wait for the model over HTTP, and are cancelled one
after the other: by `RunStream.cancel()`, and by cancelling the caller of `bot.run()` in the way of its loop. `p99` is there
because a median hides what a user notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import quantiles
from urllib.request import urlopen

import trio

from benchmarks._harness import allow_files, bot_at, model_service, parse, report
from nanobot import Nanobot

AT_ONCE = 100

Sleep = Callable[[float], Awaitable[None]]
Waiting = Callable[[], Awaitable[None]]


async def all_wait(base_url: str, sleep: Sleep) -> None:
    """Return when the model has been asked by all runs."""
    place = f"{base_url.removesuffix('/v1')}/statistics"
    while True:
        with urlopen(place) as reply:  # noqa: ASYNC210 - nothing is measured yet
            if json.load(reply)["requests_in_flight"] == AT_ONCE:
                return
        await sleep(0.02)


async def handles(bot: Nanobot, all_wait: Waiting) -> list[float]:
    """Seconds that each `cancel()` of a handle takes."""
    names = [f"user:{number}" for number in range(AT_ONCE)]
    runs = [await bot.run_streamed("hello", session_key=name) for name in names]
    await all_wait()
    latencies = []
    for run in runs:
        started = time.perf_counter()
        await run.cancel()
        latencies.append(time.perf_counter() - started)
    return latencies


async def asyncio_callers(bot: Nanobot, all_wait: Waiting) -> list[float]:
    """Seconds from each `task.cancel()` to the end of the task."""
    tasks = [
        asyncio.create_task(bot.run("hello", session_key=f"user:{number}"))
        for number in range(AT_ONCE)
    ]
    await all_wait()
    latencies = []
    for task in tasks:
        started = time.perf_counter()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        latencies.append(time.perf_counter() - started)
    return latencies


async def trio_callers(bot: Nanobot, all_wait: Waiting) -> list[float]:
    """Seconds from each `scope.cancel()` to the end of the task in it."""
    scopes = [trio.CancelScope() for _ in range(AT_ONCE)]
    ended = [trio.Event() for _ in range(AT_ONCE)]

    async def run(number: int) -> None:
        with scopes[number]:
            await bot.run("hello", session_key=f"user:{number}")
        ended[number].set()

    latencies = []
    async with trio.open_nursery() as nursery:
        for number in range(AT_ONCE):
            nursery.start_soon(run, number)
        await all_wait()
        for scope, end in zip(scopes, ended, strict=True):
            started = time.perf_counter()
            scope.cancel()
            await end.wait()
            latencies.append(time.perf_counter() - started)
    return latencies


Subject = Callable[[Nanobot, Waiting], Awaitable[list[float]]]

SUBJECTS: dict[str, tuple[str, Subject]] = {
    "RunStream.cancel(), asyncio": ("asyncio", handles),
    "RunStream.cancel(), trio": ("trio", handles),
    "the caller of bot.run(), asyncio": ("asyncio", asyncio_callers),
    "the caller of bot.run(), trio": ("trio", trio_callers),
}


def one_round(host: str, subject: Subject, base_url: str) -> list[float]:
    """Seconds that each of a hundred cancels took, with a fresh bot."""
    with bot_at(base_url) as bot:

        async def main(sleep: Sleep) -> list[float]:
            async with bot:
                return await subject(bot, partial(all_wait, base_url, sleep))

        return asyncio.run(main(asyncio.sleep)) if host == "asyncio" else trio.run(main, trio.sleep)


def main() -> None:
    rounds = 3 if parse(__doc__) else 15
    allow_files(2 * AT_ONCE + 100)
    values: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    with model_service("--delay-ms=600000") as base_url:
        for number in range(rounds + 1):
            for name, (host, subject) in SUBJECTS.items():
                latencies = one_round(host, subject, base_url)
                if number:  # the first round imports and compiles
                    values[name] += [latency * 1000 for latency in latencies]
    for name, latencies in values.items():
        p99 = round(quantiles(latencies, n=100)[98], 2)
        report("cancel_latency", name, latencies, "wall ms", p99=p99, at_once=AT_ONCE)


if __name__ == "__main__":
    main()
