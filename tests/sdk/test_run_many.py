"""Many runs at once: outcomes as they come, bounded, cancelled as one, and no failure stops the rest."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from nanobot import Job, JobOutcome, Nanobot
from nanobot.agent import AgentHook, AgentHookContext
from nanobot.errors import BotClosed, InvalidArgument, RequestRejected
from nanobot.providers import ModelRequest
from nanobot.sdk import Progress
from nanobot.sessions import InMemoryStore
from nanobot.testing import ScriptedProvider, no_leaks
from tests.sdk.bots import NOTHING, rest_of

if TYPE_CHECKING:
    from tests.sdk.conftest import Host


class Echo:
    """A model that takes as many milliseconds as it is told to, and counts who is there."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.total = 0

    async def __call__(self, request: ModelRequest) -> str:
        text = str(request.messages[-1].content).partition("\n\n")[0]
        self.now += 1
        self.total += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(float(text) / 1000 if text.isdigit() else 0)
        finally:
            self.now -= 1
        if text == "fail":
            raise RequestRejected("no", provider="scripted")
        return f"took {text}"


class Lingering(Echo):
    """One that is cancelled, and takes until it `may_end`."""

    may_end = False

    async def __call__(self, request: ModelRequest) -> str:
        try:
            return await super().__call__(request)
        finally:
            with trio.CancelScope(shield=True):
                while not self.may_end:  # noqa: ASYNC110 - set in another thread
                    await trio.sleep(0.002)


def make(home: Path, model: Echo, **options: Any) -> Nanobot:
    path = home / "config.json"
    defaults = {"model": "openai/m", "workspace": str(home / "workspace")}
    config = {"agents": {"defaults": defaults}, "providers": {"openai": {"apiKey": "sk-test"}}}
    path.write_text(json.dumps(config))
    return Nanobot.from_config(
        path, provider=ScriptedProvider(model), store=InMemoryStore(), **options
    )


class Broken(AgentHook):
    """A hook with a bug."""

    def __init__(self) -> None:
        super().__init__(reraise=True)

    async def before_iteration(self, context: AgentHookContext) -> None:
        raise ZeroDivisionError("a bug")


def test_outcomes_come_as_they_end_and_never_more_run_than_were_asked_for(
    host: Host, home: Path
) -> None:
    async def story() -> None:
        model = Echo()
        async with make(home, model) as bot:
            jobs: list[str | Job] = ["300", "1", "2", {"message": "3", "session_key": "mine"}, "4"]
            outcomes = [outcome async for outcome in bot.run_many(jobs, concurrency=2)]
            assert {outcome.index for outcome in outcomes} == set(range(5))
            assert outcomes[-1].index == 0  # the slowest
            assert model.most == 2
            assert all(outcome.ok for outcome in outcomes)
            by_index = {outcome.index: outcome for outcome in outcomes}
            assert by_index[3].session_key == "mine"
            assert by_index[3].job == jobs[3]
            keys = {info.key for info in bot.sessions.list()}
            assert keys == {outcome.session_key for outcome in outcomes}
            assert len(keys) == 5  # each has a session of its own
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_no_failure_stops_the_rest_whoever_is_to_blame(host: Host, home: Path) -> None:
    async def story() -> None:
        seen: list[Progress] = []
        async with make(home, Echo()) as bot:
            jobs: list[Any] = [
                "fail",
                {"message": "x", "model": "a", "model_preset": "b"},
                {"text": "no message"},
                {"message": "y", "hooks": [Broken()]},
                {"message": "z", "media": ["/nowhere.png"]},
                7,
                "fine",
            ]
            outcomes = await bot.run_many(jobs, concurrency=3, on_progress=seen.append).results()
            assert [outcome.index for outcome in outcomes] == list(range(7))
            assert [outcome.ok for outcome in outcomes] == [False] * 6 + [True]
            assert [type(outcome.exception).__name__ for outcome in outcomes] == [
                "NoneType",
                "InvalidArgument",
                "InvalidArgument",
                "ZeroDivisionError",
                "UsageError",
                "InvalidArgument",
                "NoneType",
            ]
            assert all(outcome.error for outcome in outcomes[:6])
            assert outcomes[6].result is not None
            assert outcomes[6].result.content == "took fine"
            assert [progress.done for progress in seen] == list(range(1, 8))
            assert (seen[-1].failed, seen[-1].running, seen[-1].total) == (6, 0, 7)
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_jobs_are_taken_when_there_is_room_so_there_may_be_no_end_of_them(
    host: Host, home: Path
) -> None:
    async def story() -> None:
        taken = 0

        def endless() -> Iterator[str]:
            nonlocal taken
            while True:
                taken += 1
                yield "1"

        model = Echo()
        async with make(home, model) as bot:
            count = 0
            async for outcome in bot.run_many(endless(), concurrency=3):
                assert outcome.ok
                count += 1
                assert taken <= count + 3
                if count == 20:
                    break
        assert model.now == 0

    with no_leaks():
        host.run(story)


def test_all_are_cancelled_as_one_and_nothing_is_left(host: Host, home: Path) -> None:
    async def story() -> None:
        model = Echo()
        async with make(home, model) as bot:
            many = bot.run_many(["60000"] * 10, concurrency=5)
            async with many:
                while model.now < 5:
                    await host.sleep(0.002)
            assert model.now == 0
            assert (await rest_of(bot)) == NOTHING
            await many.aclose()
            assert [outcome async for outcome in many] == []

            async def results() -> None:
                await bot.run_many(["60000"] * 10, concurrency=5).results()

            assert await host.cancel_after(0.1, results)
            assert model.now == 0
            assert (await rest_of(bot)) == NOTHING
            assert model.total == 10

    with no_leaks():
        host.run(story)


