"""What a typed line means."""

from __future__ import annotations

import pytest

from nanobot.cli._chat_line import COMMANDS, Command, Mistyped, Say, read_line
from nanobot.cli._permission import ALWAYS, answer_from_line
from nanobot.tools import Denied


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("hello", Say("hello")),
        ("  ", None),
        ("/new", Command("new")),
        ("/MODEL fast", Command("model", "fast")),
        ("/model  openai/gpt-4.1 ", Command("model", "openai/gpt-4.1")),
        ("/quit", Command("exit")),
        ("exit", Command("exit")),
        (":q", Command("exit")),
        ("/usr/bin/python is what?", Say("/usr/bin/python is what?")),
        ("/ alone", Say("/ alone")),
        (" /new is a word", Say("/new is a word")),
        ("/nwe", Mistyped("nwe")),
        ("please exit", Say("please exit")),
    ],
)
def test_a_line_is_text_or_a_command(line: str, meaning: object) -> None:
    assert read_line(line) == meaning


def test_every_command_is_read_as_itself() -> None:
    for name in COMMANDS:
        assert read_line(f"/{name}") == Command(name)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("y", True),
        (" YES ", True),
        ("a", ALWAYS),
        ("always", ALWAYS),
        ("n", False),
        ("", False),
        ("yes please delete it", Denied("yes please delete it")),
        ("not that folder", Denied("not that folder")),
    ],
)
def test_only_the_exact_words_let_a_tool_run(line: str, answer: object) -> None:
    assert answer_from_line(line) == answer
