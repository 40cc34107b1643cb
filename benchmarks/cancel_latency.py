"""How long does it take until a cancelled run is really over?

    python benchmarks/cancel_latency.py            # 100,000 cancels; ten minutes
    python benchmarks/cancel_latency.py --short    # about 10 s

Wall milliseconds from a cancel to the moment where nothing of the run is alive: its `finally` blocks have run, what there was
of the answer is stored, and its connection is closed. A hundred runs wait for the model over HTTP, and are cancelled one
after the other: by `RunStream.cancel()`, and by cancelling the caller of `bot.run()` in the way of its loop. `to_closed` are
the milliseconds from the call to the moment in which the service saw the connection closed, over two processes. `p99` is
there because a median hides what a user notices.

At the end, what is left of all of them: runs that are alive, connections that the service still has, tasks of the loop,
threads and open files more than after the first round.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import quantiles

import trio
from msgspec import Struct

from benchmarks._harness import allow_files, bot_at, parse, report
from benchmarks._model import connections, fast_model
from nanobot import Nanobot

AT_ONCE = 100

Sleep = Callable[[float], Awaitable[None]]
Waiting = Callable[[], Awaitable[None]]


async def all_wait(root: str, sleep: Sleep) -> None:
    """Return when the model has been asked by all runs."""
    while connections(root)["waiting"] != AT_ONCE:
        await sleep(0.02)


Moments = list[tuple[float, float]]
"""When a cancel was called for, and when it was through."""


async def handles(bot: Nanobot, all_wait: Waiting) -> Moments:
    """Cancel by handles."""
    names = [f"user:{number}" for number in range(AT_ONCE)]
    runs = [await bot.run_streamed("hello", session_key=name) for name in names]
    await all_wait()
    moments = []
    for run in runs:
        started = time.monotonic()
        await run.cancel()
        moments.append((started, time.monotonic()))
    return moments


async def asyncio_callers(bot: Nanobot, all_wait: Waiting) -> Moments:
    """Cancel tasks of asyncio."""
    tasks = [
        asyncio.create_task(bot.run("hello", session_key=f"user:{number}"))
        for number in range(AT_ONCE)
    ]
    await all_wait()
    moments = []
    for task in tasks:
        started = time.monotonic()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        moments.append((started, time.monotonic()))
    return moments


async def trio_callers(bot: Nanobot, all_wait: Waiting) -> Moments:
    """Cancel scopes of Trio."""
    scopes = [trio.CancelScope() for _ in range(AT_ONCE)]
    ended = [trio.Event() for _ in range(AT_ONCE)]

    async def run(number: int) -> None:
        with scopes[number]:
            await bot.run("hello", session_key=f"user:{number}")
        ended[number].set()

    moments = []
    async with trio.open_nursery() as nursery:
        for number in range(AT_ONCE):
            nursery.start_soon(run, number)
        await all_wait()
        for scope, end in zip(scopes, ended, strict=True):
            started = time.monotonic()
            scope.cancel()
            await end.wait()
            moments.append((started, time.monotonic()))
    return moments


Subject = Callable[[Nanobot, Waiting], Awaitable[Moments]]

SUBJECTS: dict[str, tuple[str, Subject]] = {
    "RunStream.cancel(), asyncio": ("asyncio", handles),
    "RunStream.cancel(), trio": ("trio", handles),
    "the caller of bot.run(), asyncio": ("asyncio", asyncio_callers),
    "the caller of bot.run(), trio": ("trio", trio_callers),
}


class Latencies(Struct):
    """Milliseconds from each cancel of a subject, in all its rounds."""

    to_end: list[float] = []
    to_closed: list[float] = []


def alive(bot: Nanobot, host: str) -> dict[str, int]:
    """What there is in this process that a cancelled run could have left."""
    trio_tasks = trio.lowlevel.current_statistics().tasks_living if host == "trio" else 0
    return {
        "runs": bot.runtime.statistics().live_runs,
        "tasks": len(asyncio.all_tasks()) if host == "asyncio" else trio_tasks,
        "threads": threading.active_count(),
        "files": len(list(Path("/proc/self/fd").iterdir()))
        if Path("/proc/self/fd").exists()
        else 0,
    }


async def rounds_of(
    bot: Nanobot, host: str, subject: Subject, root: str, rounds: int, into: Latencies
) -> Counter[str]:
    """Run so many rounds of one subject in one bot; returns how much more is alive than after the first."""
    sleep = asyncio.sleep if host == "asyncio" else trio.sleep
    before: Counter[str] = Counter()
    async with bot:
        for number in range(rounds + 1):
            moments = await subject(bot, partial(all_wait, root, sleep))
            while (found := connections(root))["waiting"]:
                await sleep(0.01)
            if number == 0:  # imports, compiles, starts threads
                before.update(alive(bot, host))
                continue
            into.to_end += [(ended - started) * 1000 for started, ended in moments]
            closed = sorted(found["closed"])
            into.to_closed += [
                (end - started) * 1000 for (started, _), end in zip(moments, closed, strict=True)
            ]
        after = Counter(alive(bot, host))
    after.subtract(before)
    return after


def main() -> None:
    rounds = 3 if parse(__doc__) else 250
    allow_files(2 * AT_ONCE + 100)
    left: Counter[str] = Counter()
    count = 0
    with fast_model() as root:
        for name, (host, subject) in SUBJECTS.items():
            found = Latencies()
            with bot_at(f"{root}/delay=600/v1") as bot:
                main = partial(rounds_of, bot, host, subject, root, rounds, found)
                left += asyncio.run(main()) if host == "asyncio" else trio.run(main)
            p99 = round(quantiles(found.to_end, n=100)[98], 2)
            report("cancel_latency", name, found.to_end, "wall ms", p99=p99, at_once=AT_ONCE)
            p99 = round(quantiles(found.to_closed, n=100)[98], 2)
            report("cancel_latency", f"{name}, to_closed", found.to_closed, "wall ms", p99=p99)
            count += len(found.to_end)
        left["connections"] = connections(root)["waiting"]
    report("cancel_latency", "left alive", [sum(left.values())], "things", cancels=count, left=left)


if __name__ == "__main__":
    main()
