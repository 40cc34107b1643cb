"""Where the lines of a conversation come from: an editor with history, or a plain terminal line by line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI, StyleAndTextTuples, to_formatted_text
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.styles import Style

from ._above_editor import AboveEditor
from ._chat_line import COMMANDS

__all__ = ["Keyboard", "PlainKeyboard", "PromptKeyboard"]

_STYLE = Style.from_dict({"prompt": "ansicyan bold", "continuation": "ansibrightblack"})


class Keyboard(Protocol):
    """A source of lines, used from one thread at a time."""

    @property
    def above(self) -> TextIO:
        """Where to print, from any thread, so that it comes above the line that is being typed."""
        ...

    def read(self) -> str:
        """Block until the user has finished a line, or several that belong together.

        Raises:
          EOFError: There will be no more.
        """
        ...

    def redraw(self) -> None:
        """Draw the moving part anew, soon. From any thread."""
        ...

    def stop(self) -> None:
        """Make a `read` that is going on in another thread raise `EOFError`, as soon as it can."""
        ...


class PromptKeyboard:
    """An editor: history that outlives the process, several lines, completion of commands, and a moving part above it."""

    def __init__(
        self,
        *,
        history: Path,
        on_ctrl_c: Callable[[], bool],
        moving: Callable[[], str],
    ) -> None:
        """Set the editor up; nothing is drawn yet. All functions are called in the thread that reads.

        Args:
          history: File of earlier lines. If it cannot be used, lines are remembered until the end of the process.
          on_ctrl_c: Called when Ctrl-C is pressed; returns whether there was something to stop.
          moving: What to show above the line just now, with ANSI escapes; "" for nothing.
        """
        self._on_ctrl_c = on_ctrl_c
        self._moving = moving
        self._stopped = False
        self._session: PromptSession[str] = PromptSession(
            message=self._message,
            history=_history(history),
            key_bindings=self._bindings(),
            multiline=True,
            prompt_continuation=lambda width, number, wrapped: [
                ("class:continuation", "." * (width - 1) + " ")
            ],
            completer=_Commands(),
            complete_while_typing=Condition(lambda: get_app().current_buffer.text.startswith("/")),
            reserve_space_for_menu=0,
            style=_STYLE,
            enable_history_search=True,
        )
        self._above = AboveEditor(self._session.output)

    @property
    def above(self) -> TextIO:
        """Above the editor while there is one."""
        return cast(TextIO, self._above)

    def read(self) -> str:
        """Show the editor until Enter. Alt-Enter, or a backslash before Enter begins another line."""

        def before_drawing() -> None:
            self._above.editor_opens()
            if self._stopped:
                get_app().exit(exception=EOFError)

        try:
            # Not the main thread: signals are not the editor's, and Ctrl-C arrives as a key.
            return self._session.prompt(
                handle_sigint=False, set_exception_handler=False, pre_run=before_drawing
            )
        finally:
            self._above.editor_closed()

    def stop(self) -> None:
        """End the editor."""
        self._stopped = True
        app = self._session.app
        loop = app.loop
        if loop is not None and app.is_running:
            loop.call_soon_threadsafe(
                lambda: app.exit(exception=EOFError) if app.is_running else None
            )

    def redraw(self) -> None:
        """Draw the moving part anew, soon. From any thread."""
        self._session.app.invalidate()

    def _message(self) -> StyleAndTextTuples:
        moving = (
            "" if get_app().is_done else self._moving()
        )  # what stays in the scrollback does not move
        above = [*to_formatted_text(ANSI(moving))] if moving else []
        return [*above, ("class:prompt", "> ")]

    def _bindings(self) -> KeyBindings:
        keys = KeyBindings()

        # Ctrl-J as well: what is typed while no editor is open reaches the next one with Enter as a line feed.
        @keys.add("enter")
        @keys.add("c-j")
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.document.text_before_cursor.endswith("\\"):
                buffer.delete_before_cursor()
                buffer.insert_text("\n")
            elif buffer.complete_state and buffer.complete_state.current_completion:
                buffer.complete_state = None
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter")
        @keys.add("escape", "c-j")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            if not self._on_ctrl_c():
                event.current_buffer.reset()

        @keys.add("c-d", filter=Condition(lambda: not get_app().current_buffer.text))
        def _(event: KeyPressEvent) -> None:
            event.app.exit(exception=EOFError)

        return keys


class _Commands(Completer):
    """Completes the commands of the conversation."""

    def get_completions(self, document: Any, complete_event: Any) -> Any:
        typed = document.text_before_cursor
        if typed.startswith("/") and " " not in typed:
            for name, (argument, what) in COMMANDS.items():
                if name.startswith(typed[1:].lower()):
                    yield Completion(
                        f"/{name}",
                        start_position=-len(typed),
                        display=f"/{name} {argument}".rstrip(),
                        display_meta=what,
                    )


class PlainKeyboard:
    """Lines as the terminal gives them, for terminals that cannot move the cursor."""

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    @property
    def above(self) -> TextIO:
        """Nothing moves here."""
        return sys.stdout

    def read(self) -> str:
        """Show `> ` and read one line."""
        sys.stdout.write("> ")
        sys.stdout.flush()
        # Not input(): its lock, held by a thread that still reads, makes the interpreter abort at exit.
        while b"\n" not in self._rest and not self._ended:
            more = os.read(0, 4096)
            self._ended = not more
            self._rest += more
        if self._ended and not self._rest:
            raise EOFError
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace")

    def redraw(self) -> None:
        """Nothing moves here."""

    def stop(self) -> None:
        """Nothing can interrupt it; the thread is left behind."""


def _history(path: Path) -> History:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:  # a home that cannot be written: talking goes on all the same
        return InMemoryHistory()
    return FileHistory(str(path))
