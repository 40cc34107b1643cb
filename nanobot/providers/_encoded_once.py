"""A wire format's encoder that encodes nothing twice: a turn costs what is new in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from nanobot.messages import Message, ToolSpec

__all__ = ["EncodedOnce"]

_Image = TypeVar("_Image")
_Encoded = TypeVar("_Encoded")
_Tools = TypeVar("_Tools")


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

    def fresh(self, messages: Sequence[Message]) -> list[Message]:
        """Those that will have to be encoded, among them all that may refer to images."""
        return [message for message in messages if self._format not in message.__dict__]

    def messages(self, messages: Sequence[Message], images: Mapping[str, _Image]) -> list[_Encoded]:
        """Encode the messages of a request, with the images that were read for the `fresh` ones."""
        return [
            message.__dict__.get(self._format) or self._encode(message, images)
            for message in messages
        ]

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
