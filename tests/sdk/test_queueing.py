"""What becomes of a run that finds its session busy; how many turns go on at once, and whose is the next."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sniffio
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import shared_home
from nanobot import Nanobot, RunResult, tool
from nanobot.errors import InvalidArgument, NestedRunRefused, SessionBusy, UsageError
from nanobot.messages import check, messages_from_openai
from nanobot.providers import ModelRequest
from nanobot.sessions import InMemoryStore
from nanobot.testing import Answer, ScriptedProvider, no_leaks
from tests.sdk.bots import NOTHING, rest_of

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

LIMIT_S = 20


async def until(happened: Callable[[], bool]) -> None:
    """Wait, under any host, for what will happen without a sign."""
    library = trio if sniffio.current_async_library() == "trio" else asyncio
    while not happened():
        await library.sleep(0.002)


class Desk:
    """A model that works at its desk until it is told to go on, and says what it has heard."""

    def __init__(self) -> None:
        self.open = False
        self.once = False
        self.at_work = 0
        self.asked: list[list[str]] = []

    async def __call__(self, request: ModelRequest) -> Answer | str:
        assert check(request.messages) == ()
        heard = [
            str(m.content).partition("\n\n")[0]
            for m in request.messages
            if type(m).__name__ == "UserMessage"
        ]
        self.asked.append(heard)
        if heard[-1].startswith("work") and type(request.messages[-1]).__name__ == "UserMessage":
            return Answer("Working. ", tool_calls=[("work", {})])
        if heard[-1].startswith("talk"):
            return Answer(
                ["la "] * 300, between_deltas_s=0.0001
            )  # far more than is kept for a reader
        return f"heard {heard[-1]}"

    @tool(on_host=False)
    async def work(self) -> str:
        """Work until the desk is opened."""
        self.at_work += 1
        try:
            while not (self.open or self.once):  # noqa: ASYNC110 - opened from other loops
                await trio.sleep(0.002)
            self.once = False
        finally:
            self.at_work -= 1
        return "done"


def make(
    home: Path, desk: Desk, *, options: dict[str, Any] | None = None, **defaults: Any
) -> Nanobot:
    path = home / "config.json"
    settings = {"model": "openai/m", "workspace": str(home / "workspace"), **defaults}
    config = {"agents": {"defaults": settings}, "providers": {"openai": {"apiKey": "sk-test"}}}
    path.write_text(json.dumps(config))
    given: dict[str, Any] = {"provider": ScriptedProvider(desk), "tools": [desk.work]}
    return Nanobot.from_config(path, store=InMemoryStore(), **{**given, **(options or {})})


def said_in(bot: Nanobot, key: str) -> list[str]:
    """What users said in a session, as it is stored; fails unless that is a legal history."""
    snapshot = bot.sessions.get(key)
    assert snapshot is not None
    assert check(messages_from_openai(snapshot.messages)) == ()
    return [str(m["content"]) for m in snapshot.messages if m["role"] == "user"]


class Calls:
    """Runs that were started at the same time, each with its result or its error."""

    def __init__(self) -> None:
        self.results: dict[str, RunResult] = {}
        self.errors: dict[str, Exception] = {}

    def of(self, bot: Nanobot, message: str, **options: Any) -> Callable[[], Any]:
        async def call() -> None:
            try:
                self.results[message] = await bot.run(message, **options)
            except Exception as error:  # noqa: BLE001 - to be looked at
                self.errors[message] = error

        return call


# Reject


def test_a_run_on_a_busy_session_is_refused_and_leaves_no_trace(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk) as bot:

            async def second() -> None:
                await until(lambda: desk.at_work == 1)
                with pytest.raises(SessionBusy, match="on_busy is 'reject'") as refused:
                    await bot.run("me too", session_key="a", on_busy="reject")
                assert (refused.value.session_key, refused.value.queued) == ("a", 0)
                assert (await bot.run("other", session_key="b", on_busy="reject")).error is None
                stream = await bot.run_streamed("and I", session_key="a", on_busy="reject")
                with pytest.raises(SessionBusy):
                    async for event in stream.stream_events():
                        assert event.type == "run.failed"
                desk.open = True

            await host.gather(calls.of(bot, "work", session_key="a"), second)
            assert calls.results["work"].content == "heard work"
            assert said_in(bot, "a") == ["work"]
            assert bot.runtime.statistics().turns.ended == 2
            again = await bot.run("again", session_key="a", on_busy="reject")
            assert again.content == "heard again"
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_a_full_mailbox_refuses_and_tells_how_many_wait(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk, maxQueuedRuns=2) as bot:

            async def others() -> None:
                await until(lambda: desk.at_work == 1)
                first = await bot.run_streamed("first", session_key="a")
                second = await bot.run_streamed("second", session_key="a")
                await until(lambda: bot.runtime.statistics().queued == 2)
                assert (first.position, second.position) == (1, 2)
                with pytest.raises(SessionBusy, match="maxQueuedRuns") as refused:
                    await bot.run("third", session_key="a")
                assert refused.value.queued == 2
                places = {run.position for run in bot.runtime.statistics().runs}
                assert places == {0, 1, 2}
                desk.open = True
                assert await second.text() == "heard second"
                assert second.position is None

            await host.gather(calls.of(bot, "work", session_key="a"), others)
            assert said_in(bot, "a") == ["work", "first", "second"]

    with no_leaks():
        host.run(story)


async def test_a_run_has_nobody_before_it_before_the_engine_knows_of_it(home: Path) -> None:
    async with make(home, Desk()) as bot:
        stream = await bot.run_streamed("first", session_key="a")
        # Nothing was awaited so far: the engine has yet to begin.
        assert bot.runtime.statistics().sessions == ()
        assert stream.position == 0
        assert await stream.text() == "heard first"
        assert stream.position is None


def test_a_run_knows_its_position_before_the_engine_knows_of_the_run(
    host: Host, home: Path
) -> None:
    async def story() -> None:
        desk, held = Desk(), threading.Event()
        async with make(home, desk) as bot:
            if host.name == "asyncio":  # the engine's thread is kept from looking
                shared_home().post(held.wait, LIMIT_S)
            first = await bot.run_streamed("work", session_key="a")
            other = await bot.run_streamed("work", session_key="b")
            second = await bot.run_streamed("second", session_key="a")
            third = await bot.run_streamed("third", session_key="a")
            assert bot.runtime.statistics().sessions == ()
            assert [run.position for run in (first, other, second, third)] == [0, 0, 1, 2]
            held.set()
            await until(lambda: desk.at_work == 2)
            assert [run.position for run in (first, other, second, third)] == [0, 0, 1, 2]
            await second.cancel()
            assert third.position == 1
            desk.open = True
            assert await third.text() == "heard third"
            assert [run.position for run in (first, second, third)] == [None] * 3
            assert not bot._engine.runtime._coming  # type: ignore[union-attr]  # a leak shows nowhere else

    with no_leaks():
        host.run(story)


async def test_a_run_that_replaces_goes_before_the_engine_knows_of_it_before_those_that_wait(
    home: Path,
) -> None:
    async with make(home, Desk()) as bot:
        first = await bot.run_streamed("first", session_key="a")
        second = await bot.run_streamed("second", session_key="a")
        replacing = await bot.run_streamed("replacing", session_key="a", on_busy="replace")
        assert [run.position for run in (first, second, replacing)] == [0, 1, 0]
        assert await replacing.text() == "heard replacing"
        assert await second.text() == "heard second"
        assert (await first.wait()).metadata["replaced"]


def test_a_run_that_waits_for_a_place_is_the_next_of_its_session(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk, maxConcurrentRuns=1) as bot:

            def seen() -> set[tuple[str, str, int]]:
                runs = bot.runtime.statistics().runs
                return {(run.session_key, run.state, run.position) for run in runs}

            async def others() -> None:
                await until(lambda: desk.at_work == 1)
                head = await bot.run_streamed("head", session_key="b")
                await until(lambda: ("b", "waiting", 0) in seen())
                behind = await bot.run_streamed("behind", session_key="b")
                await until(lambda: ("b", "queued", 1) in seen())
                assert (head.position, behind.position) == (0, 1)
                desk.open = True
                assert await behind.text() == "heard behind"

            await host.gather(calls.of(bot, "work", session_key="a"), others)

    with no_leaks():
        host.run(story)


# Replace


def test_a_replacement_cancels_the_turn_and_goes_before_who_waits(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk) as bot:

            async def waits() -> None:
                await until(lambda: desk.at_work == 1)
                await calls.of(bot, "waits", session_key="a")()

            async def replaces() -> None:
                await until(lambda: desk.at_work == 1 and bot.runtime.statistics().queued == 1)
                await calls.of(bot, "replaces", session_key="a", on_busy="replace")()

            await host.gather(calls.of(bot, "work", session_key="a"), waits, replaces)
            replaced = calls.results["work"]
            assert replaced.stop_reason == "cancelled"
            assert replaced.metadata["replaced"] is True
            assert calls.results["replaces"].content == "heard replaces"
            assert calls.results["waits"].content == "heard waits"
            assert said_in(bot, "a") == ["work", "replaces", "waits"]
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_of_many_replacements_the_last_is_heard(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk) as bot:

            async def replaces() -> None:
                await until(lambda: desk.at_work == 1)
                streams = [
                    await bot.run_streamed(message, session_key="a", on_busy="replace")
                    for message in ("work 0", "work 1", "work 2", "take 3")
                ]
                results = [await stream.wait() for stream in streams]
                assert [result.stop_reason for result in results[:3]] == ["cancelled"] * 3
                assert results[3].content == "heard take 3"

            await host.gather(calls.of(bot, "work", session_key="a"), replaces)
            assert said_in(bot, "a")[-1] == "take 3"
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_a_replaced_override_run_gives_back_the_lock(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk) as bot:

            async def replaces() -> None:
                await until(lambda: desk.at_work == 1)
                assert bot.runtime.statistics().lock.exclusive
                await calls.of(bot, "replaces", session_key="a", on_busy="replace")()
                assert (await bot.run("elsewhere", session_key="b")).error is None

            await host.gather(
                calls.of(bot, "work", session_key="a", model="openai/other"), replaces
            )
            assert calls.results["work"].stop_reason == "cancelled"
            assert calls.results["replaces"].content == "heard replaces"
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_an_ingest_is_not_replaced(host: Host, home: Path) -> None:
    async def story() -> None:
        desk = Desk()
        async with make(home, desk) as bot:

            async def ingest() -> None:
                said = [{"role": "user", "content": "before"}]
                await bot.sessions.ingest("a", said)

            async def replace() -> None:
                assert (await bot.run("now", session_key="a", on_busy="replace")).error is None

            await host.gather(ingest, replace)
            assert sorted(said_in(bot, "a")) == ["before", "now"]

    host.run(story)


# Steer


def test_a_message_reaches_the_turn_before_the_model_is_asked_again(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk) as bot:

            async def steers() -> None:
                await until(lambda: desk.at_work == 1)
                stream = await bot.run_streamed("be brief", session_key="a", on_busy="steer")
                await until(lambda: bot.runtime.statistics().queued == 1)
                desk.open = True
                events = [event async for event in stream.stream_events()]
                assert [event.type for event in events] == [
                    "run.started",
                    "text.delta",
                    "text.completed",
                    "run.completed",
                ]
                assert events[0].metadata["steered"] is True
                result = await stream.wait()
                assert result.metadata["steered"] is True
                assert result.content == events[1].delta == "heard be brief"

            await host.gather(calls.of(bot, "work", session_key="a"), steers)
            assert calls.results["work"].content == "heard be brief"
            assert "steered" not in calls.results["work"].metadata
            assert desk.asked == [["work"], ["work", "be brief"]]
            assert said_in(bot, "a") == ["work", "be brief"]
            assert bot.runtime.statistics().turns.ended == 1
            await bot.run("next", session_key="a")
            assert desk.asked[-1] == ["work", "be brief", "next"]
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_a_message_that_comes_too_late_has_a_turn_of_its_own(host: Host, home: Path) -> None:
    async def story() -> None:
        desk = Desk()
        async with make(home, desk) as bot:
            result = await bot.run("alone", session_key="a", on_busy="steer")
            assert (result.content, "steered" in result.metadata) == ("heard alone", False)

    host.run(story)


def test_what_steers_in_a_loop_over_the_stream_it_steers_is_no_deadlock(
    host: Host, home: Path
) -> None:
    async def story() -> None:
        desk = Desk()
        desk.open = True
        async with make(home, desk) as bot:
            async for event in bot.stream("work", session_key="a"):
                if event.type == "tool.started":
                    result = await bot.run("talk on", session_key="a", on_busy="steer")
                    assert result.content == "la " * 300
            assert said_in(bot, "a") == ["work", "talk on"]

    with no_leaks():
        host.run(story)


def test_who_steers_and_goes_away_leaves_the_turn_alone(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk) as bot:

            async def steers() -> None:
                await until(lambda: desk.at_work == 1)
                early = await bot.run_streamed("too early", session_key="a", on_busy="steer")
                await until(lambda: bot.runtime.statistics().queued == 1)
                await early.cancel()
                assert (await early.wait()).stop_reason == "cancelled"
                desk.open = True

            await host.gather(calls.of(bot, "work", session_key="a"), steers)
            assert calls.results["work"].content == "heard work"
            assert said_in(bot, "a") == ["work"]
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_a_message_steers_an_override_run_with_the_model_that_has(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk) as bot:

            async def steers() -> None:
                await until(lambda: desk.at_work == 1)
                stream = await bot.run_streamed("and?", session_key="a", on_busy="steer")
                await until(lambda: bot.runtime.statistics().queued == 1)
                desk.open = True
                assert (await stream.wait()).metadata["model"] == "other"

            await host.gather(calls.of(bot, "work", session_key="a", model="openai/other"), steers)
            assert calls.results["work"].content == "heard and?"
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_a_run_that_keeps_nothing_is_not_steered(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk) as bot:

            async def steers() -> None:
                await until(lambda: desk.at_work == 1)
                stream = await bot.run_streamed("keep me", session_key="a", on_busy="steer")
                await until(lambda: bot.runtime.statistics().queued == 1)
                desk.open = True
                assert await stream.text() == "heard keep me"

            await host.gather(calls.of(bot, "work", session_key="a", ephemeral=True), steers)
            assert calls.results["work"].content == "heard work"
            assert said_in(bot, "a") == ["keep me"]

    host.run(story)


def test_the_end_of_a_steered_turn_is_the_end_of_who_steered_it(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk) as bot:

            async def steers() -> None:
                await until(lambda: desk.at_work == 1)
                stream = await bot.run_streamed("work on", session_key="a", on_busy="steer")
                await until(lambda: bot.runtime.statistics().queued == 1)
                desk.once = True
                await until(lambda: len(desk.asked) == 2 and desk.at_work == 1)
                assert [run.state for run in bot.runtime.statistics().runs] == [
                    "running",
                    "steering",
                ]
                await bot.run("stop", session_key="a", on_busy="replace")
                assert (await stream.wait()).stop_reason == "cancelled"

            await host.gather(calls.of(bot, "work", session_key="a"), steers)
            assert calls.results["work"].stop_reason == "cancelled"
            assert said_in(bot, "a") == ["work", "work on", "stop"]
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_a_file_that_is_not_there_fails_who_named_it_and_not_the_turn(
    host: Host, home: Path
) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk) as bot:

            async def steers() -> None:
                await until(lambda: desk.at_work == 1)
                stream = await bot.run_streamed(
                    "see", session_key="a", on_busy="steer", media=["/nowhere/x.png"]
                )
                await until(lambda: bot.runtime.statistics().queued == 1)
                desk.open = True
                with pytest.raises(UsageError, match=r"x\.png"):
                    await stream.wait()

            await host.gather(calls.of(bot, "work", session_key="a"), steers)
            assert calls.results["work"].content == "heard work"

    host.run(story)


def test_a_tool_cannot_steer_or_replace_the_run_that_it_is_part_of(host: Host, home: Path) -> None:
    async def story() -> None:
        refused: list[str] = []

        @tool
        async def meddle() -> str:
            """Meddle."""
            for policy in ("steer", "replace"):
                with pytest.raises(NestedRunRefused):
                    await bot.run("me", session_key="a", on_busy=policy)
                refused.append(policy)
            return "no"

        model = ScriptedProvider([Answer(tool_calls=[("meddle", {})]), "ok"])
        async with make(home, Desk(), options={"tools": [meddle], "provider": model}) as bot:
            assert (await bot.run("go", session_key="a")).content == "ok"
        assert refused == ["steer", "replace"]

    host.run(story)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on_busy": "later"}, "on_busy must be one of 'wait', 'reject', 'replace', 'steer'"),
        ({"on_busy": "steer", "model": "openai/x"}, "model cannot go with"),
        ({"on_busy": "steer", "ephemeral": True}, "ephemeral cannot go with"),
        ({"tenant": 7}, "tenant must be a string"),
    ],
)
async def test_what_cannot_be_meant_is_said_at_once(
    home: Path, options: dict[str, Any], says: str
) -> None:
    async with make(home, Desk()) as bot:
        with pytest.raises(InvalidArgument, match=says):
            await bot.run("x", **options)


def test_a_program_without_a_loop_is_told_too(home: Path) -> None:
    desk = Desk()
    with make(home, desk) as bot, bot.stream_sync("work", session_key="a") as events:
        for event in events:
            if event.type == "tool.started":
                break
        with pytest.raises(SessionBusy):
            bot.run_sync("me too", session_key="a", on_busy="reject")
        assert bot.run_sync("now", session_key="a", on_busy="replace").content == "heard now"
        assert events.result().stop_reason == "cancelled"


# How many at once


class Slow:
    """A model that takes ten seconds, and notes who was served when."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.served: list[tuple[str, float]] = []

    async def __call__(self, request: ModelRequest) -> str:
        who = str(request.messages[-1].content).partition("\n\n")[0]
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(10)
        finally:
            self.now -= 1
        self.served.append((who, trio.current_time()))
        return who


