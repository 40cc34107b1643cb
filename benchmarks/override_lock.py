"""What does the lock for override runs do to throughput, and does anybody starve?

    python benchmarks/override_lock.py            # about two minutes
    python benchmarks/override_lock.py --short    # about 10 s

A hundred sessions at once, each with one turn after the other, over HTTP, with a model that takes 20 ms; no run, one in
a hundred, or one in ten names a model of its own. With `overridePolicy: "exclusive"` such a run has the bot to
itself; with `"isolated"` it overlaps with the others. Turns per second, and the longest that a run took from its call to its
result, of those with an override and of those without: who starves would be seen there. The policies take turns.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import product

import trio
from msgspec import Struct

from benchmarks._harness import bot_at, parse, report
from benchmarks._model import fast_model
from nanobot import Nanobot

SESSIONS = 100
MODEL_TAKES_S = 0.02
POLICIES = ("exclusive", "isolated")
ONE_IN = {"no override": 0, "1 % override": 100, "10 % override": 10}


class Measured(Struct):
    """What the rounds of one subject came to."""

    per_second: list[float] = []
    longest_s: dict[bool, float] = {}
    """By whether the run had an override."""


async def one_round(bot: Nanobot, turns: int, one_in: int, measured: Measured) -> None:
    """All sessions have so many turns."""

    async def session(number: int) -> None:
        for turn in range(turns):
            override = one_in > 0 and (number * turns + turn) % one_in == one_in - 1
            model = "scripted/other" if override else None
            started = time.perf_counter()
            result = await bot.run("hello", session_key=f"user:{number}", model=model)
            assert result.error is None, result.error
            took_s = time.perf_counter() - started
            measured.longest_s[override] = max(took_s, measured.longest_s.get(override, 0))

    started = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(SESSIONS):
            nursery.start_soon(session, number)
    measured.per_second.append(SESSIONS * turns / (time.perf_counter() - started))


async def measure(bots: dict[str, Nanobot], turns: int, rounds: int) -> None:
    subjects = list(product(POLICIES, ONE_IN))
    measured = {subject: Measured() for subject in subjects}
    for bot in bots.values():
        await one_round(bot, 1, 0, Measured())  # connect
    for _ in range(rounds):
        for policy, share in subjects:
            await one_round(bots[policy], turns, ONE_IN[share], measured[policy, share])
    for (policy, share), of in measured.items():
        facts = {"longest_ordinary_ms": round(of.longest_s[False] * 1000)}
        if True in of.longest_s:
            facts["longest_override_ms"] = round(of.longest_s[True] * 1000)
        report("override_lock", f"{policy}, {share}", of.per_second, "turns per s", **facts)
    for bot in bots.values():
        await bot.aclose()


def main() -> None:
    turns, rounds = (4, 2) if parse(__doc__) else (20, 5)
    with ExitStack() as stack:
        root = stack.enter_context(fast_model())
        url = f"{root}/delay={MODEL_TAKES_S}/v1"
        bots = {
            policy: stack.enter_context(bot_at(url, overridePolicy=policy)) for policy in POLICIES
        }
        trio.run(measure, bots, turns, rounds)


if __name__ == "__main__":
    main()
