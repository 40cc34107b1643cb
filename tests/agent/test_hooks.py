"""What hooks see, may change and may break."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from nanobot.agent import AgentHook, AgentHookContext, HookToolCall, Limits
from nanobot.errors import RateLimited, UsageError
from nanobot.messages import AssistantMessage, Message, ThinkingBlock, ToolMessage, UserMessage
from nanobot.testing import Answer, Cut, ScriptedProvider
from nanobot.tools import Toolset, tool
from tests.agent.stage import (
    TOOLS,
    Notebook,
    Reader,
    answers_in,
    check_events,
    check_legal,
    spoken,
    stage,
    text_of,
)

T = TypeVar("T")

LOOK = Answer(
    ["Let me ", "see."], reasoning="Hm.", tool_calls=[("echo", {"text": "a"}), ("broken", {})]
)


class Diary(AgentHook):
    """Writes down each point it is called at, as an async hook would."""

    def __init__(self, name: str = "", lines: list[str] | None = None) -> None:
        super().__init__()
        self.name = name
        self.lines: list[str] = [] if lines is None else lines

    async def write(self, line: str) -> None:
        await trio.lowlevel.checkpoint()
        self.lines.append(self.name + line)

    def wants_streaming(self) -> bool:
        return True

    async def before_run(self, context: AgentHookContext) -> None:
        await self.write("before_run")

    async def before_iteration(self, context: AgentHookContext) -> None:
        await self.write(f"before_iteration {context.iteration}")

    async def on_stream(self, context: AgentHookContext, delta: str) -> None:
        await self.write(f"on_stream {delta!r}")

    async def on_stream_end(self, context: AgentHookContext, *, resuming: bool) -> None:
        await self.write(f"on_stream_end {resuming}")

    async def before_execute_tools(self, context: AgentHookContext) -> None:
        await self.write(f"before_execute_tools {[call.name for call in context.tool_calls]}")

    async def before_execute_tool(self, context: AgentHookContext, call: HookToolCall) -> None:
        await self.write(f"before_execute_tool {call.name} {call.arguments}")

    async def after_execute_tool(
        self, context: AgentHookContext, call: HookToolCall, result: str, outcome: str
    ) -> None:
        await self.write(f"after_execute_tool {call.name} {result!r} {outcome}")

    async def after_iteration(self, context: AgentHookContext) -> None:
        await self.write(f"after_iteration {context.iteration}")

    def finalize_content(self, context: AgentHookContext, content: str) -> str:
        self.lines.append(f"{self.name}finalize_content {content!r}")
        return content

    async def after_run(self, context: AgentHookContext) -> None:
        await self.write(f"after_run {context.stop_reason}")

    async def on_error(self, context: AgentHookContext) -> None:
        await self.write(f"on_error {context.stop_reason}: {context.error}")

    async def on_finally(self, context: AgentHookContext) -> None:
        await self.write("on_finally")


async def test_every_point_of_a_run_in_order() -> None:
    diary = Diary()
    await stage(ScriptedProvider([LOOK, "Done."]), hooks=[diary]).run()
    assert diary.lines == [
        "before_run",
        "before_iteration 0",
        "on_stream 'Let me '",
        "on_stream 'see.'",
        "on_stream_end True",
        "before_execute_tools ['echo', 'broken']",
        "before_execute_tool echo {'text': 'a'}",
        "after_execute_tool echo 'a' ok",
        "before_execute_tool broken {}",
        "after_execute_tool broken 'Error: it is broken' error",
        "after_iteration 0",
        "before_iteration 1",
        "on_stream 'Done.'",
        "on_stream_end False",
        "finalize_content 'Done.'",
        "after_iteration 1",
        "after_run completed",
        "on_finally",
    ]


async def test_two_hooks_run_one_after_the_other_at_each_point() -> None:
    lines: list[str] = []
    await stage(ScriptedProvider(["ok"]), hooks=[Diary("a ", lines), Diary("b ", lines)]).run()
    assert lines[:4] == [
        "a before_run",
        "b before_run",
        "a before_iteration 0",
        "b before_iteration 0",
    ]
    assert lines[-2:] == ["a on_finally", "b on_finally"]


async def test_the_context_shows_the_run_as_it_stands() -> None:
    seen: list[dict[str, Any]] = []

    class Witness(AgentHook):
        def look(self, context: AgentHookContext) -> None:
            seen.append(
                {
                    "roles": [message["role"] for message in context.messages],
                    "calls": [(call.name, call.arguments) for call in context.tool_calls],
                    "results": context.tool_results,
                    "statuses": [(event["name"], event["status"]) for event in context.tool_events],
                    "said": context.streamed_content,
                    "thought": context.streamed_reasoning,
                    "answer": context.response
                    and (context.response.content, context.response.finish_reason),
                    "usage": dict(context.usage),
                    "final": context.final_content,
                    "for": (context.session_key, context.deps),
                }
            )

        async def before_execute_tools(self, context: AgentHookContext) -> None:
            self.look(context)

        async def after_iteration(self, context: AgentHookContext) -> None:
            self.look(context)

        async def after_run(self, context: AgentHookContext) -> None:
            self.look(context)

    turn = stage(ScriptedProvider([LOOK, "Done."]), hooks=[Witness()], session_key="k", deps="d")
    await turn.run()
    before, first, second, end = seen
    calls = [("echo", {"text": "a"}), ("broken", {})]
    assert (before["calls"], before["results"]) == (calls, [])
    assert before["answer"] == ("Let me see.", "tool_calls")
    assert (before["said"], before["thought"]) == ("Let me see.", "Hm.")
    assert first["results"] == ["a", "Error: it is broken"]
    assert first["statuses"] == [("echo", "ok"), ("broken", "error")]
    assert first["roles"] == ["system", "user", "assistant", "tool", "tool"]
    assert first["usage"]["total_tokens"] == 15
    assert (second["calls"], second["results"], second["final"]) == ([], [], "Done.")
    assert second["usage"]["total_tokens"] == 15
    assert end["usage"]["total_tokens"] == 30
    assert end["for"] == ("k", "d")


# Errors


class Faulty(AgentHook):
    """Raises at one point."""

    def __init__(self, point: str, *, reraise: bool = False) -> None:
        super().__init__(reraise)
        self.raised = 0

        def fail(*args: object, **kwargs: object) -> None:
            self.raised += 1
            raise LookupError(f"from {point}")

        setattr(self, point, fail)
        if point.startswith("on_stream"):
            self.wants_streaming = lambda: True  # type: ignore[method-assign]  # as a stub would


OBSERVERS = [
    "before_run",
    "wants_streaming",
    "before_iteration",
    "on_stream",
    "on_stream_end",
    "before_execute_tools",
    "after_execute_tool",
    "after_iteration",
    "after_run",
    "on_finally",
]


@pytest.mark.parametrize("point", OBSERVERS)
async def test_what_an_observer_raises_is_logged_and_the_run_goes_on(
    point: str, caplog: pytest.LogCaptureFixture
) -> None:
    faulty, diary = Faulty(point), Diary()
    with caplog.at_level(logging.ERROR, logger="nanobot.hooks"):
        result = await stage(ScriptedProvider([LOOK, "Done."]), hooks=[faulty, diary]).run()
    assert (result.content, result.error) == ("Done.", None)
    assert faulty.raised
    assert point in caplog.text
    assert "LookupError: from" in caplog.text  # with its traceback
    assert len(diary.lines) == 18  # the hook behind it missed nothing


@pytest.mark.parametrize("point", [*OBSERVERS, "before_execute_tool"])
async def test_what_a_reraising_hook_raises_fails_the_run_and_leaves_a_legal_history(
    point: str,
) -> None:
    journal, reader, diary = Notebook(), Reader(), Diary()
    hooks = [Faulty(point, reraise=True), diary]
    turn = stage(ScriptedProvider([LOOK, "Done."]), hooks=hooks, journal=journal, emit=reader)
    with pytest.raises(LookupError, match=f"from {point}"):
        await turn.run()
    check_legal(journal.messages)
    check_events(reader.events)
    assert reader.events[-1].error == f"from {point}"
    assert f"on_error error: from {point}" in diary.lines
    assert turn.result("error").stop_reason == "error"


async def test_an_error_of_the_provider_raised_by_a_hook_is_the_hooks_and_is_raised() -> None:
    class Nested(AgentHook):
        async def before_iteration(self, context: AgentHookContext) -> None:
            raise RateLimited("in another bot", provider="other")

    with pytest.raises(RateLimited):
        await stage(ScriptedProvider(["ok"]), hooks=[Nested(reraise=True)]).run()


async def test_a_subclass_that_forgets_to_call_init_is_a_hook_all_the_same() -> None:
    class Forgetful(AgentHook):
        def __init__(self, calls: list[str]) -> None:
            self.calls = calls

        def before_iteration(self, context: AgentHookContext) -> None:  # plain, not async
            self.calls.append("here")
            raise LookupError

    calls: list[str] = []
    assert (await stage(ScriptedProvider(["ok"]), hooks=[Forgetful(calls)]).run()).content == "ok"
    assert calls == ["here"]


# finalize_content


class Censor(AgentHook):
    def finalize_content(self, context: AgentHookContext, content: str) -> str:
        return content.replace("secret", "***") if content else content


class Shout(AgentHook):
    def finalize_content(self, context: AgentHookContext, content: str) -> str:
        return content.upper()


async def test_the_answer_passes_through_all_hooks_and_only_what_comes_out_is_kept() -> None:
    journal, reader = Notebook(), Reader()
    turn = stage(
        ScriptedProvider(["The secret is out."]),
        hooks=[Censor(), Shout()],
        journal=journal,
        emit=reader,
    )
    result = await turn.run()
    assert result.content == "THE *** IS OUT."
    assert spoken(journal.messages)[-1] == "assistant: THE *** IS OUT."
    assert "secret" not in str(result.messages)
    [completed] = reader.of("text.completed")
    assert completed.content == result.content
    assert text_of(reader.events) == "The secret is out."  # what was streamed is not taken back
    check_events(reader.events, finalized=True)


@pytest.mark.parametrize("broken", [LookupError("no"), "returns None"])
async def test_a_filter_that_fails_lets_nothing_through(broken: Exception | str) -> None:
    class Filter(AgentHook):
        def finalize_content(self, context: AgentHookContext, content: str) -> str:
            if isinstance(broken, Exception):
                raise broken
            return None  # type: ignore[return-value]  # the usual slip

    journal, reader = Notebook(), Reader()
    turn = stage(
        ScriptedProvider([LOOK, "The secret is out."]),
        hooks=[Censor(), Filter()],
        journal=journal,
        emit=reader,
    )
    with pytest.raises(LookupError if isinstance(broken, Exception) else TypeError):
        await turn.run()
    result = turn.result("error")
    assert result.content == ""
    assert result.stop_reason == "error"
    assert "is out" not in str(result.messages) + str(journal.messages)
    assert "is out" not in "".join(event.content for event in reader.events)
    assert spoken(journal.messages)[-1] == "tool: Error: it is broken"  # earlier iterations stay
    check_legal(journal.messages)
    check_events(reader.events, finalized=True)


async def test_a_filter_that_failed_once_is_not_asked_again() -> None:
    class Flaky(AgentHook):
        asked = 0

        def finalize_content(self, context: AgentHookContext, content: str) -> str:
            self.asked += 1
            if self.asked == 1:
                raise LookupError
            return content

    hook, journal = Flaky(), Notebook()
    turn = stage(ScriptedProvider(["The secret is out."]), hooks=[hook], journal=journal)
    with pytest.raises(LookupError):
        await turn.run()
    assert (turn.result("error").content, hook.asked) == ("", 1)
    assert spoken(journal.messages) == ["user: What is it?"]


async def test_a_partial_answer_passes_through_the_filter_too() -> None:
    provider = ScriptedProvider([Answer(["the secret ", "word"], fault=Cut(after_deltas=1))])
    journal = Notebook()
    result = await stage(provider, hooks=[Censor()], journal=journal).run()
    assert result.content == "the *** "
    assert spoken(journal.messages)[-1] == "assistant: the *** "


async def test_a_partial_answer_that_the_filter_fails_on_is_dropped() -> None:
    class Filter(AgentHook):
        def finalize_content(self, context: AgentHookContext, content: str) -> str:
            raise LookupError

    provider = ScriptedProvider([Answer(["the secret ", "word"], fault=Cut(after_deltas=1))])
    journal = Notebook()
    result = await stage(provider, hooks=[Filter()], journal=journal).run()
    assert (result.content, result.stop_reason) == ("", "error")
    assert "connection was lost" in str(result.error)  # the reason that came first
    assert spoken(journal.messages) == ["user: What is it?"]


async def test_an_answer_that_hooks_empty_is_no_message() -> None:
    class Mute(AgentHook):
        def finalize_content(self, context: AgentHookContext, content: str) -> str:
            return ""

    journal = Notebook()
    result = await stage(ScriptedProvider(["hello"]), hooks=[Mute()], journal=journal).run()
    assert (result.content, result.stop_reason) == ("", "completed")
    assert spoken(journal.messages) == ["user: What is it?"]


# What the model is shown


class Edit(AgentHook):
    """Changes the messages before the first answer."""

    def __init__(self, change: Callable[[list[dict[str, Any]]], None]) -> None:
        super().__init__()
        self.change = change

    async def before_iteration(self, context: AgentHookContext) -> None:
        if context.iteration == 0:
            self.change(context.messages)


BLOCK = ThinkingBlock("thinking", "hm", signature="sig")
HISTORY: list[Message] = [
    UserMessage("My PIN is 1234."),
    AssistantMessage("Noted.", thinking=(BLOCK,)),
]


def redact(messages: list[dict[str, Any]]) -> None:
    messages[1]["content"] = "My PIN is ****."


async def test_what_a_hook_changes_is_what_the_model_gets_from_then_on() -> None:
    provider, journal = ScriptedProvider([LOOK, "Done."]), Notebook()
    result = await stage(provider, hooks=[Edit(redact)], history=HISTORY, journal=journal).run()
    for request in provider.requests:
        assert "user: My PIN is ****." in spoken(request.messages)
    assert "1234" not in str(result.messages)
    assert provider.requests[0].messages[2] == HISTORY[1]  # untouched, with its signature
    assert spoken(journal.messages)[0] == "user: What is it?"
    check_legal(journal.messages)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (
            lambda messages: messages.insert(1, {"role": "user", "content": "New."}),
            ["s", "New.", "My", "Noted.", "What"],
        ),
        (lambda messages: messages.__delitem__(slice(1, 3)), ["s", "What"]),
        (
            lambda messages: messages.__setitem__(slice(None), [dict(m) for m in messages[2:]]),
            ["Noted.", "What"],
        ),
        (lambda messages: messages.reverse(), ["What", "Noted.", "My", "s"]),
    ],
)
async def test_messages_may_be_added_removed_copied_and_moved(
    change: Callable[[list[dict[str, Any]]], None], shown: list[str]
) -> None:
    provider = ScriptedProvider(["ok"])
    await stage(provider, hooks=[Edit(change)], history=HISTORY).run()
    texts = [str(message.content) for message in provider.requests[0].messages]
    assert [text.split()[0] if text != "You are a test." else "s" for text in texts] == shown
    answers = [
        message
        for message in provider.requests[0].messages
        if isinstance(message, AssistantMessage)
    ]
    assert all(answer.thinking == (BLOCK,) for answer in answers)  # even of a copied dict


async def test_a_hook_that_only_looks_leaves_the_same_objects() -> None:
    provider = ScriptedProvider(["ok"])
    await stage(provider, hooks=[Edit(lambda messages: None)], history=HISTORY).run()
    assert provider.requests[0].messages[2] is HISTORY[1]


@pytest.mark.parametrize(
    "rubbish", [{"content": "who said that?"}, "text", None, {"role": "user", "content": object()}]
)
async def test_a_hook_that_leaves_rubbish_is_told_where(rubbish: object) -> None:
    def change(messages: list[Any]) -> None:
        messages.insert(1, rubbish)

    journal = Notebook()
    with pytest.raises(UsageError, match=r"messages\[1\]"):
        await stage(ScriptedProvider(["ok"]), hooks=[Edit(change)], journal=journal).run()
    check_legal(journal.messages)


# Tools


class Guard(AgentHook):
    def __init__(self, decide: Callable[[HookToolCall], None], *, early: bool = False) -> None:
        super().__init__()
        self.decide, self.early = decide, early

    async def before_execute_tools(self, context: AgentHookContext) -> None:
        if self.early:
            for call in context.tool_calls:
                self.decide(call)

    async def before_execute_tool(self, context: AgentHookContext, call: HookToolCall) -> None:
        if not self.early:
            self.decide(call)


CHANGES = Answer(tool_calls=[("change", {"text": "a"}), ("change", {"text": "b"})])


@pytest.mark.parametrize("early", [True, False])
async def test_a_denied_call_is_not_run_and_the_model_hears_why(early: bool) -> None:
    def decide(call: HookToolCall) -> None:
        if call.arguments["text"] == "a":
            call.deny("not on a Sunday")

    provider, reader, journal = ScriptedProvider([CHANGES, "ok"]), Reader(), Notebook()
    diary = Diary()
    hooks = [diary, Guard(decide, early=early)]
    result = await stage(provider, hooks=hooks, emit=reader, journal=journal).run()
    assert result.tools_used == ["change"]
    assert (
        len([line for line in diary.lines if line.startswith("before_execute_tool ")]) == 2 - early
    )
    denied, ran = (message for message in journal.messages if isinstance(message, ToolMessage))
    assert (denied.outcome, ran.content) == ("denied", "changed b")
    assert "not on a Sunday" in str(denied.content)
    assert reader.of("tool.failed")[0].metadata["outcome"] == "denied"
    check_events(reader.events)
    check_legal(journal.messages)


@pytest.mark.parametrize("early", [True, False])
async def test_arguments_may_be_rewritten_before_the_tool_is_run(early: bool) -> None:
    def decide(call: HookToolCall) -> None:
        call.arguments["text"] += "!"

    provider, reader, journal = ScriptedProvider([CHANGES, "ok"]), Reader(), Notebook()
    await stage(provider, hooks=[Guard(decide, early=early)], emit=reader, journal=journal).run()
    assert spoken(journal.messages)[2:4] == ["tool: changed a!", "tool: changed b!"]
    assert [event.arguments for event in reader.of("tool.started")] == [
        {"text": "a!"},
        {"text": "b!"},
    ]
    assert (
        answers_in(journal.messages)[0].tool_calls[0].arguments == '{"text":"a"}'
    )  # what the model said


async def test_rewritten_arguments_are_checked_like_the_models() -> None:
    def decide(call: HookToolCall) -> None:
        call.arguments = {"wrong": 1}

    journal = Notebook()
    await stage(ScriptedProvider([CHANGES, "ok"]), hooks=[Guard(decide)], journal=journal).run()
    assert "`wrong` is no parameter" in spoken(journal.messages)[2]


@pytest.mark.parametrize("kind", ["raises", "writes rubbish"])
async def test_a_guard_that_breaks_keeps_the_tool_from_being_run(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def decide(call: HookToolCall) -> None:
        if kind == "raises":
            raise LookupError("secret reason")
        call.arguments = {"text": object()}

    journal = Notebook()
    with caplog.at_level(logging.ERROR, logger="nanobot.hooks"):
        result = await stage(
            ScriptedProvider([CHANGES, "ok"]), hooks=[Guard(decide)], journal=journal
        ).run()
    assert (result.content, result.tools_used) == ("ok", [])
    assert [m.outcome for m in journal.messages if isinstance(m, ToolMessage)] == [
        "denied",
        "denied",
    ]
    assert "secret reason" not in str(journal.messages)
    assert caplog.records


async def test_after_a_tool_that_raised_hooks_have_the_traceback_and_the_model_one_line() -> None:
    raised: list[BaseException | None] = []

    class Trace(AgentHook):
        async def after_execute_tool(
            self, context: AgentHookContext, call: HookToolCall, result: str, outcome: str
        ) -> None:
            raised.append(call.exception)
            assert "secret" not in repr(call)

    @tool
    async def explode() -> str:
        raise LookupError("first line\nsecret second line")

    answer = Answer(tool_calls=[("explode", {}), ("echo", {"text": "a"})])
    journal = Notebook()
    tools = Toolset([explode, *TOOLS])
    provider = ScriptedProvider([answer, "ok"])
    await stage(provider, hooks=[Trace()], journal=journal, tools=tools).run()
    error, nothing = raised
    assert isinstance(error, LookupError)
    assert error.__traceback__ is not None
    assert nothing is None
    assert spoken(journal.messages)[2] == "tool: Error: LookupError: first line"


async def test_the_first_denial_is_final() -> None:
    asked: list[str] = []

    def allow(call: HookToolCall) -> None:
        asked.append(call.name)
        call.denied = None

    hooks = [Guard(lambda call: call.deny("")), Guard(allow)]
    result = await stage(ScriptedProvider([CHANGES, "ok"]), hooks=hooks).run()
    assert (result.tools_used, asked) == ([], [])


# Streaming, crossings, endings


async def test_only_hooks_that_want_the_stream_get_it() -> None:
    class Quiet(Diary):
        def wants_streaming(self) -> bool:
            return False

    quiet, loud = Quiet(), Diary()
    await stage(ScriptedProvider([Answer(["a", "b"])]), hooks=[quiet, loud]).run()
    assert [line for line in loud.lines if "stream" in line] == [
        "on_stream 'a'",
        "on_stream 'b'",
        "on_stream_end False",
    ]
    assert not [line for line in quiet.lines if "stream" in line]


class Crossings:
    """Counts the ways to the caller's loop."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, function: Callable[..., Awaitable[T]], /, *args: Any) -> T:
        self.count += 1
        return await function(*args)


