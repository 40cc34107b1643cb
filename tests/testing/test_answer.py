"""The words of the script language: what they hold, and what they refuse."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import UsageError
from nanobot.messages import ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from nanobot.testing import (
    Answer,
    Cut,
    HttpResponse,
    HugeLine,
    MalformedEvent,
    Raise,
    SlowDrip,
    Stall,
)
from nanobot.testing._answer import answer_from_text, tool_calls_of
from nanobot.testing._deltas import deltas_of, finish_reason_of, pieces


def test_a_tool_call_is_written_as_a_name_and_its_arguments() -> None:
    answer = Answer(tool_calls=[("list_dir", {"path": "."}), ToolCall("mine", "read_file", "{}")])
    assert tool_calls_of(answer, "0000000a") == (
        ToolCall("call_0000000a_0", "list_dir", '{"path":"."}'),
        ToolCall("mine", "read_file", "{}"),
    )


def test_arguments_given_as_text_are_left_alone_even_if_they_are_no_json() -> None:
    (call,) = tool_calls_of(Answer(tool_calls=[("list_dir", '{"path": ')]), "1")
    assert call.arguments == '{"path": '


def test_a_tool_call_without_an_id_gets_one_and_keeps_the_rest() -> None:
    (call,) = tool_calls_of(Answer(tool_calls=[ToolCall("", "f", "[]", {"signature": "s"})]), "2")
    assert call == ToolCall("call_2_0", "f", "[]", {"signature": "s"})


def test_the_finish_reason_follows_from_the_answer_unless_it_is_given() -> None:
    assert finish_reason_of(Answer("x")) == "stop"
    assert finish_reason_of(Answer(tool_calls=[("f", {})])) == "tool_calls"
    assert finish_reason_of(Answer(tool_calls=[("f", {})], finish_reason="length")) == "length"


def test_an_answer_comes_as_reasoning_then_text_then_tool_calls() -> None:
    answer = Answer("Let me see", reasoning="Hm, well", tool_calls=[("f", "{}"), ("g", '{"a": 1}')])
    assert deltas_of(answer, "1") == (
        ReasoningDelta("Hm, "),
        ReasoningDelta("well"),
        TextDelta("Let "),
        TextDelta("me "),
        TextDelta("see"),
        ToolCallDelta(0, id="call_1_0", name="f"),
        ToolCallDelta(0, arguments="{}"),
        ToolCallDelta(1, id="call_1_1", name="g"),
        ToolCallDelta(1, arguments='{"a": '),
        ToolCallDelta(1, arguments="1}"),
    )


def test_text_given_in_pieces_stays_in_these_pieces() -> None:
    answer = Answer(["Hel", "", "lo w"], delta_size=1)
    assert deltas_of(answer, "1") == (TextDelta("Hel"), TextDelta("lo w"))


@given(text=st.text(), size=st.none() | st.integers(1, 50))
def test_splitting_loses_nothing_and_makes_no_empty_pieces(text: str, size: int | None) -> None:
    found = pieces(text, size)
    assert "".join(found) == text
    assert all(found)
    if size is not None:
        assert all(len(piece) <= size for piece in found)


def test_the_same_text_is_the_same_answer_so_that_it_is_encoded_once() -> None:
    assert answer_from_text("one and the same") is answer_from_text("one and the same")


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (Answer, {"before_head_s": -1}, "before_head_s is -1"),
        (Answer, {"before_first_delta_s": math.inf}, "before_first_delta_s is inf"),
        (Answer, {"between_deltas_s": math.nan}, "between_deltas_s is nan"),
        (Answer, {"delta_size": 0}, "delta_size is 0"),
        (Answer, {"tool_calls": ["list_dir"]}, "got 'list_dir'"),
        (Answer, {"tool_calls": [("list_dir", 3)]}, "got ('list_dir', 3)"),
        (HttpResponse, {"status": 199}, "status is 199"),
        (HttpResponse, {"status": 600}, "status is 600"),
        (HttpResponse, {"status": 204}, "status is 204"),
        (HttpResponse, {"status": 429, "headers": {"a": "1\r\nx: y"}}, "not one header line"),
        (HttpResponse, {"status": 200, "headers": {"a": "ü"}}, "not one header line"),
        (HttpResponse, {"status": 200, "before_head_s": math.inf}, "before_head_s is inf"),
        (Stall, {"after_deltas": -1}, "Stall.after_deltas is -1"),
        (Cut, {"after_deltas": -1}, "Cut.after_deltas is -1"),
        (Cut, {"at": "somewhere"}, "Cut.at is 'somewhere'; choose one of 'between_events'"),
        (Cut, {"by": "magic"}, "Cut.by is 'magic'; choose one of 'close'"),
        (Cut, {"after_deltas": None, "by": "end_of_body"}, "no body that could end"),
        (HugeLine, {"size": 10}, "HugeLine.size is 10"),
        (MalformedEvent, {"after_deltas": -1}, "MalformedEvent.after_deltas is -1"),
        (SlowDrip, {"write_size": 0}, "SlowDrip.write_size is 0"),
        (SlowDrip, {"every_s": 0}, "SlowDrip.every_s is 0"),
        (Raise, {"error": ValueError}, "needs an exception instance"),
    ],
    ids=str,
)
def test_what_no_service_could_do_is_refused_where_it_is_written(
    kind: Callable[..., Any], fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(named)):
        kind(**fields)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<html>", "text/html; charset=utf-8"),
        ("\n<!doctype html>", "text/html; charset=utf-8"),
        ("upstream is down", "text/plain; charset=utf-8"),
        (b"\0", "application/octet-stream"),
        ({"a": 1}, "application/json"),
        (None, "application/json"),
    ],
)
def test_the_content_type_of_a_response_follows_from_its_body(body: Any, content_type: str) -> None:
    assert HttpResponse(500, body).content()[0] == content_type


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500, 503, 599])
def test_an_error_status_without_a_body_gets_an_error_object(status: int) -> None:
    error = msgspec.json.decode(HttpResponse(status).content()[1])["error"]
    assert error["message"]
    assert set(error) == {"message", "type", "param", "code"}


def test_a_good_status_without_a_body_gets_an_empty_object() -> None:
    assert HttpResponse(200).content() == ("application/json", b"{}")
