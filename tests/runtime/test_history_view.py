"""What is shown of a session is the same, whether it grew turn by turn or was read at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nanobot.context import messages_tokens, with_turn_note
from nanobot.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    check,
)
from nanobot.runtime._history_view import HistoryView
from nanobot.sessions import Compaction, Position

SYSTEM = SystemMessage("prompt")
NOW = UserMessage("now")

said = st.text("ab ", min_size=1, max_size=9).filter(str.strip)
users = st.builds(
    with_turn_note, st.builds(UserMessage, said), st.sampled_from(["", "noon", "one"])
)
rounds = st.lists(st.booleans(), max_size=3).map(
    lambda kinds: [
        message
        for number, _ in enumerate(kinds)
        for message in (
            AssistantMessage("", (ToolCall(f"c{number}", "look"),)),
            ToolMessage(f"c{number}", "look", "seen"),
        )
    ]
)
turns = st.builds(
    lambda user, middle, answer: [[user], [*middle, AssistantMessage(answer)]], users, rounds, said
)
summaries = st.none() | st.builds(Compaction, st.just(7), said)


def at(sequence: int) -> Position:
    return Position(1, sequence, sequence)


@given(st.lists(turns, max_size=6), summaries, st.integers(0, 6))
def test_growing_and_reading_give_the_same(
    pieces: list[list[list[Message]]], compaction: Compaction | None, read_at_first: int
) -> None:
    whole = [message for turn in pieces for piece in turn for message in piece]
    first = [message for turn in pieces[:read_at_first] for piece in turn for message in piece]
    grown = HistoryView(at(len(first)), first, compaction)
    for turn in pieces[read_at_first:]:
        for piece in turn:
            grown.extend(piece, at(grown.position.sequence + len(piece)))
    read = HistoryView(at(len(whole)), whole, compaction)
    assert grown.messages == read.messages
    assert (grown.position, grown.tokens) == (read.position, read.tokens)
    assert grown.tokens == messages_tokens(grown.messages)
    pending = first + whole
    assert read.extended(pending).messages == [
        *read.messages,
        *HistoryView(at(0), pending, None).messages,
    ]
    assert read.messages == grown.messages  # the copy left it alone


@given(st.lists(turns, max_size=6), summaries, st.integers(0, 80))
def test_what_is_shown_is_legal_fits_and_holds_the_summary_before_anything_else(
    pieces: list[list[list[Message]]], compaction: Compaction | None, budget: int
) -> None:
    view = HistoryView(at(0), [m for turn in pieces for piece in turn for m in piece], compaction)
    shown = view.shown([SYSTEM, NOW], budget)
    history = shown[1:-1]
    assert (shown[0], shown[-1]) == (SYSTEM, NOW)
    assert check(shown[1:]) == ()
    assert messages_tokens(history) <= budget
    summary = view.messages[:1] if compaction is not None else []
    if messages_tokens(summary) <= budget:
        assert history[: len(summary)] == summary
        history = history[len(summary) :]
    assert view.messages[len(view.messages) - len(history) :] == history
    if view.tokens <= budget:
        assert summary + history == view.messages


def test_a_history_that_starts_with_an_answer_is_opened_for_the_model() -> None:
    view = HistoryView(at(1), [AssistantMessage("Welcome.")], None)
    _, opening, welcome, now = view.shown([SYSTEM, NOW], 1_000)
    assert isinstance(opening, UserMessage)
    assert (welcome, now) == (AssistantMessage("Welcome."), NOW)
    assert view.shown([NOW], 1_000) == [opening, welcome, NOW]  # without a system prompt


def test_an_illegal_history_on_disk_is_shown_legally() -> None:
    calling = AssistantMessage("", (ToolCall("c", "look"),))
    view = HistoryView(at(3), [UserMessage("x"), calling, UserMessage("y")], None)
    assert check(view.messages) == ()
    assert len(view.messages) == 4


def test_what_is_not_stored_yet_counts_with_the_rest() -> None:
    view = HistoryView(at(1), [UserMessage("a long story " * 20)], None)
    view.unsummarizable = 70
    longer = view.extended([AssistantMessage("an answer " * 10)])
    assert longer.tokens == messages_tokens(longer.messages) > view.tokens
    assert longer.unsummarizable == 70


def test_of_a_history_that_is_too_long_summary_and_latest_turns_fit_together() -> None:
    turns = [UserMessage(f"{number} " + "word " * 20) for number in range(20)]
    view = HistoryView(at(20), turns, Compaction(7, "notes " * 40))
    budget = view.tokens // 2
    summary, *latest = view.shown([SYSTEM, NOW], budget)[1:-1]
    assert summary == view.messages[0]
    assert latest == turns[-len(latest) :]
    assert messages_tokens([summary, *latest]) <= budget
