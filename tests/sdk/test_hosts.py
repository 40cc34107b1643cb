"""One bot under every host: asyncio, uvloop, trio, threads, no loop; hooks and tools run where the caller is."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from nanobot import Nanobot, RunContext, RunResult, tool
from nanobot.agent import AgentHook, AgentHookContext
from nanobot.errors import BotClosed, NestedRunRefused, UsageError
from nanobot.messages import UserMessage
from nanobot.testing import (
    Answer,
    RecordedRequest,
    ScriptedProvider,
    ScriptedServerThread,
    ServerItem,
    no_leaks,
    scripted_server,
)
from tests.sdk.bots import make_bot, shown

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")


def answer(request: RecordedRequest) -> ServerItem:
    said = request.user_texts[-1]
    if request.last_role == "tool":
        return f"I was told: {request.json['messages'][-1]['content']}"
    if said.startswith("use "):
        return Answer("Wait. ", tool_calls=[(said.split()[1], {})])
    if "never" in said:
        return Answer("too late", before_first_delta_s=60)
    if "slowly" in said:
        return Answer(["one ", "two ", "three"], between_deltas_s=0.1)
    return "fine now"


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServerThread]:
    with scripted_server(answer) as server:
        yield server


@pytest.fixture
def bot(server: ScriptedServerThread, tmp_path: Path) -> Nanobot:
    return make_bot(tmp_path, server.base_url)


async def ask(bot: Nanobot, session_key: str = "one") -> str:
    return (await bot.run("quickly", session_key=session_key)).content


def turns(server: ScriptedServerThread, session: str) -> int:
    """How many turns the model was shown in the last request that mentions the session."""
    request = next(r for r in reversed(server.requests) if session in r.user_texts[-1])
    return sum(isinstance(message, UserMessage) for message in shown(request))


# Loops, one after the other and at once


def test_asyncio_run_twice_finds_the_session_as_it_was_left(
    bot: Nanobot, server: ScriptedServerThread
) -> None:
    async def main() -> str:
        return (await bot.run("quickly, twice", session_key="one")).content

    assert [asyncio.run(main()), asyncio.run(main())] == ["fine now"] * 2
    assert turns(server, "twice") == 2
    bot.close()


def test_a_loop_that_closes_with_a_stream_unread_takes_nothing_with_it(
    bot: Nanobot, server: ScriptedServerThread
) -> None:
    kept = []

    async def leave() -> None:
        run = await bot.run_streamed("never", session_key="one")
        events = run.stream_events()
        assert (await anext(events)).type == "run.started"
        kept.extend([run, events])

    with no_leaks():
        asyncio.run(leave())
        kept.clear()
        assert asyncio.run(ask(bot)) == "fine now"
        bot.close()


def test_a_reader_for_whom_all_events_are_there_lets_others_run_between_them(
    host: Host,
) -> None:
    bot = Nanobot.from_config(provider=ScriptedProvider([Answer(["word "] * 2_000)]))
    events = passes = 0

    async def story() -> None:
        nonlocal passes
        run = await bot.run_streamed("hello")
        await run.wait()  # so nobody waits for the reader, and all of it is kept

        async def read() -> None:
            nonlocal events
            async for _ in run.stream_events():
                events += 1

        async def others() -> None:
            nonlocal passes
            while events < 2_000:
                await host.sleep(0)
                passes += 1

        await host.gather(read, others)
        await bot.aclose()

    host.run(story)
    assert passes >= events // 64


def test_uvloop_is_a_host_like_any_other(bot: Nanobot) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    seen = Witness()

    async def main() -> None:
        async with bot:
            result = await bot.run("slowly", session_key="one", hooks=[seen])
            assert result.content == "one two three"
            assert {type(place.loop).__module__.partition(".")[0] for place in seen.places} == {
                "uvloop"
            }
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(bot.run("never", session_key="one"), 0.1)
            async for event in bot.stream("slowly", session_key="one"):
                if event.type == "text.delta":
                    break
            assert await ask(bot) == "fine now"

    uvloop.run(asyncio.sleep(0))  # its first loop opens a pipe that stays for all others
    with no_leaks():
        uvloop.run(main())


def test_threads_of_every_kind_use_one_bot_at_once(
    bot: Nanobot, server: ScriptedServerThread
) -> None:
    async def several(name: str) -> list[str]:
        return [await ask(bot, f"{name}:{number % 3}") for number in range(8)]

    def under_asyncio(name: str) -> list[str]:
        return asyncio.run(several(name))

    def under_trio(name: str) -> list[str]:
        return trio.run(several, name)

    def without_a_loop(name: str) -> list[str]:
        return [
            bot.run_sync("quickly", session_key=f"{name}:{number % 3}").content
            for number in range(8)
        ]

    with no_leaks():
        asyncio.run(ask(bot))  # it lives in the shared thread from here on
        with ThreadPoolExecutor(9) as threads:
            calls = [
                threads.submit(run, f"{run.__name__}:{number}")
                for run in (under_asyncio, under_trio, without_a_loop)
                for number in range(3)
            ]
            assert [call.result(20) for call in calls] == [["fine now"] * 8] * 9
        bot.close()


def test_a_bot_that_lives_in_a_trio_run_serves_another_threads_loop(bot: Nanobot) -> None:
    async def main() -> None:
        async with bot:
            assert await ask(bot) == "fine now"
            runtime = bot._engine.runtime
            contents = await trio.to_thread.run_sync(lambda: asyncio.run(ask(bot)))
            assert contents == "fine now"
            result = await trio.to_thread.run_sync(lambda: bot.run_sync("slowly"))
            assert result.content == "one two three"
            assert bot._engine.runtime is runtime
            assert runtime is not None
            assert runtime.home.is_here

    trio.run(main)


def test_a_bot_made_in_one_loop_is_used_in_another(
    server: ScriptedServerThread, tmp_path: Path
) -> None:
    async def make() -> Nanobot:
        return make_bot(tmp_path, server.base_url)

    async def made_and_used() -> Nanobot:
        bot = await make()
        await ask(bot)
        return bot

    for bot in (
        asyncio.run(make()),
        trio.run(make),
        asyncio.run(made_and_used()),
        trio.run(made_and_used),
    ):
        assert asyncio.run(ask(bot)) == "fine now"
        assert trio.run(ask, bot) == "fine now"
        assert bot.run_sync("quickly").content == "fine now"
        bot.close()


def test_a_provider_object_outlives_the_loops_and_is_closed_with_the_bot() -> None:
    provider = ScriptedProvider(lambda request: "fine now")
    bot = Nanobot.from_config(provider=provider)
    assert [trio.run(ask, bot), asyncio.run(ask(bot)), trio.run(ask, bot)] == ["fine now"] * 3
    assert not provider.closed

    async def close() -> None:
        assert await ask(bot) == "fine now"
        await bot.aclose()
        assert provider.closed

    trio.run(close)


def test_a_loop_that_still_runs_shares_its_bot_with_a_new_one(bot: Nanobot) -> None:
    async def main() -> None:
        async with bot:
            run = await bot.run_streamed("slowly", session_key="one")
            # The other loop's run is on the same session, so it waits for this loop's.
            other = asyncio.to_thread(lambda: asyncio.run(ask(bot, "one")))
            assert [await run.text(), await other] == ["one two three", "fine now"]

    asyncio.run(main())


def test_who_shares_a_trio_run_that_ends_is_told_and_goes_on_elsewhere(
    bot: Nanobot, server: ScriptedServerThread
) -> None:
    asked = server.statistics().requests

    def in_another_thread() -> str:
        with pytest.raises(BotClosed, match="event loop in which it lived has ended"):
            bot.run_sync("never, for the guest", session_key="one")
        return asyncio.run(ask(bot, "one"))

    async def main() -> None:
        await ask(bot)
        guest.append(threads.submit(in_another_thread))
        while server.statistics().requests < asked + 2:  # noqa: ASYNC110 - another thread's
            await trio.sleep(0.01)

    guest: list[Future[str]] = []
    with ThreadPoolExecutor(1) as threads:
        trio.run(main)
        assert guest[0].result(20) == "fine now"
    bot.close()


def test_a_loop_that_closes_under_a_hook_gives_the_session_free(bot: Nanobot) -> None:
    loop = asyncio.new_event_loop()

    class Abandoned(AgentHook):
        async def before_iteration(self, context: AgentHookContext) -> None:
            loop.stop()
            await asyncio.get_running_loop().create_future()

    kept = loop.create_task(bot.run("quickly", session_key="one", hooks=[Abandoned()]))
    loop.run_forever()
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # the point of this test, not a mistake
    loop.close()
    assert not kept.done()
    assert bot.run_sync("quickly", session_key="one", timeout_s=20).content == "fine now"
    bot.close()


@pytest.fixture(scope="module")
def lasting_bot(
    server: ScriptedServerThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nanobot]:
    bot = make_bot(tmp_path_factory.mktemp("lasting"), server.base_url)
    yield bot
    bot.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 2])
async def test_a_bot_of_the_whole_module_serves_a_loop_per_test(
    number: int, lasting_bot: Nanobot
) -> None:
    seen = Witness()
    events = [event.type async for event in lasting_bot.stream("slowly", hooks=[seen])]
    assert events[-1] == "run.completed"
    assert {place.loop for place in seen.places} == {asyncio.get_running_loop()}


# Hooks, tools and contextvars


class Place:
    """Where a piece of the user's code ran."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.color = color.get()
        self.loop: object = None
        if trio.lowlevel.in_trio_task():
            self.loop = trio.lowlevel.current_trio_token()
        else:
            try:
                self.loop = asyncio.get_running_loop()
            except RuntimeError:
                pass  # no loop in this thread