def test_dropping_the_last_reference_cancels_what_runs(host: Host, home: Path) -> None:
    async def story() -> None:
        model = Echo()
        async with make(home, model) as bot:
            many = bot.run_many(["1", "60000", "60000"], concurrency=3)
            assert (await anext(many)).index == 0
            while model.now < 2:
                await host.sleep(0.002)
            del many
            while model.now:
                await host.sleep(0.002)
            while (await rest_of(bot)) != NOTHING:
                await host.sleep(0)

    with no_leaks():
        host.run(story)


async def test_under_trio_who_is_cancelled_while_it_closes_hears_of_it_when_nothing_is_left(
    home: Path,
) -> None:
    model = Echo()
    async with make(home, model) as bot:
        many = bot.run_many(["1", "60000", "60000"], concurrency=3)
        await anext(many)
        with trio.CancelScope() as scope:
            scope.cancel()
            await many.aclose()
        assert scope.cancelled_caught
        assert model.now == 0
        assert [outcome async for outcome in many] == []


def test_under_asyncio_who_is_cancelled_while_it_closes_hears_of_it_when_nothing_is_left(
    home: Path,
) -> None:
    async def story() -> None:
        model = Lingering()
        async with make(home, model) as bot:
            many = bot.run_many(["60000", "60000"], concurrency=2)
            waiting = asyncio.create_task(anext(many))
            while model.now < 2:  # noqa: ASYNC110 - it is in another thread
                await asyncio.sleep(0.002)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            closing = asyncio.create_task(many.aclose())
            await asyncio.sleep(0)
            closing.cancel()
            model.may_end = True
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert model.now == 0
            assert [outcome async for outcome in many] == []

    asyncio.run(story())


@pytest.mark.parametrize("seed", range(6))
def test_cancelled_at_any_moment_nothing_of_it_lives(host: Host, home: Path, seed: int) -> None:
    async def story() -> None:
        moments, model = random.Random(seed), Echo()
        async with make(home, model) as bot:
            for _ in range(8):

                async def loop() -> None:
                    async with bot.run_many(["1", "3", "fail", "2"] * 5, concurrency=4) as many:
                        async for _ in many:
                            await host.sleep(0)

                await host.cancel_after(moments.uniform(0, 0.03), loop)
                assert model.now == 0
                while bot._engine.runtime and (await rest_of(bot)) != NOTHING:
                    await host.sleep(0)  # its actors put their things away

    with no_leaks():
        host.run(story)


def test_a_bot_that_is_closed_meanwhile_ends_it(host: Host, home: Path) -> None:
    async def story() -> None:
        bot = make(home, Echo())
        outcomes: list[JobOutcome] = []
        with pytest.raises(BotClosed):
            async for outcome in bot.run_many(["1"] * 100, concurrency=2):
                outcomes.append(outcome)
                if len(outcomes) == 3:
                    await bot.aclose()
        assert 3 <= len(outcomes) <= 5

    with no_leaks():
        host.run(story)


def test_what_the_iterable_raises_is_raised(host: Host, home: Path) -> None:
    def broken() -> Iterator[str]:
        yield "1"
        raise OSError("the file of questions is gone")

    async def story() -> None:
        async with make(home, Echo()) as bot:
            with pytest.raises(OSError, match="questions"):
                await bot.run_many(broken()).results()
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


async def test_what_cannot_be_meant_is_said_at_once(home: Path) -> None:
    async with make(home, Echo()) as bot:
        with pytest.raises(InvalidArgument, match="concurrency"):
            bot.run_many(["x"], concurrency=0)
        with pytest.raises(InvalidArgument, match="put the one in a list"):
            bot.run_many("x")


def test_a_program_without_a_loop_has_it_too(home: Path) -> None:
    model = Echo()
    with make(home, model) as bot:
        seen: list[int] = []
        jobs = ["30", "1", "fail", "2"]
        for outcome in bot.run_many_sync(
            jobs, concurrency=2, on_progress=lambda progress: seen.append(progress.done)
        ):
            assert outcome.ok == (outcome.job != "fail")
        assert seen == [1, 2, 3, 4]
        assert [o.index for o in bot.run_many_sync(jobs).results()] == [0, 1, 2, 3]
        with bot.run_many_sync(["1", "60000", "60000"]) as many:
            assert next(many).index == 0
        assert model.now == 0
        assert list(many) == []


def test_hooks_of_a_program_without_a_loop_run_in_its_thread_and_leave_nothing_there(
    home: Path,
) -> None:
    where: set[int] = set()

    class Notes(AgentHook):
        async def before_iteration(self, context: AgentHookContext) -> None:
            await asyncio.sleep(0)
            where.add(threading.get_ident())

    with no_leaks(), make(home, Echo()) as bot:  # though the two are still there at its end
        to_its_end = bot.run_many_sync(["1", "2"], hooks=[Notes()])
        assert len(list(to_its_end)) == 2
        with bot.run_many_sync(["1", "60000"], hooks=[Notes()]) as left_early:
            assert next(left_early).index == 0
    assert where == {threading.get_ident()}


def test_a_program_without_a_loop_that_drops_it_cancels_what_runs(home: Path) -> None:
    model = Echo()
    with make(home, model) as bot:
        many = bot.run_many_sync(["1", "60000"])
        assert next(many).index == 0
        while not model.now:
            time.sleep(0.002)
        del many
        while model.now:
            time.sleep(0.002)
