"""Programs that hang in a system whose streams simply wait for their readers. Here they end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import sniffio
import trio

from nanobot import Nanobot, RunContext, RunStream, tool
from nanobot.agent import AgentHook, AgentHookContext
from nanobot.errors import NestedRunRefused
from nanobot.testing import Answer, ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.sdk.conftest import Host

LONG = Answer(text=[f"word {number} " for number in range(500)])  # many times a stream's window


def make_bot() -> Nanobot:
    return Nanobot.from_config(provider=ScriptedProvider(lambda request: LONG))


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An override needs a provider that is configured."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def test_a_run_on_the_same_session_inside_a_streams_body(host: Host) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            contents: list[str] = []
            async for event in bot.stream("a"):
                if event.type == "text.delta" and len(contents) < 2:
                    contents.append((await bot.run("b")).content)
            assert contents == ["".join(LONG.text)] * 2

    host.run(story)


def test_an_override_run_inside_a_normal_streams_body(host: Host) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            done = False
            async for event in bot.stream("a", session_key="one"):
                if event.type == "text.delta" and not done:
                    result = await bot.run("b", session_key="two", model="openai/gpt-4.1")
                    done = result.content == "".join(LONG.text)
            assert done

    host.run(story)


def test_a_normal_run_inside_an_override_streams_body(host: Host) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            done = False
            async for event in bot.stream("a", session_key="one", model="openai/gpt-4.1"):
                if event.type == "text.delta" and not done:
                    result = await bot.run("b", session_key="two")
                    done = result.content == "".join(LONG.text)
            assert done

    host.run(story)


def test_a_forgotten_stream_blocks_neither_its_session_nor_an_override_run(host: Host) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            forgotten = await bot.run_streamed("a", session_key="one")
            events = forgotten.stream_events()
            first = await events.__anext__()
            assert first.type == "run.started"
            assert (await bot.run("b", session_key="one")).stop_reason == "completed"
            assert (await bot.run("c", model="openai/gpt-4.1")).stop_reason == "completed"
            assert [event.type async for event in events][-1] == "run.completed"

    host.run(story)


def test_a_reader_that_stalls_past_the_limit_fails_its_own_run_and_no_other(host: Host) -> None:
    huge = Answer(text=["x" * 100_000 for _ in range(200)])

    async def story() -> None:
        provider = ScriptedProvider(
            lambda request: huge if "huge" in str(request.messages[-1]) else "small"
        )
        async with Nanobot.from_config(provider=provider) as bot:
            run = await bot.run_streamed("huge", session_key="one")
            events = run.stream_events()
            await events.__anext__()
            assert (await bot.run("other", session_key="one")).content == "small"
            result = await run.wait()
            assert result.stop_reason == "consumer_stalled"
            read = [event async for event in events]
            assert read[-1].type == "run.failed"
            assert read[-1].metadata["reason"] == "consumer_stalled"

    host.run(story)


def test_waiting_for_a_result_never_waits_for_a_reader(host: Host) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            run = await bot.run_streamed("a")
            contents = []

            async def wait() -> None:
                contents.append(await run.text())

            await host.gather(wait, wait, wait)
            assert contents == ["".join(LONG.text)] * 3
            deltas = [event.delta async for event in run.stream_events()]
            assert "".join(deltas) == contents[0]

    host.run(story)


def test_waiting_inside_the_streams_own_body_ends(host: Host) -> None:
    async def story() -> None:
        async with make_bot() as bot:
            run = await bot.run_streamed("a")
            async for _ in run.stream_events():
                assert (await run.wait()).stop_reason == "completed"

    host.run(story)


def test_a_run_on_its_own_session_from_a_tool_is_refused_and_on_another_it_works(
    host: Host,
) -> None:
    refused: list[str] = []

    async def story() -> None:
        @tool
        async def ask_again(session: str) -> str:
            """Ask the agent in another session."""
            try:
                return (await bot.run("inner", session_key=session)).content
            except NestedRunRefused as error:
                refused.append(str(error))
                raise

        def answer(request: object) -> Answer | str:
            last = request.messages[-1]  # type: ignore[attr-defined]  # a ModelRequest
            if getattr(last, "tool_call_id", ""):
                return f"I was told: {last.content}"
            if "inner" in str(last.content):
                return "inner answer"
            session = "outer" if "same" in str(last.content) else "another"
            return Answer(tool_calls=[("ask_again", {"session": session})])

        bot = Nanobot.from_config(provider=ScriptedProvider(answer), tools=[ask_again])
        async with bot:
            result = await bot.run("use another", session_key="outer")
            assert result.content == "I was told: inner answer"
            assert refused == []
            result = await bot.run("use the same", session_key="outer")
            assert result.tools_used == []
            assert "cannot start here" in refused[0]
            exclusive = await bot.run("use another", session_key="outer", model="openai/gpt-4.1")
            assert exclusive.content == "I was told: inner answer"

    host.run(story)


LIMIT_S = 60  # longer than any story may take


async def end_by_cancel(bot: Nanobot, run: RunStream) -> None:
    await run.cancel()


async def end_by_aclose(bot: Nanobot, run: RunStream) -> None:
    await run.aclose()


async def end_with_the_bot(bot: Nanobot, run: RunStream) -> None:
    await bot.aclose()


ENDS = (end_by_cancel, end_by_aclose, end_with_the_bot)


@pytest.mark.parametrize("end", ENDS)
def test_a_hook_may_end_its_own_run(
    host: Host, end: Callable[[Nanobot, RunStream], Awaitable[None]]
) -> None:
    async def story() -> None:
        class Stop(AgentHook):
            def wants_streaming(self) -> bool:
                return True

            async def on_stream(self, context: AgentHookContext, delta: str) -> None:
                await end(bot, run)

        async with make_bot() as bot:
            run = await bot.run_streamed("a", hooks=[Stop()])
            result = await run.wait()
            assert result.stop_reason == "cancelled"
            assert result.content in "".join(LONG.text)

    host.run(story)


@pytest.mark.parametrize("end", ENDS)
def test_a_tool_may_end_its_own_run_also_from_a_run_nested_in_it(
    host: Host, end: Callable[[Nanobot, RunStream], Awaitable[None]]
) -> None:
    async def story() -> None:
        @tool
        async def go_deeper() -> str:
            """Call the other tool in another session."""
            return (await bot.run("stop", session_key="inner")).content

        @tool
        async def stop() -> str:
            """End everything."""
            await end(bot, run)
            await host.sleep(LIMIT_S)  # here the end arrives
            return "not reached"

        answers = [Answer(tool_calls=[(name, {})]) for name in ("go_deeper", "stop")]
        model = ScriptedProvider([*answers, "not asked for"])
        async with Nanobot.from_config(provider=model, tools=[go_deeper, stop]) as bot:
            run = await bot.run_streamed("a", session_key="outer")
            assert (await run.wait()).stop_reason == "cancelled"
            assert model.request_count == 2

    host.run(story)


def test_waiting_for_ones_own_result_is_refused(host: Host) -> None:
    async def story() -> None:
        @tool
        async def wait() -> str:
            """Wait for the end."""
            return (await run.wait()).content

        model = ScriptedProvider([Answer(tool_calls=[("wait", {})]), "done"])
        async with Nanobot.from_config(provider=model, tools=[wait]) as bot:
            run = await bot.run_streamed("a")
            result = await run.wait()
            assert result.content == "done"
            assert "NestedRunRefused: a run cannot wait for its own result" in str(result.messages)

    host.run(story)


def test_two_runs_may_end_each_other(host: Host) -> None:
    async def story() -> None:
        runs: dict[str, RunStream] = {}
        at_work: set[str] = set()
        both: trio.Event | asyncio.Event = asyncio.Event()
        if sniffio.current_async_library() == "trio":
            both = trio.Event()

        @tool
        async def end_the_other(context: RunContext) -> str:
            """End the other run, when both are here."""
            own = context.session_key
            at_work.add(own)
            if len(at_work) == 2:
                both.set()
            await both.wait()  # so that each has asked for the other's end when its own arrives
            await runs["b" if own == "a" else "a"].cancel()
            await host.sleep(LIMIT_S)  # here the own end arrives
            return "not reached"

        model = ScriptedProvider([Answer(tool_calls=[("end_the_other", {})])] * 2)
        async with Nanobot.from_config(provider=model, tools=[end_the_other]) as bot:
            for key in ("a", "b"):
                runs[key] = await bot.run_streamed("a", session_key=key)
            for run in runs.values():
                assert (await run.wait()).stop_reason == "cancelled"

    host.run(story)


def test_a_run_may_end_the_one_that_waits_for_it_in_another_bot(host: Host) -> None:
    async def story() -> None:
        @tool
        async def ask_the_other() -> str:
            """Ask the other bot."""
            return (await other.run("a", session_key="inner")).content

        @tool
        async def end_the_first() -> str:
            """End who asked."""
            await run.cancel()
            await host.sleep(LIMIT_S)
            return "not reached"

        asks = ScriptedProvider([Answer(tool_calls=[("ask_the_other", {})])])
        ends = ScriptedProvider([Answer(tool_calls=[("end_the_first", {})])])
        async with (
            Nanobot.from_config(provider=ends, tools=[end_the_first]) as other,
            Nanobot.from_config(provider=asks, tools=[ask_the_other]) as bot,
        ):
            run = await bot.run_streamed("a")
            assert (await run.wait()).stop_reason == "cancelled"

    host.run(story)