class Witness(AgentHook):
    """Notes where each of its methods is called, sync and async ones."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[Place] = []
        self.points: list[str] = []

    def note(self, point: str) -> None:
        self.places.append(Place())
        self.points.append(point)

    def wants_streaming(self) -> bool:
        return True

    async def before_run(self, context: AgentHookContext) -> None:
        self.note("before_run")

    async def before_iteration(self, context: AgentHookContext) -> None:
        await checkpoint()
        self.note("before_iteration")

    async def on_stream(self, context: AgentHookContext, delta: str) -> None:
        self.note("on_stream")

    async def before_execute_tools(self, context: AgentHookContext) -> None:
        self.note("before_execute_tools")

    def finalize_content(self, context: AgentHookContext, content: str) -> str:
        self.note("finalize_content")
        return content

    async def on_finally(self, context: AgentHookContext) -> None:
        await checkpoint()
        self.note("on_finally")


async def checkpoint() -> None:
    """Let the caller's loop go round once, whichever it is."""
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


class Places:
    """Tools that note where they run."""

    def __init__(self) -> None:
        self.of: dict[str, Place] = {}

    @tool
    async def on_the_loop(self) -> str:
        """Look where an async tool runs."""
        await checkpoint()
        self.of["async"] = Place()
        return "looked"

    @tool
    def in_a_thread(self) -> str:
        """Look where a sync tool runs."""
        self.of["sync"] = Place()
        return "looked"

    @tool(on_host=False)
    async def in_the_engine(self) -> str:
        """Look where a Trio tool runs."""
        await trio.lowlevel.checkpoint()
        self.of["trio"] = Place()
        return "looked"


