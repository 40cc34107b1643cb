"""The last write of a turn gives the session's lease back, where nothing is written after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import trio

from nanobot import Nanobot
from nanobot.messages import AssistantMessage, UserMessage
from nanobot.providers import ModelRequest
from nanobot.sessions import InMemoryStore, Lease, Leased, Position
from nanobot.testing import ScriptedProvider


class Watched(InMemoryStore):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def acquire_lease(self, *args: Any, **kwargs: Any) -> Leased:
        leased = await super().acquire_lease(*args, **kwargs)
        self.asked.append("lease with message" if leased.appended else "lease")
        return leased

    async def append(self, *args: Any, **kwargs: Any) -> Position:
        self.asked.append("last append" if kwargs.get("release") else "append")
        return await super().append(*args, **kwargs)

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
    """The first of the two goes along with the lease."""
    store = Watched()
    async with make(tmp_path, store, ["one", "two", "three"]) as bot:
        await bot.run("1")
        await bot.run("2")
        await bot.run("3")
    assert store.asked == ["lease with message", "last append"] * 3
    assert said(store) == ["1", "one", "2", "two", "3", "three"]


async def test_the_message_is_a_write_of_its_own_where_something_comes_before_it(
    tmp_path: Path,
) -> None:
    store = Watched()
    two, three = ["lease with message", "last append"], ["lease", "append", "last append"]
    async with make(tmp_path, store, ["one", "two", "three", "four"]) as bot:
        await bot.run("1")
        store.extend("sdk:default", [UserMessage("elsewhere"), AssistantMessage("done")])
        await bot.run("2")
        assert store.asked == [*two, *three]
        await bot.run("3", resumable=True)
        assert store.asked == [*two, *three, *three]
        await bot.sessions.ingest(
            "sdk:default",
            [{"role": "user", "content": "taken in"}, {"role": "assistant", "content": "seen"}],
            save=False,
        )
        await bot.run("4")
        assert store.asked[-3:] == three
    expected = ["1", "one", "elsewhere", "done", "2", "two", "3", "three"]
    assert said(store) == [*expected, "taken in", "seen", "4", "four"]


def said(store: Watched) -> list[Any]:
    record = store.read("sdk:default")
    assert record is not None
    return [message.content for message in record.messages]


async def test_where_the_spending_is_written_down_afterwards_the_lease_is_kept(
    tmp_path: Path,
) -> None:
    store = Watched()
    async with make(tmp_path, store, ["one", "two"], maxBudget={"tokens": 1_000_000}) as bot:
        assert (await bot.run("1")).metadata.get("persisted") is None
        await bot.run("2")
    assert store.asked == ["lease", "append", "append", "append", "release"] * 2


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
