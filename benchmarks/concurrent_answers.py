"""How long do many answers at once take, and how much memory, if the model takes one second for each?

    python benchmarks/concurrent_answers.py            # 1,000, 5,000 and 10,000 at once; five minutes
    python benchmarks/concurrent_answers.py --short    # 1,000 at once; about 15 s

One bot, a session per answer, real HTTP to a service in a process of its own. Wall seconds from the first call to the last
result, with no connection made before. `all` are the rounds in order; `least` is the figure to compare, for on a shared
machine everything else is somebody else's. `cpu_ms_per_answer` is this process's.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import trio

from benchmarks._harness import allow_files, bot_at, parse, report
from benchmarks._model import connections, fast_model
from nanobot import Nanobot

SPARE_FILES = 100
WAITS = "/delay=3600/v1"
"""What the model is asked by who is to wait for it."""
ON_DISK = {"store": "sqlite", "durability": "fast"}
"""For memory only: a store in memory would be counted with the sessions."""
IDLE_S = 31
"""A session's actor outlives its last turn by half a minute."""

Found = TypeVar("Found")


async def under_asyncio(ask: Callable[[int], Awaitable[None]], count: int) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(_coroutine(ask, number))


async def under_trio(ask: Callable[[int], Awaitable[None]], count: int) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(ask, number)


async def _coroutine(ask: Callable[[int], Awaitable[None]], number: int) -> None:
    await ask(number)


async def measure(
    bot: Nanobot,
    at_once: Callable[[Callable[[int], Awaitable[None]], int], Awaitable[None]],
    count: int,
) -> tuple[float, float]:
    """Wall and CPU seconds of `count` answers at once."""

    async def ask(number: int) -> None:
        result = await bot.run("hello", session_key=f"user:{number}")
        assert result.error is None, result.error

    async with bot:
        cpu, wall = time.process_time(), time.perf_counter()
        await at_once(ask, count)
        return time.perf_counter() - wall, time.process_time() - cpu


def report_walls(subject: str, walls: Sequence[float], cpu_ms: Sequence[float]) -> None:
    """Report the wall seconds of all rounds, and the CPU milliseconds of an answer in the cheapest."""
    report(
        "concurrent_answers",
        subject,
        walls,
        "wall s",
        least=round(min(walls), 2),
        all=[round(value, 2) for value in walls],
        cpu_ms_per_answer=round(min(cpu_ms), 2),
    )


def bare_rounds(root: str, count: int, rounds: int) -> None:
    """What cannot be undercut: as many bare Trio sockets, each of which connects, asks and reads its answer to the end."""
    if not allow_files(count + SPARE_FILES):
        return
    url = urlsplit(root)
    body = b'{"stream": true, "messages": [{"role": "user", "content": "hello"}]}'
    head = f"POST /delay=1,deltas=1/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"

    async def ask(_number: int) -> None:
        with trio.socket.socket() as sock:
            await sock.connect((url.hostname, url.port))
            await sock.send(head.encode() + body)
            answer = b""
            while b"[DONE]" not in answer:
                received = await sock.recv(65_536)
                assert received, answer
                answer += received

    walls, cpus = list[float](), list[float]()
    for _ in range(rounds):
        cpu, wall = time.process_time(), time.perf_counter()
        trio.run(under_trio, ask, count)
        walls.append(time.perf_counter() - wall)
        cpus.append((time.process_time() - cpu) / count * 1000)
    report_walls(f"{count:,} one-second answers at once, bare sockets", walls, cpus)


def rounds(base_url: str, count: int, rounds: int) -> None:
    """Measure under both loops in turn, and report."""
    if not allow_files(count + SPARE_FILES):
        return  # this system does not allow so many connections
    walls: dict[str, list[float]] = {"asyncio": [], "trio": []}
    cpus: dict[str, list[float]] = {"asyncio": [], "trio": []}
    for _ in range(rounds):
        for host in walls:
            gc.collect()
            # The system's own queue of new connections is shorter than 5,000; who does not fit tries again after seconds.
            with bot_at(base_url, connect_s=10 if count <= 1_000 else 60) as bot:
                if host == "asyncio":
                    wall, cpu = asyncio.run(measure(bot, under_asyncio, count))
                else:
                    wall, cpu = trio.run(measure, bot, under_trio, count)
            walls[host].append(wall)
            cpus[host].append(cpu / count * 1000)
    for host, values in walls.items():
        report_walls(f"{count:,} one-second answers at once, {host}", values, cpus[host])