def test_hooks_and_tools_run_on_the_callers_loop_in_its_thread_and_context(
    host: Host, bot: Nanobot
) -> None:
    seen, places = Witness(), Places()
    tools = [places.on_the_loop, places.in_a_thread, places.in_the_engine]

    async def story() -> None:
        async with bot:
            color.set(host.name)
            here = Place()
            for each in tools:
                name = each.spec.name
                result = await bot.run(f"use {name}", hooks=[seen], tools=tools)
                assert result.tools_used == [name]
            assert set(seen.points) == {
                *("before_run", "before_iteration", "on_stream", "before_execute_tools"),
                *("finalize_content", "on_finally"),
            }
            for place in (*seen.places, places.of["async"]):
                assert (place.loop, place.thread) == (here.loop, here.thread)
                assert place.color == host.name
            assert places.of["sync"].thread != here.thread
            assert (places.of["sync"].color, places.of["sync"].loop) == (host.name, None)
            assert (places.of["trio"].loop is here.loop) == (host.name == "trio")
            assert places.of["trio"].color == host.name

    host.run(story)


def test_without_a_loop_async_hooks_and_tools_run_in_the_calling_thread(bot: Nanobot) -> None:
    seen, places = Witness(), Places()
    tools = [places.on_the_loop, places.in_a_thread]
    color.set("sync")
    with bot:
        assert bot.run_sync("use on_the_loop", hooks=[seen], tools=tools).tools_used
        assert bot.run_sync("use in_a_thread", hooks=[seen], tools=tools).tools_used
        *_, last = bot.stream_sync("use on_the_loop", hooks=[seen], tools=tools)
        assert last.type == "run.completed"
    for place in (*seen.places, places.of["async"]):
        assert (place.thread, place.color) == (threading.get_ident(), "sync")
        assert isinstance(place.loop, asyncio.AbstractEventLoop)
    assert places.of["sync"].color == "sync"
    assert places.of["sync"].thread != threading.get_ident()


