"""Clients that dawdle, at both ports, keep nobody else from being served."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import trio

from tests.gateway.conftest import Stage, open_stage

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BEGUN = (b"", b"GET / HTTP/1.1\r\n", HANDSHAKE[:-2], HANDSHAKE, HANDSHAKE + b"\x81\xff\x00\x00")
"""How far one that dawdles gets: no byte, no head, nearly a head, a connection, the beginning of a frame."""


async def test_some_clients_that_dawdle_do_not_stop_others() -> None:
    await besieged(100)


@pytest.mark.slow
async def test_two_thousand_slow_lorises_do_not_stop_a_normal_client() -> None:
    with many_files():
        await besieged(2_000)


async def besieged(count: int) -> None:
    """Talk to a gateway while `count` clients send a byte now and then, half of them to each port."""
    async with open_stage(limit_s=110, max_connections=2 * count) as stage:
        async with trio.open_nursery() as nursery:
            for number in range(count):
                await nursery.start(dawdle, stage, number)
            for _ in range(5):
                async with stage.client() as client:
                    await client.say("hi")
                    await client.until("turn_end")
                    assert client.text() == "Hello there."
                async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
                    assert (await http.get(f"{stage.page}/health")).json() == {"status": "ok"}
                    assert (await http.get(stage.page)).status_code == 200
            nursery.cancel_scope.cancel()


async def dawdle(
    stage: Stage, number: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    settings = stage.settings
    port = settings.http_port if number % 2 else settings.websocket_port
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(BEGUN[number // 2 % len(BEGUN)])
        task_status.started()
        try:
            while True:
                await trio.sleep(2)
                await stream.send_all(b"x")
        except trio.BrokenResourceError:
            pass  # the gateway has lost its patience, as it should


@contextmanager
def many_files() -> Iterator[None]:
    """Let this process have as many files open as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
