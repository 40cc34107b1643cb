"""Reasoning that a model writes into its answer between `<think>` tags, told apart from the answer as it
streams."""

from __future__ import annotations

from typing import Final

from nanobot.messages import ReasoningDelta, TextDelta

__all__ = ["ThinkSplitter"]

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_QUOTES: Final = ("`", '"', "'")
"""A tag right behind one of these is being talked about, not used; taking it for markup would swallow the answer."""

_MOST_BLANK: Final = 64
"""How much blank space around a tag is taken for part of the markup; what is beyond is delivered, not kept."""


class ThinkSplitter:
    """Splits streamed text into text and reasoning; how the text is cut makes no difference to what comes out,
    joined.

    Only what might still become a tag is held back. The tags themselves, the blank space around a block of
    reasoning, and the blank space before one that opens the answer are dropped. A block that is never closed is
    reasoning to the end.

    Attributes:
      in_text: Whether a text without "<" is text as it stands. Who sees that may deliver one past `feed`, and notes it in
        `last_text`: it is the case for nearly all pieces of nearly all answers.
      last_text: The end of what was delivered as text.
    """

    __slots__ = ("_held", "_skip_blank", "_started", "_thinking", "in_text", "last_text")

    def __init__(self) -> None:
        self._held = ""  # may be the beginning of a tag
        self._thinking = False
        self._started = False  # whether any text was delivered
        self._skip_blank = False  # right behind a tag
        self.in_text = False  # none of these stands in the way of a text without tags
        self.last_text = ""

    def feed(self, text: str) -> list[TextDelta | ReasoningDelta]:
        """Take the next text and return what is certain by now, in order; nothing in it is empty."""
        found: list[TextDelta | ReasoningDelta] = []
        rest = self._held + text
        self._held = ""
        while rest:
            if self._skip_blank:
                rest = rest.lstrip()
                if not rest:
                    break
                self._skip_blank = False
            rest = self._inside(rest, found) if self._thinking else self._outside(rest, found)
        self.in_text = self._started and not (self._held or self._thinking or self._skip_blank)
        return found

    def end(self) -> list[TextDelta | ReasoningDelta]:
        """Take the end of the answer and return what was held back."""
        rest, self._held = self._held, ""
        if not rest:
            return []
        return [ReasoningDelta(rest) if self._thinking else TextDelta(rest)]

    def _inside(self, rest: str, found: list[TextDelta | ReasoningDelta]) -> str:
        at = rest.find(_CLOSE)
        if at < 0:
            # Blank space is held too: it may be what precedes the closing tag.
            kept = _without_blank_end(rest[: len(rest) - _beginning_of(_CLOSE, rest)])
            self._held = rest[kept:]
            if kept:
                found.append(ReasoningDelta(rest[:kept]))
            return ""
        if reasoning := rest[: _without_blank_end(rest[:at])]:
            found.append(ReasoningDelta(reasoning))
        self._thinking = False
        self._skip_blank = True
        return rest[at + len(_CLOSE) :]

    def _outside(self, rest: str, found: list[TextDelta | ReasoningDelta]) -> str:
        at = rest.find(_OPEN)
        while at >= 0 and (rest[at - 1] if at else self.last_text[-1:]) in _QUOTES:
            at = rest.find(_OPEN, at + len(_OPEN))
        text = rest[:at] if at >= 0 else rest[: len(rest) - _beginning_of(_OPEN, rest)]
        if not self._started and len(text) <= _MOST_BLANK and not text.strip():
            if at < 0:  # blank so far: wait for what it precedes
                self._held = rest
                return ""
            text = ""
        if text:
            self._started = True
            self.last_text = text
            found.append(TextDelta(text))
        if at < 0:
            self._held = rest[len(text) :]
            return ""
        self._thinking = True
        self._skip_blank = True
        return rest[at + len(_OPEN) :]


def _without_blank_end(text: str) -> int:
    """Return the length of `text` without the blank space at its end."""
    return max(len(text.rstrip()), len(text) - _MOST_BLANK)


def _beginning_of(tag: str, text: str) -> int:
    """Return how many characters at the end of `text` might be the beginning of `tag`."""
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0
