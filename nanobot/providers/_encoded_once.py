"""A wire format's encoder that encodes nothing twice: a turn costs what is new in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from nanobot.messages import Message, ToolSpec

__all__ = ["EncodedOnce"]

_Image = TypeVar("_Image")
_Encoded = TypeVar("_Encoded")
_Tools = TypeVar("_Tools")


class Sought(Generic[_Encoded]):
    """The messages of one request: what each was encoded into, and those that will have to be.

    Attributes:
      found: In order, with room for those that are missing.
      missing: Each with its place. Among them are all that may refer to images.
    """

    __slots__ = ("found", "missing")

    def __init__(self, found: list[Any], missing: list[tuple[int, Message]]) -> None:
        self.found: list[Any] = found
        self.missing = missing

    @property
    def fresh(self) -> list[Message]:
        """The messages that are missing."""
        return [message for _, message in self.missing]


class EncodedOnce(Generic[_Image, _Encoded, _Tools]):
    """What a message was encoded into stays with it for as long as it lives, as the sessions that are live keep theirs.

    A message that has parts is encoded anew each time: an image may be gone, or be another one.

    Args:
      format: Names the encoding: what has the same name encodes the same message into the same bytes.
      message: Encodes one message, given the images that were read.
      tools: Encodes the tools that a request offers. Those of the last request are kept.
    """

    __slots__ = ("_format", "_last_tools", "_message", "_tools")

    def __init__(
        self,
        format: str,
        message: Callable[[Message, Mapping[str, _Image]], _Encoded],
        tools: Callable[[Sequence[ToolSpec]], _Tools],
    ) -> None:
        self._format = format
        self._message = message
        self._tools = tools
        self._last_tools: tuple[tuple[ToolSpec, ...], _Tools] | None = None

    def look(self, messages: Sequence[Message]) -> Sought[_Encoded]:
        """Find what the messages of a request were encoded into."""
        format = self._format
        # One pass over a history that may be thousands of messages long: a turn spends more there than on what is new.
        found = [message.__dict__.get(format) for message in messages]
        fresh = [(place, messages[place]) for place, one in enumerate(found) if one is None]
        return Sought(found, fresh)

    def messages(
        self, sought: Sought[_Encoded], images: Mapping[str, _Image]
    ) -> Sequence[_Encoded]:
        """Encode what was not found, with the images that were read for it; the whole request in order."""
        for place, message in sought.missing:
            sought.found[place] = self._encode(message, images)
        return sought.found

    def tools(self, tools: Sequence[ToolSpec]) -> _Tools:
        """Encode the tools of a request."""
        last = self._last_tools
        if last is not None and last[0] is tools:
            return last[1]
        encoded = self._tools(tools)
        if isinstance(tools, tuple):  # what can be changed may have been by the next time
            self._last_tools = tools, encoded
        return encoded

    def _encode(self, message: Message, images: Mapping[str, _Image]) -> _Encoded:
        encoded = self._message(message, images)
        if isinstance(
            message.content, str
        ):  # what is in a file may be something else the next time
            message.__dict__[self._format] = encoded
        return encoded
