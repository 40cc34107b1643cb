"""Does a turn cost more in a long session than in a short one?

Three sessions on disk: one of 10 messages, one of 5,000 that is compacted, and one of 5,000 that fits its model's window and
is not. For each: the CPU time of a turn in a bot that has the session open, that of the first turn in a bot that has to read it,
and the bytes that a turn writes. The model answers at once and in this process, and writes do not wait for the disk
(`sessions.durability: "fast"`).

    python benchmarks/session_growth.py [--short]
"""

from __future__ import annotations

import sys
import time
from itertools import repeat
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks._harness import bot_on, parse, report
from nanobot import Nanobot
from nanobot.testing import ScriptedProvider

NAME = "session_growth"
LENGTH = 5_000
KEYS = SHORT, COMPACTED, WHOLE = (
    "10 messages",
    "5,000 messages, compacted",
    "5,000 messages, all shown",
)
WORDS = "Somebody said something that takes about as many words as people use for a thing. " * 3


def transcript(count: int) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": f"{n}: {WORDS}"} for n in range(count)]


def written() -> int:
    """The bytes that this process has written so far, files and all; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return int(next(line for line in lines if line.startswith("wchar")).split()[1])


async def turn(bot: Nanobot, key: str) -> tuple[float, float]:
    """The milliseconds of CPU that a turn takes, in all threads, and the kilobytes that it writes."""
    before, started = written(), time.process_time()
    await bot.run("And now?", session_key=key)
    return (time.process_time() - started) * 1e3, (written() - before) / 1e3


async def measure(rounds: int) -> None:
    provider = ScriptedProvider(repeat("An answer."), record=False)
    on_disk = {"store": "sqlite", "durability": "fast"}
    with bot_on(provider, on_disk, contextWindowTokens=1_000_000) as bot:
        async with bot:
            for key, count in ((SHORT, 10), (COMPACTED, LENGTH), (WHOLE, LENGTH)):
                await bot.sessions.ingest(key, transcript(count))
            await bot.runtime.compact_idle_session(COMPACTED, max_suffix=8)
            for key in KEYS * 10:  # what happens once, like the first checkpoint, is another matter
                await turn(bot, key)
            # One after the other, so that whatever else the machine does concerns all of them.
            measured: dict[str, list[tuple[float, float]]] = {key: [] for key in KEYS}
            for _ in range(rounds):
                for key in KEYS:
                    measured[key].append(await turn(bot, key))
        first = await first_turns(bot, max(5, rounds // 20))
        for key in KEYS:
            report(NAME, f"a turn, {key}", [ms for ms, _ in measured[key]], "ms of CPU")
            report(NAME, f"written in a turn, {key}", [kb for _, kb in measured[key]], "kB")
            report(NAME, f"the first turn of a bot, {key}", first[key], "ms of CPU")


async def first_turns(before: Nanobot, count: int) -> dict[str, list[float]]:
    """What the first turn takes in a bot that does not know the session; each bot is a new one."""
    measured: dict[str, list[float]] = {key: [] for key in KEYS}
    for key in KEYS * count:
        provider = ScriptedProvider(repeat("An answer."), record=False)
        bot = Nanobot.from_config(
            before._config.path,
            workspace=before.runtime.workspace,
            model="scripted/any",
            provider=provider,
        )
        async with bot:
            await bot.run("first", session_key="another")  # opens the database
            measured[key].append((await turn(bot, key))[0])
    return measured


if __name__ == "__main__":
    trio.run(measure, 40 if parse(__doc__) else 400)
