"""Cancel, close and leaving early: over real HTTP, seen from the server's side too."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nanobot import Nanobot, RunResult
from nanobot.errors import BotClosed
from nanobot.testing import (
    Answer,
    InMemoryStore,
    RecordedRequest,
    ScriptedProvider,
    ScriptedServerThread,
    no_leaks,
    scripted_server,
)

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

SLOW = Answer(["one ", "two ", "three ", "four"], between_deltas_s=0.2)


def answer(request: RecordedRequest) -> Answer | str:
    said = request.user_texts[-1]
    if "slow" in said:
        return SLOW
    if "never" in said:
        return Answer("too late", before_head_s=60)
    return "quick answer"


@pytest.fixture
def server() -> Iterator[ScriptedServerThread]:
    with scripted_server(answer) as server:
        yield server


@pytest.fixture
def make_bot(
    server: ScriptedServerThread, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Nanobot]:
    """Bots that reach the scripted server over HTTP."""
    folder = home / ".nanobot"
    folder.mkdir()
    config = {
        "providers": {"scripted": {"apiBase": server.base_url}},
        "agents": {"defaults": {"model": "scripted/m"}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return Nanobot.from_config


async def until(host: Host, true: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread."""
    while not true():
        await host.sleep(0.005)


def test_a_cancelled_run_closes_its_connection_and_the_session_goes_on(
    host: Host, make_bot: Callable[[], Nanobot], server: ScriptedServerThread
) -> None:
    async def story() -> None:
        async with no_leaks():
            async with make_bot() as bot:

                async def run() -> None:
                    await bot.run("never", session_key="one")

                await bot.run("quick", session_key="zero")  # a first run imports for a while
                assert await host.cancel_after(0.3, run)
                await until(host, lambda: server.statistics().hang_ups == 1)
                result = await bot.run("quick", session_key="one")
                assert result.content == "quick answer"

    host.run(story)


def test_breaking_out_of_a_stream_cancels_the_run(
    host: Host, make_bot: Callable[[], Nanobot], server: ScriptedServerThread
) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            async for event in bot.stream("slow", session_key="one"):
                if event.type == "text.delta":
                    break
            await until(host, lambda: server.statistics().hang_ups == 1)
            assert (await bot.run("quick", session_key="one")).content == "quick answer"

    host.run(story)


def test_a_dropped_handle_cancels_the_run(
    host: Host, make_bot: Callable[[], Nanobot], server: ScriptedServerThread
) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            run = await bot.run_streamed("never")
            await until(host, lambda: server.statistics().requests_in_flight == 1)
            assert not run.done
            del run
            await until(host, lambda: server.statistics().hang_ups == 1)

    host.run(story)


def test_a_cancelled_stream_has_a_result_with_what_was_there(
    host: Host, make_bot: Callable[[], Nanobot], server: ScriptedServerThread
) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            run = await bot.run_streamed("slow", session_key="one")
            events = run.stream_events()
            async for event in events:
                if event.type == "text.delta":
                    break
            await run.cancel()
            assert run.done
            result = await run.wait()
            assert (result.stop_reason, result.content) == ("cancelled", "one ")
            assert result.usage["total_tokens"] > 0
            rest = [event async for event in events]
            assert rest[-1].type == "run.failed"
            assert rest[-1].metadata["reason"] == "cancelled"
            assert sum(event.type.startswith("run.") for event in rest) == 1
            await run.cancel()
            await run.aclose()

    host.run(story)


def test_a_queued_run_is_cancelled_at_once_and_its_predecessor_is_not_disturbed(
    host: Host, make_bot: Callable[[], Nanobot]
) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            first = await bot.run_streamed("slow", session_key="one")
            queued = await bot.run_streamed("quick", session_key="one")
            await queued.cancel()
            assert not first.done
            result = await queued.wait()
            assert (result.stop_reason, result.content) == ("cancelled", "")
            events = [event.type async for event in queued.stream_events()]
            assert events == ["run.failed"]
            assert await first.text() == "one two three four"

    host.run(story)


