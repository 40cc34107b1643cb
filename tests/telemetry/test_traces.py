"""Spans and metrics of runs: which there are, inside of which, from every host; and what they must not do."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from nanobot import Nanobot, tool
from nanobot.agent import AgentHook, AgentHookContext, HookToolCall
from nanobot.errors import RateLimited, ServiceUnavailable, ToolError
from nanobot.sessions import InMemoryStore
from nanobot.telemetry import OpenTelemetry
from nanobot.testing import Answer, ScriptedProvider, Stall

from ..sdk.conftest import Host
from .seen import Seen

RUN = "invoke_agent nanobot"


def bot_of(seen: Seen | None, folder: Path, answers: Any, **options: Any) -> Nanobot:
    return Nanobot.from_config(
        provider=ScriptedProvider(answers),
        store=InMemoryStore(),
        workspace=folder / "workspace",
        telemetry=None if seen is None else seen.telemetry,
        **options,
    )


def calls(*names: str) -> Answer:
    return Answer(tool_calls=[(name, {}) for name in names])


def test_a_run_its_iterations_requests_and_tools_are_nested(host: Host, tmp_path: Path) -> None:
    seen = Seen()

    @tool
    async def look() -> str:
        """Look."""
        with seen.tracer.start_as_current_span("own work"):
            await host.sleep(0)
        return "seen"

    @tool
    def look_in_a_thread() -> str:
        """Look."""
        seen.tracer.start_span("own thread").end()
        return "seen"

    async def story() -> None:
        bot = bot_of(seen, tmp_path, [calls("look", "look_in_a_thread"), "Done."])
        async with bot:
            with seen.tracer.start_as_current_span("request of a user"):
                await bot.run("Hi", tools=[look, look_in_a_thread], session_key="s")
            assert trace.get_current_span() is trace.INVALID_SPAN

    host.run(story)
    above = f"request of a user > {RUN}"
    (chat,) = {span.name for span in seen.spans if span.name.startswith("chat ")}
    assert [path for path in seen.tree if not path.endswith(" wait")] == [
        "request of a user",
        above,
        f"{above} > iteration",
        f"{above} > iteration > {chat}",
        f"{above} > iteration > execute_tool look",
        f"{above} > iteration > execute_tool look > own work",
        f"{above} > iteration > execute_tool look_in_a_thread",
        f"{above} > iteration > execute_tool look_in_a_thread > own thread",
        f"{above} > iteration",
        f"{above} > iteration > {chat}",
    ]
    run = seen.attributes(RUN)
    assert run["gen_ai.operation.name"] == "invoke_agent"
    assert run["gen_ai.conversation.id"] == "s"
    assert run["nanobot.stop_reason"] == "completed"
    assert run["gen_ai.usage.input_tokens"] == 20
    assert run["nanobot.iterations"] == 2
    first, _ = seen.named(chat)
    assert first.kind is trace.SpanKind.CLIENT
    assert first.attributes is not None
    assert first.attributes["gen_ai.operation.name"] == "chat"
    assert first.attributes["gen_ai.provider.name"] == "scripted"
    assert first.attributes["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert first.attributes["gen_ai.usage.output_tokens"] == 5
    assert isinstance(first.attributes["gen_ai.response.time_to_first_chunk"], float)
    look_span = seen.attributes("execute_tool look")
    assert look_span["gen_ai.tool.name"] == "look"
    assert look_span["gen_ai.tool.call.id"]


def test_programs_without_a_loop_are_traced_too(tmp_path: Path) -> None:
    seen = Seen()
    with bot_of(seen, tmp_path, ["Hello", "Hello"]) as bot:
        with seen.tracer.start_as_current_span("main"):
            bot.run_sync("Hi")
        bot.run_sync("Hi")
    assert [path for path in seen.tree if path.endswith(RUN)] == [f"main > {RUN}", RUN]


def test_tools_that_run_at_once_have_their_own_work_inside_themselves(
    host: Host, tmp_path: Path
) -> None:
    seen = Seen()
    names = [f"tool_{number}" for number in range(4)]
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="")

    def make(name: str) -> Any:
        @tool(name=name, read_only=True)
        async def work() -> str:
            """Work."""
            for step in range(5):
                with seen.tracer.start_as_current_span(f"{name} outer {step}"):
                    await host.sleep(0.001)
                    with seen.tracer.start_as_current_span(f"{name} inner {step}"):
                        await host.sleep(0.001)
            mark.set(mark.get() + "x")
            return name

        return work

    marks: list[str] = []

    class Look(AgentHook):
        async def after_iteration(self, context: AgentHookContext) -> None:
            marks.append(mark.get())

    async def story() -> None:
        async with bot_of(seen, tmp_path, [calls(*names), "Done."]) as bot:
            await bot.run("Hi", tools=[make(name) for name in names], hooks=[Look()])

    host.run(story)
    for name in names:
        for step in range(5):
            (inner,) = seen.named(f"{name} inner {step}")
            assert seen.path(inner)[2:] == [
                f"execute_tool {name}",
                f"{name} outer {step}",
                f"{name} inner {step}",
            ]
    if (
        host.name == "asyncio"
    ):  # there, tools and hooks share the caller's context, as they do without tracing
        assert marks[0] == "xxxx"


def test_hooks_are_seen_one_by_one(host: Host, tmp_path: Path) -> None:
    seen = Seen()

    class Quick(AgentHook):
        def before_iteration(self, context: AgentHookContext) -> None:
            """Do nothing, quickly."""

    class Slow(AgentHook):
        def wants_streaming(self) -> bool:
            return True

        async def before_iteration(self, context: AgentHookContext) -> None:
            with seen.tracer.start_as_current_span("asks a database"):
                await host.sleep(0.02)

        async def on_stream(self, context: AgentHookContext, delta: str) -> None:
            await host.sleep(0.02)

        async def before_execute_tool(self, context: AgentHookContext, call: HookToolCall) -> None:
            call.deny("no")

        async def after_run(self, context: AgentHookContext) -> None:
            raise RuntimeError("canary-in-a-hook")

    async def story() -> None:
        bot = bot_of(seen, tmp_path, [calls("list_dir"), "Done."], hooks=[Quick(), Slow()])
        async with bot:
            await bot.run("Hi")

    host.run(story)
    first, second, *_ = seen.named("hook before_iteration")
    classes = [str((span.attributes or {})["nanobot.hook"]) for span in (first, second)]
    assert [name.rpartition(".")[2] for name in classes] == ["Quick", "Slow"]
    assert seen.path(seen.named("asks a database")[0]) == [
        RUN,
        "iteration",
        "hook before_iteration",
        "asks a database",
    ]
    assert seen.path(seen.named("hook before_execute_tool")[0])[:2] == [RUN, "iteration"]
    assert seen.attributes("hook after_run")["error.type"] == "RuntimeError"
    refused = [event for span in seen.named("iteration") for event in span.events]
    assert [event.name for event in refused] == ["tool call failed"]
    assert refused[0].attributes is not None
    assert refused[0].attributes["nanobot.outcome"] == "denied"
    assert seen.named("execute_tool list_dir") == []
    streamed = [(span.attributes or {}) for span in seen.named("iteration")]
    assert any("nanobot.hooks_on_stream_s" in attributes for attributes in streamed)
    assert "canary-in-a-hook" not in seen.texts()


def test_subagents_are_inside_the_call_that_started_them(host: Host, tmp_path: Path) -> None:
    seen = Seen()

    def answers(request: Any) -> Any:
        texts = [str(message.content) for message in request.messages]
        if any("You are a subagent" in text for text in texts):
            return "I did it."
        if any("has finished" in text for text in texts):
            return "All done."
        if any("You are shown its result" in text for text in texts):
            return "I wait."
        return Answer(tool_calls=[("spawn", {"task": "Do it."})])

    class Looks(AgentHook):
        def before_iteration(self, context: AgentHookContext) -> None:
            """Look."""

    async def story() -> None:
        async with bot_of(seen, tmp_path, answers, hooks=[Looks()]) as bot:
            assert (await bot.run("Hi")).content == "All done."

    host.run(story)
    outer, inner = seen.named(RUN)
    looked = {
        str((one.attributes or {})["nanobot.hook"]) for one in seen.named("hook before_iteration")
    }
    assert {name.rpartition(".")[2] for name in looked} == {"Looks"}  # the user's, inside as well
    assert seen.path(outer) == [RUN]
    assert seen.path(inner) == [RUN, "iteration", "execute_tool spawn", RUN]


def test_waiting_for_the_session_and_for_the_lock_is_seen(host: Host, tmp_path: Path) -> None:
    seen = Seen()

    async def story() -> None:
        bot = bot_of(seen, tmp_path, lambda _: Answer("Hm", before_first_delta_s=0.05))
        async with bot:

            async def normal() -> None:
                await bot.run("1", session_key="a")

            async def same_session() -> None:
                await bot.run("2", session_key="a")

            async def override() -> None:
                await host.sleep(0.01)
                await bot.run("3", session_key="b", model="openai/gpt-4.1", ephemeral=True)

            await host.gather(normal, same_session, override)

    monkey = pytest.MonkeyPatch()
    monkey.setenv("OPENAI_API_KEY", "k")
    try:
        host.run(story)
    finally:
        monkey.undo()
    assert [seen.path(span) for span in seen.named("lock wait")][:1] == [[RUN, "lock wait"]]
    assert [seen.path(span) for span in seen.named("mailbox wait")][:1] == [[RUN, "mailbox wait"]]
    waits = {name: seen.points(f"nanobot.{name}.wait") for name in ("lock", "mailbox")}
    assert sum(point.count for point in waits["mailbox"]) == 3
    assert sum(point.count for point in waits["lock"]) >= 1
    assert [point.value for point in seen.points("nanobot.queue.length")] == [0]


def test_a_run_that_is_cancelled_leaves_no_span_open(host: Host, tmp_path: Path) -> None:
    seen = Seen()
    started: list[str] = []

    class Count(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            started.append(span.name)

    seen.tracers.add_span_processor(Count())

    async def story() -> None:
        async with bot_of(seen, tmp_path, lambda _: Answer("Hm", fault=Stall(1))) as bot:
            run = await bot.run_streamed("1")
            queued = await bot.run_streamed("2")
            events = run.stream_events()
            while not (await anext(events)).delta:
                pass
            await queued.cancel()
            await run.cancel()

    host.run(story)
    assert sorted(started) == sorted(span.name for span in seen.spans)
    for span in seen.named(RUN):
        assert (span.attributes or {})["error.type"] in ("CallCancelled", "cancelled")
    assert [point.value for point in seen.points("nanobot.queue.length")] == [0]


def test_failures_are_told_by_their_kind(tmp_path: Path) -> None:
    seen = Seen()

    @tool
    def broken() -> str:
        """Break."""
        raise ToolError("canary-in-an-error")

    failed = ServiceUnavailable("canary-in-a-failure", provider="scripted")
    with bot_of(seen, tmp_path, [calls("broken"), failed], tools=[broken]) as bot:
        result = bot.run_sync("Hi")
    assert result.stop_reason == "error"
    assert seen.attributes("execute_tool broken")["error.type"] == "ToolError"
    assert seen.attributes(RUN)["error.type"] == "ServiceUnavailable"
    assert (seen.spans[-1].attributes or {})["error.type"] == "ServiceUnavailable"
    assert seen.spans[-1].status.status_code is trace.StatusCode.ERROR
    (turn,) = seen.points("nanobot.turn.duration")
    assert turn.attributes["nanobot.stop_reason"] == "error"


CANARIES = [f"canary-{place}" for place in ("prompt", "answer", "argument", "result", "error")]


@pytest.mark.parametrize("capture", [False, True])
def test_what_was_said_stays_inside_unless_it_is_asked_for(tmp_path: Path, capture: bool) -> None:
    seen = Seen(capture_content=capture)

    @tool
    def find(what: str) -> str:
        """Find something."""
        return "canary-result"

    @tool
    def broken() -> str:
        """Break."""
        raise ToolError("canary-error")

    answers = [
        Answer(tool_calls=[("find", {"what": "canary-argument"}), ("broken", {})]),
        "canary-answer",
    ]
    with bot_of(seen, tmp_path, answers, tools=[find, broken]) as bot:
        bot.run_sync("canary-prompt", deps={"key": "canary-deps"})
    told = seen.texts()
    assert [canary for canary in CANARIES if canary in told] == (CANARIES if capture else [])
    assert "canary-deps" not in told
    if capture:
        last = [span for span in seen.spans if span.name.startswith("chat")][-1]
        assert last.attributes is not None
        shown = msgspec.json.decode(str(last.attributes["gen_ai.input.messages"]))
        assert shown[0]["role"] == "system"
        assert "canary-answer" in str(last.attributes["gen_ai.output.messages"])


def test_long_content_is_cut(tmp_path: Path) -> None:
    seen = Seen(capture_content=True, content_limit=100)
    with bot_of(seen, tmp_path, ["x" * 1000]) as bot:
        bot.run_sync("y" * 1000)
    texts = [str(value) for span in seen.spans for value in (span.attributes or {}).values()]
    assert max(map(len, texts)) == 100


def test_attempts_are_told_in_the_request_they_belong_to(tmp_path: Path) -> None:
    from nanobot.messages import UserMessage
    from nanobot.providers import ModelRequest, Primed, Retrying, RetryPolicy
    from nanobot.providers._traced import TracedProvider

    seen = Seen()
    refused = RateLimited("slow down", provider="scripted", retry_after_s=0.01)
    inner = Retrying(Primed(ScriptedProvider([refused, "Hello"])), RetryPolicy(first_delay_s=0.01))

    async def story() -> None:
        stream = await TracedProvider(inner, seen.telemetry).open(
            ModelRequest("m", [UserMessage("Hi")])
        )
        async for _ in stream:
            pass
        await stream.aclose()

    trio.run(story)
    (span,) = seen.named("chat m")
    assert [event.name for event in span.events] == ["attempt failed"]
    assert (span.attributes or {})["nanobot.attempts"] == 2
    assert "error.type" not in (span.attributes or {})


def test_compactions_are_spans_with_their_requests_inside(tmp_path: Path) -> None:
    seen = Seen()

    async def story() -> None:
        bot = bot_of(seen, tmp_path, lambda _: "A summary.")
        async with bot:
            messages = [
                {"role": role, "content": f"{number} words"}
                for number in range(20)
                for role in ("user", "assistant")
            ]
            await bot.sessions.ingest("s", messages)
            await bot.runtime.compact_idle_session("s", 4)

    trio.run(story)
    (compaction,) = seen.named("compaction")
    assert (compaction.attributes or {})["nanobot.summarized"] == 36
    requests = [path for path in seen.tree if "chat " in path]
    assert requests
    assert all(path.startswith("compaction > chat ") for path in requests)


def test_metrics_add_up(tmp_path: Path) -> None:
    seen = Seen()
    with bot_of(seen, tmp_path, [calls("list_dir"), "One.", "Two."]) as bot:
        bot.run_sync("Hi")
        bot.run_sync("Hi")
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in seen.points("gen_ai.client.token.usage")
    }
    assert tokens == {"input": 30, "output": 15}
    assert [point.count for point in seen.points("nanobot.turn.duration")] == [2]
    assert [point.count for point in seen.points("gen_ai.client.operation.duration")] == [3]
    first = seen.points("gen_ai.client.operation.time_to_first_chunk")
    assert [point.count for point in first] == [3]
    (calls_of_tools,) = seen.points("nanobot.tool.duration")
    assert (calls_of_tools.count, calls_of_tools.attributes) == (
        1,
        {"gen_ai.tool.name": "list_dir"},
    )


class _Dead(SpanExporter):
    """An exporter whose service answers nothing, until the test ends."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.over = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.over.wait()
        return SpanExportResult.FAILURE


