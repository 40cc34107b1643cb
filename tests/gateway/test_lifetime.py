"""Beginning and end: health, draining, and what is left afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from nanobot.errors import StoreError
from nanobot.providers import ModelRequest
from nanobot.sessions import SessionRecord
from nanobot.testing import Answer, Stall, scripted_server
from tests.gateway.conftest import Client, open_stage
from tests.sdk.test_problem import Down


async def test_health_and_the_page_are_served_with_a_strict_policy() -> None:
    async with open_stage() as stage, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{stage.page}/health")).json() == {"status": "ok"}
        assert (await client.get(f"{stage.page}/ready")).status_code == 200
        for path in ("/", "/runtime"):
            page = await client.get(stage.page + path)
            policy = page.headers["content-security-policy"]
            assert f"connect-src 'self' {stage.url()};" in policy
            assert "unsafe" not in policy
            assert "default-src 'none'" in policy
            assert "<script>" not in page.text
            assert "style=" not in page.text
        script = await client.get(f"{stage.page}/page/js/main.js")
        assert script.headers["content-type"].startswith("text/javascript")
        again = {"if-none-match": script.headers["etag"]}
        known = await client.get(f"{stage.page}/page/js/main.js", headers=again)
        assert known.status_code == 304
        for path in ("/page/../_http.py", "/page/%2e%2e/_http.py", "/page/none.js"):
            assert (await client.get(stage.page + path)).status_code == 404
        assert (await client.get(f"{stage.page}/connect")).json() == {
            "websocket": stage.url(),
            "token_required": False,
        }


async def test_a_gateway_whose_store_is_gone_is_not_ready_and_says_no_more() -> None:
    async with open_stage() as stage, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{stage.page}/ready")).json() == {"status": "ready"}
        stage.bot.runtime._store = Down()
        answer = await client.get(f"{stage.page}/ready")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not ready", "problem": "the store cannot be used"}
        assert (await client.get(f"{stage.page}/health")).status_code == 200


class Gone(Down):
    """Its sessions cannot be read either."""

    def read(self, key: str, **how: Any) -> SessionRecord | None:
        raise StoreError("cannot reach postgres.internal")


async def test_what_a_store_says_is_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with open_stage(store=Gone()) as stage, stage.client() as client:
        await client.say("hi")
        turn = await client.until("error")
        await client.until("turn_end")
        assert "postgres.internal" in caplog.text
        caplog.clear()
        await client.say({"type": "list_chats"})
        listing = await client.until("error", reason="unavailable")
        assert "postgres.internal" in caplog.text
    said = "The session store failed; the server's log says how."
    assert (turn["detail"], listing["detail"]) == (said, said)


async def test_sessions_that_nobody_uses_are_compacted_while_the_gateway_runs(home: Path) -> None:
    settings = {
        "agents": {"defaults": {"model": "scripted/m", "idleCompactAfterMinutes": 0.0002}},
        "providers": {"scripted": {"apiKey": "k", "apiBase": "http://127.0.0.1:9/v1"}},
    }
    (home / ".nanobot").mkdir()
    (home / ".nanobot" / "config.json").write_text(json.dumps(settings))
    summarized = trio.Event()
    shown: list[str] = []

    def answer(request: ModelRequest) -> str:
        if "You keep the notes" in str(request.messages[0].content):
            summarized.set()
            return "Notes."
        shown[:] = [str(message.content) for message in request.messages]
        return "ok"

    async with open_stage(answer) as stage, stage.client() as client:
        for number in range(6):
            await client.say(f"message {number}")
            await client.until("turn_end")
        await summarized.wait()
        await client.say("one more")
        await client.until("turn_end")
        assert "Notes." in shown[1]
        assert not any("message 0" in text for text in shown)


async def test_a_draining_gateway_finishes_its_turns_and_then_says_goodbye() -> None:
    go = trio.Event()

    async def answer(_: object) -> str:
        await go.wait()
        return "Just in time."

    async with open_stage(answer, drain_s=20.0) as stage, stage.client() as client:
        await client.say("hi")
        await client.until("turn_start")
        stage.gateway.stop()
        await client.say("one more")
        assert (await client.until("error"))["reason"] == "draining"
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{stage.page}/ready")).status_code == 503
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", stage.settings.websocket_port)
        go.set()
        await client.until("turn_end")
        assert client.text() == "Just in time."
        with pytest.raises(ConnectionClosed) as closed:
            await client.next()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1001


async def test_an_http_request_that_is_on_its_way_when_the_gateway_ends_is_answered() -> None:
    request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with open_stage() as stage:
        port = stage.settings.http_port
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as used,
            await trio.open_tcp_stream("127.0.0.1", port) as new,
        ):
            await used.send_all(request)
            await until_ok(used)
            stage.gateway.stop()
            with pytest.raises(OSError, match="connect"):
                while True:
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            for stream in (used, new):
                await stream.send_all(request)
            for stream in (used, new):
                await until_ok(stream)


async def until_ok(stream: trio.SocketStream) -> None:
    """Read one answer to its end."""
    got = b""
    while not got.endswith(b'{"status":"ok"}'):
        piece = await stream.receive_some()
        assert piece, got
        got += piece


async def test_a_turn_that_outlasts_the_draining_is_cancelled_and_its_client_told() -> None:
    stalls = Answer("one two", fault=Stall(after_deltas=1))
    async with open_stage(lambda _: stalls, drain_s=0.1) as stage, stage.client() as client:
        await client.say("hi")
        await client.until("delta")
        stage.gateway.stop()
        assert (await client.until("turn_end"))["stop_reason"] == "cancelled"
        with pytest.raises(ConnectionClosed):
            await client.next()


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with scripted_server(["From the command."]) as server:
        config = tmp_path / "config.json"
        config.write_text(
            json.dumps(
                {
                    "agents": {"defaults": {"model": "scripted/m"}},
                    "providers": {"scripted": {"apiKey": "k", "apiBase": server.base_url}},
                    "channels": {"websocket": {"port": 0}},
                    "gateway": {"port": 0},
                }
            )
        )
        command = [sys.executable, "-m", "nanobot", "gateway", "-c", str(config)]
        process = subprocess.Popen(
            [*command, "-w", str(tmp_path / "workspace")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        try:
            assert process.stdout is not None
            page, websocket = (process.stdout.readline().split()[1] for _ in range(2))

            async def talk() -> None:
                with trio.fail_after(30):
                    async with open_websocket_url(websocket) as connection:
                        client = Client(connection)
                        await client.say("hi")
                        await client.until("turn_end")
                        assert client.text() == "From the command."

            trio.run(talk)
            assert httpx.get(f"{page}health", trust_env=False).json() == {"status": "ok"}
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
            assert process.returncode == 0, errors
            assert "Traceback" not in errors
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
