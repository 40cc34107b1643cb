"""What is printed above an editor that may open or close at any moment, in another thread."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Awaitable
from typing import Final

from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.output import Output

__all__ = ["AboveEditor"]

_BUNDLE_S: Final = 0.02
"""How long what follows a print waits for more: each draws the editor anew, and longer lets a finished block vanish before
it reappears."""


class AboveEditor(io.TextIOBase):
    """A text file: what is written comes above the editor while one is open, and straight to the terminal otherwise.

    prompt_toolkit's `StdoutProxy` looks whether there is an editor and writes later, in a thread of its own, over the first
    line of an editor that has opened meanwhile; and what it hands to an editor that closes is lost. Here one lock covers
    both, and what is handed over is taken only when it is printed.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # of the editor that is open
        self._waiting: list[str] = []  # for that editor to let it be printed
        self._called = False  # whether that editor was told
        self._stepping_aside: Awaitable[None] | None = None

    def editor_opens(self) -> None:
        """An editor is about to draw itself, and runs in the current asyncio loop. Waits for a print that goes on."""
        with self._lock:
            self._loop = asyncio.get_running_loop()

    def editor_closed(self) -> None:
        """The editor has drawn for the last time."""
        with self._lock:
            self._loop = None
            self._called = False
            self._print(self._taken())

    def write(self, text: str) -> int:
        """Print, or have the editor let it be printed soon; from any thread."""
        with self._lock:
            self._waiting.append(text)
            if self._loop is None:
                self._print(self._taken())
            elif not self._called:
                self._called = True
                # If its loop is closed, `editor_closed` is next.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._step_aside)
        return len(text)

    def flush(self) -> None:
        """Nothing to do: it is printed, or will be as soon as the editor lets it."""

    def isatty(self) -> bool:
        """There is an editor only where there is a terminal."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has it as a variable
        """The terminal's."""
        return self._output.encoding()

    def _step_aside(self) -> None:
        """In the editor's loop: have it erased, print, and have it drawn anew."""
        # Kept: a loop holds its tasks weakly.
        self._stepping_aside = run_in_terminal(self._print_bundle)

    def _print_bundle(self) -> None:
        with self._lock:
            text = self._taken()
        asyncio.get_running_loop().call_later(_BUNDLE_S, self._look_again)
        self._print(text)  # without the lock: a terminal that is slow shall not hold up who writes

    def _look_again(self) -> None:
        with self._lock:
            self._called = bool(self._waiting)
        if self._called:
            self._step_aside()

    def _taken(self) -> str:
        text, self._waiting = "".join(self._waiting), []
        return text

    def _print(self, text: str) -> None:
        if text:
            self._output.enable_autowrap()
            self._output.write_raw(text)
            self._output.flush()
