"""What do the parts of `actors` cost?

    python benchmarks/actor_cost.py            # about half a minute
    python benchmarks/actor_cost.py --short    # about 6 s

Microseconds per operation: of this process's CPU with all threads counted, and for what crosses threads also of wall time,
which is what the one who waits notices. The subjects take turns, round by round, after one round that is not counted, so
that a busy moment of the machine does not fall on one of them alone.

- `ask`: an empty call to an engine, from a task of its own Trio run, from asyncio, and from a thread without a loop. The
  engine starts a task per call, which is in the figure.
- `event`: one event through a credit stream, read in the producer's Trio run or in an asyncio loop, by window.
- `host call`: an engine awaits an empty function of its asyncio caller.
- `actor`: an actor of a directory is made, reads one message, and passes away; and the memory of one that waits.
- `lock`: a hold is requested and released with nobody else around; granted, with 20,000 others waiting; and handed from
  one waiting task to the next.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from actors import (
    Call,
    CreditReader,
    CreditStream,
    Directory,
    Mailbox,
    ReadWriteLock,
    SyncHost,
    ask,
    ask_sync,
    call_host,
    current_home,
    current_host,
    shared_home,
)
from benchmarks._harness import parse, report

ASKS = 2_000
EVENTS = 10_000
ACTORS = 2_000
IDLE_ACTORS = 10_000
REQUESTS = 20_000
HANDOVERS = 2_000
WINDOWS = (16, 64, 256)
CROSSES_THREADS = {"asyncio", "sync"}

Spent = tuple[float, float]
"""Seconds of CPU and of wall time per operation."""


class Stopwatch:
    """Measures from its making to `spent`."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def spent(self, operations: int) -> Spent:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        return cpu / operations, wall / operations


def submit(call: Call[Any]) -> None:
    """The smallest engine there is: each call is a task of the home."""
    trio.lowlevel.spawn_system_task(call.run, context=call.context)


async def nothing() -> None:
    """What is asked for."""


async def asks() -> Spent:
    home, watch = current_home(), Stopwatch()
    for _ in range(ASKS):
        await ask(home, Call(nothing), submit)
    return watch.spent(ASKS)


def asks_sync() -> Spent:
    home, host, watch = shared_home(), SyncHost(), Stopwatch()
    for _ in range(ASKS):
        ask_sync(home, Call(nothing), submit, host=host)
    return watch.spent(ASKS)


async def events(window: int) -> Spent:
    home = current_home()
    stream: CreditStream[int] = CreditStream(window=window)
    reader = CreditReader(stream, lambda count: home.do(stream.give_credit, count))
    notify = current_host(home).make_notify()
    home.do(stream.connect, notify.notify)
    watch = Stopwatch()
    home.do(submit, Call(partial(send_all, stream)))
    read = 0
    while True:
        try:
            reader.receive_nowait()
            read += 1
        except trio.WouldBlock:
            await notify.notified()
        except trio.EndOfChannel:
            assert read == EVENTS, read
            return watch.spent(EVENTS)


async def send_all(stream: CreditStream[int]) -> None:
    for number in range(EVENTS):
        await stream.send(number, 100)
    stream.close()


async def host_calls() -> Spent:
    home = current_home()
    host, context = current_host(home), contextvars.copy_context()

    async def call_back() -> Spent:
        watch = Stopwatch()
        for _ in range(ASKS):
            await call_host(home, host, context, nothing)
        return watch.spent(ASKS)

    return await ask(home, Call(call_back), submit)


async def read_all(key: int, mailbox: Mailbox[int]) -> None:
    async for _ in mailbox:
        pass


async def actors_made() -> Spent:
    watch = Stopwatch()
    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, read_all, on_undelivered=print, idle_s=0)
        for key in range(ACTORS):
            directory.post_nowait(key, key)
            if key % 100 == 99:  # so that no more than a hundred are alive at once
                await wait_all_tasks_blocked()
    return watch.spent(ACTORS)


async def idle_actor_bytes() -> float:
    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, read_all, on_undelivered=print)
        directory.post_nowait(-1, 0)
        await wait_all_tasks_blocked()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for key in range(IDLE_ACTORS):
            directory.post_nowait(key, 0)
        await wait_all_tasks_blocked()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(directory) == IDLE_ACTORS + 1
        nursery.cancel_scope.cancel()
    return (after - before) / IDLE_ACTORS


async def requests() -> Spent:
    lock, watch = ReadWriteLock(), Stopwatch()
    for _ in range(REQUESTS):
        lock.request(exclusive=True, on_grant=ignore).release()
    return watch.spent(REQUESTS)


def ignore() -> None:
    """Nobody waits."""


async def grants() -> Spent:
    lock = ReadWriteLock()
    holds = [lock.request(exclusive=True, on_grant=ignore) for _ in range(REQUESTS)]
    watch = Stopwatch()
    for hold in holds:
        hold.release()
    return watch.spent(REQUESTS)


async def handovers() -> Spent:
    lock = ReadWriteLock()

    async def visit() -> None:
        hold = await lock.acquire(exclusive=True)
        hold.release()

    first = await lock.acquire(exclusive=True)
    async with trio.open_nursery() as nursery:
        for _ in range(HANDOVERS):
            nursery.start_soon(visit)
        await wait_all_tasks_blocked()
        watch = Stopwatch()
        first.release()
    return watch.spent(HANDOVERS)


def main() -> None:
    rounds = 4 if parse(__doc__) else 25
    runner = asyncio.Runner()
    subjects: dict[tuple[str, str], Callable[[], Spent]] = {
        ("ask", "trio"): lambda: trio.run(asks),
        ("ask", "asyncio"): lambda: runner.run(asks()),
        ("ask", "sync"): asks_sync,
        ("host call", "asyncio"): lambda: runner.run(host_calls()),
        ("actor", "made, used, gone"): lambda: trio.run(actors_made),
        ("lock", "request and release"): lambda: trio.run(requests),
        ("lock", "granted in a long queue"): lambda: trio.run(grants),
        ("lock", "handed over"): lambda: trio.run(handovers),
    }
    for window in WINDOWS:
        subjects["event", f"trio, window {window}"] = partial(trio.run, events, window)
        subjects["event", f"asyncio, window {window}"] = partial(in_loop, runner, window)

    spent: defaultdict[tuple[str, str], list[Spent]] = defaultdict(list)
    for round_number in range(rounds + 1):
        for subject, measure in subjects.items():
            measured = measure()
            if round_number > 0:  # the first warms up
                spent[subject].append(measured)
    runner.close()

    for (name, host), measured_all in spent.items():
        operations = f"actors: {name}"
        report(operations, host, [cpu * 1e6 for cpu, _ in measured_all], "µs CPU")
        if host in CROSSES_THREADS:
            report(operations, host, [wall * 1e6 for _, wall in measured_all], "µs wall")
    sizes = [trio.run(idle_actor_bytes) for _ in range(1 + rounds // 10)]
    report("actors: actor", "idle", sizes, "bytes", actors=IDLE_ACTORS)


def in_loop(runner: asyncio.Runner, window: int) -> Spent:
    return runner.run(events(window))


if __name__ == "__main__":
    main()
