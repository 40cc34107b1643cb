"""Hooks at the SDK: every method, async or plain, per bot and per run, under every host; the context as it stands."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sniffio
import trio
import trio.lowlevel

from nanobot import Nanobot, tool
from nanobot.agent import AgentHook, AgentHookContext, HookToolCall
from nanobot.errors import ServiceUnavailable
from nanobot.sessions import InMemoryStore
from nanobot.testing import Answer, ScriptedProvider, Stall

from .conftest import Host

WHOSE: contextvars.ContextVar[str] = contextvars.ContextVar("whose", default="nobody's")

POINTS = [
    "before_run",
    "before_iteration",
    "on_stream",
    "on_stream_end",
    "before_execute_tools",
    "before_execute_tool",
    "after_execute_tool",
    "after_iteration",
    "finalize_content",
    "after_run",
    "on_error",
    "on_finally",
]


@tool
def look() -> str:
    """Look."""
    return "seen"


ANSWERS: list[str | Answer | Exception] = [
    Answer("Let me see.", tool_calls=[("look", {})]),
    "Done.",
]


def bot_of(folder: Path, answers: Any, **options: Any) -> Nanobot:
    return Nanobot.from_config(
        provider=ScriptedProvider(answers),
        store=InMemoryStore(),
        workspace=folder / "workspace",
        tools=[look],
        **options,
    )


def kind_of_loop() -> str:
    try:
        return sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return "none"


def recorder(log: list[tuple[str, str, str, int, str]], name: str, *, plain: bool) -> AgentHook:
    """A hook that notes where each of its methods was called; they wait in their loop's own way, unless plain."""

    def note(point: str) -> None:
        log.append((name, point, kind_of_loop(), threading.get_ident(), WHOSE.get()))

    async def waiting() -> None:
        if kind_of_loop() == "trio":
            await trio.lowlevel.checkpoint()
        else:
            await asyncio.sleep(0)

    def method(point: str) -> Any:
        def plainly(_self: Any, _context: Any, *args: Any, **_more: Any) -> Any:
            note(point)
            return args[0] if point == "finalize_content" else None

        async def awaited(_self: Any, _context: Any, *args: Any, **_more: Any) -> Any:
            await waiting()
            note(point)
            return args[0] if point == "finalize_content" else None

        return plainly if plain else awaited

    body: dict[str, Any] = {point: method(point) for point in POINTS}
    body["wants_streaming"] = lambda _self: True
    hook: AgentHook = type("Recorder", (AgentHook,), body)()
    return hook


USUAL = [
    "before_run",
    "before_iteration",
    "on_stream",
    "on_stream",
    "on_stream",
    "on_stream_end",
    "before_execute_tools",
    "before_execute_tool",
    "after_execute_tool",
    "after_iteration",
    "before_iteration",
    "on_stream",
    "on_stream_end",
    "finalize_content",
    "after_iteration",
    "after_run",
    "on_finally",
]


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_every_method_runs_where_the_caller_is(host: Host, tmp_path: Path, plain: bool) -> None:
    log: list[tuple[str, str, str, int, str]] = []

    async def story() -> None:
        WHOSE.set("mine")
        async with bot_of(tmp_path, ANSWERS, hooks=[recorder(log, "bot", plain=plain)]) as bot:
            await bot.run("Hi", hooks=[recorder(log, "run", plain=plain)])

    host.run(story)
    here = threading.get_ident()
    assert {entry[2:] for entry in log} == {(host.name, here, "mine")}
    assert [point for name, point, *_ in log if name == "run"] == USUAL
    assert [point for name, point, *_ in log if name == "bot"] == USUAL
    for bots, runs in zip(log[::2], log[1::2], strict=True):
        if bots[1] != "on_stream":  # those of a batch go to one hook after the other
            assert (bots[0], runs[0], bots[1]) == ("bot", "run", runs[1])


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_programs_without_a_loop_have_hooks_in_their_thread(tmp_path: Path, plain: bool) -> None:
    log: list[tuple[str, str, str, int, str]] = []
    WHOSE.set("mine")
    with bot_of(tmp_path, ANSWERS) as bot:
        bot.run_sync("Hi", hooks=[recorder(log, "run", plain=plain)])
    assert [point for _, point, *_ in log] == USUAL
    assert {entry[3] for entry in log} == {threading.get_ident()}
    assert {entry[4] for entry in log} == {"mine"}


def test_after_a_failure_on_error_comes_in_place_of_after_run(host: Host, tmp_path: Path) -> None:
    log: list[tuple[str, str, str, int, str]] = []
    down = ServiceUnavailable("down", provider="scripted")

    async def story() -> None:
        async with bot_of(tmp_path, [down]) as bot:
            await bot.run("Hi", hooks=[recorder(log, "run", plain=False)])

    host.run(story)
    assert [point for _, point, *_ in log] == [
        "before_run",
        "before_iteration",
        "on_error",
        "on_finally",
    ]


def test_a_cancelled_run_still_gets_to_its_last_hooks(host: Host, tmp_path: Path) -> None:
    log: list[tuple[str, str, str, int, str]] = []

    async def story() -> None:
        hook = recorder(log, "run", plain=False)
        async with bot_of(tmp_path, [Answer("one two", fault=Stall(1))]) as bot:
            run = await bot.run_streamed("Hi", hooks=[hook])
            events = run.stream_events()
            while not (await anext(events)).delta:
                pass
            await run.cancel()
            assert [point for _, point, *_ in log][-2:] == ["on_error", "on_finally"]

    host.run(story)


