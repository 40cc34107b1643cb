"""What is legal passes, and each rule that is broken is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    check,
    repair,
)
from nanobot.testing import assert_legal_history, assert_legal_request

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASK = {"role": "user", "content": "ask"}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "done"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}

ids = st.sampled_from(["", "a", "b", "call_1"])
calls = st.builds(ToolCall, ids, st.just("f"), st.just("{}"))
messages = st.one_of(
    st.builds(SystemMessage, st.just("rule")),
    st.builds(UserMessage, st.just("ask")),
    st.builds(
        AssistantMessage, st.sampled_from(["", "say"]), st.lists(calls, max_size=3).map(tuple)
    ),
    st.builds(ToolMessage, ids, st.just("f"), st.just("result")),
)


@given(st.lists(messages, max_size=12))
def test_what_repair_made_legal_every_service_accepts(history: list[Message]) -> None:
    legal = repair(history).history
    assert check(legal) == ()
    assert_legal_history(legal)


@given(st.lists(messages, min_size=1, max_size=8))
def test_what_check_objects_to_for_its_calls_is_refused(history: list[Message]) -> None:
    kinds = {problem.kind for problem in check(history)}
    if kinds & {"call_without_result", "result_without_call", "second_result"}:
        with pytest.raises(AssertionError):
            assert_legal_history(history)


@pytest.mark.parametrize(
    ("history", "named"),
    [
        ([ASK, CALLING], "no result"),
        ([ASK, CALLING, ASK], "no result yet"),
        ([ASK, RESULT], "no call before it owes"),
        ([ASK, CALLING, RESULT, RESULT], "no call before it owes"),
        ([ASK, {"role": "assistant", "content": ""}], "neither text nor calls"),
        ([ASK, {"role": "assistant", "content": None, "tool_calls": []}], "empty list"),
        ([ASK, {**CALLING, "tool_calls": [CALL, CALL]}, RESULT, RESULT], "twice"),
        ([{"role": "user", "content": ""}], "said nothing"),
    ],
)
def test_a_broken_rule_is_named(history: list[dict[str, Any]], named: str) -> None:
    with pytest.raises(AssertionError, match=named):
        assert_legal_history(history)


def test_what_a_model_wrote_is_judged_as_it_is_sent() -> None:
    call = {**CALL, "function": {"name": "no such tool", "arguments": '{"path": '}}
    assert_legal_history([ASK, {**CALLING, "tool_calls": [call]}, RESULT])
    assert_legal_history([{"role": "assistant", "content": "Hello"}])
    assert_legal_history([{"role": "system", "content": "rule"}, CALLING, RESULT])


def use(call_id: str = "c1") -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "f", "input": {}}


def result(call_id: str = "c1") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": "done"}


TEXT = {"type": "text", "text": "so"}
TOOLS = [{"name": "f", "input_schema": {"type": "object"}}]


def claude(*messages: tuple[str, list[dict[str, Any]]], tools: Any = TOOLS) -> dict[str, Any]:
    return {
        "tools": tools,
        "messages": [{"role": role, "content": content} for role, content in messages],
    }


def test_a_legal_request_of_each_format_passes() -> None:
    assert_legal_history([])
    assert_legal_history([ASK, CALLING, RESULT, {"role": "assistant", "content": "so"}])
    assert_legal_request(
        claude(("user", [TEXT]), ("assistant", [TEXT, use()]), ("user", [result(), TEXT])),
        wire="anthropic",
    )
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    done = {"type": "function_call_output", "call_id": "c1", "output": "done"}
    said = {"role": "user", "content": "ask"}
    assert_legal_request({"input": [said, call, done, said]}, wire="openai_responses")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (claude(("assistant", [TEXT])), "not the user"),
        (claude(("user", [TEXT]), ("user", [TEXT])), "twice in a row"),
        (claude(("user", [])), "nothing"),
        (claude(("user", [{"type": "text", "text": " "}])), "without any"),
        (claude(("user", [TEXT]), ("assistant", [use()])), "no results"),
        (claude(("user", [TEXT]), ("assistant", [use()]), ("user", [TEXT])), "were called"),
        (claude(("user", [TEXT, result()])), "has called"),
        (claude(("user", [TEXT]), ("assistant", [use()]), ("user", [TEXT, result()])), "first"),
        (
            claude(("user", [TEXT]), ("assistant", [use()]), ("user", [result()]), tools=[]),
            "not offered",
        ),
        (claude(("user", [TEXT]), ("assistant", [use("a b")]), ("user", [result("a b")])), "id"),
    ],
)
def test_what_a_messages_service_refuses_is_named(body: dict[str, Any], named: str) -> None:
    with pytest.raises(AssertionError, match=named):
        assert_legal_request(body, wire="anthropic")


@pytest.mark.parametrize(
    ("items", "named"),
    [
        (["call"], "no output found"),
        (["call", "said"], "no output found"),
        (["done"], "no call found"),
        (["call", "call", "done"], "twice"),
        (["reasoning"], "must follow"),
        (["reasoning", "said"], "must follow"),
    ],
)
def test_what_a_responses_service_refuses_is_named(items: list[str], named: str) -> None:
    known: dict[str, Any] = {
        "call": {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        "done": {"type": "function_call_output", "call_id": "c1", "output": "done"},
        "said": {"role": "user", "content": "ask"},
        "reasoning": {"type": "reasoning", "summary": []},
    }
    with pytest.raises(AssertionError, match=named):
        assert_legal_request({"input": [known[item] for item in items]}, wire="openai_responses")