def test_a_dead_exporter_keeps_no_run_waiting(tmp_path: Path) -> None:
    dead = _Dead()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(dead, 64, 1, 16))
    telemetry = OpenTelemetry(tracer_provider=tracers)
    try:
        with Nanobot.from_config(
            provider=ScriptedProvider(lambda _: "Hello"),
            store=InMemoryStore(),
            workspace=tmp_path / "w",
            telemetry=telemetry,
        ) as bot:
            for _ in range(100):  # far more spans than its queue holds
                assert bot.run_sync("Hi", ephemeral=True).content == "Hello"
        assert dead.asked.is_set()  # and it has not come back since
    finally:
        dead.over.set()
        tracers.shutdown()


def test_a_processor_that_raises_fails_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("on_start")

        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("on_end")

    seen = Seen()
    seen.tracers.add_span_processor(Broken())
    with bot_of(seen, tmp_path, [calls("list_dir"), "Done."]) as bot:
        assert bot.run_sync("Hi").content == "Done."
    assert "OpenTelemetry failed; runs go on" in caplog.text


def test_without_telemetry_nothing_of_it_is_imported(tmp_path: Path) -> None:
    program = f"""
import sys
from nanobot import Nanobot
from nanobot.sessions import InMemoryStore
from nanobot.testing import ScriptedProvider
with Nanobot.from_config(provider=ScriptedProvider(["Hi"]), store=InMemoryStore(), workspace={str(tmp_path)!r}) as bot:
    assert bot.run_sync("Hi").content == "Hi"
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ValueError, match=r"nanobot-ai\[otel\]"):
        OpenTelemetry()