def bot_with(home: Path, model: Slow, places: int) -> Nanobot:
    path = home / "config.json"
    defaults = {"model": "openai/m", "maxConcurrentRuns": places}
    config = {"agents": {"defaults": defaults}, "providers": {"openai": {"apiKey": "sk-test"}}}
    path.write_text(json.dumps(config))
    return Nanobot.from_config(
        path, workspace=home / "ws", provider=ScriptedProvider(model), store=InMemoryStore()
    )


async def until_seen(happened: Callable[[], bool]) -> None:
    """As `until`, where Trio's clock stands still: threads are at work, which know nothing of it."""
    while not happened():
        await wait_all_tasks_blocked(0.001)


async def test_a_tenant_with_a_thousand_sessions_does_not_starve_one_with_two(
    mock_clock: MockClock, home: Path
) -> None:
    model = Slow()
    async with bot_with(home, model, 4) as bot, trio.open_nursery() as nursery:

        async def run(message: str, tenant: str, key: str) -> None:
            await bot.run(message, session_key=key, tenant=tenant)

        for number in range(1000):
            nursery.start_soon(run, "big", "big", f"big:{number}")
        await wait_all_tasks_blocked(0.01)
        state = bot.runtime.statistics().places
        assert (state.limit, state.taken, state.waiting) == (4, 4, 996)
        for number in range(2):
            nursery.start_soon(run, "small", "small", f"small:{number}")
        await wait_all_tasks_blocked(0.01)
        started = trio.current_time()
        for _ in range(3):
            mock_clock.jump(10)
            await wait_all_tasks_blocked(0.01)
        small = [at - started for who, at in model.served if who == "small"]
        assert small == [20, 20]  # those that were there ended at 10; theirs began then
        assert model.most == 4
        nursery.cancel_scope.cancel()


