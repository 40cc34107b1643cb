"""What every subject has in common: it gets a load from the command line and runs a round of it whenever it is told to.

A subject is a program of its own, in an environment of its own if it is somebody else's, so it needs the standard library
only. It prints `ready`, and for each line on its input one JSON line with what a round took. A round has new sessions: an
uncounted first turn in each, which also makes the connections, then the counted ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

__all__ = ["Ask", "Load", "Round", "asyncio_rounds", "load", "rounds"]

Ask = Callable[[str, str], Awaitable[object]]
"""Have one turn: the session's key, what the user says."""


class Load(NamedTuple):
    """How many sessions at once have how many turns each, one after the other, with a model at `base_url`."""

    base_url: str
    sessions: int
    turns: int


def load() -> Load:
    """Read the command line; stay on the first core, so that the model has the other one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("sessions", type=int)
    parser.add_argument("turns", type=int)
    wanted = Load(**vars(parser.parse_args()))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return wanted


class Round:
    """One round: `start` after the first turns, `end` after the last ones."""

    def __init__(self, number: int) -> None:
        self.number = number

    def keys(self, count: int) -> list[str]:
        """New session keys."""
        return [f"round{self.number}-session{index}" for index in range(count)]

    def start(self) -> None:
        """From here on it counts."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def end(self, turns: int) -> None:
        """Report what so many turns took."""
        facts = {
            "cpu_us_per_turn": (time.process_time() - self._cpu) / turns * 1e6,
            "wall_us_per_turn": (time.perf_counter() - self._wall) / turns * 1e6,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(facts), flush=True)


def rounds() -> Iterator[Round]:
    """Yield a round for each line on standard input. Blocks the loop meanwhile, which has nothing to do."""
    print("ready", flush=True)
    number = 0
    while sys.stdin.readline():
        yield Round(number)
        number += 1


async def asyncio_rounds(ask: Ask, wanted: Load) -> None:
    """Run all rounds of a subject that lives under asyncio."""

    async def several(key: str, turns: int) -> None:
        for _ in range(turns):
            await ask(key, "What is it like?")

    for one in rounds():
        keys = one.keys(wanted.sessions)
        await asyncio.gather(*(several(key, 1) for key in keys))
        one.start()
        await asyncio.gather(*(several(key, wanted.turns) for key in keys))
        one.end(wanted.sessions * wanted.turns)
