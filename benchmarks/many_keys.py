"""Does memory grow with the number of sessions that were ever used?

One turn in each of a million sessions, on disk, fifty at a time. After each tenth of them, once all actors have passed away: the
process's resident memory, and the number of Python objects that the garbage collector knows, which should stay the same. An
actor outlives its last turn by half a minute, so the clock is turned up fivefold. The model answers at once and in this process,
and writes do not wait for the disk (`sessions.durability: "fast"`).

    python benchmarks/many_keys.py           # 1,000,000 sessions: half an hour of CPU
    python benchmarks/many_keys.py --short   # 3,000 sessions, looked at twice: about 15 s

What may grow up to a bound is memory that is not ours to give back: SQLite's page caches (2 MB for each connection), and what the
allocator keeps of the time when most sessions were alive. `kept_sessions` is what the store says was written, `not_kept` how
many runs said that theirs was not: a turn gives a write five seconds, which is one on this clock, and a machine that is busy with
other things may take longer.
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
from nanobot.runtime import Runtime
from nanobot.testing import ScriptedProvider

NAME = "many_keys"
AT_ONCE = 50
CLOCK_RATE = 5.0


def resident_mb() -> float:
    """What of this process is in memory now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def use(bot: Nanobot, keys: Iterator[int]) -> int:
    """One turn in each of the sessions; returns how many could not be stored."""
    lost = 0

    async def lane() -> None:
        nonlocal lost
        for key in keys:
            result = await bot.run("hello", session_key=f"session {key}")
            lost += result.metadata.get("persisted") is False

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(lane)
    return lost


async def all_pass_away(runtime: Runtime) -> None:
    """Wait until no session is alive."""
    while runtime.live_sessions:  # noqa: ASYNC110 - nobody tells of it
        await trio.sleep(1)


async def measure(total: int, looks: int) -> None:
    provider = ScriptedProvider(repeat("An answer."), record=False)
    with bot_on(provider, {"store": "sqlite", "durability": "fast"}) as bot:
        async with bot:
            kept = lost = 0
            for look in range(looks):
                first, last = look * total // looks, (look + 1) * total // looks
                lost += await use(bot, iter(range(first, last)))
                runtime = bot._engine.runtime
                assert runtime is not None
                live, peak_mb = runtime.live_sessions, resident_mb()
                await all_pass_away(runtime)
                kept += await trio.to_thread.run_sync(bot.sessions.flush)
                gc.collect()
                subject = f"after {last:,} sessions"
                report(NAME, f"{subject}, some alive", [peak_mb], "MB", live_sessions=live)
                report(
                    NAME,
                    f"{subject}, idle",
                    [resident_mb()],
                    "MB",
                    kept_sessions=kept,
                    not_kept=lost,
                )
                report(NAME, f"{subject}, idle", [len(gc.get_objects())], "objects")


if __name__ == "__main__":
    trio.run(
        measure,
        *((3_000, 2) if parse(__doc__) else (1_000_000, 10)),
        clock=MockClock(rate=CLOCK_RATE),
    )
