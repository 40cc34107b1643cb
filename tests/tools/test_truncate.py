"""A long text keeps its beginning and its end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nanobot.tools._truncate import cut_middle


def test_what_fits_is_left_alone() -> None:
    assert cut_middle("x" * 10, 10, "[cut]") == "x" * 10


def test_two_thirds_of_what_is_shown_is_the_beginning() -> None:
    assert cut_middle("a" * 50 + "b" * 50, 30, "[cut]") == "a" * 20 + "\n[cut]\n" + "b" * 10


def test_lines_are_kept_whole_where_that_gives_up_little() -> None:
    text = "".join(f"line {n}\n" for n in range(1000))
    head, _, tail = cut_middle(text, 600, "[cut]").partition("\n[cut]\n")
    assert head.split("\n")[-1] == f"line {len(head.splitlines()) - 1}"
    assert tail.startswith("line ")
    assert tail.endswith("line 999\n")


@given(st.text(max_size=300), st.integers(0, 200))
def test_no_more_is_shown_than_allowed_and_all_of_it_from_the_ends(text: str, limit: int) -> None:
    cut = cut_middle(text, limit, "[cut]")
    if len(text) <= limit:
        assert cut == text
    else:
        head, _, tail = cut.partition("\n[cut]\n")
        assert text.startswith(head)
        assert text.endswith(tail)
        assert len(head) + len(tail) <= limit
