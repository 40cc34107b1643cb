"""A server over real HTTP, in the Trio run of a test, with a scripted model behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

from nanobot import Nanobot
from nanobot.agent import AgentHook
from nanobot.providers import Provider
from nanobot.server import ServerSettings, serve
from nanobot.tools import Tool


class Served:
    """A running server: its bot, and a client that knows its address."""

    def __init__(self, bot: Nanobot, url: str, client: httpx.AsyncClient) -> None:
        self.bot = bot
        self.url = url
        self.client = client

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def chat(self, *messages: Any, **fields: Any) -> httpx.Response:
        """Ask; a plain text is a message of the user."""
        return await self.client.post("/v1/chat/completions", json=chat(*messages, **fields))

    @asynccontextmanager
    async def streamed(self, *messages: Any, **fields: Any) -> AsyncIterator[httpx.Response]:
        """Ask for a stream."""
        body = chat(*messages, stream=True, **fields)
        async with self.client.stream("POST", "/v1/chat/completions", json=body) as response:
            yield response


def chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    """The body of a request."""
    said = [
        {"role": "user", "content": message} if isinstance(message, str) else message
        for message in messages
    ]
    return {"messages": said, **fields}


def make_bot(
    folder: Path,
    provider: Provider | None = None,
    *,
    base_url: str = "http://127.0.0.1:9/v1",
    tools: Sequence[Tool] = (),
    hooks: Sequence[AgentHook] = (),
    **defaults: Any,
) -> Nanobot:
    """A bot with a folder of its own, and a provider that is handed in or at an address."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "agents": {"defaults": {"model": "scripted/m", **defaults}},
        "providers": {"scripted": {"apiKey": "k", "apiBase": base_url}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return Nanobot.from_config(
        folder / "config.json",
        workspace=folder / "workspace",
        provider=provider,
        tools=tools,
        hooks=hooks,
    )


@asynccontextmanager
async def serving(
    bot: Nanobot, settings: ServerSettings | None = None, **headers: str
) -> AsyncIterator[Served]:
    """Serve a bot for the length of a block; then the server is cancelled."""
    async with trio.open_nursery() as nursery:
        urls: list[str] = await nursery.start(
            partial(serve, bot, settings or ServerSettings(), port=0)
        )
        async with httpx.AsyncClient(base_url=urls[0], timeout=30.0, headers=headers) as client:
            yield Served(bot, urls[0], client)
        nursery.cancel_scope.cancel()


def events_of(text: str) -> list[Any]:
    """The events of a stream: decoded, but for `[DONE]`."""
    data = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]
