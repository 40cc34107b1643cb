"""A legal history is left alone; any other becomes one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import (
    AssistantMessage,
    Message,
    Problem,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    check,
    repair,
    unanswered,
)

ids = st.sampled_from(["", "a", "b", "a_1", "call_1"])
calls = st.builds(ToolCall, ids, st.just("f"))
messages = st.one_of(
    st.builds(SystemMessage, st.just("rule")),
    st.builds(UserMessage, st.just("ask")),
    st.builds(
        AssistantMessage, st.sampled_from(["", "  ", "say"]), st.lists(calls, max_size=3).map(tuple)
    ),
    st.builds(ToolMessage, ids, st.just("f"), st.just("result")),
)
histories = st.lists(messages, max_size=12)


def strictly_legal(history: Sequence[Message], *, continues: bool = False) -> bool:
    """The rules once more, as a strict server would check them: reading along, with what is owed."""
    owed: set[str] = set()
    spoken = continues
    for message in history:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in owed:
                return False
            owed.remove(message.tool_call_id)
            continue
        if owed:
            return False
        if isinstance(message, AssistantMessage):
            if not spoken or not (message.content.strip() or message.tool_calls):
                return False
            owed = {call.id for call in message.tool_calls}
            if "" in owed or len(owed) != len(message.tool_calls):
                return False
        spoken = spoken or isinstance(message, UserMessage)
    return not owed


@given(histories, st.booleans())
def test_check_agrees_with_a_strict_server(history: list[Message], continues: bool) -> None:
    assert (check(history, continues=continues) == ()) == strictly_legal(
        history, continues=continues
    )


@given(histories, st.booleans())
def test_repair_makes_any_history_legal_and_then_has_nothing_left_to_do(
    history: list[Message], continues: bool
) -> None:
    repaired = repair(history, continues=continues)
    assert strictly_legal(repaired.history, continues=continues)
    assert bool(repaired.changes) == bool(check(history, continues=continues))
    again = repair(repaired.history, continues=continues)
    assert again.history is repaired.history
    assert again.changes == ()


@given(histories)
def test_repair_keeps_everything_that_was_said(history: list[Message]) -> None:
    def spoken(messages: Sequence[Message]) -> list[str | object]:
        return [
            message.content
            for message in messages
            if isinstance(message, (SystemMessage, UserMessage))
            or (isinstance(message, AssistantMessage) and message.content.strip())
        ]

    def called(messages: Sequence[Message]) -> list[str]:
        return [
            call.name
            for message in messages
            if isinstance(message, AssistantMessage)
            for call in message.tool_calls
        ]

    kept = repair(history, continues=True).history
    assert spoken(kept) == spoken(history)
    assert called(kept) == called(history)


@given(histories, histories)
def test_a_legal_history_stays_legal_with_a_repaired_continuation(
    before: list[Message], after: list[Message]
) -> None:
    whole = [UserMessage("start"), *repair(before).history, *repair(after, continues=True).history]
    assert strictly_legal(whole)


def test_a_legal_history_comes_back_as_the_same_object() -> None:
    history: list[Message] = [
        UserMessage("ask"),
        AssistantMessage("", (ToolCall("a", "f"), ToolCall("b", "g"))),
        ToolMessage("b", "g", "second first is fine"),
        ToolMessage("a", "f", "ok"),
        AssistantMessage("done"),
    ]
    assert repair(history).history is history


def test_a_call_cut_off_by_a_crash_gets_a_result_that_says_it_may_have_run() -> None:
    history: list[Message] = [
        UserMessage("ask"),
        AssistantMessage("", (ToolCall("a", "f"), ToolCall("b", "g"))),
    ]
    repaired = repair(history, not_started=["b"])
    assert [
        message.outcome for message in repaired.history if isinstance(message, ToolMessage)
    ] == [
        "interrupted_may_have_run",
        "cancelled_before_start",
    ]
    assert [change.problem for change in repaired.changes] == [
        Problem(1, "call_without_result", "a"),
        Problem(1, "call_without_result", "b"),
    ]


def test_results_that_belong_nowhere_are_dropped_and_named() -> None:
    history: list[Message] = [
        UserMessage("ask"),
        ToolMessage("z", "f", "orphan"),
        AssistantMessage("", (ToolCall("a", "f"),)),
        ToolMessage("a", "f", "first"),
        ToolMessage("a", "f", "again"),
        ToolMessage("y", "f", "stranger"),
        AssistantMessage(" "),
        UserMessage("next"),
        ToolMessage("a", "f", "too late"),
    ]
    repaired = repair(history)
    assert list(repaired.history) == [history[0], history[2], history[3], history[7]]
    assert [(change.problem.index, change.problem.kind) for change in repaired.changes] == [
        (1, "result_without_call"),
        (4, "second_result"),
        (5, "result_without_call"),
        (6, "empty_answer"),
        (8, "result_without_call"),
    ]


def test_calls_that_share_an_id_are_told_apart_and_keep_their_own_results() -> None:
    history: list[Message] = [
        UserMessage("ask"),
        AssistantMessage("", (ToolCall("a", "f"), ToolCall("a", "g"), ToolCall("", "h"))),
        ToolMessage("a", "f", "of f"),
        ToolMessage("a", "g", "of g"),
        ToolMessage("", "h", "of h"),
    ]
    repaired = repair(history).history
    answer = repaired[1]
    assert isinstance(answer, AssistantMessage)
    names = {call.id: call.name for call in answer.tool_calls}
    assert len(names) == 3
    results = [message for message in repaired if isinstance(message, ToolMessage)]
    assert [(names[result.tool_call_id], result.content) for result in results] == [
        ("f", "of f"),
        ("g", "of g"),
        ("h", "of h"),
    ]


def test_a_history_that_starts_with_an_answer_gets_an_opening_unless_it_continues_another() -> None:
    history: list[Message] = [
        SystemMessage("rule"),
        AssistantMessage("Hello, how can I help?"),
        UserMessage("hi"),
    ]
    assert check(history) == (Problem(1, "starts_without_user"),)
    assert check(history, continues=True) == ()
    opened = repair(history).history
    assert isinstance(opened[1], UserMessage)
    assert [opened[0], *opened[2:]] == history


def test_a_call_that_did_not_start_is_known_by_the_id_that_it_had() -> None:
    calls = (ToolCall("a", "f"), ToolCall("a", "g"))
    repaired = repair([UserMessage("ask"), AssistantMessage("", calls)], not_started=["a"])
    results = [message for message in repaired.history if isinstance(message, ToolMessage)]
    assert [result.tool_call_id for result in results] == ["a", "a_1"]
    assert {result.outcome for result in results} == {"cancelled_before_start"}


@pytest.mark.parametrize("outcome", ["interrupted_may_have_run", "cancelled_before_start"])
def test_an_unanswered_call_gets_a_result_with_its_id_and_name(outcome: str) -> None:
    result = unanswered(ToolCall("a", "f"), outcome)  # type: ignore[arg-type]  # parametrized
    assert (result.tool_call_id, result.name, result.outcome) == ("a", "f", outcome)
    assert result.content
