"""Bots that call each other from their tools: what ends, what is refused, and that nothing hangs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from nanobot import Nanobot, RunResult, tool
from nanobot.runtime import Run
from nanobot.sessions import InMemoryStore, SearchableStore
from nanobot.sessions._sqlite import SqliteStore
from nanobot.testing import Answer, ScriptedProvider
from nanobot.tools import Tool
from tests.sdk.conftest import Host

Stores: TypeAlias = Callable[[], SearchableStore]
"""Opens the same sessions each time."""


@pytest.fixture(params=["configured", "memory", "sqlite", "postgres"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores | None]:
    match request.param:
        case "configured":
            yield None
        case "memory":
            only = InMemoryStore()
            yield lambda: only
        case "sqlite":
            # One file under two names.
            (tmp_path / "there").mkdir()
            (tmp_path / "here").symlink_to(tmp_path / "there")
            names = iter(["here", "there"])
            yield lambda: SqliteStore(tmp_path / next(names) / "sessions.sqlite3")
        case _:
            from tests.sessions.postgres_server import new_schema  # skips where there is none

            from nanobot.sessions._postgres import PostgresStore  # isort: skip

            with new_schema() as url:
                yield lambda: PostgresStore(url)


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An override needs a provider that is configured."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def calls(name: str) -> ScriptedProvider:
    """A model that calls a tool, and says what it was told."""

    def answer(request: Any) -> Answer | str:
        last = request.messages[-1]
        if getattr(last, "tool_call_id", ""):
            return f"I was told: {last.content}"
        return Answer(tool_calls=[(name, {})])

    return ScriptedProvider(answer)


def make(home: Path, provider: ScriptedProvider, *tools: Tool, **options: Any) -> Nanobot:
    path = home / "config.json"
    path.write_text("{}")
    return Nanobot.from_config(path, provider=provider, tools=tools, **options)


def asking(bot: Callable[[], Nanobot], **options: Any) -> Tool:
    @tool
    async def ask() -> str:
        """Ask another bot."""
        result: RunResult[Any] = await bot().run("And you?", **options)
        return result.content

    return ask


def test_a_bot_asked_about_the_session_that_waits_for_its_answer_is_refused(
    host: Host, stores: Stores | None, home: Path
) -> None:
    """Both have the configuration, the workspace and the session key that a program gets which says nothing of them."""

    async def story() -> None:
        kept = {} if stores is None else {"store": stores()}
        also = {} if stores is None else {"store": stores()}
        async with make(home, ScriptedProvider(["mine", "later"]), **also) as expert:
            async with make(home, calls("ask"), asking(lambda: expert), **kept) as bot:
                told = (await bot.run("Go")).content
                assert "NestedRunRefused: a run on session 'sdk:default' cannot start here" in told
                assert await roles(bot) == ["user", "assistant", "tool", "assistant"]
            assert (await expert.run("And now?")).content == "mine"

    host.run(story)


async def roles(bot: Nanobot) -> list[str]:
    snapshot = bot.sessions.get("sdk:default")
    assert snapshot is not None
    return [message["role"] for message in snapshot.messages]


@pytest.mark.parametrize("options", [{"session_key": "other"}, {"ephemeral": True}])
def test_a_bot_asked_about_another_session_or_none_answers(
    host: Host, home: Path, options: dict[str, Any]
) -> None:
    async def story() -> None:
        async with (
            make(home, ScriptedProvider(["mine"])) as expert,
            make(home, calls("ask"), asking(lambda: expert, **options)) as bot,
        ):
            assert (await bot.run("Go")).content == "I was told: mine"

    host.run(story)


def test_a_bot_of_other_sessions_answers_under_the_same_key(host: Host, home: Path) -> None:
    async def story() -> None:
        stores = (InMemoryStore(), SqliteStore(home / "sessions.sqlite3"))
        async with (
            make(home, ScriptedProvider(["mine"]), store=stores[0]) as expert,
            make(home, calls("ask"), asking(lambda: expert), store=stores[1]) as bot,
        ):
            assert (await bot.run("Go")).content == "I was told: mine"

    host.run(story)


@pytest.mark.parametrize("model", [None, "openai/gpt-4.1"])
def test_who_is_asked_in_turn_by_the_one_it_asked_answers_in_another_session_only(
    host: Host, home: Path, model: str | None
) -> None:
    """With an override, the outer run has the lock alone, and shares it with the inner one, though a bot is between them."""

    async def story() -> None:
        bots: list[Nanobot] = []
        back = "outer"

        @tool
        async def ask_back() -> str:
            """Ask who asked."""
            return (await bots[0].run("Leaf", session_key=back)).content

        def answer(request: Any) -> Answer | str:
            last = request.messages[-1]
            if getattr(last, "tool_call_id", ""):
                return f"I was told: {last.content}"
            return "leaf" if "Leaf" in str(last.content) else Answer(tool_calls=[("ask", {})])

        async with (
            make(home, calls("ask_back"), ask_back, store=InMemoryStore()) as between,
            make(
                home, ScriptedProvider(answer), asking(lambda: between), store=InMemoryStore()
            ) as bot,
        ):
            bots.append(bot)
            told = (await bot.run("Go", session_key="outer", model=model)).content
            assert "NestedRunRefused: a run on session 'outer' cannot start here" in told
            back = "inner"
            told = (await bot.run("Go", session_key="outer", model=model)).content
            assert told == "I was told: I was told: leaf"

    host.run(story)


@pytest.mark.parametrize("end", ["cancel", "aclose", "wait", "close the bot"])
def test_who_is_asked_may_end_who_asked_and_cannot_wait_for_it(
    host: Host, home: Path, end: str
) -> None:
    async def story() -> None:
        @tool
        async def end_who_asked() -> str:
            """End the run that this one is asked by, from the bot that it has asked."""
            match end:
                case "cancel":
                    await run.cancel()
                case "aclose":
                    await run.aclose()
                case "wait":
                    return (await run.wait()).content
                case _:
                    await bot.aclose()
            await host.sleep(60)  # here the end arrives
            return "not reached"

        async with make(home, calls("end_who_asked"), end_who_asked) as expert:
            bot = make(home, calls("ask"), asking(lambda: expert, session_key="inner"))
            async with bot:
                run = await bot.run_streamed("Go")
                result = await run.wait()
        if end == "wait":
            assert "NestedRunRefused: a run cannot wait for its own result" in result.content
        else:
            assert result.stop_reason == "cancelled"

    host.run(story)


def test_of_runs_each_begun_in_the_one_before_none_is_kept_that_has_ended(
    host: Host, home: Path
) -> None:
    async def story() -> None:
        streams: list[Any] = []
        number = 0
        gc.collect()
        before = sum(isinstance(each, Run) for each in gc.get_objects())

        @tool
        async def next_one() -> str:
            """Begin another run, and do not wait for it."""
            nonlocal number
            number += 1
            if number < 10:
                streams.append(await bot.run_streamed("Go", session_key=str(number)))
            return "begun"

        async with make(home, calls("next_one"), next_one, store=InMemoryStore()) as bot:
            streams.append(await bot.run_streamed("Go", session_key="0"))
            last = streams[0]
            while streams:
                last = streams.pop(0)
                await last.wait()
            gc.collect()
            assert number == 10
            # The last one, and what stands around this test.
            assert sum(isinstance(each, Run) for each in gc.get_objects()) - before <= 3

    host.run(story)