async def test_a_session_with_many_runs_comes_once_in_a_round(
    mock_clock: MockClock, home: Path
) -> None:
    model = Slow()
    async with bot_with(home, model, 1) as bot, trio.open_nursery() as nursery:

        async def run(key: str) -> None:
            await bot.run(key, session_key=key)

        for key in ("a", "a", "a", "b", "c", "b"):
            nursery.start_soon(run, key)
            await wait_all_tasks_blocked(0.01)
        for number in range(1, 7):
            await until_seen(lambda: model.now == 1)
            mock_clock.jump(10)
            await until_seen(lambda number=number: len(model.served) == number)  # type: ignore[misc]  # bound here
        assert [who for who, _ in model.served] == ["a", "b", "c", "a", "b", "a"]


async def test_a_session_without_a_tenant_counts_for_itself_beside_a_tenant(
    mock_clock: MockClock, home: Path
) -> None:
    model = Slow()
    async with bot_with(home, model, 1) as bot, trio.open_nursery() as nursery:

        async def run(message: str, key: str, tenant: str | None) -> None:
            await bot.run(message, session_key=key, tenant=tenant)

        for number in range(3):
            nursery.start_soon(run, f"of acme {number}", f"acme:{number}", "acme")
            await wait_all_tasks_blocked(0.01)
        # A session may be called like a tenant, and is another one all the same.
        for key in ("acme", "b"):
            nursery.start_soon(run, f"alone {key}", key, None)
            await wait_all_tasks_blocked(0.01)
        for number in range(1, 6):
            await until_seen(lambda: model.now == 1)
            mock_clock.jump(10)
            await until_seen(lambda number=number: len(model.served) == number)  # type: ignore[misc]  # bound here
        assert [who for who, _ in model.served] == [
            "of acme 0",
            "alone acme",
            "alone b",
            "of acme 1",
            "of acme 2",
        ]


