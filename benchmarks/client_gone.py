"""How soon after a client of `nanobot serve` has hung up is the run's connection to the model closed?

    python benchmarks/client_gone.py            # about 15 s
    python benchmarks/client_gone.py --short    # about 5 s

Wall milliseconds from the moment when the client closes its socket to the one when the model service sees the connection for
that request closed: over two processes, with a hundred runs in the middle of their answers, which are left one after the
other. The half of the clients that stream closes in the middle of the stream, the others while they wait for their answer.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from benchmarks._harness import allow_files, parse, report
from nanobot.testing import Answer, RecordedRequest, ScriptedServerThread, Stall, scripted_server

AT_ONCE = 100


@contextmanager
def server(base_url: str) -> Iterator[int]:
    """`nanobot serve` in a process of its own; gives its port."""
    with TemporaryDirectory() as folder:
        settings = {
            "agents": {"defaults": {"model": "scripted/any"}},
            "providers": {"scripted": {"apiBase": base_url}},
            "sessions": {"store": "memory"},
            "api": {"port": 0, "timeout": 600},
        }
        config = Path(folder, "config.json")
        config.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "nanobot", "serve", "-c", str(config), "-w", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield int(process.stdout.readline().rpartition(":")[2].partition("/")[0])
            process.terminate()


def ask(port: int, name: str, *, stream: bool) -> socket.socket:
    """Send a request and leave the answer where it is."""
    body = json.dumps(
        {"user": name, "stream": stream, "messages": [{"role": "user", "content": name}]}
    ).encode()
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    return client


def one_round(model: ScriptedServerThread, port: int) -> dict[bool, list[float]]:
    """Seconds for each of a hundred clients, by whether it streamed."""
    before = len(model.requests)
    clients = {
        f"client {number}": ask(port, f"client {number}", stream=number % 2 == 0)
        for number in range(AT_ONCE)
    }
    while model.statistics().requests_in_flight < AT_ONCE:
        time.sleep(0.01)
    time.sleep(0.5)  # the first words arrive
    closed: dict[str, float] = {}
    for name, client in clients.items():
        closed[name] = time.monotonic()
        client.close()
        time.sleep(0.005)
    while model.statistics().open_connections:
        time.sleep(0.01)
    latencies: dict[bool, list[float]] = {True: [], False: []}
    for request in model.requests[before:]:
        name = request.user_texts[-1].splitlines()[0]
        assert request.hung_up_at is not None
        streamed = int(name.split()[1]) % 2 == 0
        latencies[streamed].append(request.hung_up_at - closed[name])
    return latencies


def stalled(_request: RecordedRequest) -> Answer:
    """An answer that stops in the middle."""
    return Answer("one two three", fault=Stall(after_deltas=2))


def main() -> None:
    rounds = 2 if parse(__doc__) else 8
    allow_files(6 * AT_ONCE + 100)
    values: dict[bool, list[float]] = {True: [], False: []}
    with scripted_server(stalled) as model, server(model.base_url) as port:
        for number in range(rounds + 1):
            for streamed, latencies in one_round(model, port).items():
                if number:  # the first round imports and compiles
                    values[streamed] += [latency * 1000 for latency in latencies]
    for streamed, figures in values.items():
        subject = "a client that streams" if streamed else "a client that waits"
        p99 = round(quantiles(figures, n=100)[98], 2)
        report("client_gone", subject, figures, "wall ms", p99=p99, at_once=AT_ONCE)


if __name__ == "__main__":
    main()
