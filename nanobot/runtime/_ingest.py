"""Taking a transcript into a session, in the place that a turn would have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nanobot.messages import Message
from nanobot.sessions import SessionRecord

from ._open_sessions import OpenSessions

__all__ = ["ingest"]


async def ingest(
    sessions: OpenSessions,
    key: str,
    messages: Sequence[Message],
    metadata: Mapping[str, Any] | None,
    *,
    save: bool,
) -> SessionRecord:
    """Append messages to a session, or have them wait for its next run, and return it as that run will find it.

    To be run by the session's actor. All messages come in or none.

    Args:
      sessions: The sessions of the runtime.
      key: The session.
      messages: A legal continuation of any history, as `messages_from_transcript` gives it.
      metadata: Entries put over the session's own.
      save: Store them now.

    Raises:
      StoreError: The session cannot be read or written.
    """
    if save:
        async with sessions.open(key) as session:
            await session.write(messages, metadata=metadata)
            return await sessions.record(key)
    sessions.unsaved.add(key, messages, metadata)
    return await sessions.record(key)
