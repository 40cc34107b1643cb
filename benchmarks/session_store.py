"""What does it cost to write to a session, and to own one?

    python benchmarks/session_store.py            # about a minute
    python benchmarks/session_store.py --short    # about 10 s

Microseconds of wall time per append of one message of 300 characters, with 1, 100 and 1,000 sessions that write at once,
each its next message as soon as the one before is stored; and per lease that is taken and given back, by one task after the
other: with the copy of the session still good, with ten messages to read, and with the last eight of 5,000. For each
durability, on the disk that the current folder is on, and for the store in memory. `cpu_us` is this process's CPU,
all threads counted.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import trio

from benchmarks._harness import parse, report
from nanobot.messages import UserMessage
from nanobot.sessions import InMemoryStore, SessionStore, open_lease
from nanobot.sessions._sqlite import SqliteStore

Measured: TypeAlias = Callable[[SessionStore], Awaitable[int]]
"""Does something with a store and returns how often."""

MESSAGE = UserMessage("x" * 300)


def appends(sessions: int, each: int) -> Measured:
    async def session(store: SessionStore, key: str) -> None:
        async with open_lease(store, key, last=0) as leased:
            for _ in range(each):
                await store.append(leased.lease, [MESSAGE])

    async def measured(store: SessionStore) -> int:
        async with trio.open_nursery() as nursery:
            for number in range(sessions):
                nursery.start_soon(session, store, f"user:{number}")
        return sessions * each

    return measured


def leases(stored: int, last: int | None, times: int, *, known: bool = False) -> Measured:
    key = f"session of {stored}"

    async def measured(store: SessionStore) -> int:
        if store.read(key, last=0) is None:
            store.replace(key, [MESSAGE] * stored)
        position = None
        for _ in range(times):
            async with open_lease(store, key, last=last, unless_at=position) as leased:
                position = leased.position if known else None
        return times

    return measured


@contextmanager
def stores() -> Iterator[dict[str, SessionStore]]:
    with TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as folder:
        opened: dict[str, SessionStore] = {
            "commit": SqliteStore(Path(folder, "commit", "sessions.sqlite3"), durability="commit"),
            "fast": SqliteStore(Path(folder, "fast", "sessions.sqlite3"), durability="fast"),
            "in memory": InMemoryStore(),
        }
        try:
            yield opened
        finally:
            for store in opened.values():
                store.close()


async def timed(measured: Measured, store: SessionStore) -> tuple[float, float]:
    """Microseconds of wall time and of CPU, each time."""
    wall, cpu = time.perf_counter(), time.process_time()
    times = await measured(store)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall / times * 1e6, cpu / times * 1e6


def main() -> None:
    short = parse(__doc__)
    rounds, scale = (3, 1) if short else (15, 2)
    measured = {
        "append, 1 session": appends(1, 200 * scale),
        "append, 100 sessions": appends(100, 10 * scale),
        "append, 1,000 sessions": appends(1000, 2 * scale),
        "lease, the copy is good": leases(10, None, 200 * scale, known=True),
        "lease, 10 messages read": leases(10, None, 200 * scale),
        "lease, last 8 of 5,000 read": leases(5000, 8, 200 * scale),
    }
    with stores() as opened:
        for subject, once in measured.items():
            for store in opened.values():
                trio.run(timed, once, store)  # files, caches
            values: dict[str, list[tuple[float, float]]] = {name: [] for name in opened}
            for _ in range(rounds):
                for name, store in opened.items():
                    values[name].append(trio.run(timed, once, store))
            for name, figures in values.items():
                cpu_us = sorted(cpu for _, cpu in figures)[len(figures) // 2]
                report(
                    "session_store",
                    f"{subject}, {name}",
                    [wall for wall, _ in figures],
                    "us",
                    cpu_us=round(cpu_us, 1),
                )


if __name__ == "__main__":
    main()
