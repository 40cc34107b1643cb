"""What somebody brings as a transcript becomes history that models accept, and loses nothing on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import InvalidArgument, InvalidMessage, UsageError
from nanobot.messages import (
    AssistantMessage,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    check,
    to_transcript,
)
from nanobot.sessions import messages_from_transcript

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def test_what_is_legal_is_kept_as_it_is() -> None:
    transcript: list[dict[str, Any]] = [
        {"role": "system", "content": "rule"},
        {
            "role": "user",
            "content": "hi",
            "timestamp": "2023/05/30 (Tue) 17:27",
            "source_date": "x",
        },
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "nothing"},
        {"role": "assistant", "content": "hello", "latency_ms": 3},
    ]
    messages = messages_from_transcript(transcript)
    assert [to_transcript(message) for message in messages] == transcript


def test_a_transcript_may_start_with_the_assistant_and_be_any_iterable() -> None:
    assert messages_from_transcript(iter([{"role": "assistant", "content": "hello"}])) == (
        AssistantMessage("hello"),
    )
    assert messages_from_transcript([]) == ()


def test_the_source_is_noted_on_each_message_that_names_none() -> None:
    first, second = messages_from_transcript(
        [{"role": "user", "content": "a"}, {"role": "user", "content": "b", "source": "mine"}],
        source="longmemeval",
    )
    assert (first.metadata, second.metadata) == ({"source": "longmemeval"}, {"source": "mine"})


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": "x"}, r"messages\[1\]\.role is missing"),
        ({"role": "user"}, r"messages\[1\]\.content is missing"),
        ({"role": "robot", "content": "x"}, r"messages\[1\]\.role must be one of user"),
        ({"role": "user", "content": 5}, r"messages\[1\]\.content must be"),
        ({"role": "user", "content": None}, r"messages\[1\]\.content must be"),
        ({"role": "user", "content": "x", "timestamp": ["now"]}, r"messages\[1\]\.timestamp"),
        ({"role": "user", "content": "x", "extra": object()}, r"messages\[1\]\.extra cannot"),
        (
            {"role": "assistant", "content": "", "tool_calls": [{}]},
            r"messages\[1\]\.tool_calls\[0\]",
        ),
        ("hi", r"messages\[1\] must be a dict"),
        (None, r"messages\[1\] must be a dict"),
    ],
)
def test_a_message_that_cannot_be_kept_is_named(message: Any, said: str) -> None:
    with pytest.raises(InvalidMessage, match=said) as caught:
        messages_from_transcript([{"role": "user", "content": "fine"}, message])
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize("transcript", ["hi", b"bytes", {"role": "user", "content": "hi"}, None, 7])
def test_what_is_no_list_of_messages_is_refused(transcript: Any) -> None:
    with pytest.raises(InvalidArgument, match="messages must be a list"):
        messages_from_transcript(transcript)


def test_a_source_that_is_no_string_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="source must be a string, not int"):
        messages_from_transcript([], source=7)  # type: ignore[arg-type]  # the point


def test_a_tool_result_without_its_call_becomes_a_note_that_the_model_reads() -> None:
    user, note, answer = messages_from_transcript(
        [
            {"role": "user", "content": "weather?"},
            {
                "role": "tool",
                "tool_call_id": "lost",
                "name": "weather",
                "content": "22 degrees",
                "timestamp": "noon",
                "station": 7,
            },
            {"role": "assistant", "content": "It is warm."},
        ]
    )
    assert isinstance(note, UserMessage)
    assert "weather" in str(note.content)
    assert str(note.content).endswith("\n22 degrees")
    assert note.timestamp == "noon"
    assert note.metadata == {
        "tool_call_id": "lost",
        "name": "weather",
        "outcome": "ok",
        "station": 7,
    }
    assert (user, answer) == (UserMessage("weather?"), AssistantMessage("It is warm."))


def test_a_stray_result_with_parts_keeps_them() -> None:
    (note,) = messages_from_transcript(
        [{"role": "tool", "content": [{"type": "text", "text": "seen"}]}]
    )
    assert isinstance(note, UserMessage)
    assert note.content[1] == TextPart("seen")


def test_a_second_result_of_one_call_does_not_part_the_others_from_theirs() -> None:
    calls = [{**CALL, "id": "a"}, {**CALL, "id": "b"}]
    answer, first, second, note, last = messages_from_transcript(
        [
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "a", "content": "one"},
            {"role": "tool", "tool_call_id": "a", "content": "one, again"},
            {"role": "tool", "tool_call_id": "b", "content": "two"},
            {"role": "user", "content": "go on"},
        ]
    )
    assert isinstance(answer, AssistantMessage)
    assert [result.content for result in (first, second)] == ["one", "two"]
    assert str(note.content).endswith("one, again")
    assert last == UserMessage("go on")


def test_a_call_without_a_result_gets_one_that_says_so() -> None:
    _, result, _ = messages_from_transcript(
        [
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "user", "content": "and?"},
        ]
    )
    assert isinstance(result, ToolMessage)
    assert result.outcome == "interrupted_may_have_run"


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).map(lambda text: f"<{text}>")
ids = st.sampled_from(["a", "b", "c", ""])
some_message = st.one_of(
    st.builds(lambda text: {"role": "user", "content": text}, words),
    st.builds(lambda text: {"role": "system", "content": text}, words),
    st.builds(
        lambda text, calls: {
            "role": "assistant",
            "content": text,
            "tool_calls": [{**CALL, "id": each} for each in calls],
        },
        words,
        st.lists(ids, max_size=3),
    ),
    st.builds(lambda text, of: {"role": "tool", "tool_call_id": of, "content": text}, words, ids),
)


@given(st.lists(some_message, max_size=12))
def test_any_transcript_becomes_legal_and_every_word_of_it_is_still_there_in_order(
    transcript: list[dict[str, Any]],
) -> None:
    messages = messages_from_transcript(transcript)
    assert check(messages, continues=True) == ()
    kept = [str(message.content) for message in messages]
    for role in ("user", "assistant", "system"):
        said = [one["content"] for one in transcript if one["role"] == role]
        kinds = {"user": UserMessage, "assistant": AssistantMessage, "system": SystemMessage}
        found = [
            message.content
            for message in messages
            if isinstance(message, kinds[role]) and "outcome" not in message.metadata
        ]
        assert found == said
    for one in transcript:
        assert any(text.endswith(one["content"]) for text in kept)
    assert messages_from_transcript([to_transcript(message) for message in messages]) == messages
