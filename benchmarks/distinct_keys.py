"""Does memory grow with the number of sessions that were ever used?

One turn in each of a million sessions, on disk, fifty at a time. Prints the process's resident memory after a tenth of them, and
after all, with the sessions that are alive at that moment: an actor outlives its last turn by half a minute, so the clock is
turned up fivefold, lest the live ones be all that there is to see. The model answers at once and in this process.

    python benchmarks/distinct_keys.py [--short]
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import trio
from trio.testing import MockClock

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks._harness import bot_on, parse, report
from nanobot import Nanobot
from nanobot.testing import ScriptedProvider

AT_ONCE = 50
CLOCK_RATE = 5.0


def resident_mb() -> float:
    """What of this process is in memory now; 0 where the system does not tell."""
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def use(bot: Nanobot, keys: Iterator[int]) -> None:
    """One turn in each of the sessions."""

    async def lane() -> None:
        for key in keys:
            await bot.run("hello", session_key=f"session {key}")

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(lane)


async def measure(total: int) -> None:
    provider = ScriptedProvider(repeat("An answer."), record=False)
    with bot_on(provider, {"store": "sqlite", "durability": "fast"}) as bot:
        async with bot:
            done = 0
            for until in (total // 10, total):
                await use(bot, iter(range(done, until)))
                done = until
                runtime = bot._engine.runtime
                live = 0 if runtime is None else runtime.live_sessions
                subject = f"resident after {done:,} sessions"
                report("distinct_keys", subject, [resident_mb()], "MB", live_sessions=live)
                await trio.sleep(60)  # twelve seconds: all actors pass away
                live = 0 if runtime is None else runtime.live_sessions
                report(
                    "distinct_keys", f"{subject}, idle", [resident_mb()], "MB", live_sessions=live
                )


if __name__ == "__main__":
    total = 5_000 if parse(__doc__) else 1_000_000
    trio.run(measure, total, clock=MockClock(rate=CLOCK_RATE))
