"""What does a program under asyncio pay for the engine's thread, and does a host that blocks its loop hold up the engine?

    python benchmarks/bridge.py            # 10, 100 and 1,000 sessions; about two minutes
    python benchmarks/bridge.py --short    # 100 sessions; about 10 s

Two questions about one bridge. The first: microseconds of CPU of a plain turn, persisted, over HTTP, under asyncio and under
Trio; `times` is relative to Trio in the same call. The second: milliseconds by which timers in the engine ring late, while a
tool of a run waits for one after the other. The host's loop meanwhile is free, or blocked for 250 ms at a time: by a call that
waits, or by one that computes and holds the interpreter. Python lets go of that every 5 ms, or as often as it is told to, and
a timer needs it once. What the machine itself makes late is in all four; `p99` and `max` are there because the median hides
what is asked.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from itertools import repeat
from statistics import quantiles

import trio

from benchmarks._harness import bot_on, parse, report
from benchmarks._model import fast_model
from benchmarks._subjects import Subject, measure
from nanobot import tool
from nanobot.testing import Answer, ScriptedProvider

TRIO = Subject("nanobot, trio", "nanobot_trio")
ASYNCIO = Subject("nanobot, asyncio", "nanobot_asyncio")
BLOCKED_S = 0.25
TICK_S = 0.01


def compute(seconds: float) -> None:
    """Hold the interpreter for so long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def compute_politely(seconds: float) -> None:
    """Hold it for at most a millisecond at a time."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    compute(seconds)
    sys.setswitchinterval(usual)


HOSTS: dict[str, Callable[[float], None] | None] = {
    "the host's loop is free": None,
    "the host's loop is blocked": time.sleep,
    "the host's loop computes": compute,
    "the host's loop computes, with a switch interval of 1 ms": compute_politely,
}


async def lateness(block: Callable[[float], None] | None, ticks: int) -> list[float]:
    """Milliseconds by which each of so many timers was late."""
    late: list[float] = []

    @tool(read_only=True, on_host=False)
    async def tick() -> str:
        """Wait, again and again, in the engine's loop."""
        for _ in range(ticks):
            due = time.perf_counter() + TICK_S
            await trio.sleep(TICK_S)
            late.append((time.perf_counter() - due) * 1000)
        return "done"

    answers: list[str | Answer | Exception] = [Answer(tool_calls=[("tick", {})]), "It is done."]
    with bot_on(ScriptedProvider(answers, record=False)) as bot:
        async with bot:
            running = asyncio.create_task(bot.run("Wait.", tools=[tick]))
            while not running.done():
                if block is not None and late:
                    block(BLOCKED_S)
                await asyncio.sleep(0.001 if block is not None else TICK_S)
            assert (await running).error is None
    return late


def timers(short: bool) -> None:
    """Measure how late timers are, the hosts taking turns."""
    values: dict[str, list[float]] = {name: [] for name in HOSTS}
    for _ in repeat(None, 2 if short else 10):
        for name, block in HOSTS.items():
            values[name] += asyncio.run(lateness(block, 50 if short else 100))
    for name, late in values.items():
        cuts = quantiles(late, n=100)
        facts = {"p99": round(cuts[98], 2), "max": round(max(late), 2)}
        report("bridge", f"timers while {name}", late, "ms late", **facts)


def main() -> None:
    short = parse(__doc__)
    with fast_model() as base_url:
        for sessions in [100] if short else [10, 100, 1_000]:
            figures = measure(
                [TRIO, ASYNCIO], base_url, sessions=sessions, turns=5, rounds=3 if short else 9
            )
            under_trio = figures[TRIO.name].median_cpu_us
            for name, of in figures.items():
                times = round(of.median_cpu_us / under_trio, 2)
                report("bridge", name, of.cpu_us, "CPU us per turn", sessions=sessions, times=times)
    timers(short)


if __name__ == "__main__":
    main()
