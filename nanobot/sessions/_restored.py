"""A snapshot becomes what a store can keep again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from nanobot.errors import InvalidArgument
from nanobot.messages import Message

from ._record import Compaction, session_metadata
from ._snapshot import SessionSnapshot
from ._transcript import messages_from_transcript

__all__ = ["RestoredSession", "checked_key", "restored_from_snapshot"]


class RestoredSession(Struct, frozen=True):
    """A session as a snapshot says it was; `created_at` is None where that does not say."""

    key: str
    messages: tuple[Message, ...]
    metadata: dict[str, Any]
    created_at: datetime | None
    compaction: Compaction | None


def restored_from_snapshot(
    snapshot: SessionSnapshot | Mapping[str, Any], session_key: str | None = None
) -> RestoredSession:
    """Read a snapshot, or the dict that its `to_dict()` gave, also when it has been through JSON. Pure.

    Args:
      snapshot: Whose session it was.
      session_key: Whose it is to be; None leaves it.

    Raises:
      InvalidMessage: A message cannot be kept; names its index and field.
      InvalidArgument: Something else in it cannot be meant like this.
    """
    given = snapshot.to_dict() if isinstance(snapshot, SessionSnapshot) else snapshot
    if not isinstance(given, Mapping) or not isinstance(given.get("messages"), (list, tuple)):
        raise InvalidArgument(
            "restore() takes a SessionSnapshot, or the dict that its to_dict() gives"
        )
    transcript = given["messages"]
    messages = messages_from_transcript(transcript)
    compaction = _compaction(given.get("compaction"))
    if compaction is not None and not 0 <= compaction.through <= len(transcript):
        raise InvalidArgument(
            f"a summary through message {compaction.through} covers messages that do not exist"
        )
    if compaction is not None and len(messages) != len(transcript):
        compaction = None  # something was mended: the count no longer says what it covers
    return RestoredSession(
        key=checked_key(given.get("key") if session_key is None else session_key),
        messages=messages,
        metadata=session_metadata(given.get("metadata") or {}),
        created_at=_moment(given.get("created_at")),
        compaction=compaction,
    )


def checked_key(key: object) -> str:
    """A session key, which is any string.

    Raises:
      InvalidArgument: It is none.
    """
    if not isinstance(key, str):
        raise InvalidArgument(f"session_key must be a string, not {type(key).__name__}")
    return key


def _compaction(value: object) -> Compaction | None:
    match value:
        case None:
            return None
        case {"through": int(through), "summary": str(summary)} if not isinstance(through, bool):
            return Compaction(through, summary)
        case _:
            raise InvalidArgument("compaction must be None, or a dict with through and summary")


def _moment(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]  # anything may be in a snapshot that came from outside
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (
        TypeError,
        ValueError,
        OverflowError,
    ) as error:  # the last: there is no such time in UTC
        raise InvalidArgument(f"created_at must be an ISO 8601 time, not {value!r:.80}") from error
