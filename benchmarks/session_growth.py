"""Does a turn cost more in a long session than in a short one?

    python benchmarks/session_growth.py            # about three minutes
    python benchmarks/session_growth.py --short    # about 10 s

Three sessions on disk: one of 10 messages, one of 5,000 that is compacted, and one of 5,000 that fits its model's window and
is not. For each: the CPU time of a turn in a bot that has the session open, that of the first turn in a bot that has to read it,
and the bytes that a turn writes. The model answers at once and in this process, and writes do not wait for the disk
(`sessions.durability: "fast"`).

Then sessions of 1,000 turns that a model over HTTP is shown as a whole: CPU of a turn and bytes that it writes, around the
10th turn and around the 1,000th, of sessions that take turns. The history that a turn sends costs CPU whoever sends it, so a
request of as many bytes by our transport, without an agent, is subtracted; `sending_us` is what it takes. `times` relates the
1,000th turn to the 10th.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

import trio
from msgspec import Struct

from benchmarks._harness import bot_at, bot_on, parse, report, stay_on_first_core
from benchmarks._model import connections, fast_model
from nanobot import Nanobot
from nanobot.providers._address import address_from_url
from nanobot.providers._pool import ConnectionPool
from nanobot.providers._request_head import RequestHead
from nanobot.sessions._configured import DATABASE_NAME
from nanobot.testing import ScriptedProvider

NAME = "session_growth"
ON_DISK = {"store": "sqlite", "durability": "fast"}
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
    with bot_on(provider, ON_DISK, contextWindowTokens=1_000_000) as bot:
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
            before.runtime.workspace.parent / "config.json",
            workspace=before.runtime.workspace,
            model="scripted/any",
            provider=provider,
        )
        async with bot:
            await bot.run("first", session_key="another")  # opens the database
            measured[key].append((await turn(bot, key))[0])
    return measured


# --- turn 1,000

PLACES = FIRST, LAST = 10, 1_000
TURNS = 8


class Grown(Struct):
    """What turns around one place in a session took, a figure for each session."""

    turn_us: list[float] = []
    sending_us: list[float] = []
    written_kb: list[float] = []

    @property
    def apart_us(self) -> list[float]:
        """CPU without sending the history."""
        return [turn - sent for turn, sent in zip(self.turn_us, self.sending_us, strict=True)]


async def cpu_us(once: Callable[[], Awaitable[object]]) -> float:
    """CPU of a call in all threads, the median of several calls."""
    values = []
    for _ in range(TURNS):
        started = time.process_time()
        await once()
        values.append((time.process_time() - started) * 1e6)
    return median(values)


async def all_indexed(bot: Nanobot) -> None:
    """Wait until the search index, which is written behind, has all messages: what it writes belongs to who stored them."""
    (file,) = bot.runtime.workspace.parent.glob(f"sessions/*/{DATABASE_NAME}")
    with closing(sqlite3.connect(file)) as database:
        while database.execute("SELECT 1 FROM unindexed LIMIT 1").fetchone():  # noqa: ASYNC110 - a thread's work
            await trio.sleep(0.05)


async def measure_growth(root: str, rounds: int) -> dict[int, Grown]:
    """Take turns around both places, in sessions that are new in each round."""
    grown = {place: Grown() for place in PLACES}
    pool = ConnectionPool()
    address = address_from_url(f"{root}/v1/chat/completions")
    head = RequestHead("POST", address, [(b"content-type", b"application/json")])

    async def send(body: bytes) -> None:
        exchange = await pool.exchange(head, body)
        while await exchange.read():
            pass

    with bot_at(f"{root}/v1", ON_DISK, contextWindowTokens=1_000_000) as bot:
        async with bot:
            for number in range(rounds + 1):
                for place, of in grown.items():
                    key = f"{number}: {place} turns"
                    await bot.sessions.ingest(key, transcript(2 * (place - TURNS // 2)))
                    await bot.run(WORDS, session_key=key)  # reads what is there
                    await all_indexed(bot)
                    before = written()
                    turn_us = await cpu_us(partial(bot.run, WORDS, session_key=key))
                    await all_indexed(bot)
                    written_kb = (written() - before) / TURNS / 1e3
                    body = b"x" * connections(root)["body_bytes"]
                    sending_us = await cpu_us(partial(send, body))
                    if number:  # the first round imports and connects
                        of.turn_us.append(turn_us)
                        of.sending_us.append(sending_us)
                        of.written_kb.append(written_kb)
    await pool.aclose()
    return grown


def report_growth(grown: dict[int, Grown]) -> None:
    """Tell what the places took, and what the last did relative to the first."""
    apart_us = median(grown[FIRST].apart_us)
    written_kb = median(grown[FIRST].written_kb)
    for place, of in grown.items():
        name = f"turn {place:,} of a session"
        facts = {
            "sending_us": round(median(of.sending_us), 1),
            "apart_from_sending": round(median(of.apart_us), 1),
            "times": round(median(of.apart_us) / apart_us, 2),
        }
        report(NAME, f"{name}, CPU", of.turn_us, "CPU us", **facts)
        times = round(median(of.written_kb) / written_kb, 2) if written_kb else None
        report(NAME, f"{name}, written", of.written_kb, "kB", times=times)


def main() -> None:
    short = parse(__doc__)
    trio.run(measure, 40 if short else 400)
    stay_on_first_core()
    with fast_model() as root:
        report_growth(trio.run(measure_growth, root, 5 if short else 30))


if __name__ == "__main__":
    main()