def test_each_caller_sees_its_own_context_though_all_share_one_engine(
    host: Host, bot: Nanobot
) -> None:
    def one(number: int) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            color.set(str(number))
            seen, places = Witness(), Places()
            await bot.run(
                "use in_a_thread",
                session_key=str(number),
                hooks=[seen],
                tools=[places.in_a_thread],
            )
            assert {place.color for place in seen.places} == {str(number)}
            assert places.of["sync"].color == str(number)

        return run

    async def story() -> None:
        async with bot:
            await host.gather(*(one(number) for number in range(20)))  # type: ignore[arg-type]  # a coroutine function

    host.run(story)


def test_a_hook_may_run_the_bot_and_must_not_block_on_it(host: Host, bot: Nanobot) -> None:
    found: list[object] = []

    class Nested(AgentHook):
        async def before_iteration(self, context: AgentHookContext) -> None:
            found.append(await ask(bot, "another"))
            for attempt in (bot.run_sync, bot.stream_sync):
                with pytest.raises(UsageError, match="would block the event loop"):
                    attempt("quickly", session_key="a third")
            with pytest.raises(NestedRunRefused, match="cannot start here"):
                await ask(bot, "outer")

    async def story() -> None:
        async with bot:
            result = await bot.run("quickly", session_key="outer", hooks=[Nested(reraise=True)])
            assert (result.content, found) == ("fine now", ["fine now"])

    host.run(story)


def test_without_a_loop_a_hook_may_await_the_bot_and_must_not_block_on_it(bot: Nanobot) -> None:
    found: list[object] = []

    class Nested(AgentHook):
        async def before_iteration(self, context: AgentHookContext) -> None:
            found.append(await ask(bot, "another"))
            with pytest.raises(UsageError, match="would block the event loop"):
                bot.run_sync("quickly", session_key="a third")

    with bot:
        bot.run_sync("quickly", session_key="outer", hooks=[Nested(reraise=True)])
    assert found == ["fine now"]


def test_a_sync_tool_may_block_on_the_bot_in_its_thread(host: Host, bot: Nanobot) -> None:
    found: list[object] = []

    @tool
    def ask_blocking(context: RunContext) -> str:
        """Ask the agent itself, blocking."""
        with pytest.raises(NestedRunRefused):
            bot.run_sync("quickly", session_key=context.session_key)
        found.extend(event.type for event in bot.stream_sync("quickly", session_key="streamed"))
        return bot.run_sync("quickly", session_key="another").content

    async def story() -> None:
        async with bot:
            result = await bot.run("use ask_blocking", session_key="outer", tools=[ask_blocking])
            assert result.content == "I was told: fine now"
            assert found[-1] == "run.completed"

    host.run(story)
    found.clear()


# Threads without a loop


def test_threads_without_a_loop_block_each_for_itself(
    bot: Nanobot, server: ScriptedServerThread
) -> None:
    def one(number: int) -> RunResult:
        return bot.run_sync("slowly, in threads", session_key=f"s{number % 4}")

    with no_leaks(), bot:
        with ThreadPoolExecutor(12) as threads:
            results = list(threads.map(one, range(12)))
        assert {result.content for result in results} == {"one two three"}
        assert bot.run_sync("how many in threads?", session_key="s0").content == "fine now"
    assert turns(server, "how many") == 4


# Processes

PRELUDE = """
import asyncio, gc, os, signal, sys, threading, warnings, trio
from nanobot import Nanobot
from nanobot.agent import AgentHook

bot = Nanobot.from_config(sys.argv[1] + "/config.json", workspace=sys.argv[1] + "/workspace")

async def ask(message="quickly"):
    print((await bot.run(message)).content, flush=True)
"""


