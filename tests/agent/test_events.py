"""What readers are told, in which order, and what it costs when nobody reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import get_args

import trio
from trio.testing import MockClock

import nanobot.agent as agent
from nanobot.agent import STREAM_EVENT_TYPES, RunResult, StreamEvent, StreamEventType
from nanobot.messages import Delta, Finished, ReasoningDelta, TextDelta, ToolCallDelta
from nanobot.testing import Answer, ScriptedProvider
from tests.agent.stage import DeltaProvider, Reader, check_events, stage, text_of


def told(reader: Reader) -> list[str]:
    """Each event with what it brings, on one line."""
    return [
        " ".join(
            part
            for part in (
                f"{event.iteration} {event.type}",
                event.name or "",
                event.delta or event.content,
                "" if event.resuming is None else f"resuming={event.resuming}",
            )
            if part
        )
        for event in reader.events
    ]


async def test_a_turn_with_a_tool_is_told_in_the_order_of_the_contract() -> None:
    provider = ScriptedProvider(
        [
            Answer(
                ["Let me ", "see."],
                reasoning=["Hm, ", "files."],
                tool_calls=[("change", {"text": "x"})],
            ),
            Answer(["All ", "done."]),
        ]
    )
    reader = Reader()
    result = await stage(provider, emit=reader).run()
    assert told(reader) == [
        "0 run.started",
        "0 reasoning.delta Hm, ",
        "0 reasoning.delta files.",
        "0 reasoning.completed Hm, files.",
        "0 text.delta Let me ",
        "0 text.delta see.",
        "0 text.completed Let me see. resuming=True",
        "0 tool.started change",
        "0 tool.completed change",
        "1 text.delta All ",
        "1 text.delta done.",
        "1 text.completed All done. resuming=False",
        "1 run.completed All done.",
    ]
    check_events(reader.events)
    assert reader.events[-1].result is result
    assert reader.events[-1].usage == result.usage


async def test_an_answer_of_tools_alone_completes_an_empty_text_first() -> None:
    reader = Reader()
    await stage(ScriptedProvider([Answer(tool_calls=[("change", {})]), "ok"]), emit=reader).run()
    assert reader.types[1:4] == ["text.completed", "tool.started", "tool.completed"]
    assert reader.events[1].content == ""


async def test_tool_events_bring_arguments_result_and_outcome() -> None:
    provider = ScriptedProvider(
        [Answer(tool_calls=[("change", {"text": "x"}), ("broken", {})]), "ok"]
    )
    reader = Reader()
    await stage(provider, emit=reader).run()
    [started, _] = reader.of("tool.started")
    [completed] = reader.of("tool.completed")
    [failed] = reader.of("tool.failed")
    assert (started.name, started.arguments) == ("change", {"text": "x"})
    assert completed.tool_call_id == started.tool_call_id
    assert completed.metadata["result"] == "changed x"
    assert (completed.metadata["outcome"], completed.metadata["status"], completed.error) == (
        "ok",
        "ok",
        None,
    )
    assert failed.error == "it is broken"
    assert (failed.metadata["result"], failed.metadata["outcome"]) == (
        "Error: it is broken",
        "error",
    )


async def test_a_tool_is_told_to_have_ended_when_it_ends_and_not_with_the_slowest(
    autojump_clock: MockClock,
) -> None:
    times: dict[str, float] = {}

    class Clocked(Reader):
        async def __call__(self, event: StreamEvent) -> None:
            if event.type == "tool.completed":
                times[str(event.metadata["result"])] = trio.current_time()
            await super().__call__(event)

    calls: list[tuple[str, dict[str, object]]] = [
        ("slow", {"seconds": 5}),
        ("echo", {"text": "quick"}),
    ]
    reader = Clocked()
    await stage(ScriptedProvider([Answer(tool_calls=calls), "ok"]), emit=reader).run()
    assert times == {"quick": 0.0, "at last": 5.0}
    check_events(reader.events)


async def test_reasoning_in_the_middle_of_a_text_is_a_stretch_of_its_own() -> None:
    batch: Sequence[Delta] = [
        ReasoningDelta("a"),
        TextDelta("one "),
        ReasoningDelta("b"),
        ReasoningDelta("c"),
        TextDelta("two"),
        Finished("stop"),
    ]
    reader = Reader()
    await stage(DeltaProvider([[batch]]), emit=reader).run()
    assert told(reader)[1:-1] == [
        "0 reasoning.delta a",
        "0 reasoning.completed a",
        "0 text.delta one ",
        "0 reasoning.delta b",
        "0 reasoning.delta c",
        "0 reasoning.completed bc",
        "0 text.delta two",
        "0 text.completed one two resuming=False",
    ]


async def test_reasoning_that_leads_to_a_tool_is_complete_when_the_call_begins() -> None:
    provider = DeltaProvider(
        [
            [
                [ReasoningDelta("hm")],
                [ToolCallDelta(0, "a", "change", "{")],
                [ToolCallDelta(0, arguments="}"), Finished("tool_calls")],
            ],
            [[TextDelta("ok"), Finished("stop")]],
        ]
    )
    requests_answered: list[str] = []

    class Timed(Reader):
        async def __call__(self, event: StreamEvent) -> None:
            requests_answered.append(f"{event.type} while {provider.streams_open} stream is open")
            await super().__call__(event)

    await stage(provider, emit=Timed()).run()
    assert requests_answered[:3] == [
        "reasoning.delta while 1 stream is open",
        "reasoning.completed while 1 stream is open",
        "text.completed while 0 stream is open",
    ]


async def test_the_start_says_for_whom_and_with_what() -> None:
    reader = Reader()
    await stage(
        ScriptedProvider(["ok"]), emit=reader, session_key="user:alice", channel="api"
    ).run()
    assert reader.events[0].metadata == {
        "session_key": "user:alice",
        "channel": "api",
        "chat_id": "direct",
        "sender_id": "user",
        "model": "test-model",
        "model_preset": None,
    }


async def test_where_nobody_reads_no_event_comes_to_be() -> None:
    class Deaf(Reader):
        wanted = False

    reader = Deaf()
    calls = Answer("hm", reasoning="hm", tool_calls=[("change", {}), ("broken", {})])
    result = await stage(ScriptedProvider([calls, "ok"]), emit=reader).run()
    assert result.content == "ok"
    assert reader.events == []


async def test_a_long_answer_is_told_in_full() -> None:
    words = [f"{n} " for n in range(5_000)]
    reader = Reader()
    result = await stage(ScriptedProvider([Answer(words)]), emit=reader).run()
    assert text_of(reader.events) == result.content == "".join(words)


def test_importing_the_loop_brings_no_http_and_no_vendors_code() -> None:
    program = "import nanobot.agent, sys; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    modules = printed.split()
    assert "nanobot.agent._turn" in modules
    assert "httpx" not in modules
    assert not [
        name
        for name in modules
        if name.startswith("nanobot.providers.") and not name.startswith("nanobot.providers._")
    ]


def test_the_constants_are_all_there_is() -> None:
    constants = {
        name
        for name in agent.__all__
        if name.startswith("STREAM_EVENT_") and name != "STREAM_EVENT_TYPES"
    }
    assert {getattr(agent, name) for name in constants} == set(STREAM_EVENT_TYPES)
    assert len(constants) == len(STREAM_EVENT_TYPES) == 10
    assert get_args(StreamEventType) == STREAM_EVENT_TYPES


def test_events_and_results_are_small_and_take_no_other_fields() -> None:
    event, result = StreamEvent("text.delta", "x"), RunResult("x")
    assert not hasattr(event, "__dict__")
    assert not hasattr(result, "__dict__")
    assert event.metadata is not StreamEvent("text.delta").metadata
