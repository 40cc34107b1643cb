"""The last write of a turn gives the session's lease back, where nothing is written after it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from nanobot import Nanobot
from nanobot.messages import Message
from nanobot.providers import ModelRequest
from nanobot.sessions import Compaction, InMemoryStore, Lease, Position
from nanobot.testing import ScriptedProvider


class Watched(InMemoryStore):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def append(
        self,
        lease: Lease,
        messages: Sequence[Message] = (),
        *,
        metadata: Mapping[str, Any] | None = None,
        compaction: Compaction | None = None,
        slips: Mapping[str, bytes | None] | None = None,
        release: bool = False,
    ) -> Position:
        self.asked.append("last append" if release else "append")
        return await super().append(
            lease,
            messages,
            metadata=metadata,
            compaction=compaction,
            slips=slips,
            release=release,
        )

    async def release_lease(self, lease: Lease) -> None:
        self.asked.append("release")
        await super().release_lease(lease)


def make(folder: Path, store: Watched, script: Any, **sessions: Any) -> Nanobot:
    config = {
        "agents": {"defaults": {"model": "scripted/m"}},
        "sessions": sessions,
        "providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return Nanobot.from_config(
        path, workspace=folder / "ws", store=store, provider=ScriptedProvider(script)
    )


async def test_a_turn_writes_twice_and_asks_for_nothing_more(tmp_path: Path) -> None:
    store = Watched()
    async with make(tmp_path, store, ["one", "two"]) as bot:
        await bot.run("1")
        await bot.run("2")
    assert store.asked == ["append", "last append"] * 2


async def test_where_the_spending_is_written_down_afterwards_the_lease_is_kept(
    tmp_path: Path,
) -> None:
    store = Watched()
    async with make(tmp_path, store, ["one"], maxBudget={"tokens": 1_000_000}) as bot:
        assert (await bot.run("1")).metadata.get("persisted") is None
    assert store.asked == ["append", "append", "append", "release"]


async def test_a_cancelled_turn_gives_it_back(tmp_path: Path) -> None:
    store = Watched()
    asked = trio.Event()

    async def answer(_request: ModelRequest) -> str:
        asked.set()
        await trio.sleep_forever()
        raise AssertionError

    async with make(tmp_path, store, answer) as bot:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bot.run, "1")
            await asked.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(10):
            leased = await store.acquire_lease("sdk:default")  # nobody else has it
        assert leased.record is not None
        assert [message.content for message in leased.record.messages] == ["1"]
        await store.release_lease(leased.lease)
