"""What does one streamed answer cost in CPU, by way of httpx as shipped, our pool under its client, our pool called directly?

    python benchmarks/transport.py            # about ten seconds; `--short` says the same
    python benchmarks/transport.py --full     # 1,000 at once too, and httpx's wall time for them

Prints one JSON line per subject and load: microseconds of this process's CPU per request (median of the rounds, which
interleave the subjects; least and most), and for 1,000 requests at once to a model that takes a second, the wall time. The
server runs in a process of its own, and what it costs is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

import httpx
import trio

from nanobot.providers._pool import ConnectionPool
from nanobot.providers._request_head import RequestHead
from nanobot.providers._transport import PoolTransport

Subject = Callable[[str], Awaitable[None]]

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 500}]}).encode()
HEADERS = {
    "authorization": "Bearer sk-benchmark",
    "content-type": "application/json",
    "accept": "text/event-stream",
}
EVENTS = 8
ROUNDS = 3
SLOW_S = 1.0


class Model(asyncio.Protocol):
    """Answers every request with the same eight events, after the seconds that its path names: `/1.0`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._received = rest[length:]
        delay_s = float(head.partition(b" /")[2].partition(b" ")[0] or 0)
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._transport.write, ANSWER)
        else:
            self._transport.write(ANSWER)


def answer() -> bytes:
    delta = {"index": 0, "delta": {"content": "hello "}, "finish_reason": None}
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [delta],
    }
    events = b"data: %b\n\n" % json.dumps(chunk).encode() * EVENTS + b"data: [DONE]\n\n"
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(events), events)


ANSWER = answer()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Model, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until the benchmark goes away


@contextmanager
def model() -> Iterator[str]:
    """Run the server in a child process; yields its URL."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(child.stdout.readline())}/"
        finally:
            child.stdin.close()


def under_client(client: httpx.AsyncClient) -> Subject:
    async def once(url: str) -> None:
        async with client.stream("POST", url, content=BODY, headers=HEADERS) as response:
            async for _ in response.aiter_raw():
                pass

    return once


def directly(pool: ConnectionPool) -> Subject:
    headers = httpx.Headers(HEADERS).raw
    heads: dict[str, RequestHead] = {}

    async def once(url: str) -> None:
        head = heads.get(url) or heads.setdefault(url, RequestHead("POST", httpx.URL(url), headers))
        exchange = await pool.exchange(head, BODY)
        while await exchange.read():
            pass

    return once


async def load(subject: Subject, url: str, *, at_once: int, requests: int) -> tuple[float, float]:
    """Return the CPU and wall seconds of `requests` requests, `at_once` in flight."""

    async def one_after_another(count: int) -> None:
        for _ in range(count):
            await subject(url)

    cpu, wall = time.process_time(), time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(one_after_another, requests // at_once)
    return time.process_time() - cpu, time.perf_counter() - wall


def report(**measured: object) -> None:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    versions = {name: version(name) for name in ("httpx", "httpcore", "h11", "trio")}
    line = {"benchmark": "transport", **measured, "versions": versions, "machine": machine}
    print(json.dumps(line), flush=True)


async def measure(url: str, *, full: bool) -> None:
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    pool = PoolTransport()
    async with (
        httpx.AsyncClient(limits=unlimited, timeout=60) as shipped,
        httpx.AsyncClient(transport=PoolTransport(), timeout=60) as pooled,
        pool,
    ):
        subjects = {
            "httpx as shipped": under_client(shipped),
            "our pool under AsyncClient": under_client(pooled),
            "our pool called directly": directly(pool),
        }
        for at_once in (1, 100, 1000) if full else (1, 100):
            requests = 800
            rounds: dict[str, list[float]] = {name: [] for name in subjects}
            for subject in subjects.values():  # connect
                await load(subject, url, at_once=at_once, requests=at_once)
            for _ in range(ROUNDS):
                for name, subject in subjects.items():
                    cpu_s, _ = await load(subject, url, at_once=at_once, requests=requests)
                    rounds[name].append(cpu_s / requests * 1e6)
            for name, values in rounds.items():
                report(
                    subject=name,
                    at_once=at_once,
                    cpu_us_per_request=round(statistics.median(values), 1),
                    spread_us=[round(min(values), 1), round(max(values), 1)],
                    n=requests * ROUNDS,
                )
        slow = (
            subjects if full else {"our pool called directly": subjects["our pool called directly"]}
        )
        for name, subject in slow.items():
            cpu_s, wall_s = await load(subject, f"{url}{SLOW_S}", at_once=1000, requests=1000)
            report(
                subject=name,
                at_once=1000,
                model_takes_s=SLOW_S,
                wall_s=round(wall_s, 2),
                cpu_us_per_request=round(cpu_s * 1000, 1),
                n=1000,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="what it does without --full")
    parser.add_argument("--full", action="store_true", help="1,000 at once too; minutes")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    with model() as url:
        trio.run(lambda: measure(url, full=options.full))


if __name__ == "__main__":
    main()
