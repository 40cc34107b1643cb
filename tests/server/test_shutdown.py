"""SIGTERM: nothing new, open requests to their end or to the deadline, sessions flushed, exit code 0."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from nanobot import tool
from nanobot._http_connections import HttpConnections
from nanobot.server import ServerSettings, serve
from nanobot.testing import Answer, ScriptedProvider, Stall, no_leaks, scripted_server
from tests.server.servers import chat, events_of, make_bot

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


class Stopping:
    """A bot whose tool says when it runs, and waits until it may go on."""

    def __init__(self, folder: Path, *answers: str | Answer) -> None:
        self.started, self.go_on = trio.Event(), trio.Event()

        @tool
        async def wait() -> str:
            """Wait."""
            self.started.set()
            await self.go_on.wait()
            return "done"

        call = Answer("A moment.", tool_calls=[("wait", {})])
        self.bot = make_bot(folder, ScriptedProvider([call, *answers]), tools=[wait])

    async def serve(self, nursery: trio.Nursery, settings: ServerSettings) -> str:
        urls: list[str] = await nursery.start(partial(serve, self.bot, settings, port=0))
        return urls[0]


async def test_draining_takes_nothing_new_and_finishes_what_is_open(tmp_path: Path) -> None:
    stopping = Stopping(tmp_path, "All done.")
    got: list[str] = []
    async with no_leaks(), trio.open_nursery() as nursery:
        url = await stopping.serve(nursery, ServerSettings(drain_s=30.0))
        async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
            async with trio.open_nursery() as requests:

                async def ask() -> None:
                    answer = await client.post("/v1/chat/completions", json=chat("Hi", stream=True))
                    got.append(answer.text)

                requests.start_soon(ask)
                await stopping.started.wait()
                async with await trio.open_tcp_stream("127.0.0.1", port_of(url)) as late:
                    late_body = json.dumps(chat("Too late")).encode()
                    await late.send_all(HEAD % len(late_body))
                    while await open_requests(client) < 3:  # the stream, the late one, this one
                        pass
                    signal.raise_signal(signal.SIGTERM)
                    with pytest.raises(OSError, match="connect"):
                        while True:
                            await (await trio.open_tcp_stream("127.0.0.1", port_of(url))).aclose()
                    await late.send_all(late_body)
                    answered = await received(late)
                stopping.go_on.set()
    assert answered.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"shutting_down"' in answered
    *events, done = events_of(got[0])
    assert done == "[DONE]"
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert text == "A moment.\n\nAll done."
    session = stopping.bot.sessions.get("api:default")
    assert session is not None
    assert session.messages[-1]["content"] == "All done."


async def test_who_had_connected_and_speaks_only_then_is_answered(tmp_path: Path) -> None:
    """On a new connection and on one that was used before: a client whose request is on its way gets a 503, and may ask
    another server. A connection that was just closed would leave it in doubt."""
    bot = make_bot(tmp_path, ScriptedProvider(["Hello."]))
    body = json.dumps(chat("Hi")).encode()
    request = HEAD % len(body) + body
    async with no_leaks(), trio.open_nursery() as nursery:
        urls = await nursery.start(partial(serve, bot, ServerSettings(drain_s=30.0), port=0))
        port = port_of(urls[0])
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as used,
            await trio.open_tcp_stream("127.0.0.1", port) as new,
            httpx.AsyncClient(base_url=urls[0]) as client,
        ):
            await used.send_all(request)
            assert (await used.receive_some()).startswith(b"HTTP/1.1 200 ")
            await open_requests(client)  # answered after the two were accepted
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(OSError, match="connect"):
                while True:
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            for stream in (used, new):
                await stream.send_all(request)
                assert b"HTTP/1.1 503 " in await received(stream)


async def test_who_waits_in_the_queue_of_a_listener_that_ends_is_let_in() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    connections = HttpConnections(
        app, logging.getLogger(__name__), write_within_s=60.0, idle_s=75.0
    )
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listeners[0].socket.getsockname()
    async with trio.open_nursery() as clients:
        async with trio.open_nursery() as doors:
            doors.start_soon(connections.serve, listeners, clients)
            await trio.testing.wait_all_tasks_blocked()
            doors.cancel_scope.cancel()
            waiting = socket.create_connection(address)  # noqa: ASYNC230 - the system takes it; nobody else runs meanwhile
        waiting.setblocking(False)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(waiting)) as client:
            await client.send_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert (await received(client)).startswith(b"HTTP/1.1 503 ")


async def test_past_the_deadline_clients_are_told_that_they_were_cut_off(tmp_path: Path) -> None:
    stopping = Stopping(tmp_path)
    got = b""
    async with no_leaks(), trio.open_nursery() as nursery:
        url = await stopping.serve(nursery, ServerSettings(drain_s=0.05))
        async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
            body = chat("Hi", stream=True)
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                await stopping.started.wait()
                signal.raise_signal(signal.SIGTERM)
                with pytest.raises(httpx.RemoteProtocolError):
                    async for piece in response.aiter_bytes():
                        got += piece
    assert events_of(got.decode())[-1]["error"]["code"] == "shutting_down"
    with pytest.raises(Exception, match="closed"):
        await stopping.bot.run("Hi")


async def test_a_client_that_does_not_read_holds_nothing_up(tmp_path: Path) -> None:
    flood = Answer("x" * 5_000_000, fault=Stall(after_deltas=10), delta_size=500_000)
    bot = make_bot(tmp_path, ScriptedProvider([flood]))
    with trio.fail_after(30):  # the server itself would wait for a minute
        async with no_leaks(), trio.open_nursery() as nursery:
            urls: list[str] = await nursery.start(
                partial(serve, bot, ServerSettings(drain_s=0.05), port=0)
            )
            client = await trio.open_tcp_stream("127.0.0.1", port_of(urls[0]))
            nursery.start_soon(_close_at_end, nursery, client)
            body = json.dumps(chat("Hi", stream=True)).encode()
            await client.send_all(HEAD % len(body) + body)
            await client.receive_some(100)
            signal.raise_signal(signal.SIGTERM)


async def _close_at_end(nursery: trio.Nursery, client: trio.SocketStream) -> None:
    """Close the client when the server, the other task of the nursery, has ended."""
    async with client:
        while len(nursery.child_tasks) > 1:  # noqa: ASYNC110 - a server tells nobody that it has ended
            await trio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_drains_and_exits_with_zero(
    tmp_path: Path, number: signal.Signals
) -> None:
    with scripted_server(lambda request: f"You said {request.user_texts[-1][:2]}.") as model:
        make_bot(tmp_path, base_url=model.base_url)
        command = [sys.executable, "-m", "nanobot", "serve", "-c", str(tmp_path / "config.json")]
        options = ["-w", str(tmp_path / "w"), "-p", "0", "-v"]
        with subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                base_url = process.stdout.readline().split()[-1]
                answer = httpx.post(f"{base_url}/chat/completions", json=chat("Hi"), timeout=30.0)
                assert answer.json()["choices"][0]["message"]["content"] == "You said Hi."
                process.send_signal(number)
                _, said = process.communicate(timeout=30)
            finally:
                process.kill()
    assert process.returncode == 0, said
    assert "sessions flushed" in said


async def open_requests(client: httpx.AsyncClient) -> int:
    text = (await client.get("/metrics")).text
    (line,) = (each for each in text.splitlines() if each.startswith("nanobot_http_requests_open "))
    return int(line.split()[1])


async def received(stream: trio.SocketStream) -> bytes:
    got = b""
    while piece := await stream.receive_some():
        got += piece
    return got


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