def resident() -> int:
    """Bytes of this process that are in memory; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def in_fresh_process(function: Callable[[str, int], Found], url: str, count: int) -> Found:
    """Call it where nothing else was before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        return processes.submit(function, url, count).result()


async def all_wait(root: str, count: int) -> None:
    """Return when the model has so many requests."""
    while connections(root)["waiting"] < count:  # noqa: ASYNC110 - it is in another process
        await trio.sleep(0.05)


def of_sockets(root: str, count: int) -> float:
    """Kilobytes per bare socket that waits for an answer."""
    allow_files(count + SPARE_FILES)
    url = urlsplit(root)
    assert url.hostname is not None
    assert url.port is not None
    address = (url.hostname, url.port)
    request = f"POST {WAITS}/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"

    async def one() -> None:
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(request.encode())
        await stream.receive_some(65_536)

    async def waiting() -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await all_wait(root, 1)
            before = resident()
            for _ in range(count):
                nursery.start_soon(one)
            await all_wait(root, count + 1)
            held = resident() - before
            nursery.cancel_scope.cancel()
        return held / count / 1000

    return trio.run(waiting)


def of_sessions(root: str, count: int) -> float:
    """Kilobytes per session that waits for an answer."""
    allow_files(count + SPARE_FILES)

    async def waiting(bot: Nanobot) -> float:
        async with bot, trio.open_nursery() as nursery:
            nursery.start_soon(ask_one, bot, -1)
            await all_wait(root, 1)
            gc.collect()
            before = resident()
            for number in range(count):
                nursery.start_soon(ask_one, bot, number)
            await all_wait(root, count + 1)
            held = resident() - before
            nursery.cancel_scope.cancel()
        return held / count / 1000

    with bot_at(f"{root}{WAITS}", ON_DISK, connect_s=60) as bot:
        return trio.run(waiting, bot)


def of_idle_sessions(base_url: str, count: int) -> tuple[int, float]:
    """How many sessions are alive half a minute after their answers, and the bytes held for each of all."""
    allow_files(count + SPARE_FILES)

    async def after_answers(bot: Nanobot) -> tuple[int, float]:
        async with bot:

            async def wave(start: int) -> None:
                async with trio.open_nursery() as nursery:
                    for number in range(start, start + count):
                        nursery.start_soon(ask_one, bot, number)

            await wave(0)  # what a bot keeps for so much at once, like its connections, is there
            await trio.sleep(IDLE_S)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            await wave(count)
            await trio.sleep(IDLE_S)
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - before
            return bot.runtime.statistics().live_sessions, held / count

    tracemalloc.start()
    with bot_at(base_url, ON_DISK, connect_s=60) as bot:
        return trio.run(after_answers, bot)


async def ask_one(bot: Nanobot, number: int) -> None:
    result = await bot.run("hello", session_key=f"user:{number}")
    assert result.error is None, result.error


def memory(root: str, short: bool) -> None:
    """Measure what sessions hold while they are alive, and after."""
    for count in [500] if short else [1_000, 5_000]:
        if not allow_files(count + SPARE_FILES):
            return
        sessions, sockets = [], []
        for _ in range(1 if short else 3):
            sockets.append(in_fresh_process(of_sockets, root, count))
            sessions.append(in_fresh_process(of_sessions, root, count))
        report("concurrent_answers", "a bare socket", sockets, "kB", sessions=count)
        over = [kb - statistics.median(sockets) for kb in sessions]
        name = "a live session over its socket"
        report("concurrent_answers", name, over, "kB", sessions=count)
    if not short:
        alive, held = in_fresh_process(of_idle_sessions, f"{root}/deltas=1/v1", 1_000)
        name = f"a session idle for {IDLE_S} s"
        report("concurrent_answers", name, [held], "bytes", sessions=1_000, alive=alive)


def main() -> None:
    short = parse(__doc__)
    with fast_model() as root:
        memory(root, short)
        for count in (1_000,) if short else (1_000, 5_000, 10_000):
            bare_rounds(root, count, 2 if short else 3)
        base_url = f"{root}/delay=1,deltas=1/v1"
        rounds(base_url, 1_000, 2 if short else 7)
        if not short:
            rounds(base_url, 5_000, 3)
            rounds(base_url, 10_000, 3)


if __name__ == "__main__":
    main()
