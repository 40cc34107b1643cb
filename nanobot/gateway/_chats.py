"""The chats that were used lately, made when they are first asked for, forgotten when nobody looks and memory is short."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from nanobot import Nanobot

from ._chat import Chat, Spawn
from ._settings import GatewaySettings

__all__ = ["Chats"]

_MAX_CHATS: Final = 10_000
"""Chats whose frames are kept at once, and one without frames weighs 2 kB. Sessions are in the store, without limit."""


class Chats:
    """Belongs to the gateway's Trio run.

    What a chat has in memory serves clients that come back after a dropped connection. A chat that is forgotten loses no
    message: its next client gets the history from the store.
    """

    def __init__(self, bot: Nanobot, settings: GatewaySettings, spawn: Spawn) -> None:
        self._bot = bot
        self._settings = settings
        self._spawn = spawn
        self._by_id: OrderedDict[str, Chat] = OrderedDict()  # the last one was used last
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def busy(self) -> int:
        """How many chats are in a turn, or have one waiting."""
        return sum(chat.busy for chat in self._by_id.values())

    @property
    def bytes(self) -> int:
        """What all frames that are kept weigh, about."""
        return self._bytes

    def find(self, chat_id: str) -> Chat | None:
        """A chat that is in memory, or None."""
        return self._by_id.get(chat_id)

    def get(self, chat_id: str) -> Chat:
        """The chat of that name, made if it is not in memory."""
        chat = self._by_id.get(chat_id)
        if chat is None:
            chat = self._by_id[chat_id] = self._new(chat_id, None)
            self._forget(at_most=_MAX_CHATS)
        else:
            self._by_id.move_to_end(chat_id)
        return chat

    def make_temporary(self, chat_id: str, owner: object) -> Chat:
        """A chat of which nothing is stored, for its owner alone, who drops it."""
        chat = self._by_id[chat_id] = self._new(chat_id, owner)
        return chat

    def cancel_all(self) -> None:
        """End all turns."""
        for chat in self._by_id.values():
            chat.cancel()

    def drop(self, chat_id: str) -> None:
        """Forget a chat and its frames: its session is gone."""
        chat = self._by_id.pop(chat_id, None)
        if chat is not None:
            self._bytes -= chat.log.size
            chat.retire()

    def _new(self, chat_id: str, owner: object) -> Chat:
        return Chat(
            chat_id,
            bot=self._bot,
            settings=self._settings,
            spawn=self._spawn,
            on_growth=self._grown,
            owner=owner,
        )

    def _grown(self, by: int) -> None:
        self._bytes += by
        if self._bytes > self._settings.total_replay_bytes:
            self._forget(at_most=_MAX_CHATS)
            for chat in (*self._by_id.values(),):
                if self._bytes <= self._settings.total_replay_bytes:
                    break
                self._bytes -= chat.log.shrink()

    def _forget(self, *, at_most: int) -> None:
        """Forget chats that nobody is attached to and no turn is in, those first that were not used for longest."""
        for chat_id, chat in (*self._by_id.items(),):
            enough = self._bytes <= self._settings.total_replay_bytes
            if enough and len(self._by_id) <= at_most:
                break
            if not chat.watchers and not chat.busy and not chat.temporary:
                self.drop(chat_id)
