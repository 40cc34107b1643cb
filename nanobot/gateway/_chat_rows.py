"""Chats as rows of a list: all of them, or those in which something was said."""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from nanobot import Nanobot

from ._chat import session_key
from ._chats import Chats
from ._client_frames import CHAT_ID
from ._server_frames import ChatRow

__all__ = ["delete_session", "found_rows", "listed_rows"]

_PREFIX: Final = session_key("")


async def listed_rows(bot: Nanobot, chats: Chats, limit: int) -> list[ChatRow]:
    """The stored chats of this channel, the most recently used first.

    Raises:
      StoreError: They cannot be read.
    """
    infos = await trio.to_thread.run_sync(bot.sessions.list)
    rows = [
        ChatRow(
            chat_id,
            info.title or info.preview,
            info.updated_at,
            info.message_count,
            _busy(chats, chat_id),
        )
        for info in infos
        if (chat_id := _chat_id(info.key))
    ]
    return rows[:limit]


async def found_rows(bot: Nanobot, chats: Chats, query: str, limit: int) -> list[ChatRow]:
    """The stored chats in which all words of the query were said in one message, the best first, each once.

    Raises:
      StoreError: They cannot be read.
    """
    hits = await trio.to_thread.run_sync(partial(bot.sessions.search, query, limit=4 * limit))
    rows = {row.chat_id: row for row in await listed_rows(bot, chats, 10_000)}
    found: dict[str, ChatRow] = {}
    for hit in hits:
        chat_id = _chat_id(hit.key)
        if chat_id in rows and chat_id not in found and len(found) < limit:
            row = rows[chat_id]
            found[chat_id] = ChatRow(
                chat_id, row.title, row.updated_at, row.message_count, row.running, hit.excerpt
            )
    return [*found.values()]


async def delete_session(bot: Nanobot, chat_id: str) -> None:
    """Remove all that is stored of a chat.

    Raises:
      StoreError: It cannot be removed.
    """
    await trio.to_thread.run_sync(bot.sessions.delete, session_key(chat_id))


def _chat_id(key: str) -> str:
    """The chat of a session, or "" if it is none of ours."""
    chat_id = key.removeprefix(_PREFIX)
    return chat_id if key.startswith(_PREFIX) and CHAT_ID.fullmatch(chat_id) else ""


def _busy(chats: Chats, chat_id: str) -> bool:
    chat = chats.find(chat_id)
    return chat is not None and chat.busy
