"""Reasoning between `<think>` tags, told apart from the answer wherever the stream is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import ReasoningDelta
from nanobot.providers.openai_chat._think import ThinkSplitter


def split(*pieces: str) -> tuple[str, str]:
    """Return text and reasoning, each joined."""
    splitter = ThinkSplitter()
    deltas = [delta for piece in pieces for delta in splitter.feed(piece)] + splitter.end()
    assert all(delta.text for delta in deltas)
    reasoning = "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))
    text = "".join(delta.text for delta in deltas if not isinstance(delta, ReasoningDelta))
    return text, reasoning


@pytest.mark.parametrize(
    ("whole", "text", "reasoning"),
    [
        ("plain", "plain", ""),
        ("<think>why</think>because", "because", "why"),
        ("\n<think>\nwhy\n</think>\n\nbecause\n", "because\n", "why"),
        ("Hello <think>why</think> world", "Hello world", "why"),
        ("<think>a</think>b<think>c</think>d", "bd", "ac"),
        ("<think>cut by the limit", "", "cut by the limit"),
        ("<think></think>x", "x", ""),
        ("a < b and <thin air>", "a < b and <thin air>", ""),
        ("ends with <thin", "ends with <thin", ""),
        ("<think>x < y </thin", "", "x < y </thin"),
        ("Write `<think>` in quotes", "Write `<think>` in quotes", ""),
        ('a "<think>" b', 'a "<think>" b', ""),
        ("  indented", "  indented", ""),
        ("", "", ""),
        ("   ", "   ", ""),
        ("stray </think> tag", "stray </think> tag", ""),
    ],
)
def test_text_and_reasoning_are_told_apart_at_every_cut(
    whole: str, text: str, reasoning: str
) -> None:
    assert split(whole) == (text, reasoning)
    assert split(*whole) == (text, reasoning)
    for at in range(len(whole)):
        assert split(whole[:at], whole[at:]) == (text, reasoning), at


words = st.sampled_from(
    ["<think>", "</think>", "<", "think>", " ", "\n", "a", "`", "</", "é", " " * 70, "bc"]
)


@given(st.lists(words, max_size=30), st.lists(st.integers(min_value=0), max_size=12))
def test_no_cut_changes_what_is_text_and_what_is_reasoning(
    parts: list[str], cuts: list[int]
) -> None:
    whole = "".join(parts)
    edges = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    assert split(*(whole[start:end] for start, end in pairwise(edges))) == split(whole)


def test_text_without_tags_is_passed_on_at_once() -> None:
    splitter = ThinkSplitter()
    assert [delta.text for delta in splitter.feed("Hel")] == ["Hel"]
    assert [delta.text for delta in splitter.feed("lo <")] == ["lo "]
    assert [delta.text for delta in splitter.feed("3")] == ["<3"]


def test_endless_blank_space_is_not_hoarded() -> None:
    for beginning in ("", "<think>x"):
        splitter = ThinkSplitter()
        splitter.feed(beginning)
        for _ in range(1000):
            splitter.feed(" ")
        assert len(splitter._held) <= 80