class Answered(msgspec.Struct):
    name: str


def test_every_field_of_the_context_is_live(host: Host, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}
    deps = object()

    class Look(AgentHook):
        def wants_streaming(self) -> bool:
            return True

        async def before_run(self, context: AgentHookContext) -> None:
            seen["start"] = (context.session_key, context.deps is deps, context.iteration)

        def before_iteration(self, context: AgentHookContext) -> None:
            roles = [message["role"] for message in context.messages]
            seen[f"messages {context.iteration}"] = roles
            assert context.response is None
            assert context.usage == {}
            assert context.tool_calls == []
            assert context.tool_results == []

        async def on_stream(self, context: AgentHookContext, delta: str) -> None:
            seen[f"streamed {context.iteration}"] = (
                context.streamed_content,
                context.streamed_reasoning,
            )

        async def after_execute_tool(
            self, context: AgentHookContext, call: HookToolCall, result: str, outcome: str
        ) -> None:
            seen["tool"] = (call.name, result, outcome, context.tool_events[-1]["status"])

        async def after_iteration(self, context: AgentHookContext) -> None:
            assert context.response is not None
            seen[f"response {context.iteration}"] = (
                context.response.content,
                context.response.reasoning_content,
                context.response.finish_reason,
                context.usage["total_tokens"],
                context.tool_results,
            )

        async def after_run(self, context: AgentHookContext) -> None:
            seen["end"] = (
                context.final_content,
                context.output,
                context.stop_reason,
                context.usage["total_tokens"],
                context.error,
                context.exception,
            )

    answers = [
        Answer("Let me see.", reasoning="Hm.", tool_calls=[("look", {})]),
        Answer(tool_calls=[("final_answer", {"name": "Ada"})]),
    ]

    async def story() -> None:
        async with bot_of(tmp_path, answers) as bot:
            await bot.run(
                "Hi", session_key="s", deps=deps, hooks=[Look(reraise=True)], output_type=Answered
            )

    host.run(story)
    assert seen["start"] == ("s", True, 0)
    assert seen["messages 0"] == ["system", "user"]
    assert seen["messages 1"] == ["system", "user", "assistant", "tool"]
    assert seen["streamed 0"] == ("Let me see.", "Hm.")
    assert seen["streamed 2"] == ('{"name":"Ada"}', "")
    assert seen["tool"][0] == "final_answer"
    assert seen["response 0"] == ("Let me see.", "Hm.", "tool_calls", 15, ["seen"])
    assert seen["end"] == (
        '{"name":"Ada"}',
        Answered("Ada"),
        "completed",
        30,
        None,
        None,
    )


def test_errors_are_in_the_context_too(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Look(AgentHook):
        def on_error(self, context: AgentHookContext) -> None:
            seen.append((context.error, type(context.exception), context.stop_reason))

    with bot_of(tmp_path, [ServiceUnavailable("down", provider="scripted")]) as bot:
        bot.run_sync("Hi", hooks=[Look()])
    assert seen == [("down", ServiceUnavailable, "error")]


def test_the_methods_of_the_base_may_be_called_and_awaited(host: Host, tmp_path: Path) -> None:
    class Polite(AgentHook):
        async def before_run(self, context: AgentHookContext) -> None:
            await super().before_run(context)

        def after_run(self, context: AgentHookContext) -> None:
            super().after_run(context)

    async def story() -> None:
        async with bot_of(tmp_path, ["Hello"]) as bot:
            assert (await bot.run("Hi", hooks=[Polite(reraise=True)])).content == "Hello"

    host.run(story)
    assert not inspect.iscoroutinefunction(AgentHook.before_run)


async def something_that_was_cancelled() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


class AwaitsIt(AgentHook):
    def wants_streaming(self) -> bool:
        return True

    async def on_stream(self, context: AgentHookContext, delta: str) -> None:
        await something_that_was_cancelled()

    async def before_execute_tool(self, context: AgentHookContext, call: HookToolCall) -> None:
        await something_that_was_cancelled()

    async def on_finally(self, context: AgentHookContext) -> None:
        await something_that_was_cancelled()


def test_a_hook_that_awaits_something_cancelled_has_failed_and_its_run_goes_on(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with bot_of(tmp_path, ANSWERS) as bot:
            result = await bot.run("Hi", hooks=[AwaitsIt()])
            assert (result.stop_reason, result.content) == ("completed", "Done.")
            assert "the check before this tool failed" in str(result.messages)

    Host("asyncio").run(story)
    with bot_of(tmp_path, ANSWERS) as bot:
        assert bot.run_sync("Hi", hooks=[AwaitsIt()]).content == "Done."


def test_an_answer_that_a_hook_could_not_look_at_is_not_returned(tmp_path: Path) -> None:
    class Filter(AgentHook):
        async def finalize_content(self, context: AgentHookContext, content: str) -> str:
            await something_that_was_cancelled()
            return content

    async def story() -> None:
        async with bot_of(tmp_path, ["a secret"]) as bot:
            with pytest.raises(RuntimeError, match="awaited was cancelled"):
                await bot.run("Hi", hooks=[Filter()], session_key="s")
            assert "secret" not in str(bot.sessions.get("s"))

    Host("asyncio").run(story)
