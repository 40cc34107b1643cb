"""How late are tokens when 1,000 WebSocket clients each stream an answer, and is any lost or out of order?

python benchmarks/gateway_load.py [--short] [--clients N] [--tokens-per-s N] [--seconds N]

The gateway, with the SDK behind it, is one process; the clients are another, on loopback. The model is scripted in the
gateway's process: it speaks by the clock, and a read that comes late gets all that is due, as from a socket. Each token
carries its number and the moment it was due; a client counts what it gets and how old it is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct

from nanobot import Nanobot
from nanobot.gateway import Gateway, GatewaySettings
from nanobot.messages import Delta, Finished, TextDelta
from nanobot.providers import ModelRequest

TOKEN = re.compile(r"(\d+)@(\d+\.\d+) ")
LEAD_S = 5.0
"""From the first client to the first token: all are connected and have asked by then."""


class Load(Struct, frozen=True):
    """What is asked of the gateway."""

    clients: int
    tokens_per_s: float
    seconds: float

    @property
    def tokens(self) -> int:
        return round(self.tokens_per_s * self.seconds)


class ClockProvider:
    """A model that says its n-th token at the n-th tick after the start, whoever is listening."""

    name = "clock"

    def __init__(self, load: Load, starts_at: float) -> None:
        self._load = load
        self._starts_at = starts_at

    async def open(self, request: ModelRequest) -> ClockStream:
        return ClockStream(self._load, self._starts_at)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class ClockStream:
    """One answer; a batch is what has come due since the last one."""

    def __init__(self, load: Load, starts_at: float) -> None:
        self._load = load
        # Spread over one tick, as answers are that were asked for independently.
        self._starts_at = starts_at + (id(self) % 1_000) / 1_000 / load.tokens_per_s
        self._said = 0
        self._over = False

    def __aiter__(self) -> ClockStream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        if self._over:
            raise StopAsyncIteration
        if self._said == self._load.tokens:
            self._over = True
            return [Finished("stop")]
        await trio.sleep(max(0.0, self._due_at(self._said) - time.monotonic()))
        passed = (time.monotonic() - self._starts_at) * self._load.tokens_per_s
        until = min(self._load.tokens, max(self._said + 1, int(passed) + 1))
        batch = [TextDelta(f"{n}@{self._due_at(n):.6f} ") for n in range(self._said, until)]
        self._said = until
        return batch

    def _due_at(self, number: int) -> float:
        return self._starts_at + number / self._load.tokens_per_s

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def make_bot(folder: Path, provider: ClockProvider) -> Nanobot:
    """A bot that forgets everything and asks this provider."""
    config = {
        "agents": {"defaults": {"model": "clock/any"}},
        "providers": {"clock": {"apiKey": "none", "apiBase": "http://127.0.0.1:9/v1"}},
        "sessions": {"store": "memory"},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return Nanobot.from_config(path, workspace=folder, provider=provider)


async def serve(load: Load, starts_at: float) -> None:
    """Run the gateway until its standard input is closed."""
    settings = GatewaySettings(
        websocket_port=0, http_port=0, max_connections=load.clients + 10, token_ttl_s=1
    )
    with tempfile.TemporaryDirectory() as folder:
        bot = make_bot(Path(folder), ClockProvider(load, starts_at))
        async with bot, trio.open_nursery() as nursery:
            real = await nursery.start(Gateway(bot, settings).serve)
            print(real.websocket_port, flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)
            cpu_s = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
            print(json.dumps({"server_cpu_s": round(cpu_s, 1)}), flush=True)
            nursery.cancel_scope.cancel()


class Seen:
    """What one client got."""

    def __init__(self) -> None:
        self.tokens = 0
        self.out_of_order = 0
        self.frames = 0
        self.sequence = 0
        self.delays_s: list[float] = []


async def client(port: int, load: Load, seen: Seen) -> None:
    """Connect, ask, and read to the end of the turn. Frames are taken apart by hand: a client library costs more than the
    server, and both have the same two cores.
    """
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await stream.send_all(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some()
        received = received.partition(b"\r\n\r\n")[2]
        await stream.send_all(b"\x81\x82\x00\x00\x00\x00go")
        while True:
            is_ping, frame, received = take_frame(received)
            if frame is None:
                more = await stream.receive_some()
                if not more:
                    raise ConnectionError("the gateway hung up")
                received += more
            elif is_ping:
                await stream.send_all(b"\x8a" + bytes([0x80 | len(frame), 0, 0, 0, 0]) + frame)
            elif note(frame, seen):
                return


def take_frame(data: bytes) -> tuple[bool, bytes | None, bytes]:
    """Whether the first frame is a ping; its payload, None if it is not all there; and what comes after it."""
    if len(data) < 2:
        return False, None, data
    length, start = data[1], 2
    if length == 126:
        length, start = int.from_bytes(data[2:4], "big"), 4
    elif length == 127:
        length, start = int.from_bytes(data[2:10], "big"), 10
    if len(data) < start + length:
        return False, None, data
    return data[0] == 0x89, data[start : start + length], data[start + length :]


def note(payload: bytes, seen: Seen) -> bool:
    """Count a frame; returns whether it ends the turn."""
    now = time.monotonic()
    frame: dict[str, Any] = json.loads(payload)
    if "seq" in frame:
        seen.out_of_order += frame["seq"] <= seen.sequence
        seen.sequence = frame["seq"]
    if frame["event"] == "delta":
        seen.frames += 1
        for number, due_at in TOKEN.findall(frame["text"]):
            seen.out_of_order += int(number) != seen.tokens
            seen.tokens += 1
            seen.delays_s.append(now - float(due_at))
    return bool(frame["event"] == "turn_end")


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start the gateway's process."""
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def drive(load: Load) -> dict[str, Any]:
    """Start the gateway, be its clients, and report."""
    starts_at = time.monotonic() + LEAD_S + load.clients / 200
    command = [sys.executable, __file__, "--serve", str(starts_at), *arguments(load)]
    process = start(command)
    assert process.stdout is not None
    port = int(await trio.to_thread.run_sync(process.stdout.readline))
    everyone = [Seen() for _ in range(load.clients)]
    try:
        with trio.fail_after(load.seconds * 4 + 60):
            async with trio.open_nursery() as nursery:
                for seen in everyone:
                    nursery.start_soon(client, port, load, seen)
                    await trio.sleep(0.002)
        output, _ = await trio.to_thread.run_sync(process.communicate, "")
    finally:
        process.kill()
    delays = sorted(delay for seen in everyone for delay in seen.delays_s)
    cuts = statistics.quantiles(delays, n=1_000)
    return {
        "benchmark": "gateway_load",
        "clients": load.clients,
        "tokens_per_s": load.tokens_per_s,
        "seconds": load.seconds,
        "tokens": len(delays),
        "lost": load.clients * load.tokens - len(delays),
        "out_of_order": sum(seen.out_of_order for seen in everyone),
        "frames": sum(seen.frames for seen in everyone),
        "delay_ms": {
            "median": round(cuts[499] * 1_000, 1),
            "p99": round(cuts[989] * 1_000, 1),
            "max": round(delays[-1] * 1_000, 1),
        },
        **json.loads(output),
        "python": platform.python_version(),
        "trio": trio.__version__,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def arguments(load: Load) -> list[str]:
    """The options that say the same again."""
    return [
        f"--clients={load.clients}",
        f"--tokens-per-s={load.tokens_per_s}",
        f"--seconds={load.seconds}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--tokens-per-s", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--serve", type=float)
    asked = parser.parse_args()
    load = Load(asked.clients, asked.tokens_per_s, asked.seconds)
    if asked.short:
        load = Load(50, 50.0, 2.0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if asked.serve is not None:
        trio.run(serve, load, asked.serve)
    else:
        print(json.dumps(trio.run(drive, load)))


if __name__ == "__main__":
    main()
