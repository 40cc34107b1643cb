"""Clients that dawdle, by the thousand, keep nobody else from being served."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
import trio

from nanobot._http_connections import HttpConnections
from nanobot.server import Service
from nanobot.server._app import make_app
from nanobot.server._client import BodyBudget, Client
from nanobot.server._service import ServerSettings
from nanobot.testing import ScriptedProvider, scripted_server
from tests.server.servers import chat, make_bot

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
BODY = HEAD + b"content-type: application/json\r\ncontent-length: 1000\r\n\r\n"


@pytest.mark.slow
def test_two_thousand_slow_lorises_do_not_stop_a_normal_client(tmp_path: Path) -> None:
    with scripted_server(lambda _: "Hello.", record=False) as model, many_files():
        make_bot(tmp_path, base_url=model.base_url)
        command = [sys.executable, "-m", "nanobot", "serve", "-c", str(tmp_path / "config.json")]
        command += ["-w", str(tmp_path / "w"), "-p", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            base_url = process.stdout.readline().split()[-1]
            try:
                trio.run(_besiege, base_url, 2000)
                process.terminate()
                assert process.wait(60) == 0
            finally:
                process.kill()


async def _besiege(base_url: str, count: int) -> None:
    port = int(base_url.rpartition(":")[2].partition("/")[0])
    attached = 0
    all_attached = trio.Event()
    async with trio.open_nursery() as nursery:

        async def dawdle(number: int) -> None:
            nonlocal attached
            slowly = b"x-slow: yes\r\n" * 1000 if number % 2 else b" " * 1000
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(HEAD if number % 2 else BODY)
                attached += 1
                if attached == count:
                    all_attached.set()
                for byte in slowly:
                    await trio.sleep(5.0)  # less would be a flood, and no longer slow
                    await stream.send_all(bytes([byte]))

        async with httpx.AsyncClient(timeout=60.0) as client:  # nobody else is there yet
            await client.post(f"{base_url}/chat/completions", json=chat("Hi"))
        for number in range(count):
            nursery.start_soon(dawdle, number)
        with trio.fail_after(60):
            await all_attached.wait()
        async with httpx.AsyncClient(timeout=30.0) as client:
            for number in range(20):
                answer = await client.post(
                    f"{base_url}/chat/completions", json=chat(f"Hi {number}")
                )
                assert answer.json()["choices"][0]["message"]["content"] == "Hello."
        nursery.cancel_scope.cancel()


async def test_a_connection_without_a_request_is_closed_after_a_while(tmp_path: Path) -> None:
    async with connections(tmp_path, idle_s=0.1) as port:
        with trio.fail_after(10):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(HEAD)
                assert await stream.receive_some() == b""


async def test_a_body_that_does_not_come_is_a_408(autojump_clock: trio.testing.MockClock) -> None:
    async def receive() -> dict[str, object]:
        await trio.sleep(7)
        return {"type": "http.request", "body": b"x", "more_body": True}

    started = trio.current_time()
    with Client(receive, BodyBudget()) as client:
        with pytest.raises(Exception, match="within 60 s") as refused:
            await client.read_body()
    assert refused.value.status == 408  # type: ignore[attr-defined]  # an ApiError
    assert trio.current_time() - started == 60


async def test_all_bodies_together_have_a_bound_and_give_it_back() -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x" * 6, "more_body": False}

    budget = BodyBudget(10)
    with Client(receive, budget) as one:
        await one.read_body()
        with Client(receive, budget) as other:
            with pytest.raises(Exception, match="large requests") as refused:
                await other.read_body()
        assert refused.value.status == 429  # type: ignore[attr-defined]  # an ApiError
    with Client(receive, budget) as later:
        assert await later.read_body() == b"x" * 6


@asynccontextmanager
async def connections(folder: Path, *, idle_s: float) -> AsyncIterator[int]:
    """A server whose patience is short; gives its port."""
    bot = make_bot(folder, ScriptedProvider([]))
    served = HttpConnections(
        make_app(Service(bot, ServerSettings())),
        logging.getLogger(__name__),
        write_within_s=60.0,
        idle_s=idle_s,
    )
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with bot, trio.open_nursery() as nursery:
        nursery.start_soon(served.serve, listeners, nursery)  # noqa: ASYNC113 - it listens already
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@contextmanager
def many_files() -> Iterator[None]:
    """Let this process, and those it starts, have as many files open as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
