"""The examples that serve: a chat page in FastAPI, and a line-by-line server in Trio."""

from __future__ import annotations

import asyncio
import json
import runpy
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from .conftest import EXAMPLES


def loaded(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / name), run_name="example")


async def asked(client: httpx.AsyncClient, chat: str, message: str) -> list[dict[str, Any]]:
    response = await client.post(f"/chats/{chat}", json={"message": message})
    assert response.status_code == 200
    return [
        json.loads(event.removeprefix("data: ")) for event in response.text.split("\n\n") if event
    ]


def test_fastapi_chat(example_home: Path) -> None:
    example = loaded("fastapi_chat.py")
    app, chats = example["app"], example["chats"]

    async def story() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            assert "<form" in (await client.get("/")).text
            told = await asked(client, "a", "My name is Alice.")
            assert told[-1] == {"end": "completed"}
            told = await asked(client, "a", "What is my name?")
            assert "".join(event.get("text", "") for event in told) == "Your name is Alice."
            told = await asked(client, "b", "Which files are there?")
            assert {"tool": "list_dir"} in told

            endless = asyncio.create_task(asked(client, "a", "A thing that never ends."))
            while "a" not in chats.running:  # noqa: ASYNC110 - a program has no event for its tests
                await asyncio.sleep(0.01)
            assert (await client.post("/chats/a", json={"message": "Hi"})).status_code == 409
            assert (await client.post("/chats/a/stop")).status_code == 204
            assert (await endless)[-1] == {"end": "cancelled"}
            assert chats.running == {}
            assert (await client.post("/chats/nobody/stop")).status_code == 204
            assert (await asked(client, "a", "Hello"))[-1] == {"end": "completed"}

    asyncio.run(asyncio.wait_for(story(), 30))


def test_trio_server(example_home: Path) -> None:
    example = loaded("trio_server.py")

    async def line_of(stream: trio.SocketStream) -> str:
        received = b""
        while not received.endswith(b"\n"):
            more = await stream.receive_some()
            assert more, received
            received += more
        return received.decode().rstrip("\n")

    async def story() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                (listener,) = await nursery.start(example["main"], 0)
                port = listener.socket.getsockname()[1]
                first = await trio.open_tcp_stream("127.0.0.1", port)
                second = await trio.open_tcp_stream("127.0.0.1", port)
                async with first, second:
                    await first.send_all(b"My name is Alice.\nWhat is my name?\n")
                    assert await line_of(first) == "Hello from a scripted model."
                    assert await line_of(first) == "Your name is Alice."
                    await second.send_all(b"What is my name?\n")
                    assert await line_of(second) == "I do not know your name."
                    await second.send_all(b"Please fail.\n")
                    assert (await line_of(second)).startswith("[openai answered HTTP 401")
                    await second.send_all(b"A thing that never ends.\n")
                    assert await second.receive_some() == b"And then "
                # Both have hung up: the endless answer is cancelled, and the server goes on.
                third = await trio.open_tcp_stream("127.0.0.1", port)
                async with third:
                    await third.send_all(b"Hi\n")
                    assert await line_of(third) == "Hello from a scripted model."
                nursery.cancel_scope.cancel()

    trio.run(story)


def test_what_is_loaded_is_what_is_served() -> None:
    with pytest.raises(FileNotFoundError):
        loaded("no_such_example.py")
