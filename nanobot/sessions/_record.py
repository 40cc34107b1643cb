"""What a store keeps of one session."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from nanobot.errors import InvalidArgument
from nanobot.messages import Message

__all__ = [
    "Compaction",
    "Position",
    "SessionRecord",
    "merged_metadata",
    "refuse_negative",
    "session_metadata",
]


class Position(Struct, frozen=True, gc=False):
    """Where a session stands. Equal positions mean that nothing at all was written in between.

    Attributes:
      epoch: Names one life of the session; `clear`, `replace` and `delete` begin another. Never used twice in a store.
      sequence: Number of the last message; the first of an epoch is 1, and 0 means that there is none.
      version: Grows with every write in the store, also with one that only touches metadata.
    """

    epoch: int
    sequence: int
    version: int


class Compaction(Struct, frozen=True, gc=False):
    """A summary that stands for the start of a session when it is shown; the messages themselves stay stored.

    Attributes:
      through: Number of the last message that the summary covers.
      summary: The text shown in their place.
    """

    through: int
    summary: str


class SessionRecord(Struct, frozen=True):
    """One session as it was read: all of its facts, and as many of its last messages as were asked for.

    `messages` ends with the message that has the number `position.sequence`. Times are timezone-aware.
    """

    key: str
    position: Position
    messages: tuple[Message, ...]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    compaction: Compaction | None = None

    @property
    def first_sequence(self) -> int:
        """Number of `messages[0]`, or of the next message to come if none was read."""
        return self.position.sequence - len(self.messages) + 1


def merged_metadata(kept: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return `kept` with the entries of `patch` put over it; an entry of None removes the key.

    Values are copied and become what JSON would carry.

    Raises:
      UsageError: A value cannot be stored as JSON.

    Source: RFC 7396 (JSON Merge Patch), on the top level only.
    """
    merged = {**kept, **session_metadata(patch)}
    return {key: value for key, value in merged.items() if value is not None}


def session_metadata(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Copy metadata as JSON would carry it; entries of None are kept.

    Raises:
      UsageError: It is no dict, or a value cannot be stored as JSON.
    """
    if not isinstance(entries, Mapping):
        raise InvalidArgument(f"session metadata must be a dict, not {type(entries).__name__}")
    try:
        copied: dict[str, Any] = msgspec.to_builtins(dict(entries), str_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"session metadata cannot be stored as JSON: {error}") from error
    return copied


def refuse_negative(*counts: int | None) -> None:
    """Refuse a count that cannot be.

    Raises:
      InvalidArgument: One of them is negative.
    """
    for number in counts:
        if number is not None and number < 0:
            raise InvalidArgument(f"a count of messages or sessions cannot be negative: {number}")
