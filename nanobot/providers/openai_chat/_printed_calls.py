"""Tool calls that a small model prints as text, told apart from the answer as it streams."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any, Final

import msgspec
from msgspec import Struct

__all__ = ["PrintedCall", "PrintedCalls"]

_TAG: Final = "<tool_call>"
_FENCE: Final = "```"
_TAGGED: Final = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>\s*|\Z)", re.DOTALL)
_FENCED: Final = re.compile(r"```[a-z_]*\s*\n(.*?)\s*(?:```|\Z)", re.DOTALL)
_BLANK: Final = " \t\r\n"


class PrintedCall(Struct, frozen=True):
    """One call: the tool's name, and its arguments as the JSON text of an object."""

    name: str
    arguments: str


class PrintedCalls:
    """Holds back text that may be a call, and says at the end of the answer what it was.

    Local servers whose chat template the model does not follow hand its calls on as text. Three forms are understood:
    `<tool_call>{…}</tool_call>`, wherever it begins, as models are trained to write it; and an answer that is nothing but a
    JSON object, or a list of them, bare or in one fence. The object has to name a tool that was offered, with its
    arguments; anything else is text, all of it. So an answer that begins like one of these comes in one piece, at its end.

    Args:
      offered: Names of the tools that the model may call.
    """

    __slots__ = ("_held", "_holding", "_offered", "_started")

    def __init__(self, offered: Set[str]) -> None:
        self._offered = offered
        self._held = ""
        self._holding = False
        self._started = False  # whether any text was delivered

    def feed(self, text: str) -> str:
        """Take the next text and return what is certain to be text by now."""
        self._held += text
        if self._holding:
            return ""
        visible = self._held.lstrip(_BLANK)
        if not self._started:
            if not visible or _FENCE.startswith(visible):
                return ""
            if visible[0] in "{[" or visible.startswith(_FENCE):
                self._holding = True
                return ""
        at = self._held.find(_TAG)
        if at >= 0:
            self._holding = True
        else:
            at = len(self._held) - _beginning_of(_TAG, self._held)
        told, self._held = self._held[:at], self._held[at:]
        self._started = self._started or bool(told.strip(_BLANK))
        return told

    def end(self) -> tuple[str, tuple[PrintedCall, ...]]:
        """Take the end of the answer: the text that was held back, and the calls that it is, if it is any."""
        held, self._held = self._held, ""
        return held, self._calls_in(held) if self._holding else ()

    def _calls_in(self, text: str) -> tuple[PrintedCall, ...]:
        text = text.strip(_BLANK)
        if text.startswith(_TAG):
            pieces, left = _TAGGED.findall(text), _TAGGED.sub("", text)
        elif fence := _FENCED.fullmatch(text):
            pieces, left = [fence[1]], ""
        else:
            pieces, left = [text], ""
        if left:  # words after the calls: rather show all than lose some
            return ()
        calls: list[PrintedCall] = []
        for piece in pieces:
            found = self._calls_from_json(piece)
            if not found:
                return ()
            calls += found
        return tuple(calls)

    def _calls_from_json(self, text: str) -> list[PrintedCall]:
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return []
        calls: list[PrintedCall] = []
        for item in value if isinstance(value, list) else [value]:
            call = self._call_from_object(item)
            if call is None:
                return []
            calls.append(call)
        return calls

    def _call_from_object(self, value: Any) -> PrintedCall | None:
        if isinstance(value, dict) and isinstance(value.get("function"), dict):
            value = value["function"]
        if not isinstance(value, dict):
            return None
        name = value.get("name")
        arguments = value.get("arguments", value.get("parameters"))
        if isinstance(arguments, str):
            try:
                arguments = msgspec.json.decode(arguments)
            except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
                return None
        if (
            not isinstance(name, str)
            or name not in self._offered
            or not isinstance(arguments, dict)
        ):
            return None
        return PrintedCall(name, msgspec.json.encode(arguments).decode())


def _beginning_of(tag: str, text: str) -> int:
    """Return how many characters at the end of `text` might be the beginning of `tag`."""
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0