def test_a_loop_over_a_stream_may_run_another_though_there_is_one_place(
    host: Host, home: Path
) -> None:
    async def story() -> None:
        desk = Desk()
        desk.open = True
        async with make(home, desk, maxConcurrentRuns=1) as bot:
            ran = 0
            async for event in bot.stream("talk", session_key="a"):
                if event.type == "run.started":
                    while bot.runtime.statistics().places.taken != 1:
                        await host.sleep(0)
                    assert (await bot.run("b", session_key="b")).error is None
                    ran += 1
            assert ran == 1
            assert (await rest_of(bot)) == NOTHING
            assert bot.runtime.statistics().places.taken == 0

    with no_leaks():
        host.run(story)


async def test_a_stream_that_waits_for_its_reader_goes_on_when_somebody_wants_its_place(
    home: Path,
) -> None:
    model = ScriptedProvider([Answer(["la "] * 300), "b"])  # far more than is kept for a reader
    options = {"provider": model}
    async with make(home, Desk(), options=options, maxConcurrentRuns=1) as bot:
        stream = await bot.run_streamed("talk", session_key="a")
        events = stream.stream_events()
        assert (await anext(events)).type == "run.started"
        await wait_all_tasks_blocked(0.01)
        assert not stream.done  # it waits for its reader, who now waits for another run
        with trio.fail_after(30):
            assert (await bot.run("go", session_key="b")).content == "b"
        assert [event.type async for event in events][-1] == "run.completed"


