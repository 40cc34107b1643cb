"""Who is let in, and what is refused: over real sockets."""

from __future__ import annotations

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed

from nanobot.errors import ConfigError
from nanobot.gateway import GatewaySettings
from tests.gateway.conftest import Stage, open_stage

TOKEN = "canary.0123456789"


async def refused(
    stage: Stage, query: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()
) -> int:
    """The status that a handshake is answered with: 101 if the client is let in. By hand: the client library leaves the
    socket of a refused connection open.
    """
    lines = [
        f"GET {stage.settings.path}{query} HTTP/1.1".encode(),
        b"Host: 127.0.0.1",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
        *(name + b": " + value for name, value in headers),
    ]
    async with await trio.open_tcp_stream("127.0.0.1", stage.settings.websocket_port) as stream:
        await stream.send_all(b"\r\n".join([*lines, b"", b""]))
        return int((await stream.receive_some()).split()[1])


def http() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False)


async def test_only_the_gateways_own_page_and_configured_ones_may_connect() -> None:
    async with open_stage(allowed_origins=("https://chat.example",)) as stage:
        port = str(stage.settings.http_port).encode()
        for origin, status in [
            (b"http://127.0.0.1:" + port, 101),
            (b"http://localhost:" + port, 101),
            (b"https://chat.example", 101),
            (b"https://evil.example", 403),
            (b"http://127.0.0.1:1", 403),
            (b"null", 403),
        ]:
            assert await refused(stage, headers=((b"origin", origin),)) == status, origin


async def test_a_static_token_is_asked_for_in_the_query_or_a_header() -> None:
    async with open_stage(token=TOKEN) as stage:
        assert await refused(stage) == 401
        assert await refused(stage, "?token=wrong") == 401
        assert await refused(stage, f"?token={TOKEN}") == 101
        bearer = ((b"authorization", f"Bearer {TOKEN}".encode()),)
        assert await refused(stage, headers=bearer) == 101


async def test_a_short_lived_token_is_good_once() -> None:
    async with open_stage(token=TOKEN) as stage, http() as client:
        url = f"{stage.page}/token"
        assert (await client.post(url)).status_code == 401
        assert (await client.get(url)).status_code == 405
        answer = await client.post(url, headers={"authorization": f"Bearer {TOKEN}"})
        token = answer.json()["token"]
        assert token.startswith("nbwt_")
        assert answer.headers["cache-control"] == "no-store"
        assert await refused(stage, f"?token={token}") == 101
        assert await refused(stage, f"?token={token}") == 401


async def test_guessing_tokens_is_slowed_down() -> None:
    async with open_stage(token=TOKEN) as stage, http() as client:
        statuses = [(await client.post(f"{stage.page}/token")).status_code for _ in range(40)]
        assert 429 in statuses
        assert set(statuses) == {401, 429}


async def test_a_name_that_was_rebound_to_loopback_is_refused() -> None:
    async with open_stage() as stage:
        stream = await trio.open_tcp_stream("127.0.0.1", stage.settings.websocket_port)
        async with stream:
            await stream.send_all(
                b"GET / HTTP/1.1\r\nHost: rebound.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert (await stream.receive_some()).split()[1] == b"403"


async def test_another_path_is_not_found_and_a_full_house_says_so() -> None:
    async with open_stage(max_connections=1, path="/chat") as stage:
        async with stage.client() as client:
            await client.until("ready")
            assert await refused(stage) == 503
    async with open_stage(path="/chat") as stage:
        stage.settings = GatewaySettings(websocket_port=stage.settings.websocket_port, path="/no")
        assert await refused(stage) == 404


def test_an_open_port_without_a_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="token"):
        GatewaySettings(websocket_host="0.0.0.0").checked()
    GatewaySettings(websocket_host="0.0.0.0", http_host="0.0.0.0", token=TOKEN).checked()


async def test_garbage_and_silence_disturb_nobody() -> None:
    async with open_stage() as stage:
        port = stage.settings.websocket_port
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(50)]
        for rubbish in (
            b"\x00\xff\xfe" * 50,
            b"GET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.0\r\n\r\n",
        ):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(rubbish)
        async with stage.client() as client:
            await client.say("hi")
            await client.until("turn_end")
        for stream in silent:
            await stream.aclose()


async def test_frames_that_come_too_often_are_refused_and_then_the_connection_is() -> None:
    async with open_stage(frames_per_s=1.0) as stage, stage.client() as client:
        try:
            for _ in range(200):
                await client.say({"type": "ping"})
        except ConnectionClosed:
            pass  # what was sent before it is still to be read
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await client.next()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1008
        refusals = [frame for frame in client.of("error") if frame["reason"] == "rate_limited"]
        assert refusals[0]["retry_after_s"] > 0
        assert len(client.of("pong")) >= 1


async def test_a_frame_that_is_too_long_closes_the_connection() -> None:
    async with open_stage(max_frame_chars=1_000) as stage, stage.client() as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.say("x" * 2_000)
            await client.until("turn_end")
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1009
