"""Clients that are cut off at any moment, in any state. Afterwards nothing of them is left but what they said."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from nanobot import tool
from nanobot.providers import ModelRequest
from nanobot.testing import Answer, no_leaks
from tests.gateway.conftest import Client, Stage, open_stage
from tests.sdk.bots import NOTHING, rest_of

NOTE = {"data_url": "data:text/plain;base64,aGVsbG8=", "name": "note.txt"}
SHARED = "shared"


@tool
async def rest() -> str:
    """Rest for a moment."""
    await trio.sleep(0.005)
    return "rested"


def answer(request: ModelRequest) -> Answer:
    if len(request.messages) % 3 == 2:
        return Answer("A moment.", tool_calls=[("rest", {})], between_deltas_s=0.001)
    return Answer("one two three four", between_deltas_s=0.002)


@pytest.mark.parametrize("seed", range(3))
async def test_whenever_connections_are_cut_nothing_of_them_stays(seed: int) -> None:
    chance = random.Random(seed)
    async with no_leaks(), open_stage(answer, tools=[rest], limit_s=100) as stage:
        async with trio.open_nursery() as clients:
            for number in range(40):
                clients.start_soon(visit, stage, number, random.Random(chance.random()))
        async with stage.client() as late:  # whoever comes now is served
            await late.say("hi")
            await late.until("turn_end", stop_reason="completed")
            # All others came before it, so that they have been accepted by now; the server sees later that they left.
            while not is_quiet(stage):  # noqa: ASYNC110 - the limit of the stage is the limit of this
                await trio.sleep(0.01)
            assert (await rest_of(stage.bot)) == NOTHING
            chats = [*stage.gateway.chats._by_id.values()]
            assert [chat.chat_id for chat in chats if chat.watchers] == [late.seen[0]["chat_id"]]
            assert [chat for chat in chats if chat.temporary or chat._undecided] == []
            assert stage.gateway._watchers == {}
            assert stage.gateway.chats.bytes == sum(chat.log.size for chat in chats)


def is_quiet(stage: Stage) -> bool:
    """Whether one client is left, and no turn."""
    door = stage.gateway._websocket_door
    assert door is not None
    runs = stage.bot.runtime.statistics().live_runs  # also of chats that were deleted in their turn
    return door.streams == 1 and not stage.gateway.chats.busy and not runs


async def visit(stage: Stage, number: int, chance: random.Random) -> None:
    """Do what a client does, until the moment at which the line is cut."""
    port = stage.settings.websocket_port
    with trio.move_on_after(chance.uniform(0.0, 0.8)):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            try:
                async with trio.open_nursery() as nursery:
                    websocket = await wrap_client_stream(nursery, stream, "127.0.0.1", "/")
                    await converse(Client(websocket), number, chance)
            except* (ConnectionClosed, HandshakeError, trio.BrokenResourceError):
                pass


async def converse(client: Client, number: int, chance: random.Random) -> None:
    await client.until("ready")
    if number % 3 == 0:
        await client.say({"type": "watch_runtime"})
    await client.say({"type": "new_temporary_chat" if number % 4 == 0 else "new_chat"})
    chat_id = (await client.until("attached"))["chat_id"]
    said = {"type": "message", "chat_id": SHARED if number % 5 == 0 else chat_id}
    while True:
        await client.say({**said, "content": "go", "media": [NOTE] if number % 2 else []})
        await client.say(chance.choice(FRAMES))
        if chance.random() < 0.7:
            await client.until("turn_end")


FRAMES: list[dict[str, Any]] = [
    {"type": "attach", "chat_id": SHARED, "history": 5},
    {"type": "detach", "chat_id": SHARED},
    {"type": "cancel", "chat_id": SHARED},
    {"type": "list_chats"},
    {"type": "delete_chat", "chat_id": SHARED},
    {"type": "fork_chat", "source_chat_id": SHARED},
    {"type": "ping"},
    {"content": "/new"},
]
