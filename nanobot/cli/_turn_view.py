"""One turn as a person sees it: what is finished and stays on the screen, and what is still moving. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.text import Text

from nanobot import (
    STREAM_EVENT_REASONING_COMPLETED,
    STREAM_EVENT_REASONING_DELTA,
    STREAM_EVENT_RUN_COMPLETED,
    STREAM_EVENT_RUN_FAILED,
    STREAM_EVENT_TEXT_COMPLETED,
    STREAM_EVENT_TEXT_DELTA,
    STREAM_EVENT_TOOL_COMPLETED,
    STREAM_EVENT_TOOL_FAILED,
    STREAM_EVENT_TOOL_STARTED,
    StreamEvent,
)

from ._blocks import MarkdownBlocks
from ._fold import clipped, elapsed, one_line, summary_of_call, summary_of_result, without_controls

__all__ = ["Finished", "TurnView"]

Kind: TypeAlias = Literal["answer", "aside"]

_THOUGHT_WIDTH = 60


class Finished(Struct, frozen=True):
    """Something that will not change any more: a block of the answer, or an aside such as a folded tool call.

    `gap` says whether an empty line belongs before it.
    """

    kind: Kind
    renderable: RenderableType
    gap: bool


class _Running(Struct):
    name: str
    call: str
    since: float


class TurnView:
    """Follows a turn's events. `feed` gives what is finished, in order; `live` draws what is going on just now."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        width: Callable[[], int],
        drawn: Callable[[str], RenderableType] = Text,
    ) -> None:
        """`now` is a clock in seconds, `width` the columns of the screen, `drawn` makes a block of an answer fit for it."""
        self._now = now
        self._width = width
        self._drawn = drawn
        self._blocks = MarkdownBlocks()
        self._thought = ""
        self._thinking_since: float | None = None
        self._tools: dict[str, _Running] = {}
        self._waiting_since: float | None = now()
        self._last: Kind | None = None  # what was finished last

    def feed(self, event: StreamEvent) -> list[Finished]:
        """Take the next event."""
        match event.type:
            case value if value == STREAM_EVENT_REASONING_DELTA:
                if self._thinking_since is None:
                    self._thinking_since = self._now()
                self._thought += event.delta
                return []
            case value if value == STREAM_EVENT_REASONING_COMPLETED:
                return self._folded_thought()
            case value if value == STREAM_EVENT_TEXT_DELTA:
                self._waiting_since = None
                done = self._folded_thought()
                return done + [
                    self._answer(block)
                    for block in self._blocks.feed(without_controls(event.delta))
                ]
            case value if value == STREAM_EVENT_TEXT_COMPLETED:
                self._waiting_since = self._now()
                return self._rest()
            case value if value == STREAM_EVENT_TOOL_STARTED:
                self._waiting_since = None
                call = summary_of_call(event.name or "", event.arguments, width=self._width() // 2)
                self._tools[_id(event)] = _Running(event.name or "", call, self._now())
                return []
            case value if value in (STREAM_EVENT_TOOL_COMPLETED, STREAM_EVENT_TOOL_FAILED):
                return [self._folded_tool(event)]
            case value if value in (STREAM_EVENT_RUN_COMPLETED, STREAM_EVENT_RUN_FAILED):
                self._waiting_since = None
                self._tools.clear()
                return self._folded_thought() + self._rest()
        return []

    def close(self) -> list[Finished]:
        """The turn is over, whatever it says: give what is left."""
        return self._rest()

    def live(self, *, height: int, answer: bool = True) -> RenderableType | None:
        """Draw what is going on, in about `height` lines; None if nothing is. `answer` includes the open block."""
        parts: list[RenderableType] = []
        open_block = self._blocks.open.strip("\n")
        if answer and open_block:
            # Only its end fits; all of it will be printed when it is whole.
            shown = "\n".join(open_block.split("\n")[-max(1, height) :])
            parts.append(self._drawn(shown))
        if self._thinking_since is not None:
            last = one_line(self._thought[-200:])[-_THOUGHT_WIDTH:]
            parts.append(_line("∴", "thinking", self._now() - self._thinking_since, last))
        parts += [
            _line("·", tool.call, self._now() - tool.since)
            for tool in [*self._tools.values()][-max(1, height) :]
        ]
        if not parts and self._waiting_since is not None:
            parts.append(_line("·", "waiting for the model", self._now() - self._waiting_since))
        return Group(*parts) if parts else None

    def _finished(self, kind: Kind, renderable: RenderableType) -> Finished:
        gap = self._last is not None and not self._last == kind == "aside"
        self._last = kind
        return Finished(kind, renderable, gap)

    def _answer(self, block: str) -> Finished:
        return self._finished("answer", self._drawn(block.strip("\n")))

    def _rest(self) -> list[Finished]:
        return [self._answer(block) for block in self._blocks.close()]

    def _folded_thought(self) -> list[Finished]:
        if self._thinking_since is None:
            return []
        taken = self._now() - self._thinking_since
        thought = clipped(one_line(self._thought[:400]), min(_THOUGHT_WIDTH, self._width() // 2))
        self._thinking_since, self._thought = None, ""
        self._waiting_since = None
        return [self._finished("aside", _line("∴", "thought", taken, thought))]

    def _folded_tool(self, event: StreamEvent) -> Finished:
        running = self._tools.pop(_id(event), None)
        width = self._width() // 2 - 8
        call = (
            running.call
            if running
            else summary_of_call(event.name or "", event.arguments, width=width)
        )
        taken = self._now() - running.since if running else 0.0
        if not self._tools:
            self._waiting_since = self._now()
        if event.type == STREAM_EVENT_TOOL_FAILED:
            return self._finished(
                "aside",
                _line("✗", call, taken, clipped(one_line(event.error or ""), width), style="red"),
            )
        result = summary_of_result(event.metadata.get("result"), width=width)
        return self._finished("aside", _line("✓", call, taken, result))


def _id(event: StreamEvent) -> str:
    return f"{event.iteration}:{event.tool_call_id}"


def _line(sign: str, what: str, seconds: float, more: str = "", style: str = "") -> Text:
    """`✓ read_file notes.txt  0.4 s  one line of it`."""
    return Text.assemble(
        (f"  {sign} ", style or "dim cyan"),
        (what, style or "dim"),
        (f"  {elapsed(seconds)}", "dim"),
        (f"  {more}" if more else "", "dim italic"),
        overflow="ellipsis",
        no_wrap=True,
    )
