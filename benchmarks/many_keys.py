"""Does memory grow with the number of sessions that were ever used?

One turn in each of 100,000 sessions, on disk, fifty at a time. After each tenth of them, once all actors have passed away: the
process's resident memory, and the number of Python objects that the garbage collector knows, which should stay the same. An
actor outlives its last turn by half a minute, so the clock is turned up fivefold. The model answers at once and in this process,
and writes do not wait for the disk (`sessions.durability: "fast"`).

    python benchmarks/many_keys.py              # 100,000 sessions: five minutes
    python benchmarks/many_keys.py --short      # 2,000 sessions in two parts: about 14 s
    python benchmarks/many_keys.py --million    # 1,000,000 sessions: half an hour of CPU

What may grow up to a bound is memory that is not ours to give back: SQLite's page caches (2 MB for each connection), and what the
allocator keeps of the time when most sessions were alive. `kept_sessions` is what the store says was written, `not_kept` how
many runs said that theirs was not: a turn gives a write a minute, which is twelve seconds on this clock, and a busy machine
may take longer.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import trio
from trio.testing import MockClock

from benchmarks._harness import bot_on, options, report
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


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--million", action="store_true", help="a million sessions")
    asked = parser.parse_args()
    if asked.short:
        trio.run(measure, 2_000, 2, clock=MockClock(rate=CLOCK_RATE))
    else:
        total = 1_000_000 if asked.million else 100_000
        trio.run(measure, total, 10, clock=MockClock(rate=CLOCK_RATE))


if __name__ == "__main__":
    main()
