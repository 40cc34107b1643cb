"""A wire format's encoder that encodes nothing twice: a turn costs what is new in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from nanobot.messages import Message, ToolSpec

__all__ = ["EncodedOnce"]

_Image = TypeVar("_Image")
_Encoded = TypeVar("_Encoded")
_Tools = TypeVar("_Tools")


_LONG: Final = 100
"""From so many messages on, the beginning of a history is remembered: below, each is looked at in less time."""

_FAR: Final = 50
"""So many messages from the end is looked for what is remembered: a turn with many calls adds that many."""


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


class _Beginning(NamedTuple):
    """What the messages that a request began with were encoded into. It lies with the last of them, so that it goes with it.

    Attributes:
      before: Those before the last; itself among them, it would keep itself alive.
      found: What each was encoded into, the last one included.
    """

    before: list[Message]
    found: list[Any]


class EncodedOnce(Generic[_Image, _Encoded, _Tools]):
    """What a message was encoded into stays with it for as long as it lives, as the sessions that are live keep theirs.

    A message that has parts is encoded anew each time: an image may be gone, or be another one.

    Of a long history, which the next request will begin with again, the whole is remembered: comparing 2,000 messages takes 5 us,
    asking each of them 80.

    Args:
      format: Names the encoding: what has the same name encodes the same message into the same bytes.
      message: Encodes one message, given the images that were read.
      tools: Encodes the tools that a request offers. Those of the last request are kept.
    """

    __slots__ = ("_beginning", "_format", "_last_tools", "_message", "_tools")

    def __init__(
        self,
        format: str,
        message: Callable[[Message, Mapping[str, _Image]], _Encoded],
        tools: Callable[[Sequence[ToolSpec]], _Tools],
    ) -> None:
        self._format = format
        self._beginning = f"{format}, from the beginning"
        self._message = message
        self._tools = tools
        self._last_tools: tuple[tuple[ToolSpec, ...], _Tools] | None = None

    def look(self, messages: Sequence[Message]) -> Sought[_Encoded]:
        """Find what the messages of a request were encoded into."""
        if len(messages) < _LONG:
            return self._look_from(0, [], messages)
        known = self._known(messages)
        sought = self._look_from(len(known), known, messages)
        self._remember(messages, sought, len(known))
        return sought

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

    def _look_from(
        self, start: int, known: list[Any], messages: Sequence[Message]
    ) -> Sought[_Encoded]:
        format = self._format
        rest = messages[start:] if start else messages
        # One pass over what may be thousands of messages: a turn spends more there than on what is new.
        found = [message.__dict__.get(format) for message in rest]
        fresh = [
            (place, rest[place - start]) for place, one in enumerate(found, start) if one is None
        ]
        return Sought([*known, *found] if known else found, fresh)

    def _known(self, messages: Sequence[Message]) -> list[Any]:
        """What the messages that an earlier request began with were encoded into, if this one begins with them, too."""
        for place in range(len(messages) - 1, max(-1, len(messages) - _FAR - 1), -1):
            beginning = messages[place].__dict__.get(self._beginning)
            if beginning is None:
                continue
            if beginning.before == list(messages[:place]):
                known: list[Any] = beginning.found
                return known
            messages[place].__dict__.pop(self._beginning, None)  # there is one at a time
            break
        return []

    def _remember(self, messages: Sequence[Message], sought: Sought[_Encoded], known: int) -> None:
        length = sought.missing[0][0] if sought.missing else len(messages)
        if length == known or not length:
            return
        if known:
            messages[known - 1].__dict__.pop(self._beginning, None)
        beginning = _Beginning(list(messages[: length - 1]), sought.found[:length])
        messages[length - 1].__dict__[self._beginning] = beginning

    def _encode(self, message: Message, images: Mapping[str, _Image]) -> _Encoded:
        encoded = self._message(message, images)
        if isinstance(
            message.content, str
        ):  # what is in a file may be something else the next time
            message.__dict__[self._format] = encoded
        return encoded
