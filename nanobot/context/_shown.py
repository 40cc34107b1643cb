"""The messages of one request: what was said, and behind each of the user's words what was added for the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from nanobot.messages import (
    OPENING,
    RUNTIME_CONTEXT,
    AssistantMessage,
    Message,
    SystemMessage,
    TextPart,
    UserMessage,
)

__all__ = ["shown_messages", "with_turn_note"]

_NOTED: Final = "noted"
"""Where a message keeps itself with its note."""


def with_turn_note(message: UserMessage, note: str) -> UserMessage:
    """Return the message as it is stored: the user's words as they are, and the note beside them in the metadata.

    The note is written once, when the turn begins, and shown with every later request of the session just as it was.
    So two requests share a prefix that is equal byte for byte, and the provider's cache finds it.
    """
    return replace(message, metadata={**message.metadata, RUNTIME_CONTEXT: note})


def shown_messages(
    system: str, history: Sequence[Message], user: UserMessage | None = None
) -> list[Message]:
    """Assemble what a model is shown.

    Args:
      system: The system prompt; "" for none.
      history: Stored messages, oldest first, legal but for its start: one that starts with an answer gets an opening.
      user: The message that opens the current turn, or None if the history has it already.

    Returns:
      The system prompt, the history, the user's message; notes are part of the text, and no longer in the metadata.
    """
    shown: list[Message] = [SystemMessage(system)] if system else []
    first_said = next((said for said in history if not isinstance(said, SystemMessage)), None)
    if isinstance(first_said, AssistantMessage):
        shown.append(OPENING)
    for message in history:
        shown.append(_noted(message) if isinstance(message, UserMessage) else message)
    if user is not None:
        shown.append(_noted(user))
    return shown


def _noted(message: UserMessage) -> UserMessage:
    """Put the note behind the user's words: into one and the same message for as long as this one lives."""
    note = message.metadata.get(RUNTIME_CONTEXT)
    if not isinstance(note, str):
        return message
    kept: UserMessage | None = message.__dict__.get(_NOTED)
    if kept is None:
        kept = message.__dict__[_NOTED] = _with_text(message, note)
    return kept


def _with_text(message: UserMessage, note: str) -> UserMessage:
    metadata = {key: value for key, value in message.metadata.items() if key != RUNTIME_CONTEXT}
    if not note:
        return replace(message, metadata=metadata)
    content = message.content
    if isinstance(content, str):
        return replace(
            message, content=f"{content}\n\n{note}" if content else note, metadata=metadata
        )
    return replace(message, content=(*content, TextPart(note)), metadata=metadata)
