"""Bytes into lines, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.tools.mcp._lines import Lines, LineTooLong


@given(st.lists(st.sampled_from([b"", b"a", b"bc\r", b"\xff\n"]), max_size=8), st.data())
def test_lines_are_the_same_however_the_bytes_are_cut(
    words: list[bytes], data: st.DataObject
) -> None:
    text = b"\n".join(words)
    lines, found, position = Lines(100), [], 0
    while position < len(text):
        size = data.draw(st.integers(1, 4))
        found += lines.feed(text[position : position + size])
        position += size
    assert found == text.split(b"\n")[:-1]


def test_a_line_may_be_as_long_as_allowed_and_no_longer() -> None:
    lines = Lines(4)
    assert lines.feed(b"ab") == []
    assert lines.feed(b"cd\nabcd") == [b"abcd"]
    with pytest.raises(LineTooLong):
        lines.feed(b"e")