def test_who_goes_away_while_it_waits_for_a_place_gets_none(host: Host, home: Path) -> None:
    async def story() -> None:
        desk, calls = Desk(), Calls()
        async with make(home, desk, maxConcurrentRuns=1) as bot:

            async def others() -> None:
                await until(lambda: desk.at_work == 1)
                stream = await bot.run_streamed("waits", session_key="b")
                await until(lambda: bot.runtime.statistics().places.waiting == 1)
                await stream.cancel()
                desk.open = True
                assert (await bot.run("next", session_key="c")).content == "heard next"
                assert (await bot.run("again", session_key="b")).content == "heard again"

            await host.gather(calls.of(bot, "work", session_key="a"), others)
            assert (await rest_of(bot)) == NOTHING
            places = bot.runtime.statistics().places
            assert (places.taken, places.waiting) == (0, 0)

    with no_leaks():
        host.run(story)


async def test_a_run_inside_another_keeps_its_place_when_the_other_has_ended(home: Path) -> None:
    desk = Desk()

    @tool
    async def leave_something_running() -> str:
        """Start a run and do not wait for it."""
        streams.append(await bot.run_streamed("inner", session_key="b"))
        return "started"

    streams: list[Any] = []
    answers: list[Any] = [Answer(tool_calls=[("leave_something_running", {})]), "out"]

    async def answer(request: ModelRequest) -> Any:
        if "inner" in str(request.messages[-1].content):
            await gate.wait()
            return "in"
        return answers.pop(0)

    gate = trio.Event()
    options = {"tools": [leave_something_running], "provider": ScriptedProvider(answer)}
    async with make(home, desk, options=options, maxConcurrentRuns=1) as bot:
        assert (await bot.run("go", session_key="a")).content == "out"
        await wait_all_tasks_blocked(0.01)  # the outer run has left
        assert bot.runtime.statistics().places.taken == 1
        gate.set()
        assert (await streams[0].wait()).content == "in"
        await until(lambda: bot.runtime.statistics().places.taken == 0)


def test_a_run_that_a_tool_starts_needs_no_place(host: Host, home: Path) -> None:
    async def story() -> None:
        @tool
        async def ask_another() -> str:
            """Ask another agent."""
            return (await bot.run("inner", session_key="b")).content

        model = ScriptedProvider([Answer(tool_calls=[("ask_another", {})]), "in", "out"])
        options = {"tools": [ask_another], "provider": model}
        async with make(home, Desk(), options=options, maxConcurrentRuns=1) as bot:
            assert (await bot.run("go", session_key="a")).content == "out"

    host.run(story)
