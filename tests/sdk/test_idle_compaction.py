"""Sessions that nobody uses for a while are compacted, in a program that asks for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from nanobot import Nanobot
from nanobot.errors import BotClosed, InvalidArgument
from nanobot.providers import ModelRequest
from nanobot.sessions import InMemoryStore
from nanobot.testing import Answer, ScriptedProvider, no_leaks

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

STORY = [
    {"role": role, "content": f"{role} {number}"}
    for number in range(10)
    for role in ("user", "assistant")
]


def is_summary(request: ModelRequest) -> bool:
    return "You keep the notes" in str(request.messages[0].content)


def remember(request: ModelRequest) -> Any:
    return Answer("Notes.") if is_summary(request) else Answer("ok")


def bot_in(folder: Path, script: Any = remember, *, minutes: float = 15) -> Nanobot:
    config = folder / "config.json"
    settings = {
        "agents": {"defaults": {"idleCompactAfterMinutes": minutes}},
        "providers": {"scripted": {"apiBase": "http://127.0.0.1:9"}},
    }
    config.write_text(json.dumps(settings))
    return Nanobot.from_config(
        config,
        workspace=folder / "ws",
        model="scripted/m",
        provider=ScriptedProvider(script),
        store=InMemoryStore(),  # no disk keeps up with these clocks
    )


def through(bot: Nanobot, key: str) -> int | None:
    snapshot = bot.sessions.get(key)
    assert snapshot is not None
    return None if snapshot.compaction is None else int(snapshot.compaction["through"])


async def until(true: Callable[[], bool]) -> None:
    """Wait for what happens while the clock stands still: some of it in threads, which read files."""
    for _ in range(1000):
        if true():
            return
        await trio.to_thread.run_sync(time.sleep, 0.01)
    raise AssertionError("it did not happen")


async def let(clock: MockClock, minutes: float) -> None:
    """Let time pass, and whoever waited for it begin."""
    clock.jump(minutes * 60)
    await trio.testing.wait_all_tasks_blocked()


async def test_a_session_is_compacted_when_it_was_idle_for_long_and_not_before(
    mock_clock: MockClock, tmp_path: Path
) -> None:
    bot = bot_in(tmp_path)
    async with bot, trio.open_nursery() as nursery:
        nursery.start_soon(bot.runtime.compact_while_idle)
        await bot.sessions.ingest("a", STORY)
        await bot.sessions.ingest("unused", STORY)
        await bot.run("one", session_key="a")
        await let(mock_clock, 14)
        await bot.run("two", session_key="a")  # and so it begins anew
        await bot.run("short", session_key="b")
        await let(mock_clock, 14)
        maker = bot._blueprint.turn_maker(bot._engine.runtime)  # type: ignore[arg-type]  # it lives
        assert len(maker.idle) == 2
        assert through(bot, "a") is None
        await let(mock_clock, 2)
        await until(lambda: through(bot, "a") == 16)  # all but eight
        await until(lambda: len(maker.idle) == 0)
        assert through(bot, "b") is None  # there is nothing to summarize
        assert through(bot, "unused") is None
        for number in range(5):
            await bot.run(f"later {number}", session_key="a")
        assert through(bot, "a") == 16
        await let(mock_clock, 16)
        await until(lambda: through(bot, "a") == 26)
        nursery.cancel_scope.cancel()


async def test_a_summary_that_fails_leaves_the_session_and_the_others_get_theirs(
    mock_clock: MockClock, tmp_path: Path
) -> None:
    def moody(request: ModelRequest) -> Any:
        if is_summary(request) and "bad" in str(request.messages[-1].content):
            return Answer("")
        return remember(request)

    async with bot_in(tmp_path, moody) as bot, trio.open_nursery() as nursery:
        nursery.start_soon(bot.runtime.compact_while_idle)
        await trio.testing.wait_all_tasks_blocked()
        for key in ("bad", "good"):
            await bot.sessions.ingest(key, [{"role": "user", "content": key}, *STORY])
            await bot.run("x", session_key=key)
        await let(mock_clock, 20)
        await until(lambda: through(bot, "good") is not None)
        assert through(bot, "bad") is None
        nursery.cancel_scope.cancel()


async def test_a_turn_waits_for_the_compaction_and_finds_its_summary(
    mock_clock: MockClock, tmp_path: Path
) -> None:
    def slow(request: ModelRequest) -> Any:
        return Answer("Notes.", before_first_delta_s=60) if is_summary(request) else Answer("ok")

    async with bot_in(tmp_path, slow) as bot, trio.open_nursery() as nursery:
        nursery.start_soon(bot.runtime.compact_while_idle)
        provider = bot._blueprint._provider
        assert isinstance(provider, ScriptedProvider)
        await trio.testing.wait_all_tasks_blocked()
        await bot.sessions.ingest("a", STORY)
        await bot.run("one", session_key="a")
        await let(mock_clock, 16)
        await until(lambda: len(provider.requests) == 2)
        run = await bot.run_streamed("two", session_key="a")
        await let(mock_clock, 2)
        assert "Notes." in str((await run.wait()).messages[1])
        nursery.cancel_scope.cancel()


async def test_off_means_off_and_nonsense_is_refused(tmp_path: Path) -> None:
    async with bot_in(tmp_path, minutes=0) as bot:
        await bot.runtime.compact_while_idle()
        with pytest.raises(InvalidArgument):
            await bot.runtime.compact_while_idle(max_suffix=-1)


def test_it_ends_with_the_bot_and_leaves_nothing_behind(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        async with no_leaks():
            bot = bot_in(tmp_path)
            await bot.run("x", session_key="a")

            async def close() -> None:
                await host.sleep(0.05)
                await bot.aclose()

            await host.gather(bot.runtime.compact_while_idle, bot.runtime.compact_while_idle, close)
            with pytest.raises(BotClosed):
                await bot.runtime.compact_while_idle()
            other = bot_in(tmp_path)
            assert await host.cancel_after(0.05, other.runtime.compact_while_idle)
            await other.run("still there", session_key="a")
            await other.aclose()

    host.run(story)
