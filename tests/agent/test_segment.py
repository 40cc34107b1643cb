"""The text of one answer as it grows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nanobot.agent._segment import Segment

PIECES = st.lists(st.text(alphabet=" \n\tab", max_size=4), max_size=12)


def say(segment: Segment, pieces: list[str]) -> list[str]:
    told = []
    for piece in pieces:
        if text := piece if segment.text_pieces else segment.first_text(piece):
            segment.text_pieces.append(text)
            told.append(text)
    return told


def test_white_space_waits_for_the_first_word() -> None:
    segment = Segment()
    assert say(segment, ["\n", " ", "Hello", "\n", "you"]) == ["\n Hello", "\n", "you"]


def test_white_space_of_an_answer_that_was_empty_does_not_reach_the_next_one() -> None:
    segment = Segment()
    assert say(segment, ["\n\n"]) == []
    segment.forget_white_space()
    assert say(segment, ["Hello"]) == ["Hello"]
    assert segment.text == "Hello"


@given(PIECES)
def test_all_that_is_said_is_told_unless_it_is_white_space_alone(pieces: list[str]) -> None:
    segment = Segment()
    told = say(segment, pieces)
    said = "".join(pieces)
    assert "".join(told) == segment.text == (said if said.strip() else "")
    assert all(told)


def test_each_stretch_of_reasoning_is_closed_by_itself() -> None:
    segment = Segment()
    assert not segment.reasoning_open
    segment.reasoning_pieces += ["first ", "thought"]
    assert segment.reasoning_open
    assert segment.close_reasoning() == "first thought"
    assert not segment.reasoning_open
    segment.reasoning_pieces.append("; second")
    assert segment.close_reasoning() == "; second"
    assert segment.reasoning == "first thought; second"
