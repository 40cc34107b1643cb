"""What the model sees is what was said, with notes behind the user's words, the same bytes each time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from nanobot.context import estimate_text, shown_messages, turn_note, with_turn_note
from nanobot.messages import (
    AssistantMessage,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
    check,
    to_transcript,
)


def test_the_note_stands_behind_the_users_words_and_the_stored_message_keeps_them_apart() -> None:
    stored = with_turn_note(
        UserMessage("hi", timestamp="t", metadata={"source": "x"}), "[now: noon]"
    )
    assert stored.content == "hi"
    assert to_transcript(stored) == {
        "role": "user",
        "content": "hi",
        "timestamp": "t",
        "source": "x",
    }
    assert shown_messages("Be kind.", [], stored) == [
        SystemMessage("Be kind."),
        UserMessage("hi\n\n[now: noon]", timestamp="t", metadata={"source": "x"}),
    ]


def test_behind_parts_the_note_is_a_part_of_its_own() -> None:
    stored = with_turn_note(UserMessage((ImagePart("/a.png"), TextPart("what?"))), "[now: noon]")
    (shown,) = shown_messages("", [stored])
    assert shown == UserMessage((ImagePart("/a.png"), TextPart("what?"), TextPart("[now: noon]")))


def test_messages_without_a_note_are_shown_as_they_are() -> None:
    history: list[Message] = [UserMessage("hi"), AssistantMessage("hello")]
    user = UserMessage("again")
    shown = shown_messages("", history, user)
    assert [id(message) for message in shown] == [id(message) for message in (*history, user)]


turns = st.lists(
    st.tuples(
        st.text(max_size=20),
        st.lists(
            st.sampled_from(
                [
                    (
                        AssistantMessage("look", (ToolCall("c", "f"),)),
                        ToolMessage("c", "f", "found"),
                    ),
                    (AssistantMessage("say"),),
                ]
            ),
            min_size=1,
            max_size=3,
        ),
    ),
    min_size=2,
    max_size=5,
)


@given(turns)
def test_each_request_of_a_session_begins_with_the_bytes_of_the_one_before(
    said: list[tuple[str, list[tuple[Message, ...]]]],
) -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    stored: list[Message] = []
    before: list[bytes] = []
    for text, iterations in said:
        now += timedelta(minutes=17)  # every turn has another note
        stored.append(with_turn_note(UserMessage(text), turn_note(now=now)))
        for iteration in iterations:
            request = [msgspec.json.encode(message) for message in shown_messages("system", stored)]
            assert request[: len(before)] == before
            assert len(request) > len(before)
            before = request
            stored.extend(iteration)


def test_a_history_that_starts_with_an_answer_is_shown_with_an_opening() -> None:
    history: list[Message] = [SystemMessage("rule"), AssistantMessage("Welcome!")]
    shown = shown_messages("system", history, UserMessage("hi"))
    assert check(shown) == ()
    assert [message for message in shown if not isinstance(message, UserMessage)][1:] == history
    # … in the place where it stays from then on
    longer = shown_messages(
        "system", [*history, UserMessage("hi"), AssistantMessage("yes")], UserMessage("bye")
    )
    assert longer[: len(shown)] == shown


def test_an_empty_message_is_shown_as_its_note() -> None:
    (shown,) = shown_messages("", [], with_turn_note(UserMessage(""), "[now: noon]"))
    assert shown.content == "[now: noon]"


def test_a_full_note_costs_little() -> None:
    assert estimate_text(turn_note(now=datetime(2025, 1, 1, tzinfo=UTC))) <= 60
