"""Clients that leave at any moment: in the middle of a request, of a run, of a stream. Afterwards nothing is left."""

from __future__ import annotations

import json
import logging
import random
from functools import partial
from pathlib import Path

import pytest
import trio

from nanobot import tool
from nanobot._http_connections import HttpConnections
from nanobot.server import ServerSettings, Service, make_app
from nanobot.server._client import BodyBudget
from nanobot.server._limits import MAX_BODIES_BYTES
from nanobot.testing import Answer, ScriptedProvider, no_leaks
from tests.sdk.bots import NOTHING, rest_of
from tests.server.servers import chat, make_bot

PIXEL = "data:text/plain;base64," + "eHh4" * 1000


@tool
async def rest() -> str:
    """Rest for a moment."""
    await trio.sleep(0.005)
    return "rested"


def answers(number: int) -> Answer:
    if number % 3 == 0:
        return Answer("A moment.", tool_calls=[("rest", {})])
    return Answer("one two three four", between_deltas_s=0.002)


@pytest.mark.parametrize("seed", range(3))
async def test_whenever_clients_leave_nothing_of_them_stays(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    provider = ScriptedProvider([answers(number) for number in range(2000)])
    bot = make_bot(tmp_path, provider, tools=[rest])
    service = Service(bot, ServerSettings(max_requests=20, max_per_session=4))
    connections = HttpConnections(
        make_app(service), logging.getLogger(__name__), write_within_s=60.0, idle_s=75.0
    )
    async with no_leaks():
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        async with bot, trio.open_nursery() as nursery:
            serving = trio.CancelScope()

            async def serve() -> None:
                with serving:
                    await connections.serve(listeners, nursery)

            nursery.start_soon(serve)
            with trio.fail_after(60):
                async with trio.open_nursery() as clients:
                    for number in range(60):
                        clients.start_soon(partial(leave, port, number, chance))
                await service.wait_quiet()
                while connections.open:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            assert service.asked == 0
            assert service.budget.left == BodyBudget(MAX_BODIES_BYTES).left
            assert await rest_of(bot) == NOTHING
            serving.cancel()
    uploads = tmp_path / "workspace" / ".nanobot" / "uploads"
    assert not uploads.exists() or not [*uploads.glob("ephemeral-*")]


async def leave(port: int, number: int, chance: random.Random) -> None:
    """Ask something, and close the connection at a moment of chance, if the answer does not come before."""
    file = {"type": "file", "file": {"file_data": PIXEL}}
    said = [{"type": "text", "text": f"Hi {number}"}, *([file] if number % 4 == 0 else [])]
    messages: list[object] = [{"role": "user", "content": said}]
    if number % 5 == 0:
        messages.insert(0, {"role": "system", "content": "Be brief."})
    stream = bool(number % 2)
    body = json.dumps(chat(*messages, stream=stream, session_id=f"s{number % 7}")).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    sent = (head + body)[: chance.randrange(len(head), 2 * (len(head) + len(body)))]
    async with await trio.open_tcp_stream("127.0.0.1", port) as connection:
        with trio.move_on_after(chance.uniform(0.0, 0.4)):
            await connection.send_all(sent)
            while await connection.receive_some():
                pass
