"""Tool calls in one line, and nothing in it that could command a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.cli._fold import elapsed, summary_of_call, summary_of_result, without_controls


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0031, "3 ms"),
        (0.42, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert elapsed(seconds) == said


def test_a_call_begins_with_what_says_most() -> None:
    arguments = {"limit": 3, "path": "notes.txt"}
    assert summary_of_call("read_file", arguments, width=80) == "read_file notes.txt limit=3"
    assert summary_of_call("exec", {"command": "ls\n-la"}, width=80) == "exec ls -la"
    assert summary_of_call("exec", None, width=80) == "exec"


def test_a_result_is_its_first_line_and_how_many_follow() -> None:
    assert summary_of_result("a\n\nb\nc\n", width=80) == "a (+2 lines)"
    assert summary_of_result("", width=80) == "nothing"
    assert summary_of_result({"a": 1}, width=80) == '{"a": 1}'


@given(st.text(max_size=60), st.integers(20, 80))
def test_no_line_is_longer_than_it_may_be_or_holds_an_escape(text: str, width: int) -> None:
    for line in (
        summary_of_call("exec", {"command": text}, width=width),
        summary_of_result(text, width=width),
    ):
        assert len(line) <= width
        assert line.isprintable()


def test_what_a_model_says_cannot_command_the_terminal() -> None:
    assert without_controls("a\x1b[2Jb\r\x9b1mc\td\n") == "a[2Jb1mc\td\n"
