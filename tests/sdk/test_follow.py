"""A session is followed, and its runs are cancelled, by bots that do not run its turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from nanobot import Nanobot
from nanobot.sdk import SessionEvent
from nanobot.sessions import InMemoryStore, SearchableStore
from nanobot.sessions._sqlite import SqliteStore
from nanobot.testing import Answer, ScriptedProvider
from tests.sdk.conftest import Host

Stores: TypeAlias = Callable[[], SearchableStore]
"""Opens the same sessions each time, as each process would."""


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    match request.param:
        case "memory":
            only = InMemoryStore()
            yield lambda: only
        case "sqlite":
            yield lambda: SqliteStore(tmp_path / "sessions.sqlite3", durability="fast")
        case _:
            yield from postgres_stores()


@pytest.fixture
def postgres() -> Iterator[Stores]:
    yield from postgres_stores()


def postgres_stores() -> Iterator[Stores]:
    from tests.sessions.postgres_server import new_schema  # skips where there is no psycopg

    from nanobot.sessions._postgres import PostgresStore  # isort: skip

    with new_schema() as url:
        yield lambda: PostgresStore(url, synchronous=False)


def bot_on(store: SearchableStore, home: Path, *answers: str | Answer) -> Nanobot:
    path = home / "config.json"
    path.write_text('{"providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}}}')
    return Nanobot.from_config(
        path,
        workspace=home / "workspace",
        model="scripted/m",
        provider=ScriptedProvider(list(answers)),
        store=store,
    )


def said(events: list[SessionEvent]) -> list[tuple[int, str, str]]:
    return [
        (event.sequence, event.message.get("role", ""), str(event.message.get("content", "")))
        for event in events
    ]


def test_each_message_comes_once_and_in_order_whoever_runs_the_turns(
    host: Host, stores: Stores, home: Path
) -> None:
    async def story() -> None:
        events: list[SessionEvent] = []
        async with (
            bot_on(stores(), home, "one", "two") as running,
            bot_on(stores(), home) as following,
        ):

            async def follow() -> None:
                async with following.sessions.follow("a", after=0) as followed:
                    async for event in followed:
                        events.append(event)
                        if len(events) == 4:
                            return

            async def run_both() -> None:
                await running.run("first", session_key="a")
                await host.sleep(0.05)
                await running.run("second", session_key="a")

            await host.gather(follow, run_both)
        assert said(events) == [
            (1, "user", "first"),
            (2, "assistant", "one"),
            (3, "user", "second"),
            (4, "assistant", "two"),
        ]
        assert {event.type for event in events} == {"message.stored"}
        assert events[0].to_dict()["session_key"] == "a"

    host.run(story)


def test_following_begins_where_it_is_told_to(host: Host, stores: Stores, home: Path) -> None:
    async def story() -> None:
        async with bot_on(stores(), home) as bot:
            transcript = [{"role": "user", "content": str(number)} for number in range(50)]
            await bot.sessions.ingest("a", transcript)
            followed = bot.sessions.follow("a", after=3)
            first = [await anext(followed) for _ in range(47)]
            assert [event.sequence for event in first] == list(range(4, 51))

            from_now = bot.sessions.follow("a")
            heard: list[SessionEvent] = []

            async def hear() -> None:
                heard.append(await anext(from_now))

            async def write() -> None:
                await host.sleep(0.3)  # it has begun to follow
                await bot.sessions.ingest("a", [{"role": "user", "content": "new"}])

            await host.gather(hear, write)
            assert said(heard) == [(51, "user", "new")]

    host.run(story)


def test_who_follows_a_session_is_told_that_it_was_cleared(
    host: Host, stores: Stores, home: Path
) -> None:
    async def story() -> None:
        async with bot_on(stores(), home) as bot, bot_on(stores(), home) as other:
            await bot.sessions.ingest("a", [{"role": "user", "content": "old"}])
            followed = other.sessions.follow("a", after=0)
            assert said([await anext(followed)]) == [(1, "user", "old")]
            bot.sessions.clear("a")
            await bot.sessions.ingest("a", [{"role": "user", "content": "new"}])
            cleared, stored = await anext(followed), await anext(followed)
            assert (cleared.type, cleared.sequence) == ("session.cleared", 0)
            assert said([stored]) == [(1, "user", "new")]

    host.run(story)


def test_following_ends_with_the_bot_and_with_the_reader(
    host: Host, stores: Stores, home: Path
) -> None:
    async def story() -> None:
        bot = bot_on(stores(), home)
        ended: list[str] = []
        left = bot.sessions.follow("a")

        async def follow() -> None:
            async for _ in bot.sessions.follow("a"):
                raise AssertionError("there is nothing")
            ended.append("with the bot")

        async def leave() -> None:
            async for _ in left:
                raise AssertionError("there is nothing")
            ended.append("by aclose")

        async def close() -> None:
            await host.sleep(0.2)
            await left.aclose()
            await bot.aclose()

        await host.gather(follow, leave, close)
        assert sorted(ended) == ["by aclose", "with the bot"]
        assert [event async for event in bot.sessions.follow("a")] == []

        async def patient() -> None:
            async with bot_on(stores(), home) as another:
                await anext(another.sessions.follow("a"))

        assert await host.cancel_after(0.2, patient)

    host.run(story)


def test_a_run_is_cancelled_by_the_bot_that_runs_it(host: Host, stores: Stores, home: Path) -> None:
    async def story() -> None:
        async with bot_on(stores(), home, Answer("never", before_head_s=30)) as bot:
            results: list[str | None] = []

            async def run() -> None:
                results.append((await bot.run("wait", session_key="a")).stop_reason)

            async def cancel() -> None:
                async for _ in bot.sessions.follow("a", after=0):
                    bot.sessions.cancel("a")
                    return

            await host.gather(run, cancel)
            assert results == ["cancelled"]

    host.run(story)


def test_a_run_is_cancelled_from_another_process_with_those_that_wait(
    host: Host, postgres: Stores, home: Path
) -> None:
    """Two stores are as two processes: they know of each other through the database alone."""

    async def story() -> None:
        results: list[str | None] = []
        async with (
            bot_on(postgres(), home, Answer("never", before_head_s=30)) as running,
            bot_on(postgres(), home, "never asked") as waiting,
            bot_on(postgres(), home, "hello") as asking,
        ):

            async def run() -> None:
                results.append((await running.run("first", session_key="a")).stop_reason)

            async def wait() -> None:
                async for _ in waiting.sessions.follow("a", after=0):
                    break  # the other one has it
                results.append((await waiting.run("second", session_key="a")).stop_reason)

            async def cancel() -> None:
                store = asking._store
                async for _ in asking.sessions.follow("a", after=0):
                    break
                while not store._query("SELECT 1 FROM nanobot_waiter"):  # type: ignore[attr-defined]  # it is PostgreSQL's
                    await host.sleep(0.02)
                asking.sessions.cancel("a")

            await host.gather(run, wait, cancel)
            assert results == ["cancelled", "cancelled"]
            result = await asking.run("third", session_key="a")
            assert (result.content, result.stop_reason) == ("hello", "completed")

    host.run(story)
