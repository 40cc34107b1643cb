"""From a transcript that somebody brings to messages that a session can keep: checked, complete, legal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from nanobot.errors import InvalidArgument, InvalidMessage, UsageError
from nanobot.messages import (
    Message,
    TextPart,
    ToolMessage,
    UserMessage,
    check,
    message_from_openai,
    repair,
)

__all__ = ["messages_from_transcript"]

_STRAY_RESULT: Final = "[result of a tool call that is not part of this conversation: {name}]"


def messages_from_transcript(
    transcript: Iterable[Mapping[str, Any]], *, source: str | None = None
) -> tuple[Message, ...]:
    """Check a transcript and make it a piece of history that models accept, without losing what it says.

    What is not legal as it stands is mended: a call without a result gets one that says so, an answer without text and
    calls is left out, and a result whose call is not there becomes a note in the user's place (role "user"), with the
    call's id and the tool's name in its metadata. Everything else is kept as it is.

    Args:
      transcript: Dicts with `role` (user, assistant, tool, system) and `content`; what else is in one is kept: a
        `timestamp` as free text, unknown fields as metadata.
      source: Put into the metadata of each message that has no `source`.

    Raises:
      InvalidMessage: A message cannot be kept; names its index and field. Nothing else of the transcript was used.
      InvalidArgument: The transcript is no list of messages, or `source` no string.
    """
    if source is not None and not isinstance(source, str):
        raise InvalidArgument(f"source must be a string, not {type(source).__name__}")
    if isinstance(transcript, (str, bytes, Mapping)) or not isinstance(transcript, Iterable):
        raise InvalidArgument(
            f"messages must be a list of dicts with role and content, not {type(transcript).__name__}"
        )
    read = [_read(value, index, source) for index, value in enumerate(transcript)]
    return tuple(repair(_without_stray_results(read), continues=True).history)


def _read(value: Mapping[str, Any], index: int, source: str | None) -> Message:
    if source is not None and isinstance(value, Mapping) and "source" not in value:
        value = {**value, "source": source}
    try:
        return message_from_openai(value, index=index)
    except UsageError as error:
        raise InvalidMessage(str(error)) from error


def _without_stray_results(messages: Sequence[Message]) -> Sequence[Message]:
    """Turn the results that `repair` would drop into notes, behind the results that they stand among."""
    stray = {
        problem.index
        for problem in check(messages, continues=True)
        if problem.kind in ("result_without_call", "second_result")
    }
    if not stray:
        return messages
    kept: list[Message] = []
    notes: list[Message] = []
    for index, message in enumerate(messages):
        if not isinstance(message, ToolMessage):
            kept += notes
            notes.clear()
            kept.append(message)
        elif index in stray:
            notes.append(_note(message))
        else:
            kept.append(message)
    return [*kept, *notes]


def _note(result: ToolMessage) -> UserMessage:
    heading = _STRAY_RESULT.format(name=result.name or "name unknown")
    content = result.content
    about = {"tool_call_id": result.tool_call_id, "name": result.name, "outcome": result.outcome}
    return UserMessage(
        f"{heading}\n{content}" if isinstance(content, str) else (TextPart(heading), *content),
        timestamp=result.timestamp,
        metadata={**about, **result.metadata},
    )
