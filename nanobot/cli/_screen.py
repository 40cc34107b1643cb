"""The screen of a conversation: finished things are printed and stay, the moving part is drawn for the editor."""

from __future__ import annotations

import io
from typing import Final

from rich.console import Console, RenderableType
from rich.text import Text

from ._failure import Failure
from ._fold import without_controls
from ._turn_view import TurnView

__all__ = ["Screen"]

_MOVING_LINES: Final = 10


class Screen:
    """What a conversation shows.

    Attributes:
      moving: The moving part as of the last `draw`, with ANSI escapes, each line ended; "" for none. An editor in another
        thread may read it at any time.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view: TurnView | None = None
        self._question: RenderableType | None = None
        self.moving = ""
        self._sketch = Console(
            file=io.StringIO(),
            force_terminal=console.is_terminal,
            color_system=console.color_system,  # type: ignore[arg-type]  # what one console says, another one takes
            no_color=console.no_color,
            highlight=False,
            emoji=False,
        )

    @property
    def plain(self) -> bool:
        """Whether nothing can move here, so that everything is printed as it comes."""
        return self._console.is_dumb_terminal or not self._console.is_terminal

    @property
    def width(self) -> int:
        """Columns."""
        return self._console.width

    @property
    def console(self) -> Console:
        """Where what stays is printed."""
        return self._console

    def show(self, what: RenderableType, *, gap: bool = False) -> None:
        """Print something that stays, after an empty line if there is to be a `gap`."""
        if gap:
            self._console.print()
        self._console.print(what)

    def write(self, text: str) -> None:
        """Print a piece of text as it is, but for what could command the terminal."""
        self._console.print(Text(without_controls(text)), end="", soft_wrap=True)

    def note(self, text: str) -> None:
        """Print an aside in one dim line."""
        self._console.print(Text(f"  {text}", style="dim"))

    def fail(self, failure: Failure) -> None:
        """Print what went wrong, and what to do."""
        self._console.print(Text.assemble(("Error: ", "bold red"), failure.message))
        if failure.do:
            self._console.print(Text.assemble(("Do:    ", "bold cyan"), failure.do))

    def follow(self, view: TurnView | None) -> None:
        """The turn whose moving part is shown from now on; None for none."""
        self._view = view
        self.draw()

    def ask(self, question: RenderableType | None) -> None:
        """A question that waits for an answer, shown below the moving part; None for none."""
        self._question = question
        if question is not None and self.plain:
            self.show(question)
        self.draw()

    def draw(self) -> bool:
        """Draw the moving part anew; returns whether it has changed."""
        before, self.moving = self.moving, self._drawn()
        return self.moving != before

    def _drawn(self) -> str:
        if self._view is None and self._question is None:
            return ""
        self._sketch.width = max(20, self._console.width - 1)
        height = min(_MOVING_LINES, max(1, self._console.height - 5))
        with self._sketch.capture() as drawn:
            if self._view is not None and (live := self._view.live(height=height)) is not None:
                self._sketch.print(live)
            if self._question is not None:
                self._sketch.print(self._question)
        return drawn.get()
