"""Markdown that streams in: blocks come out whole, once, and the same however the text was cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.cli._blocks import MarkdownBlocks

DOCUMENT = st.lists(
    st.sampled_from(
        [
            "# Title",
            "words",
            "- item",
            "1. first",
            "  more of it",
            "```",
            "```python",
            "~~~",
            "",
            "",
            "| a |",
        ]
    ),
    max_size=14,
).map("\n".join)


def blocks_of(pieces: list[str]) -> list[str]:
    blocks = MarkdownBlocks()
    found = [block for piece in pieces for block in blocks.feed(piece)]
    return [*found, *blocks.close()]


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("one\n\ntwo", ["one\n\n", "two"]),
        ("one\ntwo", ["one\ntwo"]),
        ("- a\n\n- b\n\nend", ["- a\n\n- b\n\n", "end"]),
        ("- a\n\n  more\n\nend", ["- a\n\n  more\n\n", "end"]),
        ("```\na\n\nb\n```\n\nend", ["```\na\n\nb\n```\n\n", "end"]),
        ("````\n```\n\n```\n````\n\nend", ["````\n```\n\n```\n````\n\n", "end"]),
        ("\n\n\n", []),
        ("\n- a\n\n- b\n", ["- a\n\n- b\n"]),
        ("\n\n  a", ["  a"]),
    ],
)
def test_a_block_ends_where_nothing_can_be_added_to_it(text: str, blocks: list[str]) -> None:
    assert blocks_of([text]) == blocks


@given(DOCUMENT, st.data())
def test_cuts_do_not_matter_and_nothing_is_lost(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    edges = [0, *cuts, len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    found = blocks_of(pieces)
    assert found == blocks_of([text])
    assert "".join(found).split() == text.split()
    assert all(block.strip() for block in found)


def test_the_open_block_is_what_may_still_grow() -> None:
    blocks = MarkdownBlocks()
    assert blocks.feed("one\n\ntw") == []
    assert blocks.feed("o\n") == ["one\n\n"]
    assert blocks.open == "two\n"
