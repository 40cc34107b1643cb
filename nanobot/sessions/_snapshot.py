"""A session as its user sees it: whole, or as one row of a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from nanobot.messages import Message, TextPart, UserMessage, to_transcript

from ._record import SessionRecord, merged_metadata

__all__ = ["SessionInfo", "SessionSnapshot", "preview_of", "snapshot_of", "title_of"]

PREVIEW_CHARS: Final = 120
"""Longest preview: one line of a wide terminal."""


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """One session at one moment, apart from the store: changing it changes nothing else.

    Attributes:
      key: The session key.
      messages: Every message as a dict in OpenAI's chat shape, with `timestamp` and the entries of its metadata beside
        `role` and `content`; without what nanobot added for the model.
      created_at: ISO 8601, with the offset from UTC.
      updated_at: As `created_at`; the last write.
      metadata: The session's own.
      compaction: None, or what stands for the start of the session when a model is shown it: `summary`, and `through`,
        the number of messages from the first on that the summary covers. They are in `messages` all the same.
    """

    key: str
    messages: list[dict[str, Any]]
    created_at: str
    updated_at: str
    metadata: dict[str, Any]
    compaction: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as dicts, lists and strings that `json.dumps` takes; shares nothing with the snapshot."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session as a row of a list.

    Attributes:
      key: The session key.
      created_at: ISO 8601, with the offset from UTC.
      updated_at: As `created_at`; the last write.
      title: From the metadata entry `title`, or "".
      preview: The start of the first thing that the user said, on one line, at most 120 characters.
      message_count: Messages stored, summarized ones included.
    """

    key: str
    created_at: str
    updated_at: str
    title: str
    preview: str
    message_count: int

    def to_dict(self) -> dict[str, Any]:
        """Return the row as a dict that `json.dumps` takes."""
        return asdict(self)


def snapshot_of(record: SessionRecord) -> SessionSnapshot:
    """Show the messages that the record has, as its user sees them."""
    return SessionSnapshot(
        key=record.key,
        messages=[to_transcript(message) for message in record.messages],
        created_at=record.created_at.isoformat(),
        updated_at=record.updated_at.isoformat(),
        metadata=merged_metadata({}, record.metadata),
        compaction=None
        if record.compaction is None
        else {"through": record.compaction.through, "summary": record.compaction.summary},
    )


def preview_of(messages: Iterable[Message]) -> str:
    """Return the start of the first user message that has words, on one line; "" if none has."""
    for message in messages:
        if isinstance(message, UserMessage) and (line := _first_words(message)):
            return line if len(line) <= PREVIEW_CHARS else line[: PREVIEW_CHARS - 1].rstrip() + "…"
    return ""


def title_of(metadata: Mapping[str, Any]) -> str:
    """Return the session's title, or "" if it has none that is text."""
    title = metadata.get("title", "")
    return title if isinstance(title, str) else ""


def _first_words(message: UserMessage) -> str:
    content = message.content
    texts = (
        [content]
        if isinstance(content, str)
        else [part.text for part in content if isinstance(part, TextPart)]
    )
    # A pasted book is not split into words for one line; what is cut here is whitespace or far past the preview.
    return " ".join(" ".join(text[: 8 * PREVIEW_CHARS] for text in texts).split())
