"""One turn with a scripted model: answers, tools, limits, failures, and what each leaves behind."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from nanobot.agent import Limits, RunResult
from nanobot.errors import RateLimited, StoreError
from nanobot.messages import (
    AssistantMessage,
    Finished,
    Message,
    ReasoningDelta,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolCallDelta,
    ToolMessage,
    Usage,
    UsageDelta,
    UserMessage,
)
from nanobot.testing import Answer, Cut, Raise, ScriptedProvider
from tests.agent.stage import (
    USER,
    DeltaProvider,
    Notebook,
    Reader,
    answers_in,
    check_events,
    check_legal,
    check_story,
    spoken,
    stage,
    text_of,
)


async def test_a_plain_answer_is_returned_and_recorded(caplog: pytest.LogCaptureFixture) -> None:
    provider, journal = ScriptedProvider(["It is fine."]), Notebook()
    result = await stage(provider, journal=journal).run()
    assert (result.content, result.stop_reason, result.error) == ("It is fine.", "completed", None)
    assert result.tools_used == []
    assert result.usage == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    assert spoken(journal.messages) == ["user: What is it?", "assistant: It is fine."]
    check_story(result, journal)
    assert provider.streams_open == 0
    assert not caplog.records


async def test_the_users_message_is_recorded_before_the_model_is_asked() -> None:
    journal = Notebook()

    def answer(_request: object) -> str:
        assert spoken(journal.messages) == ["user: What is it?"]
        return "ok"

    assert (await stage(ScriptedProvider(answer), journal=journal).run()).content == "ok"


async def test_the_model_is_shown_everything_and_told_what_it_may_call() -> None:
    provider = ScriptedProvider(["ok"])
    history: list[Message] = [UserMessage("Earlier."), AssistantMessage("Indeed.")]
    await stage(provider, history=history).run()
    [request] = provider.requests
    assert request.model == "test-model"
    assert request.tool_choice == "auto"
    assert [tool.name for tool in request.tools] == ["broken", "change", "echo", "slow"]
    assert spoken(request.messages) == [
        "system: You are a test.",
        "user: Earlier.",
        "assistant: Indeed.",
        "user: What is it?",
    ]


async def test_tools_run_until_there_is_an_answer() -> None:
    provider = ScriptedProvider(
        [
            Answer("Let me see.", tool_calls=[("echo", {"text": "a"}), ("broken", {})]),
            Answer(tool_calls=[("change", {"text": "b"}), ("echo", {"text": "c"})]),
            "Done.",
        ]
    )
    journal = Notebook()
    result = await stage(provider, journal=journal).run()
    assert result.content == "Done."
    assert result.tools_used == ["echo", "change", "echo"]
    assert spoken(journal.messages) == [
        "user: What is it?",
        "assistant: Let me see.",
        "tool: a",
        "tool: Error: it is broken",
        "assistant: ",
        "tool: changed b",
        "tool: c",
        "assistant: Done.",
    ]
    check_legal(journal.messages)
    check_story(result, journal)
    assert journal.calls == 4  # the user's message, two iterations, the answer
    assert result.usage["total_tokens"] == 45
    assert result.metadata["iterations"] == result.metadata["request_count"] == 3


async def test_a_journal_of_an_ephemeral_run_gets_nothing_and_the_result_has_it_all() -> None:
    result = await stage(ScriptedProvider(["ok"])).run()
    assert [message["role"] for message in result.messages] == ["system", "user", "assistant"]
    assert "persisted" not in result.metadata


async def test_reasoning_and_what_has_to_be_sent_back_are_kept_with_the_answer() -> None:
    block = ThinkingBlock("thinking", "hm", signature="sig")
    provider = DeltaProvider(
        [
            [
                [ReasoningDelta("hm"), ThinkingDelta(block)],
                [ToolCallDelta(0, "c1", "change", "{}"), Finished("tool_calls")],
            ],
            [[TextDelta("ok"), Finished("stop")]],
        ]
    )
    journal = Notebook()
    await stage(provider, journal=journal).run()
    first, _ = answers_in(journal.messages)
    assert (first.reasoning, first.thinking) == ("hm", (block,))
    assert first in provider.requests[1].messages


async def test_a_tool_call_without_an_id_and_two_with_the_same_are_told_apart() -> None:
    calls = [
        ToolCallDelta(index, same_id, "echo", '{"text":"x"}')
        for index, same_id in enumerate(("", "", "a", "a"))
    ]
    provider = DeltaProvider(
        [[[*calls, Finished("tool_calls")]], [[TextDelta("ok"), Finished("stop")]]]
    )
    journal, reader = Notebook(), Reader()
    result = await stage(provider, journal=journal, emit=reader).run()
    assert result.tools_used == ["echo"] * 4
    check_legal(journal.messages)
    check_events(reader.events)


async def test_unknown_tools_and_arguments_that_are_no_json_are_told_to_the_model() -> None:
    provider = ScriptedProvider(
        [
            Answer(tool_calls=[("eco", {}), ("echo", '{"text": '), ("echo", {"texts": "x"})]),
            "I see.",
        ]
    )
    journal, reader = Notebook(), Reader()
    result = await stage(provider, journal=journal, emit=reader).run()
    assert (result.content, result.tools_used) == ("I see.", [])
    results = [message for message in journal.messages if isinstance(message, ToolMessage)]
    assert [message.outcome for message in results] == ["error"] * 3
    assert "Did you mean" in str(results[0].content)
    assert "not valid JSON" in str(results[1].content)
    assert "`texts` is no parameter" in str(results[2].content)
    assert [event.arguments for event in reader.of("tool.failed")] == [{}, {}, {"texts": "x"}]
    check_events(reader.events)


# Limits


async def test_after_the_last_allowed_iteration_the_model_answers_without_tools() -> None:
    look = Answer("Looking.", tool_calls=[("echo", {"text": "x"})])
    provider, journal, reader = (
        ScriptedProvider([look, look, "As far as I got."]),
        Notebook(),
        Reader(),
    )
    turn = stage(provider, journal=journal, emit=reader, limits=Limits(max_iterations=2))
    result = await turn.run()
    assert (result.content, result.stop_reason, result.error) == (
        "As far as I got.",
        "max_iterations",
        None,
    )
    assert [request.tool_choice for request in provider.requests] == ["auto", "auto", "none"]
    assert (
        provider.requests[2].tools == provider.requests[1].tools
    )  # the prefix that services cache
    assert "tool calls" in str(provider.requests[2].messages[-1].content)
    assert result.usage["total_tokens"] == 45
    assert spoken(journal.messages)[-1] == "assistant: As far as I got."
    check_story(result, journal)  # what we said to the model in between is nowhere
    check_events(reader.events)
    assert reader.types[-1] == "run.completed"


async def test_a_model_that_calls_tools_although_it_must_not_gets_an_answer_put_in_its_mouth() -> (
    None
):
    look = Answer(tool_calls=[("echo", {"text": "x"})])
    reader, journal = Reader(), Notebook()
    turn = stage(
        ScriptedProvider([look, look]),
        emit=reader,
        journal=journal,
        limits=Limits(max_iterations=1),
    )
    result = await turn.run()
    assert result.stop_reason == "max_iterations"
    assert result.content.startswith("I stopped after 1 rounds")
    assert text_of(reader.events) == result.content
    assert result.tools_used == ["echo"]
    check_events(reader.events)
    check_legal(journal.messages)


async def test_an_answer_that_hit_the_token_limit_is_continued_and_stays_one_answer() -> None:
    provider = ScriptedProvider(
        [
            Answer(["one, ", "two"], finish_reason="length"),
            Answer([", three"], reasoning="where was I", finish_reason="length"),
            Answer([" and four."]),
        ]
    )
    journal, reader = Notebook(), Reader()
    result = await stage(provider, journal=journal, emit=reader).run()
    assert result.content == "one, two, three and four."
    assert (result.stop_reason, result.metadata["iterations"]) == ("completed", 1)
    assert (result.metadata["request_count"], result.usage["total_tokens"]) == (3, 45)
    assert spoken(journal.messages)[1:] == ["assistant: one, two, three and four."]
    assert text_of(reader.events) == result.content
    assert len(reader.of("text.completed")) == 1
    check_events(reader.events)
    asked = provider.requests[2].messages
    assert spoken(asked)[-2] == "assistant: one, two, three"
    assert isinstance(asked[-1], UserMessage)


async def test_what_has_to_be_sent_back_is_kept_of_each_part_of_an_answer_and_not_of_an_empty_one() -> (
    None
):
    def thought(text: str) -> ThinkingDelta:
        return ThinkingDelta(ThinkingBlock("thinking", text, signature="sig"))

    provider = DeltaProvider(
        [
            [[thought("lost"), Finished("stop")]],
            [[thought("a"), TextDelta("one"), Finished("length")]],
            [[thought("b"), TextDelta(" two"), Finished("stop")]],
        ]
    )
    journal = Notebook()
    await stage(provider, journal=journal).run()
    [answer] = answers_in(journal.messages)
    assert answer.content == "one two"
    assert [block.text for block in answer.thinking] == ["a", "b"]
    sent = provider.requests[2].messages[-2]
    assert isinstance(sent, AssistantMessage)
    assert [block.text for block in sent.thinking] == ["a"]


async def test_an_answer_without_end_is_cut_after_three_continuations_and_says_why() -> None:
    provider = ScriptedProvider([Answer([str(n)], finish_reason="length") for n in range(9)])
    result = await stage(provider).run()
    assert (result.content, result.stop_reason) == ("0123", "completed")
    assert result.metadata["finish_reason"] == "length"


async def test_tool_calls_that_were_cut_off_are_not_run_and_the_model_hears_of_it() -> None:
    cut = Answer(
        "Now.",
        tool_calls=[("change", {"text": "a"}), ("change", '{"text": "b')],
        finish_reason="length",
    )
    provider, journal, reader = ScriptedProvider([cut, "Shorter then."]), Notebook(), Reader()
    result = await stage(provider, journal=journal, emit=reader).run()
    assert (result.content, result.tools_used) == ("Shorter then.", [])
    told = [
        str(message.content)
        for message in provider.requests[1].messages
        if isinstance(message, ToolMessage)
    ]
    assert len(told) == 2
    assert all("token limit" in text for text in told)
    check_legal(journal.messages)
    check_events(reader.events)


@pytest.mark.parametrize(
    "nothing", ["", "  \n", Answer(reasoning="hm"), Answer(reasoning="hm", finish_reason="length")]
)
async def test_an_empty_answer_is_asked_for_again(nothing: str | Answer) -> None:
    provider, reader, journal = ScriptedProvider([nothing, "Here."]), Reader(), Notebook()
    result = await stage(provider, emit=reader, journal=journal).run()
    assert (result.content, text_of(reader.events)) == ("Here.", "Here.")
    assert provider.requests[0] == provider.requests[1]
    check_events(reader.events)
    check_story(result, journal)


async def test_a_model_that_says_nothing_twice_is_asked_in_words_without_tools() -> None:
    provider = ScriptedProvider(["", "", "Sorry. Here."])
    result = await stage(provider).run()
    assert (result.content, result.stop_reason) == ("Sorry. Here.", "completed")
    assert provider.requests[2].tool_choice == "none"
    assert "empty" in str(provider.requests[2].messages[-1].content)


async def test_a_model_with_nothing_to_say_ends_the_run_without_an_answer_in_the_history() -> None:
    journal, reader = Notebook(), Reader()
    result = await stage(ScriptedProvider(["", "", " "]), journal=journal, emit=reader).run()
    assert (result.content, result.stop_reason, result.error) == ("", "empty_response", None)
    assert result.usage["total_tokens"] == 45
    assert spoken(journal.messages) == ["user: What is it?"]
    check_events(reader.events)
    assert reader.types[-1] == "run.completed"


# Failures


async def test_a_provider_that_refuses_is_a_result_with_an_error() -> None:
    refusal = RateLimited("slow down", provider="scripted", retry_after_s=3.0)
    journal, reader = Notebook(), Reader()
    result = await stage(ScriptedProvider([refusal]), journal=journal, emit=reader).run()
    assert (result.content, result.stop_reason, result.error) == ("", "error", "slow down")
    assert result.usage == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert spoken(journal.messages) == ["user: What is it?"]
    assert reader.types == ["run.started", "run.failed"]
    failed = reader.events[-1]
    assert failed.error == "slow down"
    assert failed.metadata["reason"] == "error"
    assert failed.metadata["exception_type"] == "RateLimited"


async def test_a_connection_lost_in_the_middle_keeps_the_part_that_came() -> None:
    provider = ScriptedProvider([Answer(["one ", "two ", "three"], fault=Cut(after_deltas=2))])
    journal, reader = Notebook(), Reader()
    result = await stage(provider, journal=journal, emit=reader).run()
    assert (result.content, result.stop_reason) == ("one two ", "error")
    assert "connection was lost" in str(result.error)
    [partial] = answers_in(journal.messages)
    assert (partial.content, partial.interrupted) == ("one two ", True)
    check_legal(journal.messages)
    check_story(result, journal)
    check_events(reader.events)
    assert result.metadata["usage_estimated"] is True
    assert result.usage["total_tokens"] > 0
    assert provider.streams_open == 0


async def test_tool_calls_of_a_lost_answer_are_neither_run_nor_kept() -> None:
    provider = ScriptedProvider(
        [Answer("Let me.", tool_calls=[("change", {})], fault=Cut(after_deltas=3))]
    )
    journal = Notebook()
    result = await stage(provider, journal=journal).run()
    assert result.content == "Let me."
    assert answers_in(journal.messages)[0].tool_calls == ()
    check_legal(journal.messages)


async def test_earlier_iterations_survive_a_failure_in_a_later_one() -> None:
    provider = ScriptedProvider(
        [
            Answer("First.", tool_calls=[("echo", {"text": "x"})]),
            RateLimited("no", provider="scripted"),
        ]
    )
    journal = Notebook()
    result = await stage(provider, journal=journal).run()
    assert spoken(journal.messages) == ["user: What is it?", "assistant: First.", "tool: x"]
    assert (result.content, result.tools_used) == ("", ["echo"])
    assert result.usage["total_tokens"] == 15


async def test_a_content_filter_is_an_error_that_keeps_the_part_that_came() -> None:
    provider = ScriptedProvider([Answer("Take two cups of", finish_reason="content_filter")])
    journal, reader = Notebook(), Reader()
    result = await stage(provider, journal=journal, emit=reader).run()
    assert (result.content, result.stop_reason) == ("Take two cups of", "error")
    assert "content filter" in str(result.error)
    assert result.metadata["finish_reason"] == "content_filter"
    assert answers_in(journal.messages)[0].interrupted
    check_events(reader.events)


async def test_a_stream_that_stops_without_saying_so_is_an_error() -> None:
    provider = DeltaProvider([[[TextDelta("half")]]])
    result = await stage(provider).run()
    assert (result.content, result.stop_reason) == ("half", "error")
    assert result.error == "the answer stopped without an end"


async def test_a_bug_in_a_provider_is_raised_after_the_partial_answer_was_kept() -> None:
    bug = ZeroDivisionError("oh")
    provider = ScriptedProvider([Answer(["so ", "far"], fault=Raise(bug, after_deltas=1))])
    journal, reader = Notebook(), Reader()
    turn = stage(provider, journal=journal, emit=reader)
    with pytest.raises(ZeroDivisionError) as caught:
        await turn.run()
    assert caught.value is bug
    assert spoken(journal.messages) == ["user: What is it?", "assistant: so "]
    assert reader.events[-1].error == "oh"
    assert reader.events[-1].metadata["exception_type"] == "ZeroDivisionError"
    check_events(reader.events)
    assert turn.result("error").content == "so "


# The journal


async def test_a_store_that_fails_costs_the_record_and_not_the_answer() -> None:
    provider = ScriptedProvider([Answer(tool_calls=[("echo", {"text": "x"})]), "Done."])
    journal = Notebook(fails_at=1, error=StoreError("disk full"))
    result = await stage(provider, journal=journal).run()
    assert (result.content, result.error) == ("Done.", None)
    assert result.metadata["persisted"] is False
    assert spoken(journal.messages) == [
        "user: What is it?"
    ]  # nothing after the gap: it stays legal
    assert journal.calls == 2


async def test_a_store_that_hangs_is_given_up_after_a_while(autojump_clock: MockClock) -> None:
    class Hanging(Notebook):
        async def record(
            self, messages: object, open_turn: object = None, *, last: bool = False
        ) -> None:
            await trio.sleep_forever()

    result = await stage(
        ScriptedProvider(["ok"]), journal=Hanging(), limits=Limits(settle_s=3.0)
    ).run()
    assert result.content == "ok"
    assert result.metadata["persisted"] is False
    assert trio.current_time() == pytest.approx(3.0, abs=0.1)


async def test_a_bug_in_a_journal_is_raised_and_nothing_more_is_recorded() -> None:
    journal, reader = Notebook(fails_at=1, error=KeyError("what")), Reader()
    with pytest.raises(KeyError):
        await stage(ScriptedProvider(["ok"]), journal=journal, emit=reader).run()
    assert journal.calls == 2
    check_events(reader.events)


# Time and the reader


async def test_a_run_past_its_time_keeps_what_it_has(autojump_clock: MockClock) -> None:
    provider = ScriptedProvider([Answer(["one ", "two ", "three"], between_deltas_s=1.0)])
    journal, reader = Notebook(), Reader()
    turn = stage(provider, journal=journal, emit=reader, limits=Limits(timeout_s=1.5))
    result = await turn.run()
    assert (result.content, result.stop_reason) == ("one two ", "timeout")
    assert result.error == "The run did not finish within 1.5 s."
    assert result.metadata["latency_ms"] == 1500
    assert answers_in(journal.messages)[0].interrupted
    assert reader.events[-1].metadata["reason"] == "timeout"
    check_events(reader.events)
    check_legal(journal.messages)


async def test_a_tool_past_the_runs_time_may_have_run(autojump_clock: MockClock) -> None:
    provider = ScriptedProvider(
        [Answer("Wait.", tool_calls=[("slow", {}), ("echo", {"text": "x"}), ("change", {})])]
    )
    journal, reader = Notebook(), Reader()
    turn = stage(provider, journal=journal, emit=reader, limits=Limits(timeout_s=1.0))
    result = await turn.run()
    assert (result.stop_reason, result.tools_used) == ("timeout", ["echo"])
    results = [message for message in journal.messages if isinstance(message, ToolMessage)]
    assert [message.outcome for message in results] == [
        "interrupted_may_have_run",
        "ok",
        "cancelled_before_start",
    ]
    assert [event.metadata["outcome"] for event in reader.of("tool.failed")] == [
        "interrupted_may_have_run"
    ]
    check_events(reader.events)
    check_legal(journal.messages)


async def test_a_reader_that_stalls_ends_the_run_and_not_the_session() -> None:
    provider = ScriptedProvider([Answer(["one ", "two ", "three"])])
    journal, reader = Notebook(), Reader(stalls_after=3)
    result = await stage(provider, journal=journal, emit=reader).run()
    assert (result.content, result.stop_reason) == ("one two ", "consumer_stalled")
    assert text_of(reader.events) == result.content
    assert "behind" in str(result.error)
    assert reader.events[-1].metadata["reason"] == "consumer_stalled"
    assert answers_in(journal.messages)[0].interrupted
    check_events(reader.events)
    assert provider.streams_open == 0


async def test_times_are_measured_from_the_start_of_the_turn(autojump_clock: MockClock) -> None:
    provider = ScriptedProvider(
        [Answer("one two", before_head_s=0.5, before_first_delta_s=0.25, between_deltas_s=1.0)]
    )
    result = await stage(provider).run()
    assert (result.metadata["ttft_ms"], result.metadata["latency_ms"]) == (750, 1750)
    assert (result.metadata["model"], result.metadata["provider"]) == ("test-model", "scripted")


# Tokens


async def test_usage_is_the_last_report_of_each_request_summed() -> None:
    call = ToolCallDelta(0, "a", "change", "{}")
    provider = DeltaProvider(
        [
            [
                [UsageDelta(Usage(7, 0, 7))],
                [call, UsageDelta(Usage(7, 3, 10, cached_tokens=4)), Finished("tool_calls")],
            ],
            [[TextDelta("ok"), UsageDelta(Usage(20, 1, 21, cached_tokens=7)), Finished("stop")]],
        ]
    )
    result = await stage(provider).run()
    assert result.usage == {
        "prompt_tokens": 27,
        "completion_tokens": 4,
        "total_tokens": 31,
        "cached_tokens": 11,
    }
    assert "usage_estimated" not in result.metadata


@pytest.mark.parametrize("report", [None, Usage()])
async def test_tokens_that_nobody_reports_are_estimated_and_marked(report: Usage | None) -> None:
    result = await stage(
        ScriptedProvider([Answer("one two three", usage=report)]),
        estimate=lambda messages, tools: 100 * len(messages) + len(tools),
    ).run()
    assert result.usage == {"prompt_tokens": 204, "completion_tokens": 100, "total_tokens": 304}
    assert result.metadata["usage_estimated"] is True


# A turn that never ran


async def test_a_turn_that_never_ran_has_a_result_all_the_same() -> None:
    result: RunResult = stage(ScriptedProvider([])).result("cancelled")
    assert (result.content, result.stop_reason, result.error) == (
        "",
        "cancelled",
        "The run was cancelled.",
    )
    assert [message["content"] for message in result.messages] == ["You are a test.", USER.content]
    assert result.metadata["latency_ms"] == 0
