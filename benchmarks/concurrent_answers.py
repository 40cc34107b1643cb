"""How long do many answers at once take, if the model takes one second for each?

    python benchmarks/concurrent_answers.py            # 1,000 and 5,000 at once; three minutes
    python benchmarks/concurrent_answers.py --short    # 1,000 at once; about 15 s

One bot, a session per answer, real HTTP to a service in a process of its own. Wall seconds from the first call to the last
result, with no connection made before. `all` are the rounds in order; `least` is the figure to compare, for on a shared
machine everything else is somebody else's. `cpu_ms_per_answer` is this process's.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable

import trio

from benchmarks._harness import allow_files, bot_at, model_service, parse, report
from nanobot import Nanobot

SPARE_FILES = 100


async def under_asyncio(ask: Callable[[int], Awaitable[None]], count: int) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(_coroutine(ask, number))


async def under_trio(ask: Callable[[int], Awaitable[None]], count: int) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(ask, number)


async def _coroutine(ask: Callable[[int], Awaitable[None]], number: int) -> None:
    await ask(number)


async def measure(
    bot: Nanobot,
    at_once: Callable[[Callable[[int], Awaitable[None]], int], Awaitable[None]],
    count: int,
) -> tuple[float, float]:
    """Wall and CPU seconds of `count` answers at once."""

    async def ask(number: int) -> None:
        result = await bot.run("hello", session_key=f"user:{number}")
        assert result.error is None, result.error

    async with bot:
        cpu, wall = time.process_time(), time.perf_counter()
        await at_once(ask, count)
        return time.perf_counter() - wall, time.process_time() - cpu


def rounds(base_url: str, count: int, rounds: int, note: str = "") -> None:
    """Measure under both loops in turn, and report."""
    if not allow_files(count + SPARE_FILES):
        return  # this system does not allow so many connections
    walls: dict[str, list[float]] = {"asyncio": [], "trio": []}
    cpus: dict[str, list[float]] = {"asyncio": [], "trio": []}
    for _ in range(rounds):
        for host in walls:
            gc.collect()
            # The system's own queue of new connections is shorter than 5,000; who does not fit tries again after seconds.
            with bot_at(base_url, connect_s=10 if count <= 1_000 else 60) as bot:
                if host == "asyncio":
                    wall, cpu = asyncio.run(measure(bot, under_asyncio, count))
                else:
                    wall, cpu = trio.run(measure, bot, under_trio, count)
            walls[host].append(wall)
            cpus[host].append(cpu / count * 1000)
    for host, values in walls.items():
        report(
            "concurrent_answers",
            f"{count:,} one-second answers at once, {host}{note}",
            values,
            "wall s",
            least=round(min(values), 2),
            all=[round(value, 2) for value in values],
            cpu_ms_per_answer=round(min(cpus[host]), 2),
        )


def main() -> None:
    short = parse(__doc__)
    with model_service("--delay-ms=1000", "--deltas=1") as base_url:
        rounds(base_url, 1_000, 2 if short else 7)
        if not short:
            rounds(base_url, 5_000, 3)
            gc.set_threshold(100_000)
            rounds(base_url, 5_000, 3, ", gc.set_threshold(100_000)")


if __name__ == "__main__":
    main()
