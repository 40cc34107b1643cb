"""The beginning and the end of an output stay, whatever its length and its pieces."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from nanobot.tools.builtin._output import Output


def output_of(pieces: list[bytes], most: int) -> Output:
    output = Output(most)
    for piece in pieces:
        output.feed(piece)
    return output


@given(st.lists(st.binary(max_size=50)), st.integers(1, 100))
def test_no_more_is_kept_than_may_be_and_nothing_is_invented(
    pieces: list[bytes], most: int
) -> None:
    whole = b"".join(pieces)
    output = output_of(pieces, most)
    assert output.size == len(whole)
    assert sum(map(len, output._tail)) < most + max(map(len, pieces), default=0) + 1
    if len(whole) <= most:
        assert output.text == whole.decode("utf-8", "replace")


@given(st.integers(20, 2000), st.integers(1, 40))
def test_what_is_left_out_is_counted(length: int, piece: int) -> None:
    whole = ("0123456789" * 200)[:length].encode()
    output = output_of([whole[i : i + piece] for i in range(0, length, piece)], 15)
    head, count, tail = re.split(r"\n\[([\d,]+) bytes are left out here\.\]\n", output.text)
    assert whole.startswith(head.encode())
    assert whole.endswith(tail.encode())
    assert (len(head), len(tail)) == (10, 5)
    assert int(count.replace(",", "")) == length - 15


def test_a_character_is_never_cut_in_two() -> None:
    text = output_of(["äöü".encode() * 100], 16).text
    assert "\ufffd" not in text
    assert text.startswith("äöüäö\n[")
    assert text.endswith("]\nöü")
