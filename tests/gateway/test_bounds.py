"""Everything has a bound, and says so when it is reached."""

from __future__ import annotations

import json

import trio

from nanobot.gateway._connection import _OUTBOX
from nanobot.testing import Answer, Stall
from tests.gateway.conftest import Stage, open_stage
from tests.gateway.test_resume import open_deaf


async def test_so_many_messages_wait_in_a_chat_and_the_next_is_refused_by_name() -> None:
    stalls = Answer("one two", fault=Stall(after_deltas=1))
    async with open_stage(lambda _: stalls, max_queued=2) as stage, stage.client() as client:
        await client.say("first")
        await client.until("turn_start")
        for number in range(3):
            await client.say({"content": "more", "turn_id": f"t{number}"})
        error = await client.until("error")
        assert (error["reason"], error["turn_id"]) == ("queue_full", "t2")
        assert len(client.of("user_message")) == 3
        await client.say({"type": "cancel"})
        for _ in range(3):
            await client.until("turn_end")
        await client.say(
            {"content": "more", "turn_id": "t2"}
        )  # it was not taken for one that is known
        await client.until("turn_start", turn_id="t2")


async def test_a_connection_is_attached_to_so_many_chats_and_to_another_after_leaving_one() -> None:
    async with open_stage(max_chats_per_connection=2) as stage, stage.client() as client:
        own = (await client.until("ready"))["chat_id"]
        await client.say({"type": "new_chat"})
        await client.until("attached")
        for frame in (
            {"type": "new_chat"},
            {"type": "new_temporary_chat"},
            {"type": "attach", "chat_id": "x"},
            {"type": "message", "chat_id": "x", "content": "hi"},
        ):
            await client.say(frame)
            assert (await client.until("error"))["reason"] == "too_many_chats"
        await client.say({"type": "detach", "chat_id": own})
        await client.say({"type": "message", "chat_id": "x", "content": "hi"})
        await client.until("turn_end", chat_id="x")
        assert not [chat for chat in stage.gateway.chats._by_id.values() if chat.temporary]


async def test_all_logs_together_have_a_bound_and_chats_that_nobody_looks_at_go_first() -> None:
    bound = 40_000
    async with open_stage(
        lambda _: "y" * 9_000, total_replay_bytes=bound, replay_bytes=20_000
    ) as stage:
        async with stage.client() as client:
            for number in range(8):
                said = {"type": "message", "chat_id": f"c{number}", "content": "go"}
                await client.say(said)
                await client.until("turn_end", chat_id=f"c{number}")
                if number < 2:
                    await client.say({"type": "detach", "chat_id": f"c{number}"})
            chats = stage.gateway.chats
            assert (
                chats.bytes <= bound + 9_000
            )  # the newest entry of each log is kept, of six that are looked at, too
            assert chats.bytes == sum(chat.log.size for chat in chats._by_id.values())
            assert chats.find("c0") is None
            assert chats.find("c7") is not None


async def test_who_asks_and_does_not_read_is_not_read_either() -> None:
    state = {"state": {"x": "y" * 200_000}}
    request = json.dumps(
        {"type": "webui_request", "request_id": "r", "action": "sidebar.update", "payload": state}
    )
    async with open_stage() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(ask_and_not_read, stage, request)
        while not (connections := [*stage.gateway._connections]):  # noqa: ASYNC110 - it has yet to connect
            await trio.sleep(0.01)
        outbox = connections[0]._outbox
        while len(outbox) < _OUTBOX:  # noqa: ASYNC110 - the kernel takes megabytes before
            await trio.sleep(0.01)
        for _ in range(30):
            assert len(outbox) <= _OUTBOX + 1  # its answer, beside what it is told unasked
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def ask_and_not_read(stage: Stage, request: str) -> None:
    text = request.encode()
    frame = b"\x81\xff" + len(text).to_bytes(8, "big") + bytes(4) + text
    async with await open_deaf(stage) as stream:
        while True:
            await stream.send_all(frame)
