"""A copy of a chat, up to a message: the other way the conversation could have gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nanobot import Nanobot

from ._chat import session_key
from ._client_frames import ForkChat, FrameError

__all__ = ["before_user_message", "fork_session"]


def before_user_message(messages: Sequence[dict[str, Any]], index: int) -> list[dict[str, Any]]:
    """The messages before the user's message number `index`, counted from 0; all of them if there are fewer. Pure."""
    seen = 0
    for position, message in enumerate(messages):
        if message.get("role") == "user":
            if seen == index:
                return [*messages[:position]]
            seen += 1
    return [*messages]


def fork_session(bot: Nanobot, frame: ForkChat, new_chat_id: str) -> None:
    """Make the new chat's session; waits for the store.

    Raises:
      FrameError: There is no such chat.
      StoreError: It cannot be read or written.
    """
    snapshot = bot.sessions.get(session_key(frame.source_chat_id))
    if snapshot is None:
        raise FrameError("no_such_chat", "there is nothing to fork", frame.source_chat_id)
    if frame.before_user_index is not None:
        kept = before_user_message(snapshot.messages, frame.before_user_index)
        snapshot = replace(snapshot, messages=kept)
    if frame.title:
        snapshot = replace(snapshot, metadata={**snapshot.metadata, "title": frame.title})
    bot.sessions.restore(snapshot, session_key(new_chat_id))
