"""The messages of a turn, in our shape and in the one that hooks see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from nanobot.messages import Message, message_from_openai, to_openai

from ._hook_context import AgentHookContext

__all__ = ["Transcript"]


class Transcript:
    """What the model is shown: everything said before the turn and in it.

    With hooks there are two lists of the same content: ours, and the dicts in `context.messages`, which hooks may
    change at will. `adopt` brings their changes over; a message that they left alone stays the same object, with all
    that its dict does not show (reasoning, signatures, metadata). Without hooks there is one list, and all this costs
    nothing.
    """

    def __init__(self, messages: list[Message], context: AgentHookContext | None) -> None:
        self.messages = messages
        self._context = context
        self._shown: list[
            tuple[dict[str, Any], Message]
        ] = []  # every dict hooks were given, and what it was made from
        if context is not None:
            self._show(messages)

    def extend(self, messages: Sequence[Message]) -> None:
        """Append what was just said."""
        self.messages.extend(messages)
        if self._context is not None:
            self._show(messages)

    def adopt(self) -> None:
        """Take over what hooks changed since the last time.

        Raises:
          UsageError: A hook left something in `context.messages` that is no message.
        """
        if self._context is None:
            return
        shown = self._context.messages
        if len(shown) == len(self.messages) and all(
            to_openai(message) == value for message, value in zip(self.messages, shown, strict=True)
        ):
            return
        same = {id(value): message for value, message in self._shown}
        equal = {_key(to_openai(message)): message for _, message in self._shown}
        adopted: list[Message] = []
        for index, value in enumerate(shown):
            message = same.get(id(value))
            if message is None or to_openai(message) != value:
                message = equal.get(_key(value)) or message_from_openai(value, index=index)
            adopted.append(message)
        self.messages[:] = adopted
        self._shown = list(zip(shown, adopted, strict=True))

    def _show(self, messages: Sequence[Message]) -> None:
        assert self._context is not None
        for message in messages:
            value = to_openai(message)
            self._shown.append((value, message))
            self._context.messages.append(value)


def _key(value: object) -> bytes | None:
    try:
        return msgspec.json.encode(value)
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # a hook may put anything there; reading it will say what is wrong
        return None
