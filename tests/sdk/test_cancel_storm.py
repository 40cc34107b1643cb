"""Random cancels wherever a run can be, thousands of them; and nothing is left of any.

A storm that fails names its seed; `STORM_SEED=… pytest tests/sdk/test_cancel_storm.py` brings the same one back, as far as
real time allows.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from nanobot import Nanobot, RunResult, tool
from nanobot.agent import AgentHook, AgentHookContext
from nanobot.messages import UserMessage, check, messages_from_openai
from nanobot.sessions import SessionGone
from nanobot.testing import Answer, RecordedRequest, ServerItem, no_leaks, scripted_server
from nanobot.tools import Tool
from tests.sdk.bots import NOTHING, make_bot, rest_of, shown

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

SESSIONS = 24
LANES = 30  # runs in flight: more than sessions, so that some always queue
LONGEST_S = 0.06  # after which a run is cancelled; all dwelling is of this order, so that cancels strike everywhere
WORDS = [f"word{number} " for number in range(300)]

PADDING = "\n" + "so it goes " * 200  # hundreds of tokens, for the sake of compaction

ANSWERS: dict[str, ServerItem] = {
    "quick": "fine now",
    "unanswered": Answer("too late", before_head_s=60),
    "thinking": Answer("too late", before_first_delta_s=60),
    "talking": Answer(WORDS, between_deltas_s=0.004),
    "hooked": Answer(["fine ", "now"], between_deltas_s=0.005),
}
TOOLS = ("dwell", "dwell_in_thread", "list_dir", "ask_another")
POINTS = (
    "before_run",
    "before_iteration",
    "on_stream",
    "after_iteration",
    "after_run",
    "on_finally",
)


class Storm:
    """One bot, some sessions, many runs, each cancelled in its own way at its own time."""

    def __init__(self, host: Host, seed: int, folder: Path) -> None:
        self.host = host
        self.chance = random.Random(seed)
        self.folder = folder
        self.bot: Nanobot | None = None
        self.struck: Counter[str] = Counter()  # where cancels were seen to strike
        self.inside: set[int] = set()  # runs whose tool or hook is being run right now
        self.posted: defaultdict[str, list[int]] = defaultdict(list)

    async def blow(self, server_url: str, unreachable_url: str, runs: int) -> None:
        """Start all runs and cancel them; return when each has been dealt with.

        Sessions are in memory: on a disk that is slow just now, all cancels would strike while something is written. What
        a cancel does there is the question of test_survival.
        """
        numbers = iter(range(runs))

        async def lane() -> None:
            for number in numbers:
                await self.one(number)

        bot = make_bot(
            self.folder / "a",
            server_url,
            tools=self.tools(),
            sessions={"store": "memory"},
            contextWindowTokens=16_000,  # which sessions outgrow, so that turns begin with a compaction
            maxTokens=500,
        )
        other = make_bot(self.folder / "b", unreachable_url)
        for name in range(40):
            (bot.runtime.workspace / f"file{name}").touch()
        async with bot, other:
            self.bot, self.unreachable = bot, other
            await self.host.gather(*[lane] * LANES)
            await self.quiet()
            await self.aim(count(runs))
            await self.quiet()
            await self.host.gather(*(self.after(f"s{n}") for n in range(SESSIONS)))
            assert await rest_of(bot) == NOTHING
        for number in range(SESSIONS):
            self.check_history(f"s{number}")

    async def aim(self, numbers: Iterator[int]) -> None:
        """Cancel run after run where no cancel has struck yet, as it happens when a machine is so busy that runs do not get
        there before their time."""
        for place, kinds in AIMED_AT.items():
            for _ in range(200):
                if PLACES[place] & self.struck.keys():
                    break
                await self.one(next(numbers), self.chance.choice(kinds))

    async def one(self, number: int, kind: str = "") -> None:
        chance = self.chance
        assert self.bot is not None
        kind = kind or chance.choice((*ANSWERS, *TOOLS, "unreachable", "compact"))
        key = f"s{chance.randrange(SESSIONS)}"
        if kind == "compact":
            await self.compact(key, chance.random() * LONGEST_S)
            return
        if chance.random() < 0.01:
            (self.bot.sessions.clear if number % 2 else self.bot.sessions.delete)(key)
            return
        bot = self.unreachable if kind == "unreachable" else self.bot
        options: dict[str, Any] = {"session_key": key}
        if kind == "hooked":
            options["hooks"] = [Dweller(self, number, chance.choice(POINTS))]
        if chance.random() < 0.01 and kind != "unreachable":
            options["model"] = (
                "scripted/other"  # alone while it lasts; more of these, and all others only queue
            )
        after_s = chance.random() * LONGEST_S
        way = chance.choice(WAYS)
        if way is to_its_end and kind in ("unanswered", "thinking", "talking", "unreachable"):
            way = cancelled  # it would not come in time
        if way is timed_out:
            options["timeout_s"] = after_s + 0.001
        result = await way(self, bot, number, f"run {number} {kind}{PADDING}", after_s, options)
        assert way is dropped or number not in self.inside, "it was over, and its code still ran"
        if result is not None:
            self.check(result, kind)

    async def compact(self, key: str, after_s: float) -> None:
        async def compact() -> None:
            assert self.bot is not None
            with suppress(SessionGone):  # it was cleared or deleted meanwhile
                await self.bot.runtime.compact_idle_session(key, max_suffix=2)

        if await self.host.cancel_after(after_s, compact):
            self.struck["compaction"] += 1

    def check(self, result: RunResult, kind: str) -> None:
        assert result.stop_reason in ("completed", "cancelled", "timeout"), result
        assert (result.error is None) == (result.stop_reason == "completed")
        whole = ("".join(WORDS), "Wait. ", "fine now")
        assert any(text.startswith(result.content) for text in whole), result.content
        if result.stop_reason == "cancelled":
            queued = not result.messages
            self.struck["queued" if queued else kind] += 1

    async def quiet(self) -> None:
        """Wait until also the runs are over that nobody waited for."""
        assert self.bot is not None
        for bot in (self.bot, self.unreachable):
            deadline = time.monotonic() + 10
            while (rest := await rest_of(bot)) != NOTHING:
                assert time.monotonic() < deadline, rest
                await self.host.sleep(0.01)
        assert not self.inside

    def after(self, key: str) -> Callable[[], Any]:
        async def ask() -> None:
            assert self.bot is not None
            result = await self.bot.run(f"after the storm, in {key}", session_key=key)
            assert (result.content, result.error) == ("fine now", None)

        return ask

    def check_history(self, key: str) -> None:
        """A session is a legal history of runs of its own, in the order in which they were started."""
        assert self.bot is not None
        session = self.bot.sessions.get(key)
        assert session is not None
        history = messages_from_openai(session.messages)
        assert check(history) == (), history
        *runs, after = [str(m.content).split() for m in history if isinstance(m, UserMessage)]
        assert after[4] == key  # "after the storm, in s7"
        order = {number: place for place, number in enumerate(self.posted[key])}
        places = [order[int(words[1])] for words in runs]
        assert places == sorted(places)

    @asynccontextmanager
    async def dwelling(self, number: int, where: str) -> AsyncIterator[float]:
        """The body of a tool or hook: for a while, with a `finally` that takes its time."""
        self.inside.add(number)
        try:
            yield self.chance.random() * LONGEST_S
        except BaseException:
            self.struck[where] += 1
            raise
        finally:
            try:
                if self.host.name == "asyncio":
                    await asyncio.sleep(0.001)  # noqa: ASYNC102 - asyncio, where a cancel strikes once
                else:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(0.001)
            finally:
                self.inside.discard(number)

    def tools(self) -> list[Tool]:
        @tool
        async def dwell(run: int) -> str:
            """Take a while."""
            async with self.dwelling(run, "in an async tool") as seconds:
                await self.host.sleep(seconds)
            return "done"

        @tool
        async def ask_another(run: int) -> str:
            """Ask the agent in a session of its own."""
            assert self.bot is not None
            async with self.dwelling(run, "in a nested run"):
                key = f"nested:{run}"
                result = await self.bot.run(
                    f"run {run} talking", session_key=key, timeout_s=LONGEST_S
                )
            return result.content

        return [dwell, dwell_in_thread, ask_another]


class Dweller(AgentHook):
    """Takes its time at one point of the run."""

    def __init__(self, storm: Storm, number: int, point: str) -> None:
        super().__init__()
        self._storm, self._number = storm, number

        async def dwell(*_: object) -> None:
            async with storm.dwelling(number, "in a hook") as seconds:
                await storm.host.sleep(seconds)

        setattr(self, point, dwell)

    def wants_streaming(self) -> bool:
        return True

    async def on_stream_end(self, context: AgentHookContext, *, resuming: bool) -> None:
        assert not resuming


# The ways in which a run ends before its time; each returns its result if there is one.

Options = dict[str, Any]


async def caller_cancelled(
    storm: Storm, bot: Nanobot, number: int, message: str, after_s: float, options: Options
) -> RunResult | None:
    results: list[RunResult] = []

    async def run() -> None:
        storm.posted[options["session_key"]].append(number)
        results.append(await bot.run(message, **options))

    await storm.host.cancel_after(after_s, run)
    return results[0] if results else None


async def reader_cancelled(
    storm: Storm, bot: Nanobot, number: int, message: str, after_s: float, options: Options
) -> RunResult | None:
    async def read() -> None:
        storm.posted[options["session_key"]].append(number)
        async with bot.stream(message, **options) as events:
            async for _ in events:
                pass

    await storm.host.cancel_after(after_s, read)
    return None


async def cancelled(
    storm: Storm, bot: Nanobot, number: int, message: str, after_s: float, options: Options
) -> RunResult | None:
    storm.posted[options["session_key"]].append(number)
    run = await bot.run_streamed(message, **options)
    await storm.host.sleep(after_s)
    if number % 2:
        await storm.host.gather(run.cancel, run.aclose)
    else:
        await run.cancel()
    assert run.done
    events = [event async for event in run.stream_events()]
    assert events[-1].type in ("run.failed", "run.completed")
    return await run.wait()


async def left_early(
    storm: Storm, bot: Nanobot, number: int, message: str, after_s: float, options: Options
) -> RunResult | None:
    storm.posted[options["session_key"]].append(number)
    run = await bot.run_streamed(message, **options)
    events = run.stream_events()
    limit = storm.chance.randrange(10)

    async def read() -> None:
        seen = 0
        async for _ in events:
            seen += 1
            if seen > limit:
                break

    await storm.host.cancel_after(after_s, read)
    await events.aclose()
    return await run.wait()


async def dropped(
    storm: Storm, bot: Nanobot, number: int, message: str, after_s: float, options: Options
) -> RunResult | None:
    storm.posted[options["session_key"]].append(number)
    run = await bot.run_streamed(message, **options)
    await storm.host.sleep(after_s)
    del run
    return None


async def timed_out(
    storm: Storm, bot: Nanobot, number: int, message: str, after_s: float, options: Options
) -> RunResult | None:
    storm.posted[options["session_key"]].append(number)
    return await bot.run(message, **options)


async def to_its_end(
    storm: Storm, bot: Nanobot, number: int, message: str, after_s: float, options: Options
) -> RunResult | None:
    storm.posted[options["session_key"]].append(number)
    result = await bot.run(message, **options)
    if result.stop_reason != "cancelled":  # by the end of its session
        assert (result.stop_reason, result.content) == ("completed", "fine now")
    return result


WAYS = (
    caller_cancelled,
    reader_cancelled,
    cancelled,
    left_early,
    dropped,
    timed_out,
    to_its_end,
)


def answer(request: RecordedRequest) -> ServerItem:
    kind = kind_of(request)
    if kind == "summary":
        return Answer("They talked.", before_first_delta_s=0.01)
    if kind == "after" or request.last_role == "tool":
        return "fine now"
    number = request.user_texts[-1].split()[1]
    if kind == "list_dir":
        return Answer(tool_calls=[("list_dir", {"recursive": True})] * 20)
    if kind in TOOLS:
        return Answer("Wait. ", tool_calls=[(kind, {"run": int(number)})])
    return ANSWERS[kind]


def kind_of(request: RecordedRequest) -> str:
    """What a request is about: a kind of run, "after" the storm, or a "summary"."""
    first, _, third = request.user_texts[-1].split()[:3]
    return {"run": third, "after": first}.get(first, "summary")


@contextmanager
def port_where_connecting_takes_for_ever() -> Iterator[int]:
    """A listener that accepts nothing, with its backlog full: further connections hang."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fill = [socket.socket() for _ in range(4)]
        try:
            for each in fill:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            yield port
        finally:
            for each in fill:
                each.close()


