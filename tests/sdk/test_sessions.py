"""`bot.sessions`: transcripts come in whole, readers wait for nobody, and who clears a session wins."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from nanobot import Nanobot, RunContext, tool
from nanobot.errors import (
    BotClosed,
    InvalidArgument,
    InvalidMessage,
    NestedRunRefused,
    StoreError,
    UsageError,
)
from nanobot.messages import UserMessage, check, messages_from_openai
from nanobot.providers import ModelRequest
from nanobot.sessions import InMemoryStore, SessionExists, SessionGone
from nanobot.testing import Answer, ScriptedProvider, no_leaks

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi there"}]


def bot_with(script: Any = None, **more: Any) -> tuple[Nanobot, ScriptedProvider]:
    provider = ScriptedProvider(repeat("ok") if script is None else script)
    return Nanobot.from_config(provider=provider, **more), provider


def shown(request: ModelRequest) -> list[str]:
    """What the model was shown, without the system prompt and the notes of the turns."""
    return [str(message.content).partition("\n\n[")[0] for message in request.messages[1:]]


def said(bot: Nanobot, key: str) -> list[str]:
    snapshot = bot.sessions.get(key)
    return [] if snapshot is None else [message["content"] for message in snapshot.messages]


# Taking transcripts in


def test_an_ingested_transcript_is_history(host: Host) -> None:
    async def story() -> None:
        bot, provider = bot_with()
        async with bot:
            snapshot = await bot.sessions.ingest("a", HELLO, metadata={"title": "T"}, source="s")
            assert snapshot == bot.sessions.get("a")
            assert snapshot.metadata == {"title": "T"}
            assert snapshot.messages == [{**message, "source": "s"} for message in HELLO]
            assert provider.request_count == 0
            await bot.run("and now?", session_key="a")
            assert shown(provider.requests[0]) == ["hello", "hi there", "and now?"]
            assert said(bot, "a") == ["hello", "hi there", "and now?", "ok"]

    host.run(story)


def test_a_program_without_a_loop_ingests_too() -> None:
    bot, _ = bot_with()
    with bot:
        assert bot.sessions.ingest_sync("a", HELLO).messages == HELLO
        assert bot.run_sync("x", session_key="a").content == "ok"
        assert said(bot, "a") == ["hello", "hi there", "x", "ok"]


def test_the_blocking_twin_refuses_to_block_a_loop(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with()
        async with bot:
            with pytest.raises(UsageError, match=r"use `await bot\.sessions\.ingest\(\.\.\.\)`"):
                bot.sessions.ingest_sync("a", HELLO)

    host.run(story)


def test_a_transcript_with_one_bad_message_is_refused_whole(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with()
        async with bot:
            with pytest.raises(InvalidMessage, match=r"messages\[2\]\.role must be one of") as bad:
                await bot.sessions.ingest("a", [*HELLO, {"role": "robot", "content": "beep"}])
            assert isinstance(bad.value, ValueError)
            with pytest.raises(InvalidArgument, match="metadata"):
                await bot.sessions.ingest("a", HELLO, metadata={"bad": object()})
            with pytest.raises(InvalidArgument, match="session_key must be a string, not int"):
                await bot.sessions.ingest(7, HELLO)  # type: ignore[arg-type]  # the point
            assert bot.sessions.get("a") is None
            assert bot.sessions.list() == []

    host.run(story)


def test_nothing_ingested_creates_nothing(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with()
        async with bot:
            empty = await bot.sessions.ingest("a", [])
            assert (empty.key, empty.messages) == ("a", [])
            assert bot.sessions.get("a") is None

    host.run(story)


def test_ingesting_takes_its_place_among_the_turns(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with([Answer("first", before_first_delta_s=0.1), "second"])
        async with bot:
            run = await bot.run_streamed("one", session_key="a")

            async def ingest() -> None:
                await bot.sessions.ingest("a", HELLO)

            async def run_again() -> None:
                while not said(bot, "a"):
                    await host.sleep(0.005)
                await host.sleep(0.02)  # the ingest was started before this
                await bot.run("two", session_key="a")

            await host.gather(ingest, run_again)
            assert (await run.wait()).content == "first"
            assert said(bot, "a") == ["one", "first", "hello", "hi there", "two", "second"]

    host.run(story)


def test_a_cancelled_ingest_brings_nothing_in(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with([Answer("slow", before_first_delta_s=0.3)])
        async with bot:
            run = await bot.run_streamed("one", session_key="a")

            async def ingest() -> None:
                await bot.sessions.ingest("a", HELLO)

            assert await host.cancel_after(0.05, ingest)
            await run.wait()
            assert said(bot, "a") == ["one", "slow"]

    host.run(story)


def test_ingesting_into_the_session_that_one_runs_in_is_refused_and_into_another_is_not(
    host: Host,
) -> None:
    refused: list[type] = []

    @tool
    async def take_in(context: RunContext) -> str:
        """Ingest, here and elsewhere."""
        bot = context.deps
        await bot.sessions.ingest("elsewhere", HELLO)
        try:
            await bot.sessions.ingest("a", HELLO)
        except NestedRunRefused as error:
            refused.append(type(error))
        return "taken in"

    async def story() -> None:
        bot, _ = bot_with([Answer(tool_calls=[("take_in", {})]), "done"], tools=[take_in])
        async with bot:
            result = await bot.run("go", session_key="a", deps=bot)
            assert (result.content, result.tools_used) == ("done", ["take_in"])
            assert refused == [NestedRunRefused]
            assert said(bot, "elsewhere") == ["hello", "hi there"]

    host.run(story)


def test_a_stray_tool_result_reaches_the_model(host: Host) -> None:
    async def story() -> None:
        bot, provider = bot_with()
        async with bot:
            stray = {"role": "tool", "name": "weather", "content": "22 degrees"}
            await bot.sessions.ingest("a", [stray])
            await bot.run("How warm is it?", session_key="a")
            note = provider.requests[0].messages[1]
            assert isinstance(note, UserMessage)
            assert "weather" in str(note.content)
            assert "22 degrees" in str(note.content)

    host.run(story)


def test_a_transcript_that_starts_with_the_assistant_gets_an_opening_for_the_model_only(
    host: Host,
) -> None:
    async def story() -> None:
        bot, provider = bot_with()
        async with bot:
            await bot.sessions.ingest("a", [{"role": "assistant", "content": "Welcome."}])
            await bot.run("thanks", session_key="a")
            opening, welcome, _ = shown(provider.requests[0])
            assert isinstance(provider.requests[0].messages[1], UserMessage)
            assert welcome == "Welcome."
            assert opening not in said(bot, "a")

    host.run(story)


# Ingested without being saved


def test_what_is_not_saved_is_seen_by_the_next_run_which_saves_it(host: Host) -> None:
    async def story() -> None:
        bot, provider = bot_with()
        async with bot:
            await bot.run("before", session_key="a")
            snapshot = await bot.sessions.ingest("a", HELLO, metadata={"x": 1}, save=False)
            assert [m["content"] for m in snapshot.messages] == [
                "before",
                "ok",
                "hello",
                "hi there",
            ]
            assert snapshot.metadata == {"x": 1}
            assert said(bot, "a") == ["before", "ok"]
            await bot.run("quietly", session_key="a", ephemeral=True)
            assert shown(provider.requests[1]) == ["before", "ok", "hello", "hi there", "quietly"]
            assert said(bot, "a") == ["before", "ok"]
            await bot.run("after", session_key="a")
            assert shown(provider.requests[2]) == ["before", "ok", "hello", "hi there", "after"]
            assert said(bot, "a") == ["before", "ok", "hello", "hi there", "after", "ok"]
            assert snapshot.metadata == {"x": 1}
            await bot.run("again", session_key="a")
            assert shown(provider.requests[3])[2:] == ["hello", "hi there", "after", "ok", "again"]

    host.run(story)


def test_flush_saves_what_was_not_saved_and_counts_the_sessions(host: Host) -> None:
    async def story() -> None:
        bot, provider = bot_with()
        async with bot:
            await bot.sessions.ingest("new", HELLO, save=False)
            assert bot.sessions.get("new") is None
            assert bot.sessions.flush() == 1
            assert said(bot, "new") == ["hello", "hi there"]
            assert bot.sessions.flush() == 0
            await bot.run("x", session_key="new")
            assert shown(provider.requests[0]) == ["hello", "hi there", "x"]

    host.run(story)


def test_flush_leaves_a_session_that_is_in_a_turn_to_that_turn(host: Host) -> None:
    flushed: list[int] = []

    @tool
    def flush(context: RunContext) -> str:
        """Flush in the middle of a turn."""
        flushed.append(context.deps.sessions.flush())
        return "flushed"

    async def story() -> None:
        bot, _ = bot_with([Answer(tool_calls=[("flush", {})]), "done"], tools=[flush])
        async with bot:
            await bot.sessions.ingest("a", HELLO, save=False)
            await bot.run("go", session_key="a", deps=bot)
            assert flushed == [1]
            assert [text for text in said(bot, "a") if text] == [
                *("hello", "hi there", "go"),
                *("flushed", "done"),
            ]

    host.run(story)


def test_another_bot_does_not_see_what_was_not_saved(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with()
        other, provider = bot_with()
        async with bot, other:
            await bot.sessions.ingest("a", HELLO, save=False)
            await other.run("x", session_key="a")
            assert shown(provider.requests[0]) == ["x"]

    host.run(story)


# Looking


def test_looking_creates_nothing_and_lists_are_newest_first(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with()
        async with bot:
            assert bot.sessions.get("nobody") is None
            assert bot.sessions.export("nobody") is None
            assert bot.sessions.list() == []
            await bot.run("  What is\n new?  ", session_key="old")
            await bot.sessions.ingest("new", HELLO, metadata={"title": "New"})
            new, old = bot.sessions.list()
            assert (new.key, new.title, new.preview, new.message_count) == (
                "new",
                "New",
                "hello",
                2,
            )
            assert (old.key, old.title, old.preview, old.message_count) == (
                "old",
                "",
                "What is new?",
                2,
            )
            assert bot.sessions.list(limit=1) == [new]
            exported = bot.sessions.export("old")
            assert exported is not None
            assert exported.messages[0]["content"] == "  What is\n new?  "  # without the turn note
            assert json.loads(json.dumps(exported.to_dict())) == exported.to_dict()

    host.run(story)


def test_any_thread_may_look_while_a_turn_runs(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with([Answer(["one ", "two"], between_deltas_s=0.1)])
        async with bot:
            run = await bot.run_streamed("go", session_key="a")
            while not said(bot, "a"):
                await host.sleep(0.005)
            seen: list[Any] = []
            thread = threading.Thread(
                target=lambda: seen.extend([said(bot, "a"), len(bot.sessions.list())])
            )
            thread.start()
            thread.join()
            assert seen == [["go"], 1]
            await run.wait()

    host.run(story)


def test_after_closing_sessions_are_still_there_but_nothing_can_be_ingested(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with()
        async with bot:
            await bot.sessions.ingest("a", HELLO)
        assert said(bot, "a") == ["hello", "hi there"]
        assert [info.key for info in bot.sessions.list()] == ["a"]
        with pytest.raises(BotClosed):
            await bot.sessions.ingest("a", HELLO)

    host.run(story)


def test_a_bot_takes_its_sessions_from_loop_to_loop() -> None:
    bot, _ = bot_with()

    async def ingest() -> None:
        await bot.sessions.ingest("a", HELLO)

    async def close() -> None:
        await ingest()
        await bot.aclose()

    trio.run(ingest)
    bot.sessions.ingest_sync("a", HELLO)
    asyncio.run(ingest())
    trio.run(ingest)
    asyncio.run(close())
    assert said(bot, "a") == ["hello", "hi there"] * 5


# Clearing and deleting

Wiping = Callable[[Nanobot], object]
WIPES: dict[str, Wiping] = {
    "clear": lambda bot: bot.sessions.clear("a"),
    "delete": lambda bot: bot.sessions.delete("a"),
    "restore": lambda bot: bot.sessions.restore({"messages": []}, "a"),
}


@pytest.mark.parametrize("how", WIPES)
def test_whoever_wipes_a_session_wins_over_the_turn_that_is_running(host: Host, how: str) -> None:
    async def story() -> None:
        async with no_leaks():
            bot, provider = bot_with(
                lambda request: (
                    Answer(["partial ", "never"], between_deltas_s=60)
                    if "go" in shown(request)[-1]
                    else "ok"
                )
            )
            async with bot:
                await bot.run("before", session_key="a")
                results = []

                async def run() -> None:
                    results.append(await bot.run("go", session_key="a"))

                async def wipe() -> None:
                    while provider.streams_open == 0:
                        await host.sleep(0.005)
                    WIPES[how](bot)
                    assert said(bot, "a") == []

                await host.gather(run, wipe)
                assert results[0].stop_reason == "cancelled"
                assert said(bot, "a") == []
                result = await bot.run("after", session_key="a")
                assert result.stop_reason == "completed"
                assert shown(provider.requests[-1]) == ["after"]
                assert said(bot, "a") == ["after", "ok"]

    host.run(story)


@pytest.mark.parametrize("how", WIPES)
def test_whoever_wipes_a_session_from_another_thread_wins_too(host: Host, how: str) -> None:
    async def story() -> None:
        bot, provider = bot_with([Answer("never", before_first_delta_s=60), "ok"])
        async with bot:
            run = await bot.run_streamed("go", session_key="a")
            while provider.streams_open == 0:
                await host.sleep(0.005)
            thread = threading.Thread(target=WIPES[how], args=(bot,))
            thread.start()
            thread.join()
            result = await run.wait()
            assert result.stop_reason == "cancelled"
            assert said(bot, "a") == []
            assert (await bot.run("after", session_key="a")).content == "ok"

    host.run(story)


def test_a_tool_that_clears_its_own_session_ends_its_own_run(host: Host) -> None:
    @tool
    def forget(context: RunContext) -> str:
        """Clear the session that this runs in."""
        context.deps.sessions.clear("a")
        return "forgotten"

    async def story() -> None:
        bot, _ = bot_with([Answer(tool_calls=[("forget", {})]), "never", "ok"], tools=[forget])
        async with bot:
            result = await bot.run("go", session_key="a", deps=bot)
            assert result.stop_reason == "cancelled"
            assert said(bot, "a") == []

    host.run(story)


def test_an_ingest_that_waits_is_told_that_its_session_is_gone(host: Host) -> None:
    async def story() -> None:
        bot, provider = bot_with([Answer("never", before_first_delta_s=60)])
        async with bot:
            run = await bot.run_streamed("go", session_key="a")
            told: list[str] = []

            async def ingest() -> None:
                try:
                    await bot.sessions.ingest("a", HELLO)
                except SessionGone as error:
                    told.append(error.key)

            async def wipe() -> None:
                while provider.streams_open == 0:
                    await host.sleep(0.005)
                await host.sleep(0.05)
                bot.sessions.delete("a")

            await host.gather(ingest, wipe)
            assert told == ["a"]
            assert (await run.wait()).stop_reason == "cancelled"
            assert bot.sessions.list() == []

    host.run(story)


def test_an_ingest_that_waits_when_the_bot_closes_is_told_so(host: Host) -> None:
    async def story() -> None:
        bot, provider = bot_with([Answer("never", before_first_delta_s=60)])
        run = await bot.run_streamed("go", session_key="a")

        async def ingest() -> None:
            with pytest.raises(BotClosed):
                await bot.sessions.ingest("a", HELLO)

        async def close() -> None:
            while provider.streams_open == 0:
                await host.sleep(0.005)
            await host.sleep(0.05)
            await bot.aclose()

        await host.gather(ingest, close)
        assert run.done
        assert said(bot, "a") == ["go"]

    host.run(story)


def test_clearing_keeps_metadata_and_deleting_keeps_nothing(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with()
        async with bot:
            assert bot.sessions.clear("a") is None
            assert not bot.sessions.delete("a")
            await bot.sessions.ingest("a", HELLO, metadata={"title": "T"})
            await bot.sessions.ingest("a", HELLO, save=False)
            cleared = bot.sessions.clear("a")
            assert cleared is not None
            assert (cleared.messages, cleared.metadata) == ([], {"title": "T"})
            assert bot.sessions.flush() == 1  # the cleared one; what waited was cleared with it
            assert said(bot, "a") == []
            assert bot.sessions.delete("a")
            assert bot.sessions.get("a") is None
            await bot.sessions.ingest("a", HELLO, save=False)
            assert bot.sessions.delete("a")
            assert bot.sessions.flush() == 0

    host.run(story)


# Copies


def test_restoring_gives_up_what_was_ingested_and_not_saved(host: Host) -> None:
    async def story() -> None:
        bot, provider = bot_with()
        async with bot:
            saved = await bot.sessions.ingest("a", HELLO[:1])
            await bot.sessions.ingest("a", [{"role": "user", "content": "pending"}], save=False)
            bot.sessions.restore(saved)
            await bot.run("after", session_key="a")
            assert shown(provider.requests[0]) == ["hello", "after"]
            assert said(bot, "a") == ["hello", "after", "ok"]

    host.run(story)


def test_a_snapshot_that_went_through_json_brings_the_session_back(host: Host) -> None:
    async def story() -> None:
        bot, _ = bot_with()
        other, provider = bot_with()
        async with bot, other:
            await bot.sessions.ingest("a", HELLO, metadata={"title": "T"}, source="s")
            exported = bot.sessions.export("a")
            assert exported is not None
            restored = other.sessions.restore(json.loads(json.dumps(exported.to_dict())))
            assert restored == other.sessions.get("a")
            for name in ("key", "messages", "created_at", "metadata", "compaction"):
                assert getattr(restored, name) == getattr(exported, name)
            assert other.sessions.restore(exported, "b").messages == exported.messages
            await other.run("x", session_key="b")
            assert shown(provider.requests[0]) == ["hello", "hi there", "x"]
            assert [info.key for info in other.sessions.list()] == ["b", "a"]

    host.run(story)


@pytest.mark.parametrize(
    ("snapshot", "said_"),
    [
        ({}, "takes a SessionSnapshot"),
        ("a", "takes a SessionSnapshot"),
        ({"messages": []}, "session_key must be a string"),
        ({"key": "a", "messages": [{"role": "user"}]}, r"messages\[0\]\.content is missing"),
        ({"key": "a", "messages": "hi"}, "takes a SessionSnapshot"),
        ({"key": "a", "messages": [], "metadata": 7}, "metadata must be a dict"),
        ({"key": "a", "messages": [], "created_at": "noon"}, "created_at must be an ISO 8601"),
        ({"key": "a", "messages": [], "created_at": 7}, "created_at must be an ISO 8601"),
        (
            {"key": "a", "messages": [], "created_at": "0001-01-01T00:00:00+01:00"},
            "created_at must be an ISO 8601",
        ),
        ({"key": "a", "messages": [], "compaction": {"through": 1}}, "compaction must be"),
        (
            {"key": "a", "messages": [], "compaction": {"through": 1, "summary": "s"}},
            "do not exist",
        ),
    ],
    ids=str,
)
def test_a_snapshot_that_is_none_changes_nothing(snapshot: Any, said_: str) -> None:
    bot, _ = bot_with()
    with bot:
        bot.sessions.ingest_sync("a", HELLO)
        with pytest.raises(UsageError, match=said_):
            bot.sessions.restore(snapshot)
        assert said(bot, "a") == ["hello", "hi there"]


def test_a_summary_is_dropped_if_it_no_longer_says_which_messages_it_covers() -> None:
    bot, _ = bot_with()
    with bot:
        kept = {"through": 1, "summary": "s"}
        whole = bot.sessions.restore({"messages": HELLO, "compaction": kept}, "a")
        assert whole.compaction == kept
        empty = {"role": "assistant", "content": ""}
        mended = bot.sessions.restore({"messages": [empty, *HELLO], "compaction": kept}, "a")
        assert (mended.messages, mended.compaction) == (HELLO, None)


def test_times_without_a_zone_are_taken_as_utc() -> None:
    bot, _ = bot_with()
    with bot:
        restored = bot.sessions.restore(
            {"messages": HELLO, "created_at": "2020-01-02T03:04:05"}, "a"
        )
        assert restored.created_at == "2020-01-02T03:04:05+00:00"
        elsewhere = {"messages": HELLO, "created_at": "2020-01-02T03:04:05+02:00"}
        assert bot.sessions.restore(elsewhere, "a").created_at == "2020-01-02T01:04:05+00:00"
        assert datetime.fromisoformat(restored.updated_at).tzinfo is not None


def test_a_fork_goes_its_own_way(host: Host) -> None:
    async def story() -> None:
        bot, provider = bot_with()
        async with bot:
            with pytest.raises(InvalidArgument, match="no session 'a' to fork"):
                bot.sessions.fork("a", "b")
            await bot.run("one", session_key="a")
            forked = bot.sessions.fork("a", "b")
            assert (forked.key, len(forked.messages)) == ("b", 2)
            with pytest.raises(SessionExists):
                bot.sessions.fork("a", "b")
            await bot.run("two", session_key="a")
            await bot.run("three", session_key="b")
            assert said(bot, "a") == ["one", "ok", "two", "ok"]
            assert said(bot, "b") == ["one", "ok", "three", "ok"]
            # The prefix is equal byte for byte, notes and all, so that a service's cache finds it.
            first, of_a, of_b = provider.requests
            assert of_a.messages[:3] == of_b.messages[:3]
            assert of_a.messages[1] == first.messages[1]

    host.run(story)


def test_a_fork_in_the_middle_of_a_turn_is_a_legal_session(host: Host) -> None:
    @tool
    def split(context: RunContext) -> str:
        """Fork the session that this runs in."""
        context.deps.sessions.fork("a", "b")
        return "split"

    async def story() -> None:
        bot, provider = bot_with([Answer(tool_calls=[("split", {})]), "done", "ok"], tools=[split])
        async with bot:
            await bot.run("go", session_key="a", deps=bot)
            await bot.run("on", session_key="b")
            assert shown(provider.requests[2]) == ["go", "on"]

    host.run(story)


# What turns keep between them


def test_a_turn_does_not_read_what_it_has(host: Host) -> None:
    async def story() -> None:
        bot, provider = bot_with()
        reads: list[Any] = []
        store = bot._store
        acquire = store.acquire_lease

        async def watched(key: str, **how: Any) -> Any:
            leased = await acquire(key, **how)
            reads.append(leased.record is not None)
            return leased

        store.acquire_lease = watched  # type: ignore[method-assign]  # a witness at the store's door
        async with bot:
            for _ in range(3):
                await bot.run("x", session_key="a")
            assert reads == [False, False, False]  # there was nothing to read, then it was known
            bot.sessions.restore({"messages": HELLO}, "a")
            await bot.run("y", session_key="a")
            assert reads[3:] == [True]
            assert shown(provider.requests[-1]) == ["hello", "hi there", "y"]

    host.run(story)


async def test_a_thousand_sessions_leave_nothing_behind_when_they_are_idle(
    autojump_clock: MockClock,
) -> None:
    bot, _ = bot_with(store=InMemoryStore())  # no disk keeps up with this clock
    async with bot:
        for number in range(1000):
            await bot.run("x", session_key=f"s{number}")
        runtime = bot._engine.runtime
        assert runtime is not None
        sessions = bot._blueprint.turn_maker(runtime).sessions
        assert 0 < len(sessions) <= 1000
        await trio.sleep(60)
        assert (len(sessions), runtime.live_sessions) == (0, 0)
        assert len(bot.sessions.list()) == 1000


def test_a_store_that_fails_says_so_and_the_answer_is_still_returned(host: Host) -> None:
    async def story() -> None:
        bot, provider = bot_with()

        async def full(*_: Any, **__: Any) -> Any:
            raise StoreError("sessions.db: no space left on device")

        async with bot:
            await bot.run("one", session_key="a")
            store = bot._store
            append, acquire = store.append, store.acquire_lease

            async def full_too(key: str, **more: Any) -> Any:
                return await (full if more.get("messages") else acquire)(key, **more)

            store.append = full  # type: ignore[method-assign]  # a disk that is full
            store.acquire_lease = full_too  # type: ignore[method-assign]
            result = await bot.run("two", session_key="a")
            assert (result.content, result.metadata["persisted"]) == ("ok", False)
            with pytest.raises(StoreError, match="no space left"):
                await bot.sessions.ingest("a", HELLO)
            await bot.sessions.ingest("a", HELLO, save=False)
            await bot.run("three", session_key="a")
            store.append = append  # type: ignore[method-assign]
            store.acquire_lease = acquire  # type: ignore[method-assign]
            await bot.run("four", session_key="a")
            assert shown(provider.requests[-1]) == ["one", "ok", "hello", "hi there", "four"]
            assert said(bot, "a") == ["one", "ok", "hello", "hi there", "four", "ok"]

    host.run(story)


# All of it at once


def test_whatever_is_done_at_once_every_session_stays_legal_and_nothing_is_left_behind(
    host: Host, tmp_path: Path
) -> None:
    @tool
    async def look(context: RunContext) -> str:
        """Look around."""
        return "a tree"

    def answer(request: ModelRequest) -> Answer:
        if "You keep the notes" in str(request.messages[0].content):
            return Answer("Notes.", before_first_delta_s=random.choice([0, 0.002]))
        if isinstance(request.messages[-1], UserMessage) and random.random() < 0.5:
            return Answer("Well ", tool_calls=[("look", {})], between_deltas_s=0.001)
        return Answer(["so ", "it ", "is"], between_deltas_s=random.choice([0, 0.002]))

    def legal(bot: Nanobot) -> None:
        for info in bot.sessions.list():
            snapshot = bot.sessions.get(info.key)
            if snapshot is not None:
                history = messages_from_openai(snapshot.messages)
                assert check(history, continues=True) == ()
                if snapshot.compaction is not None:
                    assert 0 < snapshot.compaction["through"] <= len(history)

    async def story() -> None:
        bot = Nanobot.from_config(
            provider=ScriptedProvider(answer, record=False), tools=[look], workspace=tmp_path / "ws"
        )
        async with no_leaks():
            async with bot:

                async def live() -> None:
                    for _ in range(25):
                        key = random.choice("abc")
                        match random.randrange(12):
                            case 0 | 1 | 2 | 3:
                                await bot.run("x", session_key=key)
                            case 4:
                                patience = random.random() / 100
                                await host.cancel_after(patience, partial(run, key))
                            case 5:
                                await attempt(partial(bot.sessions.ingest, key, HELLO))
                            case 6:
                                await attempt(partial(bot.sessions.ingest, key, HELLO, save=False))
                            case 7:
                                await attempt(partial(bot.runtime.compact_idle_session, key, 3))
                            case 8:
                                bot.sessions.clear(key)
                            case 9:
                                bot.sessions.delete(key)
                            case 10:
                                bot.sessions.restore({"messages": HELLO}, key)
                            case _:
                                bot.sessions.flush()
                        legal(bot)

                async def run(key: str) -> None:
                    await bot.run("x", session_key=key)

                async def attempt(work: Callable[[], Any]) -> None:
                    try:
                        await work()
                    except SessionGone:
                        pass  # another one cleared it meanwhile

                await host.gather(*[live] * 6)
                for key in "abc":
                    result = await bot.run("last", session_key=key)
                    assert result.error is None
                    assert "persisted" not in result.metadata
                legal(bot)

    host.run(story)