@pytest.fixture
def start(bot: Nanobot, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts programs that find `bot` made, in an interpreter where every warning is an error."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-W", "error"),
                *("-c", PRELUDE + textwrap.dedent(program), str(tmp_path)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str], *, code: int = 0) -> list[str]:
    """What the program printed; it ended well and said nothing to standard error."""
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    return out.split("\n")[:-1]


Start = Callable[[str], subprocess.Popen[str]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_uses_the_same_bot_and_so_does_its_parent(start: Start) -> None:
    process = start(
        """
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of fork with threads: that is the point here
        async def main():
            run = await bot.run_streamed("slowly", session_key="streamed")
            await ask()
            if os.fork() == 0:
                os.execv(sys.executable, [sys.executable, "-c", "print('another program', flush=True)"])
            os.wait()
            print(await run.text(), flush=True)
        asyncio.run(main())
        child = os.fork()
        if child == 0:
            asyncio.run(ask())
            print(bot.run_sync("quickly").content, flush=True)
            trio.run(ask)
            bot.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        asyncio.run(ask())
        bot.close()
        """
    )
    assert finish(process) == [
        *("fine now", "another program", "one two three"),
        *["fine now"] * 4,
    ]


def test_a_child_forked_in_the_middle_of_a_run_leaves_the_run_to_its_parent(
    start: Start, server: ScriptedServerThread
) -> None:
    process = start(
        """
        warnings.simplefilter("ignore", DeprecationWarning)
        events = bot.stream_sync("slowly", session_key="streamed")
        while next(events).type != "text.delta":
            pass
        child = os.fork()
        if child == 0:
            print(bot.run_sync("quickly", session_key="streamed").content, flush=True)
            for ask in (events.result, lambda: list(events)):
                try:
                    ask()
                except Exception as error:
                    print(error, flush=True)
            events.close()
            bot.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(events.result().content, flush=True)
        bot.close()
        """
    )
    [inside, waited, read, outside] = finish(process)
    assert inside == "fine now"
    assert waited == read
    assert "belongs to the process" in read
    assert outside == "one two three"


def test_a_child_forked_in_the_middle_of_many_runs_leaves_them_to_its_parent(
    start: Start,
) -> None:
    process = start(
        """
        warnings.simplefilter("ignore", DeprecationWarning)
        async def take():
            return await anext(many)
        many, many_sync = bot.run_many(["quickly", "never"]), bot.run_many_sync(["quickly", "never"])
        for ask in (lambda: asyncio.run(take()), lambda: next(many_sync)):
            print(ask().result.content, flush=True)
        child = os.fork()
        if child == 0:
            for ask in (lambda: asyncio.run(take()), lambda: next(many_sync)):
                try:
                    ask()
                except Exception as error:
                    print(error, flush=True)
            many_sync.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(len(bot.runtime.statistics().runs), flush=True)
        bot.close()
        """
    )
    [*first, waited, blocked, going_on] = finish(process)
    assert first == ["fine now"] * 2
    assert waited == blocked
    assert "belongs to the process" in waited
    assert going_on == "2"


WAITING = {
    "asyncio": "asyncio.run(ask('never'))",
    "trio": "trio.run(ask, 'never')",
    "sync": "bot.run_sync('never')",
    "sync stream": "list(bot.stream_sync('never'))",
    "sync many": """
        try:
            list(bot.run_many_sync(["never"]))
        finally:
            assert bot.runtime.statistics().runs == ()
    """,
    "asyncio stream": """
        async def read():
            async for event in bot.stream("never"):
                pass
        asyncio.run(read())
    """,
    "in an async hook": """
        class Slow(AgentHook):
            async def before_iteration(self, context):
                await bot.run("never", session_key="another")
        bot.run_sync("quickly", hooks=[Slow()])
    """,
}


@pytest.mark.parametrize("waiting", WAITING)
def test_ctrl_c_ends_the_run_before_it_ends_the_program(
    waiting: str, start: Start, server: ScriptedServerThread
) -> None:
    before = server.statistics()
    process = start(
        f"""
try:
{textwrap.indent(textwrap.dedent(WAITING[waiting]), "    ")}
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(bot.run_sync("quickly").content, flush=True)
"""
    )
    server.wait_until(lambda now: now.requests == before.requests + 1, timeout_s=30)
    process.send_signal(signal.SIGINT)
    server.wait_until(lambda now: now.hang_ups == before.hang_ups + 1, timeout_s=30)
    assert finish(process) == ["interrupted", "fine now"]


@pytest.mark.parametrize("waiting", ["asyncio", "trio", "sync"])
def test_ctrl_c_that_nobody_catches_ends_the_program_as_always(
    waiting: str, start: Start, server: ScriptedServerThread
) -> None:
    before = server.statistics()
    process = start(WAITING[waiting])
    server.wait_until(lambda now: now.requests == before.requests + 1, timeout_s=30)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)
    assert out == ""
    assert err.count("Traceback") == 1 + err.count("During handling") + err.count("direct cause")
    assert err.rstrip().endswith("KeyboardInterrupt")
    server.wait_until(lambda now: now.hang_ups == before.hang_ups + 1)


