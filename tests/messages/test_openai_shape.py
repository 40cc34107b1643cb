"""Messages leave and enter in OpenAI's chat shape, and nothing is lost on the way."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import UsageError
from nanobot.messages import (
    RUNTIME_CONTEXT,
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ThinkingBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
    message_from_openai,
    messages_from_openai,
    to_openai,
    to_transcript,
    without_surrogates,
)

text = st.text(max_size=20)
names = st.sampled_from(
    [
        "role",
        "content",
        "outcome",
        "interrupted",
        "media",
        "timestamp",
        "_metadata",
        "tool_calls",
        "payload",
        "extra",
        "type",
        "id",
        "signature",
        "latency_ms",
        "名前",
    ]
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
entries = st.dictionaries(
    names | text.filter(lambda key: key != RUNTIME_CONTEXT), json_values, max_size=4
)
parts = st.one_of(
    st.builds(TextPart, text),
    st.builds(ImagePart, st.text(min_size=1, max_size=20), text),
    st.builds(FilePart, text, text),
)
contents = text | st.lists(parts, min_size=1, max_size=3).map(tuple)
calls = st.builds(ToolCall, text, text, text, entries)
blocks = st.builds(ThinkingBlock, text, text, text, entries)
messages = st.one_of(
    st.builds(SystemMessage, text, text, entries),
    st.builds(UserMessage, contents, st.lists(text, max_size=2).map(tuple), text, entries),
    st.builds(
        AssistantMessage,
        text,
        st.lists(calls, max_size=2).map(tuple),
        text,
        st.lists(blocks, max_size=2).map(tuple),
        st.booleans(),
        text,
        entries,
    ),
    st.builds(
        ToolMessage,
        text,
        text,
        contents,
        st.sampled_from(["ok", "error", "denied", "interrupted_may_have_run"]),
        text,
        entries,
    ),
)


@given(messages)
def test_a_transcript_gives_back_the_very_message_it_was_made_from(message: Message) -> None:
    assert message_from_openai(to_transcript(message)) == message


@given(messages)
def test_a_transcript_survives_json(message: Message) -> None:
    shaped = to_transcript(message)
    assert message_from_openai(json.loads(json.dumps(shaped))) == message
    assert msgspec.json.decode(msgspec.json.encode(shaped)) == shaped


@given(messages)
def test_changing_what_was_handed_out_does_not_change_history(message: Message) -> None:
    before = msgspec.json.encode(message)

    def spoil(value: Any) -> None:
        if isinstance(value, dict):
            for inner in list(value.values()):
                spoil(inner)
            value["spoiled"] = True
        elif isinstance(value, list):
            for inner in value:
                spoil(inner)
            value.append("spoiled")

    spoil(to_transcript(message))
    spoil(to_openai(message))
    assert msgspec.json.encode(message) == before


@given(
    st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "media", "outcome", "name"]) | text,
        json_values,
    )
)
def test_any_json_is_read_or_refused_with_our_error(value: dict[str, Any]) -> None:
    try:
        message = message_from_openai(value, index=7)
    except UsageError as refused:
        where, _, _ = str(refused).partition(" ")
        assert where.startswith("messages[7]")
        return
    assert message_from_openai(to_transcript(message)) == message


@given(st.sampled_from(["user", "assistant", "tool", "system"]), json_values, entries)
def test_any_role_with_any_content_is_read_or_refused(
    role: str, content: Any, more: dict[str, Any]
) -> None:
    try:
        message = message_from_openai({**more, "role": role, "content": content})
    except UsageError:
        return
    assert message_from_openai(to_transcript(message)) == message


def test_the_api_shape_has_what_a_request_needs_and_no_more() -> None:
    answer = AssistantMessage(
        "Looking.",
        (ToolCall("c1", "read_file", '{"path":"a"}'),),
        reasoning="hm",
        interrupted=True,
        timestamp="now",
        metadata={"latency_ms": 3},
    )
    assert to_openai(answer) == {
        "role": "assistant",
        "content": "Looking.",
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "read_file", "arguments": '{"path":"a"}'},
            }
        ],
    }
    assert to_openai(ToolMessage("c1", "read_file", "text", outcome="error")) == {
        "role": "tool",
        "tool_call_id": "c1",
        "name": "read_file",
        "content": "text",
    }
    assert to_openai(UserMessage((ImagePart("/a.png"), TextPart("what?")))) == {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": "/a.png"}},
            {"type": "text", "text": "what?"},
        ],
    }


def test_the_transcript_of_the_page_keeps_its_timestamps_and_its_own_fields() -> None:
    shaped = {
        "role": "user",
        "content": "I graduated with a degree in Business Administration.",
        "timestamp": "2023/05/30 (Tue) 17:27",
        "source_session_id": "answer_280352e9",
    }
    message = message_from_openai(shaped)
    assert message == UserMessage(
        shaped["content"],
        timestamp="2023/05/30 (Tue) 17:27",
        metadata={"source_session_id": "answer_280352e9"},
    )
    assert to_transcript(message) == shaped


def test_what_was_added_for_the_model_stays_out_of_the_transcript_and_cannot_be_brought_in() -> (
    None
):
    message = UserMessage("hi", metadata={RUNTIME_CONTEXT: "It is noon.", "source": "x"})
    assert to_transcript(message) == {"role": "user", "content": "hi", "source": "x"}
    read = message_from_openai({"role": "user", "content": "hi", RUNTIME_CONTEXT: "It is noon."})
    assert read == UserMessage("hi")


def test_an_assistant_that_calls_tools_may_have_nothing_to_say() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    expected = AssistantMessage("", (ToolCall("c", "f", "{}"),))
    assert (
        message_from_openai({"role": "assistant", "content": None, "tool_calls": [call]})
        == expected
    )
    assert message_from_openai({"role": "assistant", "tool_calls": [call]}) == expected


def test_parts_of_other_dialects_are_understood() -> None:
    content = [
        {"type": "input_text", "text": "a"},
        {"type": "output_text", "text": "b"},
        {"type": "input_image", "image_url": "https://x.org/1.png"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
    ]
    read = message_from_openai({"role": "user", "content": content})
    assert read == UserMessage(
        (
            TextPart("a"),
            TextPart("b"),
            ImagePart("https://x.org/1.png"),
            ImagePart("data:image/png;base64,AAAA"),
        )
    )
    answer = message_from_openai({"role": "assistant", "content": content[:2]})
    assert answer == AssistantMessage("a\nb")


def test_arguments_that_were_decoded_already_become_json_text_again() -> None:
    call = {
        "id": "c",
        "function": {"name": "f", "arguments": {"n": 1}},
        "extra_content": {"s": "x"},
    }
    read = message_from_openai({"role": "assistant", "content": "", "tool_calls": [call]})
    assert read == AssistantMessage(
        "", (ToolCall("c", "f", '{"n":1}', {"extra_content": {"s": "x"}}),)
    )


def test_an_unknown_fields_odd_value_is_kept_as_json_would_carry_it() -> None:
    read = message_from_openai(
        {
            "role": "user",
            "content": "x",
            "at": datetime(2024, 1, 2),
            "tags": {"one"},
            "outcome": "won",
        }
        | {"score": float("nan")}
    )
    assert read.metadata == {
        "at": "2024-01-02T00:00:00",
        "tags": ["one"],
        "outcome": "won",
        "score": None,
    }


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("hello", "messages[0] must be a dict"),
        ({}, "messages[0].role is missing"),
        ({"content": "x"}, "messages[0].role is missing"),
        ({"role": "developer", "content": "x"}, "must be one of user, assistant, tool, system"),
        ({"role": ["user"], "content": "x"}, "messages[0].role must be one of"),
        ({"role": "user"}, "messages[0].content is missing"),
        ({"role": "user", "content": None}, "messages[0].content must be a string or a list"),
        ({"role": "assistant", "content": None}, "not None"),
        ({"role": "user", "content": 3}, "not int"),
        ({"role": "user", "content": [{"type": "audio"}]}, "messages[0].content[0] is not a part"),
        ({"role": "user", "content": [3]}, "messages[0].content[0] must be a part with a type"),
        (
            {"role": "assistant", "content": [{"type": "image_url", "image_url": "http://x"}]},
            "messages[0].content[0] must be text",
        ),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"id": "c"}]},
            "messages[0].tool_calls[0] must have a function",
        ),
        (
            {"role": "assistant", "content": "", "tool_calls": "c"},
            "messages[0].tool_calls must be a list",
        ),
        (
            {"role": "tool", "content": "x", "tool_call_id": 5},
            "messages[0].tool_call_id must be a string",
        ),
        ({"role": "user", "content": "x", "timestamp": []}, "messages[0].timestamp must be text"),
        (
            {"role": "user", "content": "x", "bad": object()},
            "messages[0].bad cannot be stored as JSON",
        ),
        ({"role": "user", "content": "x", 5: 1}, "field name that is not a string"),
    ],
)
def test_an_error_names_the_message_and_the_field(value: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        message_from_openai(value)
    assert said in str(caught.value)


def test_a_field_that_contains_itself_is_refused() -> None:
    knot: list[Any] = []
    knot.append(knot)
    with pytest.raises(UsageError, match="cannot be stored"):
        message_from_openai({"role": "user", "content": "x", "knot": knot})


def test_the_error_in_a_transcript_names_the_index_and_a_single_message_is_no_transcript() -> None:
    good = {"role": "user", "content": "x"}
    assert messages_from_openai([good, good]) == (UserMessage("x"), UserMessage("x"))
    with pytest.raises(UsageError, match=r"messages\[1\]\.content"):
        messages_from_openai([good, {"role": "user"}])
    with pytest.raises(UsageError, match="must be a list"):
        messages_from_openai(good)  # type: ignore[arg-type]  # the mistake under test


@given(
    st.text(alphabet=st.characters(), max_size=30), st.integers(0xD800, 0xDFFF), st.integers(0, 30)
)
def test_lone_surrogates_are_replaced_and_all_else_is_kept(
    sane: str, surrogate: int, at: int
) -> None:
    sane = sane.encode("utf-8", "ignore").decode()
    assert without_surrogates(sane) == sane
    broken = sane[:at] + chr(surrogate) + sane[at:]
    assert without_surrogates(broken) == sane[:at] + "\N{REPLACEMENT CHARACTER}" + sane[at:]
    message = message_from_openai({"role": "user", "content": broken, "more": {broken: [broken]}})
    msgspec.json.encode(message)
