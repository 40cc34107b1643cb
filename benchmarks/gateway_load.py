"""How late are tokens when 1,000 WebSocket clients each stream an answer, and is any lost or out of order?

python benchmarks/gateway_load.py [--short] [--clients N] [--tokens-per-s N] [--seconds N]

The gateway, with the SDK behind it, is one process; the clients are another, on loopback. The model is scripted in the
gateway's process: it begins when all clients have asked, and speaks by the clock; a read that comes late gets all that is
due, as from a socket. Each token carries its number and the moment it was due. The clients are one loop over raw sockets
which notes when what came, and looks into it only afterwards: a client library costs more than the server, and both have
the same cores. `server_us_per_token` is the gateway's own CPU time, model and SDK included, and says most where others
work on the machine too; `server_stolen_s` is the part of the time in which it would have run and was not let.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct

from actors import TrioNotify
from benchmarks._harness import report
from nanobot import Nanobot
from nanobot.gateway import Gateway, GatewaySettings
from nanobot.messages import Delta, Finished, TextDelta
from nanobot.providers import ModelRequest

TOKEN = re.compile(r"(\d+)@(\d+\.\d+) ")
LEAD_S = 1.0
"""From when the model is told to begin to its first token."""

PATIENCE_S = 120.0


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

    def __init__(self, load: Load) -> None:
        self.load = load
        self.asked = 0
        self.begun = trio.Event()
        self.all_asked = trio.Event()
        self.all_open = trio.Event()
        self.streams: deque[ClockStream] = deque()  # in the order in which they are due

    async def speak(self) -> None:
        """Wake each answer when its next token is due. A timer for each would cost more than what is measured."""
        self.begun.set()
        await self.all_open.wait()
        first = time.monotonic() + LEAD_S
        tick_s = 1 / self.load.tokens_per_s
        for number, stream in enumerate(self.streams):  # spread over one tick
            stream.starts_at = first + tick_s * number / len(self.streams)
        while self.streams:
            now = time.monotonic()
            while self.streams and (stream := self.streams[0]).due_at(stream.woken) <= now:
                self.streams.popleft()
                stream.wake(now)
                if stream.woken < self.load.tokens:
                    self.streams.append(stream)
            await trio.sleep(0.001)

    async def open(self, request: ModelRequest) -> ClockStream:
        self.asked += 1
        if self.asked == self.load.clients:
            self.all_asked.set()
        await self.begun.wait()
        stream = ClockStream(self.load)
        self.streams.append(stream)
        if len(self.streams) == self.load.clients:
            self.all_open.set()
        return stream

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class ClockStream:
    """One answer; a batch is what has come due since the last one."""

    def __init__(self, load: Load) -> None:
        self.starts_at = 0.0
        self.woken = 0
        self._load = load
        self._said = 0
        self._wake = TrioNotify()
        self._over = False

    def due_at(self, number: int) -> float:
        """When a token is due."""
        return self.starts_at + number / self._load.tokens_per_s

    def wake(self, now: float) -> None:
        """Let the answer have all tokens that are due by now."""
        passed = (now - self.starts_at) * self._load.tokens_per_s
        self.woken = min(self._load.tokens, max(self.woken + 1, int(passed) + 1))
        self._wake.notify()

    def __aiter__(self) -> ClockStream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        if self._over:
            raise StopAsyncIteration
        if self._said == self._load.tokens:
            self._over = True
            return [Finished("stop")]
        while self._said == self.woken:
            await self._wake.notified()
        batch = [TextDelta(f"{n}@{self.due_at(n):.6f} ") for n in range(self._said, self.woken)]
        self._said = self.woken
        return batch

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


async def serve(load: Load) -> None:
    """Run the gateway: begin when all clients have asked, report at a line of standard input."""
    settings = GatewaySettings(
        websocket_port=0, http_port=0, max_connections=load.clients + 10, token_ttl_s=1
    )
    with tempfile.TemporaryDirectory() as folder:
        provider = ClockProvider(load)
        bot = make_bot(Path(folder), provider)
        async with bot, trio.open_nursery() as nursery:
            real = await nursery.start(Gateway(bot, settings).serve)
            print(real.websocket_port, flush=True)
            await provider.all_asked.wait()
            cpu_s, stolen_s = used()
            await provider.speak()
            await trio.to_thread.run_sync(sys.stdin.readline)
            cpu_s, stolen_s = used()[0] - cpu_s, used()[1] - stolen_s
            print(json.dumps({"cpu_s": cpu_s, "stolen_s": stolen_s}), flush=True)
            nursery.cancel_scope.cancel()


def used() -> tuple[float, float]:
    """CPU seconds of this process, and seconds that its main thread was ready and had to wait for a core (on Linux)."""
    try:
        waited_s = int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        waited_s = 0.0
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), waited_s


class Client:
    """One socket, and what came over it and when."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.socket.sendall(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(65_536)
        self.rest = bytearray(head.partition(b"\r\n\r\n")[2])
        self.socket.sendall(b"\x81\x82\x00\x00\x00\x00go")
        self.seen: list[tuple[float, bytes]] = []

    def read(self) -> bool:
        """Take what is there; returns whether the turn has ended."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("the gateway hung up")
        now = time.monotonic()
        rest = self.rest
        rest += data
        start = 0
        ended = False
        while (frame := frame_at(rest, start)) is not None:
            first, end = frame
            payload = bytes(rest[first:end])
            if rest[start] == 0x89:
                self.socket.sendall(b"\x8a" + bytes([0x80 | len(payload), 0, 0, 0, 0]) + payload)
            else:
                self.seen.append((now, payload))
                ended = ended or payload.startswith(b'{"event":"turn_end"')
            start = end
        del rest[:start]
        return ended


def frame_at(data: bytearray, start: int) -> tuple[int, int] | None:
    """Where the payload of the frame at `start` begins and ends, or None if it is not all there."""
    left = len(data) - start
    if left < 2:
        return None
    length, first = data[start + 1], start + 2
    if length == 126 and left >= 4:
        length, first = int.from_bytes(data[start + 2 : start + 4], "big"), start + 4
    elif length == 127 and left >= 10:
        length, first = int.from_bytes(data[start + 2 : start + 10], "big"), start + 10
    elif length >= 126:
        return None
    return (first, first + length) if start + left >= first + length else None


class Seen:
    """What all clients got, looked at afterwards."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []
        self.frames = 0
        self.out_of_order = 0

    def look(self, client: Client) -> None:
        """Count the tokens of one client."""
        tokens = sequence = 0
        for at, payload in client.seen:
            frame: dict[str, Any] = json.loads(payload)
            if "seq" in frame:
                self.out_of_order += frame["seq"] <= sequence
                sequence = frame["seq"]
            if frame["event"] == "delta":
                self.frames += 1
                for number, due_at in TOKEN.findall(frame["text"]):
                    self.out_of_order += int(number) != tokens
                    tokens += 1
                    self.delays_s.append(at - float(due_at))