LIVE = {
    "asyncio": """
        async def main():
            global run
            run = await bot.run_streamed("never")
            await asyncio.sleep(0.2)
        asyncio.run(main())
    """,
    "trio": """
        async def main():
            global run
            run = await bot.run_streamed("never")
            await trio.sleep(0.2)
        trio.run(main)
    """,
    "sync stream": """
        events = bot.stream_sync("never")
        next(events)
    """,
    "another thread": """
        def wait():
            try:
                bot.run_sync("never")
            except Exception as error:
                # Printed while the interpreter ends, it might have the lock of stdout's buffer, at which CPython aborts.
                os.write(1, type(error).__name__.encode())
        import os
        threading.Thread(target=wait, daemon=True).start()
        import time
        time.sleep(0.5)
    """,
}


@pytest.mark.parametrize("live", LIVE)
def test_an_interpreter_exits_with_a_run_alive(
    live: str, start: Start, server: ScriptedServerThread
) -> None:
    before = server.statistics()
    process = start(LIVE[live] + '\n        print("the end", flush=True)\n')
    lines = finish(process)
    assert lines[:1] == ["the end"]
    now = server.wait_until(lambda now: now.requests_in_flight == before.requests_in_flight)
    assert now.hang_ups == before.hang_ups + now.requests - before.requests


def test_a_bot_that_is_dropped_unclosed_closes_itself(
    host: Host, server: ScriptedServerThread, tmp_path: Path
) -> None:
    async def use() -> None:
        bot = make_bot(tmp_path, server.base_url)
        run = await bot.run_streamed("never", session_key="one")
        assert await ask(bot, "two") == "fine now"
        assert not run.done

    async def story() -> None:
        await use()
        gc.collect()
        async with no_leaks():
            await use()
            gc.collect()

    host.run(story)
    server.wait_until(lambda now: now.requests_in_flight == 0)


# Notebooks


@pytest.mark.notebook
def test_a_notebook_awaits_the_bot_in_its_cells(
    bot: Nanobot, server: ScriptedServerThread, tmp_path: Path
) -> None:
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    with notebook() as cell:
        made = f"Nanobot.from_config({str(tmp_path / 'config.json')!r}, workspace={str(tmp_path / 'notebook')!r})"
        assert cell(f"from nanobot import Nanobot\nbot = {made}") == ""
        for _ in range(2):
            assert cell("print((await bot.run('quickly')).content)") == "fine now\n"
        reading = "async for event in bot.stream('slowly'): print(event.delta, end='')"
        assert cell(reading) == "one two three"
        assert "would block the event loop" in cell("bot.run_sync('quickly')")
        in_time = "import asyncio; await asyncio.wait_for(bot.run('never'), 0.2)"
        assert cell(in_time).startswith("TimeoutError")
        left = "async for event in bot.stream('slowly'):\n  if event.delta: break"
        assert cell(left) == ""
        assert cell("print((await bot.run('quickly')).content)") == "fine now\n"
        assert cell("await bot.aclose()") == ""


class notebook:  # noqa: N801 - used like a function
    """A kernel of its own; gives a function that runs a cell and returns what it printed, or the error it ended with."""

    def __enter__(self) -> Callable[..., str]:
        from jupyter_client.manager import start_new_kernel  # deferred: only this test needs it

        self._manager, self._client = start_new_kernel(startup_timeout=60)
        return self.cell

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel()

    def cell(self, code: str) -> str:
        out: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    out.append(content["text"])
                case "error":
                    out.append(f"{content['ename']}: {content['evalue']}")

        self._client.execute_interactive(code, output_hook=hook, timeout=60)
        return "".join(out)
