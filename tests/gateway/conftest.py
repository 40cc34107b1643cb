"""A gateway on loopback ports that the system chose, with a scripted model, and clients that talk to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio_websocket import WebSocketConnection, open_websocket_url

from nanobot import Nanobot
from nanobot.gateway import Gateway, GatewaySettings
from nanobot.sessions import InMemoryStore
from nanobot.testing import ScriptedProvider
from nanobot.tools import Tool

ANY_PORT = GatewaySettings(websocket_port=0, http_port=0, frames_per_s=10_000.0)
LIMIT_S = 30


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME of its own for each test, so that no real configuration is read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


class Client:
    """One WebSocket and what came over it."""

    def __init__(self, websocket: WebSocketConnection) -> None:
        self.websocket = websocket
        self.seen: list[dict[str, Any]] = []

    async def say(self, frame: dict[str, Any] | str) -> None:
        await self.websocket.send_message(frame if isinstance(frame, str) else json.dumps(frame))

    async def next(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.websocket.get_message())
        self.seen.append(frame)
        return frame

    async def until(self, event: str, **fields: Any) -> dict[str, Any]:
        """Read on to the next frame of that kind."""
        while True:
            frame = await self.next()
            if frame["event"] == event and all(frame.get(k) == v for k, v in fields.items()):
                return frame

    def of(self, event: str) -> list[dict[str, Any]]:
        return [frame for frame in self.seen if frame["event"] == event]

    def text(self, event: str = "delta") -> str:
        return "".join(frame["text"] for frame in self.of(event))


class Stage:
    """A running gateway."""

    def __init__(self, gateway: Gateway, settings: GatewaySettings, bot: Nanobot) -> None:
        self.gateway = gateway
        self.settings = settings
        self.bot = bot
        self.page = f"http://127.0.0.1:{settings.http_port}"

    def url(self, query: str = "") -> str:
        return f"ws://127.0.0.1:{self.settings.websocket_port}{self.settings.path}{query}"

    @asynccontextmanager
    async def client(
        self, query: str = "", headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> AsyncIterator[Client]:
        async with open_websocket_url(
            self.url(query), extra_headers=list(headers), message_queue_size=1000
        ) as websocket:
            try:
                yield Client(websocket)
            finally:  # the library leaves the socket open if the server closes first
                await trio.aclose_forcefully(websocket._stream)


Answers = Any


@asynccontextmanager
async def open_stage(
    answers: Answers = None,
    *,
    tools: Sequence[Tool] = (),
    settings: GatewaySettings = ANY_PORT,
    limit_s: float = LIMIT_S,
    store: InMemoryStore | None = None,
    **changes: Any,
) -> AsyncIterator[Stage]:
    """Run a gateway for the length of a block; `changes` are settings."""
    provider = ScriptedProvider((lambda _: "Hello there.") if answers is None else answers)
    async with Nanobot.from_config(provider=provider, tools=tools, store=store) as bot:
        gateway = Gateway(bot, replace(settings, **changes))
        with trio.fail_after(limit_s):
            async with trio.open_nursery() as nursery:
                real = await nursery.start(gateway.serve)
                yield Stage(gateway, real, bot)
                nursery.cancel_scope.cancel()


OpenStage = Callable[..., Any]