async def test_a_point_is_one_crossing_for_all_hooks_and_none_where_no_hook_is() -> None:
    class Ears(AgentHook):
        def wants_streaming(self) -> bool:
            return True

        async def on_stream(self, context: AgentHookContext, delta: str) -> None:
            pass

    crossings = Crossings()
    await stage(ScriptedProvider(["one two three"]), hooks=[Ears(), Ears()], cross=crossings).run()
    assert crossings.count == 3  # who wants it, one batch of three words, and the end of the stream
    crossings = Crossings()
    await stage(ScriptedProvider(["one two three"]), hooks=[AgentHook()], cross=crossings).run()
    assert crossings.count == 0
    crossings = Crossings()
    await stage(
        ScriptedProvider(["one two three"]), hooks=[Censor(), Shout()], cross=crossings
    ).run()
    assert crossings.count == 1


async def test_hooks_of_one_run_never_run_at_the_same_time() -> None:
    class Alone(Diary):
        inside = 0

        async def write(self, line: str) -> None:
            assert not self.inside
            self.inside += 1
            await trio.lowlevel.checkpoint()
            self.inside -= 1

    calls = [("echo", {"text": str(n)}) for n in range(10)]
    hook = Alone()
    hook.reraise = True
    result = await stage(ScriptedProvider([Answer(tool_calls=calls), "ok"]), hooks=[hook]).run()
    assert len(result.tools_used) == 10


