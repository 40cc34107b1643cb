"""`bot.sessions`."""

from __future__ import annotations

from nanobot.sessions import SessionStore

from ._engine import Engine


class SessionsClient:
    def __init__(self, engine: Engine, store: SessionStore) -> None:
        self._engine = engine
        self._store = store