def blow(host: Host, runs: int, folder: Path) -> None:
    seed = int(os.environ.get("STORM_SEED", random.getrandbits(32)))
    storm = Storm(host, seed, folder)

    async def story() -> None:
        async with no_leaks():
            await storm.blow(server.base_url, f"http://127.0.0.1:{port}/v1", runs)

    try:
        with scripted_server(answer) as server, port_where_connecting_takes_for_ever() as port:
            host.run(story)
            counts = server.wait_until(lambda counts: counts.open_connections == 0)
            assert counts.requests_in_flight == 0
            for request in server.requests:
                shown(request)
                if request.hung_up_at is not None:
                    storm.struck[f"on the wire: {kind_of(request)}"] += 1
        missing = {place for place, names in PLACES.items() if not names & storm.struck.keys()}
        assert not missing, f"no cancel struck there: {missing}"
    except BaseException as error:
        error.add_note(f"STORM_SEED={seed}; cancels struck: {dict(storm.struck)}")
        raise


PLACES = {
    "waiting for its turn": {"queued"},
    "connecting": {"unreachable"},
    "waiting for the first byte": {"unanswered", "on the wire: unanswered"},
    "waiting for the first delta": {"thinking", "on the wire: thinking"},
    "in mid-stream": {"talking", "on the wire: talking"},
    "in an async tool": {"dwell", "in an async tool", "in a nested run"},
    "in a thread": {"dwell_in_thread", "list_dir"},
    "in a hook": {"in a hook"},
    "in a compaction": {"compaction", "on the wire: summary"},
}
"""Where a cancel can strike, and the names under which strikes are counted."""