async def test_hooks_hear_of_a_run_that_failed() -> None:
    diary = Diary()
    await stage(ScriptedProvider([RateLimited("slow down", provider="x")]), hooks=[diary]).run()
    assert diary.lines == [
        "before_run",
        "before_iteration 0",
        "on_error error: slow down",
        "on_finally",
    ]


async def test_hooks_hear_of_a_cancel_and_get_a_while_to_react(autojump_clock: MockClock) -> None:
    class Slow(Diary):
        async def on_error(self, context: AgentHookContext) -> None:
            await trio.sleep(2)
            await super().on_error(context)

        async def on_finally(self, context: AgentHookContext) -> None:
            await trio.sleep_forever()

    hook, limits = Slow(), Limits(settle_s=3.0)
    turn = stage(ScriptedProvider([Answer("x", before_head_s=60)]), hooks=[hook], limits=limits)
    with trio.move_on_after(1) as scope:
        await turn.run()
    assert scope.cancelled_caught
    assert hook.lines[-1] == "on_error cancelled: The run was cancelled."
    assert trio.current_time() == pytest.approx(1 + 2 + 3)


async def test_a_hook_that_is_running_is_cancelled_with_the_run(autojump_clock: MockClock) -> None:
    class Waits(AgentHook):
        ended = ""

        async def before_iteration(self, context: AgentHookContext) -> None:
            try:
                await trio.sleep_forever()
            finally:
                self.ended = "cancelled"

    hook = Waits()
    with trio.move_on_after(1):
        await stage(ScriptedProvider(["ok"]), hooks=[hook]).run()
    assert hook.ended == "cancelled"


async def test_on_finally_comes_once_also_when_it_fails_the_run() -> None:
    faulty, diary = Faulty("on_finally", reraise=True), Diary()
    with pytest.raises(LookupError):
        await stage(ScriptedProvider(["ok"]), hooks=[diary, faulty]).run()
    assert diary.lines.count("on_finally") == 1
    assert faulty.raised == 1
