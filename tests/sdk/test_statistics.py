"""`bot.runtime.statistics()`: what it tells of a bot that is idle, busy, contended, moved and closed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from nanobot import Nanobot
from nanobot.errors import BotClosed
from nanobot.runtime import RuntimeStatistics
from nanobot.testing import Answer, Fault, ScriptedProvider, Stall, scripted_server
from tests.sdk.bots import make_bot

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

NEVER: Fault = Stall(after_deltas=1)


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An override needs a provider that is configured."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def stalling() -> Nanobot:
    """A bot whose model begins to answer and then says no more."""
    return Nanobot.from_config(provider=ScriptedProvider(lambda _: Answer("one two", fault=NEVER)))


def test_a_bot_that_was_asked_nothing_has_nothing_to_tell() -> None:
    with Nanobot.from_config(provider=ScriptedProvider([])) as bot:
        assert bot.runtime.statistics() == RuntimeStatistics()


def test_turns_are_counted_wherever_they_run(host: Host) -> None:
    bot = Nanobot.from_config(provider=ScriptedProvider(["one", "two", "three"]))

    async def story() -> None:
        await bot.run("a")
        await bot.run("b", session_key="other")

    host.run(story)
    bot.run_sync("c")  # the bot has moved; what was counted stays
    statistics = bot.runtime.statistics()
    assert (statistics.turns.ended, statistics.turns.failed) == (3, 0)
    assert statistics.turns.total_tokens == 45
    assert statistics.runs == ()
    bot.close()
    assert bot.runtime.statistics().turns.ended == 3
    assert bot.runtime.statistics().sessions == ()
    with pytest.raises(BotClosed):
        bot.run_sync("d")
    assert bot.runtime.statistics().turns.ended == 3  # what was refused was no turn


async def test_queues_lock_and_states_are_told_apart() -> None:
    async with stalling() as bot:
        stream = bot.stream("a", session_key="one")
        async for event in stream:
            if event.type == "text.delta":
                break  # the turn is under way; its stream is still held here
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: bot.run("b", session_key="one"))
            await trio.testing.wait_all_tasks_blocked()  # Trio starts tasks in no order
            nursery.start_soon(lambda: bot.run("c", session_key="two", model="openai/gpt-4.1"))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(lambda: bot.run("d", session_key="three"))
            await trio.testing.wait_all_tasks_blocked()

            seen = bot.runtime.statistics()
            assert [(run.session_key, run.state, run.exclusive) for run in seen.runs] == [
                ("one", "running", False),
                ("one", "queued", False),
                ("two", "waiting", True),
                ("three", "waiting", False),
            ]
            assert {one.session_key: (one.queued, one.busy) for one in seen.sessions} == {
                "one": (1, True),
                "two": (0, False),
                "three": (0, False),
            }
            assert seen.lock.holders == ("one",)
            assert not seen.lock.exclusive
            waiting = [(waiter.session_key, waiter.exclusive) for waiter in seen.lock.waiters]
            assert waiting == [("two", True), ("three", False)]
            assert (seen.live_sessions, seen.live_runs, seen.running, seen.queued) == (3, 4, 1, 1)

            await stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            lock = bot.runtime.statistics().lock
            assert (lock.exclusive, lock.holders) == (True, ("two",))  # it was first in line
            assert [waiter.session_key for waiter in lock.waiters] == ["three", "one"]
            nursery.cancel_scope.cancel()
        after = bot.runtime.statistics()
        assert after.runs == ()
        assert (after.lock.holders, after.lock.waiters) == ((), ())
        assert after.turns.cancelled == after.turns.ended == 4
        assert after.turns.failed == 0


async def test_an_override_run_is_seen_to_hold_the_lock_alone() -> None:
    async with stalling() as bot, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: bot.run("a", session_key="one", model="openai/gpt-4.1"))
        await trio.testing.wait_all_tasks_blocked()
        lock = bot.runtime.statistics().lock
        assert (lock.exclusive, lock.holders) == (True, ("one",))
        nursery.cancel_scope.cancel()


def test_connections_to_the_model_are_counted(tmp_path: Path) -> None:
    with scripted_server(["hello"]) as server, make_bot(tmp_path, server.base_url) as bot:
        assert bot.runtime.statistics().connections.open == 0
        bot.run_sync("hi")
        connections = bot.runtime.statistics().connections
        assert (connections.open, connections.idle, connections.waiting) == (1, 1, 0)
        bot.close()
        assert bot.runtime.statistics().connections.open == 0


async def test_another_thread_may_look_while_runs_come_and_go() -> None:
    """Sessions, runs and sockets appear and vanish under the eyes of a thread that never stops looking."""
    looks: list[RuntimeStatistics] = []
    enough = threading.Event()
    failures: list[Exception] = []

    def look(bot: Nanobot) -> None:
        try:
            while not enough.is_set():
                looks.append(bot.runtime.statistics())
        except Exception as failure:  # noqa: BLE001 - told to the test
            failures.append(failure)

    async with Nanobot.from_config(provider=ScriptedProvider(lambda _: "yes", record=False)) as bot:
        thread = threading.Thread(target=look, args=(bot,))
        thread.start()
        try:
            async with trio.open_nursery() as nursery:
                for number in range(300):
                    nursery.start_soon(lambda key: bot.run("hi", session_key=key), f"s{number}")
        finally:
            enough.set()
            thread.join()
    assert failures == []
    assert looks
    ended = [look.turns.ended for look in looks]
    assert ended == sorted(ended)
    assert bot.runtime.statistics().turns.ended == 300
