"""What stays as it is when a session is compacted: decided over weights, without a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.memory import overflows, room_for_history, suffix_start
from nanobot.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    check,
)

USER = UserMessage("u")
ANSWER = AssistantMessage("a")
CALLING = AssistantMessage("", (ToolCall("c", "look"),))
RESULT = ToolMessage("c", "look", "r")

TURN: list[Message] = [USER, ANSWER]
TOOL_TURN: list[Message] = [USER, CALLING, RESULT, CALLING, RESULT, ANSWER]


@pytest.mark.parametrize(
    ("history", "limit", "start"),
    [
        (TURN * 3, 6, 0),
        (TURN * 3, 5, 2),
        (TURN * 3, 4, 2),
        (TURN * 3, 1, 5),  # the answer alone
        (TURN * 3, 0, 6),  # nothing
        (TURN + TOOL_TURN, 7, 2),
        (TURN + TOOL_TURN, 5, 3),  # from the first answer of the turn on, with its result
        (TURN + TOOL_TURN, 4, 5),
        (TURN + TOOL_TURN, 2, 7),
        ([*TURN, USER, CALLING, RESULT], 1, 5),  # a result is nothing without its call
        ([ANSWER, *TURN], 3, 0),  # what the assistant said first belongs to the start
        ([], 5, 0),
    ],
)
def test_the_suffix_opens_with_a_user_and_where_that_is_too_much_with_an_answer(
    history: list[Message], limit: int, start: int
) -> None:
    assert suffix_start(history, [1] * len(history), limit) == start


def test_weights_decide_and_not_the_count() -> None:
    assert suffix_start(TURN * 3, [1, 1, 1, 100, 1, 1], 50) == 4


legal_turn = st.builds(
    lambda rounds, answered: [
        USER,
        *[message for _ in range(rounds) for message in (CALLING, RESULT)],
        *([ANSWER] if answered else []),
    ],
    st.integers(0, 3),
    st.booleans(),
)


@given(
    st.lists(st.one_of(legal_turn, st.just([SystemMessage("s")]))).map(
        lambda turns: [message for turn in turns for message in turn]
    ),
    st.integers(0, 40),
    st.data(),
)
def test_no_suffix_is_heavier_than_allowed_parts_a_call_from_its_result_or_could_be_longer(
    history: list[Message], limit: int, data: st.DataObject
) -> None:
    weights = [data.draw(st.integers(1, 9)) for _ in history]
    start = suffix_start(history, weights, limit)
    suffix = history[start:]
    assert sum(weights[start:]) <= limit
    assert check(suffix, continues=True) == ()
    if suffix and start:
        assert isinstance(suffix[0], UserMessage | AssistantMessage)
        longer = [at for at in range(start) if isinstance(history[at], UserMessage)]
        if isinstance(suffix[0], UserMessage):
            assert all(sum(weights[at:]) > limit for at in longer)


def test_a_compaction_leaves_the_share_that_was_asked_for() -> None:
    room = room_for_history(10_000, 0.5)
    assert room is not None
    assert room.summary + room.suffix == 5_000
    assert not overflows(9_999, room)
    assert overflows(10_000, room)


def test_a_large_window_has_no_larger_summary() -> None:
    room = room_for_history(1_000_000, 0.5)
    assert room is not None
    assert room.summary == 4_000


def test_where_there_is_no_room_nothing_is_divided() -> None:
    assert room_for_history(0, 0.5) is None
    assert room_for_history(199, 0.95) is None


@given(st.integers(200, 2_000_000), st.floats(0.1, 0.95))
def test_both_parts_of_a_division_can_say_something(tokens: int, ratio: float) -> None:
    room = room_for_history(tokens, ratio)
    assert room is not None
    assert 0 < room.summary <= room.suffix < tokens
