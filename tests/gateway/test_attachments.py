"""Files that come with messages: how large they may be, and what they may not do to others."""

from __future__ import annotations

import base64
import json
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock
from trio_websocket import WebSocketConnection

from nanobot.gateway import GatewaySettings
from nanobot.gateway._client_frames import FrameError, Media
from nanobot.gateway._connection import Connection, Floor
from nanobot.gateway._frame_reading import read_client_frame
from nanobot.gateway._media import MAX_FILE_BYTES, files_from_media, media_limits
from nanobot.gateway._websocket import WebSocketDoor
from nanobot.gateway._wire import LONG_MESSAGES, Wire
from tests.gateway.conftest import Stage, open_stage

MIB = 1024 * 1024


def file_of(size: int, name: str = "big.bin") -> dict[str, str]:
    encoded = base64.b64encode(bytes(size)).decode()
    return {"data_url": f"data:application/octet-stream;base64,{encoded}", "name": name}


def door_of(stage: Stage) -> WebSocketDoor:
    door = stage.gateway._websocket_door
    assert door is not None
    return door


async def test_the_limits_are_told_and_a_message_that_keeps_to_them_is_taken() -> None:
    async with open_stage() as stage, stage.client() as client:
        limits = (await client.until("ready"))["limits"]
        assert limits == {"files": 20, "file_bytes": 10 * MIB, "message_bytes": 24 * MIB}
        await client.say({"content": "look", "media": [file_of(limits["file_bytes"])]})
        await client.until("turn_end", stop_reason="completed")
        assert client.of("user_message")[0]["media"] == ["big.bin"]


@pytest.mark.parametrize("sizes", [[10 * MIB, 10 * MIB, 4 * MIB], [6 * MIB] * 4, [1] * 20])
def test_what_keeps_to_the_limits_is_decoded_and_fits_into_a_frame(sizes: list[int]) -> None:
    media = [Media(**file_of(size)) for size in sizes]
    assert [len(file.content) for file in files_from_media(media, "c")] == sizes
    assert sum(len(one.data_url) for one in media) < GatewaySettings().max_frame_chars


def test_a_gateway_that_takes_shorter_frames_says_so() -> None:
    assert media_limits(4 * MIB).message_bytes < 3 * MIB
    assert media_limits(4 * MIB).file_bytes == media_limits(4 * MIB).message_bytes
    assert media_limits(1_024).message_bytes == 0


@pytest.mark.parametrize(
    ("sizes", "limit"),
    [
        ([MAX_FILE_BYTES + 4], "a file may have 10 MB"),
        ([MAX_FILE_BYTES + 1], "a file may have 10 MB"),
        ([9 * MIB, 9 * MIB, 9 * MIB], "24 MB"),
        ([1] * 21, "20 files"),
    ],
)
def test_what_is_past_a_limit_is_refused_by_name(sizes: list[int], limit: str) -> None:
    with pytest.raises(FrameError, match=limit) as refused:
        files_from_media([Media(**file_of(size)) for size in sizes], "c")
    assert refused.value.reason == "bad_media"


async def test_a_message_that_is_refused_is_named() -> None:
    async with open_stage() as stage, stage.client() as client:
        ready = await client.until("ready")
        bad = [{"data_url": "data:,", "name": "x"}]
        await client.say({"content": "look", "media": bad, "turn_id": "t1"})
        error = await client.until("error")
        assert (error["turn_id"], error["chat_id"]) == ("t1", ready["chat_id"])
        await client.say({"type": "message", "content": "", "turn_id": "t2"})
        assert (await client.until("error"))["turn_id"] == "t2"
        await client.say({"type": "message", "content": 7, "turn_id": "t3"})
        assert (await client.until("error"))["turn_id"] == "t3"
        assert client.of("message_accepted") == []


def test_a_long_frame_without_files_is_refused_unread() -> None:
    junk = "[]," * (MIB // 3)
    frame = f'{{"type":"set_sidebar_state","state":{{"a":[{junk}[]]}}}}'
    with pytest.raises(FrameError) as refused:
        read_client_frame(frame)
    assert refused.value.reason == "too_long"
    said = read_client_frame(f'{{"type":"message","content":"hi","junk":[{junk}[]]}}')
    assert said == read_client_frame('{"type":"message","content":"hi"}')


async def test_only_so_many_send_long_messages_at_once_and_others_are_not_held_up() -> None:
    text = json.dumps({"content": "look", "media": [file_of(MIB)]}).encode()
    begun = b"\x81\xff" + len(text).to_bytes(8, "big") + bytes(4) + text[: MIB // 2]
    hang_up = trio.CancelScope()

    async def hold_all(stage: Stage) -> None:
        with hang_up:
            async with trio.open_nursery() as holders:
                for _ in range(LONG_MESSAGES):
                    holders.start_soon(hold, stage, begun)

    async with open_stage() as stage, stage.client() as waiting, stage.client() as other:
        door = door_of(stage)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_all, stage)
            while door._places.borrowed_tokens < LONG_MESSAGES:  # noqa: ASYNC110 - the bytes are on their way
                await trio.sleep(0.01)
            nursery.start_soon(waiting.say, text.decode())
            while not door._places.statistics().tasks_waiting:  # noqa: ASYNC110 - as above
                await trio.sleep(0.01)
            await other.say("short")
            await other.until("turn_end", stop_reason="completed")
            assert waiting.of("user_message") == []
            hang_up.cancel()
            await waiting.until("turn_end", stop_reason="completed")
        while door._places.borrowed_tokens:  # noqa: ASYNC110 - each place is left when its message was followed
            await trio.sleep(0.01)


async def hold(stage: Stage, begun: bytes) -> None:
    """Be a client that stops in the middle of a long message."""
    port = stage.settings.websocket_port
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await stream.receive_some()
        await stream.send_all(begun)
        await trio.sleep_forever()


async def test_a_long_message_that_does_not_end_is_cut_off(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    places = trio.CapacityLimiter(1)
    wire = Wire(cast(trio.SocketStream, ours), places)
    await theirs.send_all(bytes(MIB))
    with pytest.raises(trio.BrokenResourceError, match="longer than"):
        while True:
            await wire.receive_some(65_536)
    assert places.borrowed_tokens == 1
    await wire.aclose()
    assert places.borrowed_tokens == 0


class Deaf:
    """A client that answers no ping."""

    async def ping(self) -> None:
        await trio.sleep_forever()


class Counted:
    """A wire of which only the counts are looked at."""

    def __init__(self) -> None:
        self.received = 0
        self.waiting = False
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True


class Bare:
    settings = GatewaySettings()


@pytest.mark.parametrize("waits", [False, True])
async def test_who_is_in_the_middle_of_a_long_message_need_not_answer_pings(
    autojump_clock: MockClock, waits: bool
) -> None:
    wire: Any = Counted()
    floor = cast(Floor, Bare())
    connection = Connection(cast(WebSocketConnection, Deaf()), wire, floor, "", now=0.0)

    async def send() -> None:
        wire.waiting = waits
        for _ in range(1_000):
            await trio.sleep(1)
            wire.received += 0 if waits else 4_096
        wire.waiting = False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with pytest.raises(trio.ClosedResourceError):
            await connection._ping()
        assert wire.closed
        assert trio.current_time() >= 1_000
