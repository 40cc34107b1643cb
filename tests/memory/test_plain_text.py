"""A conversation as text keeps what was said, and in pieces too."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.memory import in_pieces, plain_text
from nanobot.messages import (
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
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (UserMessage("hi"), "[user] hi"),
        (UserMessage("hi", timestamp="2023/05/30 (Tue)"), "[user, 2023/05/30 (Tue)] hi"),
        (UserMessage("hi", metadata={"_runtime_context": "It is noon."}), "[user] hi"),
        (
            UserMessage((ImagePart("/a.png"), TextPart("what?"), FilePart("/b.pdf"))),
            "[user] [image /a.png]\nwhat?\n[file /b.pdf]",
        ),
        (UserMessage((ImagePart("data:image/png;base64," + "A" * 9999),)), "[user] [image]"),
        (SystemMessage("rule"), "[system] rule"),
        (
            AssistantMessage("Let me look.", (ToolCall("c", "look", '{"at":1}'),), reasoning="hm"),
            '[assistant] Let me look.\n[calls look with {"at":1}]',
        ),
        (
            AssistantMessage("Once upon", interrupted=True),
            "[assistant] Once upon\n[interrupted here]",
        ),
        (AssistantMessage("", thinking=(ThinkingBlock("thinking", "hm"),)), ""),
        (ToolMessage("c", "look", "a tree"), "[result of look] a tree"),
        (ToolMessage("c", "", "gone", outcome="error"), "[result of a tool, error] gone"),
        (UserMessage("  "), ""),
    ],
)
def test_a_message_is_written_as_who_when_and_what(message: Message, text: str) -> None:
    assert plain_text(message) == text


def test_what_fits_is_one_piece() -> None:
    assert in_pieces(["one", "", "two"], 100, len) == ["one\n\ntwo"]
    assert in_pieces([], 100, len) == []
    assert in_pieces(["", " "], 100, len) == []


def test_texts_are_parted_where_they_end() -> None:
    assert in_pieces(["a" * 40, "b" * 40, "c" * 40], 90, len) == [
        "a" * 40 + "\n\n" + "b" * 40,
        "c" * 40,
    ]


def test_a_text_that_is_too_long_is_divided_at_the_end_of_a_word() -> None:
    pieces = in_pieces(["word " * 40], 60, len)
    assert len(pieces) > 3
    for piece in pieces[1:]:
        assert piece.startswith("[continued] word")
    for piece in pieces:
        assert piece.endswith("word")
        assert len(piece) <= 60


words = st.text("abc \n", max_size=200)


@given(st.lists(words, max_size=6), st.integers(40, 120))
def test_no_piece_is_too_long_and_no_word_is_lost(texts: list[str], limit: int) -> None:
    pieces = in_pieces(texts, limit, len)
    assert all(len(piece) <= limit for piece in pieces)
    joined = re.sub(r"\[continued\]|\s", "", "".join(pieces))
    assert joined == re.sub(r"\s", "", "".join(texts))


@given(words, st.integers(-5, 40))
def test_a_limit_too_small_to_keep_ends_all_the_same(text: str, limit: int) -> None:
    pieces = in_pieces([text], limit, len)
    joined = re.sub(r"\[continued\]|\s", "", "".join(pieces))
    assert joined == re.sub(r"\s", "", text)


def test_dense_text_is_measured_and_not_guessed() -> None:
    """The half that costs four times as much comes first: an average would put too much into the first piece."""
    text = "語" * 500 + "a" * 500

    def count(part: str) -> int:
        return sum(4 if char == "語" else 1 for char in part)

    for piece in in_pieces([text], 300, count):
        assert count(piece) <= 300


def test_a_text_of_many_windows_is_not_counted_over_and_over() -> None:
    counted = 0

    def count(text: str) -> int:
        nonlocal counted
        counted += len(text)
        return len(text.split())

    text = "and so on " * 20_000  # 600 pieces
    pieces = in_pieces([text], 100, count)
    assert " ".join(pieces).replace("[continued] ", "").split() == text.split()
    assert counted < 20 * len(text)