def drive(load: Load) -> None:
    """Start the gateway, be its clients, and report."""
    command = [sys.executable, __file__, "--serve", *arguments(load)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            clients = [Client(port) for _ in range(load.clients)]
            cpu_s = time.process_time()
            listen(clients, load.seconds * 4 + PATIENCE_S)
            cpu_s = time.process_time() - cpu_s
            output, _ = process.communicate("report\n", timeout=PATIENCE_S)
        finally:
            process.kill()
    for client in clients:
        client.socket.close()
    look_and_report(load, clients, json.loads(output), client_cpu_s=cpu_s)


def listen(clients: Sequence[Client], patience_s: float) -> None:
    """Read until every client has the end of its turn."""
    until = time.monotonic() + patience_s
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.socket.setblocking(False)
            selector.register(client.socket, selectors.EVENT_READ, client)
        while selector.get_map():
            for key, _ in selector.select(timeout=1.0):
                if key.data.read():
                    selector.unregister(key.fileobj)
            if time.monotonic() > until:
                raise TimeoutError("the answers did not end")


def look_and_report(
    load: Load, clients: Sequence[Client], server: dict[str, float], *, client_cpu_s: float
) -> None:
    """Look at everything that came."""
    seen = Seen()
    for client in clients:
        seen.look(client)
    delays_ms = [delay_s * 1_000 for delay_s in seen.delays_s]
    asked = load.clients * load.tokens
    facts = {
        "p99": round(statistics.quantiles(delays_ms, n=100)[98], 1),
        "clients": load.clients,
        "tokens_per_s": load.tokens_per_s,
        "seconds": load.seconds,
        "lost": asked - len(delays_ms),
        "out_of_order": seen.out_of_order,
        "frames": seen.frames,
        "server_us_per_token": round(server["cpu_s"] / asked * 1e6, 1),
        "server_cpu_s": round(server["cpu_s"], 1),
        "server_stolen_s": round(server["stolen_s"], 1),
        "client_cpu_s": round(client_cpu_s, 1),
    }
    report("gateway_load", "a token's delay", delays_ms, "ms", **facts)


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
    parser.add_argument("--serve", action="store_true")
    asked = parser.parse_args()
    load = Load(asked.clients, asked.tokens_per_s, asked.seconds)
    if asked.short:
        load = Load(50, 50.0, 2.0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if asked.serve:
        trio.run(serve, load)
    else:
        drive(load)


if __name__ == "__main__":
    main()