AIMED_AT = {
    "connecting": ("unreachable",),
    "waiting for the first byte": ("unanswered",),
    "waiting for the first delta": ("thinking",),
    "in mid-stream": ("talking",),
    "in an async tool": ("dwell",),
    "in a thread": ("dwell_in_thread",),
    "in a hook": ("hooked",),
    "in a compaction": ("compact",),
}
"""The kinds of runs that get there if they are let alone. Waiting for one's turn is what runs do in any storm."""


def test_six_hundred_random_cancels_leave_nothing_behind(host: Host, tmp_path: Path) -> None:
    blow(host, 600, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("storm", range(10))
def test_ten_thousand_random_cancels_leave_nothing_behind(
    storm: int, host: Host, tmp_path: Path
) -> None:
    blow(host, 1_000, tmp_path)


def test_threads_that_leave_their_streams_early_leave_nothing_behind(tmp_path: Path) -> None:
    seed = int(os.environ.get("STORM_SEED", random.getrandbits(32)))

    def one(number: int) -> None:
        chance = random.Random(seed + number)
        for turn in range(15):
            message = (
                f"run {turn} {chance.choice(('quick', 'talking', 'thinking', 'dwell_in_thread'))}"
            )
            events = bot.stream_sync(message, session_key=f"s{chance.randrange(6)}", timeout_s=0.1)
            for _ in range(chance.randrange(5)):
                next(events, None)
            match chance.randrange(3):
                case 0:
                    events.close()
                    assert events.result().stop_reason in ("cancelled", "completed", "timeout")
                case 1:
                    with events:
                        pass
                case _:
                    del events

    try:
        with scripted_server(answer) as server, no_leaks():
            bot = make_bot(tmp_path, server.base_url, tools=[dwell_in_thread])
            with bot, ThreadPoolExecutor(8) as threads:
                list(threads.map(one, range(8)))
                for number in range(6):
                    key = f"s{number}"
                    result = bot.run_sync(f"after the storm, in {key}", session_key=key)
                    assert (result.content, result.error) == ("fine now", None)
        for request in server.requests:
            shown(request)
    except BaseException as error:
        error.add_note(f"STORM_SEED={seed}")
        raise


@tool
def dwell_in_thread(run: int) -> str:
    """Take a while, in a thread."""
    time.sleep(0.02)
    return "done"


def test_half_a_minute_later_neither_actors_nor_connections_are_left(tmp_path: Path) -> None:
    clock = MockClock(rate=1.0)  # real time, until the jump

    async def main() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            async with trio.open_nursery() as nursery:
                for number in range(30):
                    nursery.start_soon(_ask, bot, f"run {number} quick", f"s{number}")
            runtime = bot._engine.runtime
            assert runtime is not None

            def left() -> tuple[int, bool]:
                return runtime.live_sessions, server.statistics().open_connections > 0

            assert left() == (30, True)
            clock.jump(60)
            while left() != (0, False):  # noqa: ASYNC110 - another thread's
                await trio.sleep(0.01)
            await _ask(bot, "run 31 quick", "s1")
            assert left() == (1, True)

    with scripted_server(answer) as server:
        trio.run(main, clock=clock)


async def _ask(bot: Nanobot, message: str, session_key: str) -> None:
    assert (await bot.run(message, session_key=session_key)).content == "fine now"
