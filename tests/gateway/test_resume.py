"""Dropped connections: nothing is lost, nothing comes twice, and who is slow costs nobody anything."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from nanobot.testing import Answer, Stall
from nanobot.tools import tool
from tests.gateway.conftest import Client, Stage, open_stage

PARTS = 40
"""Times 100 kB: more than the buffers of two sockets hold."""

WORDS = [f"w{number} " for number in range(400)]


def long_answer(_: object) -> Answer:
    return Answer(WORDS, between_deltas_s=0.0005)


def last_seq(client: Client) -> int:
    return max((frame["seq"] for frame in client.seen if "seq" in frame), default=0)


async def attach(client: Client, chat_id: str, **fields: Any) -> dict[str, Any]:
    await client.say({"type": "attach", "chat_id": chat_id, **fields})
    return await client.until("attached", chat_id=chat_id)


@pytest.mark.parametrize("seed", range(5))
async def test_a_client_that_is_cut_off_again_and_again_gets_every_word_once(seed: int) -> None:
    chances = random.Random(seed)
    async with open_stage(long_answer) as stage:
        text, seen = "", 0
        async with stage.client() as client:
            attached = await attach(client, "one")
            await client.say({"type": "message", "chat_id": "one", "content": "go"})
            await client.until("turn_start")
            seen = last_seq(client)
        epoch, over = attached["epoch"], False
        while not over:
            async with stage.client() as client:
                resumed = await attach(client, "one", epoch=epoch, after=seen)
                assert resumed["resumed"]
                for _ in range(chances.randrange(1, 30)):
                    frame = await client.next()
                    assert frame["seq"] > seen
                    seen = frame["seq"]
                    if frame["event"] == "delta":
                        text += frame["text"]
                    if frame["event"] == "turn_end":
                        over = True
                        break
        assert text == "".join(WORDS)


async def test_a_page_that_is_loaded_in_the_middle_of_a_turn_sees_all_of_it() -> None:
    both = trio.Event()

    async def answer(request: Any) -> Answer:
        if "second" in str(request.messages[-1].content):
            return (
                Answer(["half ", "whole"], fault=Stall(after_deltas=1))
                if not both.is_set()
                else Answer("x")
            )
        return Answer("first answer")

    async with open_stage(answer) as stage, stage.client() as client:
        await attach(client, "one")
        await client.say({"type": "message", "chat_id": "one", "content": "first"})
        await client.until("turn_end")
        await client.say({"type": "message", "chat_id": "one", "content": "second"})
        await client.until("delta", text="half ")
        await client.say({"type": "message", "chat_id": "one", "content": "third", "turn_id": "t3"})
        await client.until("user_message", text="third")
        async with stage.client() as other:
            attached = await attach(other, "one", history=100)
            said = [(one["role"], one["content"]) for one in attached["messages"]]
            assert said == [("user", "first"), ("assistant", "first answer")]
            assert [turn["text"] for turn in attached["turns"]] == ["second", "third"]
            assert attached["running"]
            await other.until("user_message", text="third")
            assert other.text() == "half "
            assert [f["turn_id"] for f in other.of("user_message")] == ["t3"]
            # once it is over, the history has it and the frames do not say it again
            await client.say({"type": "cancel", "chat_id": "one"})
            await client.until("turn_end")
            await client.until("turn_end")
            async with stage.client() as third:
                after = await attach(third, "one", history=100)
                assert [one["role"] for one in after["messages"]].count("user") >= 2
                assert "turns" not in after
                assert not after.get("running", False)


async def test_a_message_that_is_sent_again_is_taken_in_once() -> None:
    async with open_stage() as stage, stage.client() as client:
        for _ in range(3):
            await client.say({"type": "message", "content": "hi", "turn_id": "mine"})
        await client.until("turn_end")
        await client.say({"type": "ping"})
        await client.until("pong")
        assert len(client.of("user_message")) == 1


async def test_after_a_restart_the_history_comes_instead_of_frames() -> None:
    async with open_stage() as stage, stage.client() as client:
        await client.say({"type": "message", "chat_id": "one", "content": "hi"})
        await client.until("turn_end")
        attached = await attach(client, "one", epoch="of another life", after=3, history=10)
        assert not attached.get("resumed", False)
        assert [one["content"] for one in attached["messages"]] == ["hi", "Hello there."]


async def test_everyone_who_is_attached_gets_the_same_frames() -> None:
    async with open_stage(long_answer) as stage, stage.client() as one, stage.client() as two:
        await attach(one, "shared")
        await attach(two, "shared")
        await one.say({"type": "message", "chat_id": "shared", "content": "go"})
        await one.until("turn_end")
        await two.until("turn_end")
        assert one.text() == two.text() == "".join(WORDS)


async def open_deaf(stage: Stage) -> trio.SocketStream:
    """A client that does the handshake, takes part in one chat, and never reads again."""
    raw = trio.socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await raw.connect(("127.0.0.1", stage.settings.websocket_port))
    stream = trio.SocketStream(raw)
    await stream.send_all(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await stream.receive_some(100)  # it was let in; only then may frames be sent
    attach = b'{"type":"attach","chat_id":"shared"}'
    await stream.send_all(bytes([0x81, 0x80 | len(attach), 0, 0, 0, 0]) + attach)
    return stream


async def test_a_deaf_client_is_dropped_and_slows_nobody() -> None:
    """Text goes on when the client that listens has it: the deaf one, behind by megabytes, is not waited for."""
    heard = trio.Semaphore(0)

    @tool
    async def wait_for_listener() -> str:
        """Wait."""
        await heard.acquire()
        return "heard"

    def answer(request: Any) -> Answer:
        if sum(type(message).__name__ == "ToolMessage" for message in request.messages) < PARTS:
            return Answer(["z" * 100_000], tool_calls=[("wait_for_listener", {})])
        return Answer("done")

    async with (
        open_stage(
            answer, tools=[wait_for_listener], replay_bytes=300_000, send_timeout_s=0.5
        ) as stage,
        stage.client() as client,
    ):
        await attach(client, "shared")
        async with await open_deaf(stage) as deaf:
            while b"attached" not in await deaf.receive_some(1000):
                pass
            await client.say({"type": "message", "chat_id": "shared", "content": "go"})
            for _ in range(PARTS):
                await client.until("tool", phase="started")
                heard.release()
            end = await client.until("turn_end")
            assert end["stop_reason"] == "completed"
            assert client.text() == "z" * 100_000 * PARTS + "done"
            await client.say({"type": "watch_runtime"})
            while (await client.until("runtime"))["dropped"] == 0:
                pass  # its time to take a frame runs out


async def test_a_client_that_falls_off_the_log_is_told_why() -> None:
    """It reads on, but what it needs next is gone: the reason comes behind what is still under way to it."""

    @tool(read_only=True)
    async def note(text: str) -> str:
        """Take a note."""
        return text

    calls = [("note", {"text": "y" * 2_000})] * 50
    answers = [Answer(tool_calls=calls), "done"]
    async with open_stage(answers, tools=[note], replay_bytes=4_096) as stage:
        async with stage.client() as client:
            # That 50 calls have begun is told without a pause: the log keeps the last few of them.
            await client.say("go")
            with pytest.raises(ConnectionClosed) as closed:
                await client.until("turn_end")
            assert closed.value.reason is not None
            assert closed.value.reason.code == 4008
            assert "too slow" in str(closed.value.reason.reason)
