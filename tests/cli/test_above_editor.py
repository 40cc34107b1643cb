"""What is printed while an editor opens, is open, or closes comes whole, in order, and above the editor."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from nanobot.cli._above_editor import AboveEditor
from nanobot.cli._keyboard import PromptKeyboard


class Terminal(DummyOutput):
    """A terminal that remembers what it was told.

    Attributes:
      printed: What was printed, and "EDITOR" for each time that the editor drew its line.
      while_printing: Called in the middle of a print.
    """

    def __init__(self) -> None:
        self.printed: list[str] = []
        self.while_printing: Callable[[], None] = lambda: None

    def write_raw(self, data: str) -> None:
        self.while_printing()
        self.printed.append(data)

    def write(self, data: str) -> None:
        if data == ">":
            self.printed.append("EDITOR")


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe:
        yield pipe


@pytest.fixture
def keyboard(terminal: Terminal, keys: PipeInput, tmp_path: Path) -> PromptKeyboard:
    with create_app_session(input=keys, output=terminal):
        return PromptKeyboard(
            history=tmp_path / "history", on_ctrl_c=lambda: False, moving=lambda: ""
        )


def is_in(thread: threading.Thread, function: Callable[..., object]) -> bool:
    """Whether a thread is inside of a function."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_an_editor_that_opens_during_a_print_draws_itself_behind_it(
    keyboard: PromptKeyboard, terminal: Terminal, keys: PipeInput
) -> None:
    editing = threading.Thread(target=keyboard.read, daemon=True)

    def open_editor() -> None:
        editing.start()
        wait_until(lambda: "EDITOR" in terminal.printed or is_in(editing, AboveEditor.editor_opens))

    terminal.while_printing = open_editor
    keyboard.above.write("what a command says\n")
    keys.send_text("\r")
    editing.join(60)
    assert terminal.printed[:2] == ["what a command says\n", "EDITOR"]


def test_the_editor_is_drawn_anew_below_what_is_printed(
    keyboard: PromptKeyboard, terminal: Terminal, keys: PipeInput
) -> None:
    editing = threading.Thread(target=keyboard.read, daemon=True)
    editing.start()
    wait_until(lambda: "EDITOR" in terminal.printed)
    for number in range(100):
        keyboard.above.write(f"{number}\n")
    wait_until(lambda: "99\n" in "".join(terminal.printed))
    wait_until(lambda: terminal.printed[-1] == "EDITOR")
    keys.send_text("\r")
    editing.join(60)
    assert "".join(terminal.printed).replace("EDITOR", "") == "".join(
        f"{number}\n" for number in range(100)
    )


def test_what_an_editor_that_closes_no_longer_lets_through_is_printed_after_it(
    terminal: Terminal,
) -> None:
    above = AboveEditor(terminal)

    async def editor() -> None:
        above.editor_opens()
        above.write("handed over\n")  # and its loop ends before it steps aside

    asyncio.run(editor())
    above.write("its loop is closed\n")
    assert terminal.printed == []
    above.editor_closed()
    above.write("no editor\n")
    assert terminal.printed == ["handed over\nits loop is closed\n", "no editor\n"]