def test_closing_a_bot_cancels_what_runs_and_refuses_what_comes(
    host: Host, make_bot: Callable[[], Nanobot], server: ScriptedServerThread
) -> None:
    async def story() -> None:
        bot = make_bot()
        results: list[RunResult] = []

        async def run() -> None:
            results.append(await bot.run("never", session_key="one"))

        async def close() -> None:
            await until(host, lambda: server.statistics().requests_in_flight == 1)
            await host.gather(bot.aclose, bot.aclose)

        await host.gather(run, close)
        assert results[0].stop_reason == "cancelled"
        await until(host, lambda: server.statistics().requests_in_flight == 0)
        with pytest.raises(BotClosed):
            await bot.run("quick")
        with pytest.raises(BotClosed):
            await bot.run_streamed("quick")
        await bot.aclose()

    host.run(story)


def test_a_store_that_fails_to_close_keeps_nobody_waiting(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    class Unclosable(InMemoryStore):
        async def aclose(self) -> None:
            raise ValueError("a bug of the store's")

    async def story() -> None:
        bot = Nanobot.from_config(provider=ScriptedProvider(["hello"]), store=Unclosable())
        assert (await bot.run("hi")).content == "hello"
        await bot.aclose()
        await bot.aclose()

    host.run(story)
    assert "a bug of the store's" in caplog.text


def test_draining_lets_runs_finish(host: Host, make_bot: Callable[[], Nanobot]) -> None:
    async def story() -> None:
        bot = make_bot()
        run = await bot.run_streamed("slow")
        await bot.aclose(drain_s=20)
        assert await run.text() == "one two three four"

    host.run(story)


def test_an_impatient_closer_ends_the_draining(host: Host, make_bot: Callable[[], Nanobot]) -> None:
    async def story() -> None:
        bot = make_bot()
        run = await bot.run_streamed("never")

        async def drain() -> None:
            await bot.aclose(drain_s=60)

        assert await host.cancel_after(0.1, drain)
        assert (await run.wait()).stop_reason == "cancelled"

    host.run(story)


def test_async_with_closes_a_stream_on_every_way_out(
    host: Host, make_bot: Callable[[], Nanobot], server: ScriptedServerThread
) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            with pytest.raises(ZeroDivisionError):
                async with bot.stream("never") as events:
                    async for _ in events:
                        raise ZeroDivisionError
            await until(host, lambda: server.statistics().requests_in_flight == 0)
            async with await bot.run_streamed("quick") as run:
                assert await run.text() == "quick answer"
            with pytest.raises(RuntimeError, match="once per run"):
                run.stream_events(), run.stream_events()

    host.run(story)


def test_cancelling_one_who_waits_leaves_the_run_alone(
    host: Host, make_bot: Callable[[], Nanobot]
) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            run = await bot.run_streamed("slow")

            async def wait() -> None:
                await run.wait()

            assert await host.cancel_after(0.05, wait)
            assert await run.text() == "one two three four"

    host.run(story)


def test_a_bot_serves_one_loop_after_the_other(make_bot: Callable[[], Nanobot]) -> None:
    bot = make_bot()

    async def ask() -> str:
        return (await bot.run("quick", session_key="one")).content

    import trio

    assert [asyncio.run(ask()), trio.run(ask), asyncio.run(ask()), trio.run(ask)] == [
        "quick answer"
    ] * 4
    assert bot.run_sync("quick", session_key="one").content == "quick answer"
    bot.close()
    with pytest.raises(BotClosed):
        bot.run_sync("quick")


def test_a_bot_that_is_dropped_unclosed_leaves_nothing_behind(
    make_bot: Callable[[], Nanobot], server: ScriptedServerThread
) -> None:
    def use() -> None:
        assert make_bot().run_sync("quick").content == "quick answer"

    use()
    gc.collect()
    with no_leaks(within_s=5):
        use()
        gc.collect()
    assert server.statistics().requests == 2


def test_a_sync_stream_cancels_when_left(
    make_bot: Callable[[], Nanobot], server: ScriptedServerThread
) -> None:
    with make_bot() as bot:
        for event in bot.stream_sync("slow", session_key="one"):
            if event.type == "text.delta":
                break
        assert bot.run_sync("quick", session_key="one").content == "quick answer"
        with bot.stream_sync("slow") as events:
            next(events)
        assert events.result().stop_reason == "cancelled"
        assert [event.type for event in bot.stream_sync("quick")][-1] == "run.completed"


def test_blocking_calls_are_refused_inside_a_loop(
    host: Host, make_bot: Callable[[], Nanobot]
) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            with pytest.raises(Exception, match=r"await bot\.run"):
                bot.run_sync("quick")

    host.run(story)
