"""`bot.sessions`: conversations to look at, bring in and put away."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from nanobot.errors import InvalidArgument, StoreError
from nanobot.memory import HistoryLog
from nanobot.runtime import TurnMaker
from nanobot.sessions import (
    Pending,
    SearchableStore,
    SearchHit,
    SessionInfo,
    SessionRecord,
    SessionSnapshot,
    Unsaved,
    checked_key,
    messages_from_transcript,
    restored_from_snapshot,
    session_metadata,
    signals_of,
    snapshot_of,
)

from ._session_events import SessionEvents
from ._session_work import SessionWork

__all__ = ["SessionsClient"]

_log = logging.getLogger("nanobot.sessions")

# Inside the class, `list` is a method.
_Infos: TypeAlias = list[SessionInfo]
_Hits: TypeAlias = list[SearchHit]


class SessionsClient:
    """The sessions of a bot. Made by `Nanobot`.

    Reading and administration are plain calls that never wait for a turn; from any thread and any event loop, also
    inside a run and after the bot was closed. Only `ingest` takes its place among the turns, and is awaited.

    All methods raise `StoreError` if the store cannot do its work, and `InvalidArgument` for a key that is no string.
    """

    def __init__(
        self,
        work: SessionWork,
        store: SearchableStore,
        unsaved: Unsaved,
        history_log: HistoryLog,
    ) -> None:
        self._work = work
        self._store = store
        self._unsaved = unsaved
        self._history_log = history_log

    async def ingest(
        self,
        session_key: str,
        messages: Iterable[Mapping[str, Any]],
        metadata: Mapping[str, Any] | None = None,
        source: str | None = None,
        save: bool = True,
    ) -> SessionSnapshot:
        """Append a transcript to a session, without running the model; all of it or nothing.

        It comes after the turns that were started before it, and before those that are started later.

        Args:
          session_key: The session; created if there is none.
          messages: Dicts with `role` (user, assistant, tool, system) and `content`, oldest first. A `timestamp` is kept
            as the text it is; fields that nanobot does not know are kept as the message's metadata. A tool result whose
            call is not there becomes a note in the user's place, so that the model still reads it; a call without a
            result gets one that says so.
          metadata: Entries put over the session's own; None as an entry removes it.
          source: Where the transcript is from: put into the metadata of each message that names no `source`.
          save: Store it now. Otherwise it waits in this bot's memory: its next run on the session sees it and stores it,
            and so does `flush()`; nobody else sees it before.

        Returns:
          The session as its next run will find it.

        Raises:
          InvalidMessage: A message cannot be kept; names its index and field. Nothing was taken in.
          InvalidArgument, UsageError: Another argument cannot be meant like this.
          SessionGone: The session was cleared or deleted before this came to its turn.
          BotClosed: The bot was closed.
          NestedRunRefused: Called inside a run on the same session.

        Cancellation: before the transcript is in, nothing of it gets in.
        """
        key, work = _checked_ingest(session_key, messages, metadata, source, save)
        return snapshot_of(await self._work.do(key, work))

    def ingest_sync(
        self,
        session_key: str,
        messages: Iterable[Mapping[str, Any]],
        metadata: Mapping[str, Any] | None = None,
        source: str | None = None,
        save: bool = True,
    ) -> SessionSnapshot:
        """Blocking `ingest`, for programs without an event loop."""
        key, work = _checked_ingest(session_key, messages, metadata, source, save)
        return snapshot_of(self._work.do_sync(key, work, name="bot.sessions.ingest_sync"))

    def get(self, session_key: str) -> SessionSnapshot | None:
        """Return a session as it is stored, or None if there is none. Creates nothing."""
        record = self._store.read(checked_key(session_key))
        return None if record is None else snapshot_of(record)

    def export(self, session_key: str) -> SessionSnapshot | None:
        """Return a session to be written down elsewhere: `json.dumps(snapshot.to_dict())`. `restore` takes it back.

        None if there is no such session. The same as `get`, named for its use.
        """
        return self.get(session_key)

    def list(self, limit: int | None = None) -> _Infos:
        """Return one row per stored session, the most recently written first, at most `limit` of them."""
        return [*self._store.list_sessions(limit=limit)]

    def search(self, text: str, limit: int = 20) -> _Hits:
        """Find messages, in all sessions, that have all the words of `text`; the best first, at most `limit` of them.

        Case and accents do not count, and the last word may be unfinished. Text without a word finds nothing. What is
        pending since `ingest(save=False)` is not stored, and not found.

        Raises:
          InvalidArgument: The limit is negative, or `text` is no string.
        """
        if not isinstance(text, str):
            raise InvalidArgument(f"search() takes words, not {type(text).__name__}")
        return [*self._store.search(text, limit)]

    def clear(self, session_key: str) -> SessionSnapshot | None:
        """Remove a session's messages and keep its metadata; return what is left, or None if there is no such session.

        It wins over a turn that is running: nothing of that is stored any more, and it is cancelled, with the runs that
        wait for the session.
        """
        key = checked_key(session_key)
        self._unsaved.drop(key)
        record = self._store.clear(key)
        self._begun_anew(key)
        return None if record is None else snapshot_of(record)

    def delete(self, session_key: str) -> bool:
        """Remove a session, and return whether there was one. It wins over a turn that is running, as `clear` does."""
        key = checked_key(session_key)
        pending = self._unsaved.drop(key)
        deleted = self._store.delete(key)
        self._begun_anew(key)
        return deleted or pending

    def cancel(self, session_key: str) -> None:
        """Cancel what runs on a session, and what waits for it: in this bot, and in every process that shares a store which
        reaches others (`sessions.store: "postgres"`).

        What was stored stays, the partial answer of the run too, and its result says `stop_reason == "cancelled"`. Asks, and
        does not wait for the end.
        """
        key = checked_key(session_key)
        self._work.cancel(key)
        signals_of(self._store).request_cancel(key)

    def follow(self, session_key: str, after: int | None = None) -> SessionEvents:
        """Follow what is stored in a session, whoever runs its turns, in whatever process that shares the store.

        ```python
        async for event in bot.sessions.follow("user:7"):
            print(event.message["role"], event.message["content"])
        ```

        Each message comes once, in order, when it is stored: the user's before the model is asked, a round of tool calls when
        it has its results, the answer when it is complete. Ends when the bot is closed; leaving early leaves nothing behind.

        Args:
          session_key: The session, which need not exist.
          after: Number of the last message that the caller has; 0 is none. None is whatever is last when the first event
            is asked for.

        Raises:
          InvalidArgument: `after` is negative, or the key no string.
        """
        key = checked_key(session_key)
        if after is not None and after < 0:
            raise InvalidArgument(f"after is the number of a message, not {after}")
        return SessionEvents(self._store, key, after, self._work.is_closed)

    def flush(self) -> int:
        """Store what was ingested with `save=False`, make all that was written durable, and return how many sessions
        have been written since the last time.

        A session that is in a turn just now is left to that turn.
        """

        def extend(key: str, pending: Pending) -> bool:
            return self._store.extend(key, pending.messages, metadata=pending.metadata)

        self._unsaved.save(extend)
        return self._store.flush()

    def restore(
        self,
        snapshot: SessionSnapshot | Mapping[str, Any],
        session_key: str | None = None,
    ) -> SessionSnapshot:
        """Make a session what a snapshot says, whatever it was before. It wins over a turn that is running, as `clear`.

        Args:
          snapshot: From `get` or `export`, or the dict that its `to_dict()` gave, also when it has been through JSON.
          session_key: The session to write; None is the one that the snapshot is of.

        Raises:
          InvalidMessage: A message cannot be kept; names its index and field. Nothing was changed.
          InvalidArgument: Something else in the snapshot cannot be meant like this.
        """
        restored = restored_from_snapshot(snapshot, session_key)
        key = restored.key
        self._unsaved.drop(key)
        self._store.replace(
            key,
            restored.messages,
            metadata=restored.metadata,
            created_at=restored.created_at,
            compaction=restored.compaction,
        )
        self._begun_anew(key)
        return self._written(key)

    def fork(self, session_key: str, new_key: str) -> SessionSnapshot:
        """Copy a session as it is stored under a new key; from then on the two go their own ways.

        Raises:
          InvalidArgument: There is no session of that key.
          SessionExists: The new key is taken.
        """
        record = self._store.read(checked_key(session_key))
        if record is None:
            raise InvalidArgument(f"there is no session {session_key!r:.200} to fork")
        self._store.replace(
            checked_key(new_key),
            record.messages,
            metadata=record.metadata,
            compaction=record.compaction,
            only_new=True,
        )
        return self._written(new_key)

    def _begun_anew(self, key: str) -> None:
        self._work.cancel(key)
        try:
            self._history_log.begin_anew(key)
        except StoreError as error:  # the session is cleared all the same
            _log.warning(
                "session %.200r may be shown notes of before it was cleared: %s", key, error
            )

    def _written(self, key: str) -> SessionSnapshot:
        record = self._store.read(key)
        if record is None:  # somebody else deleted it just now
            now = datetime.now(UTC).isoformat()
            return SessionSnapshot(key, [], now, now, {})
        return snapshot_of(record)


def _checked_ingest(
    session_key: str,
    messages: Iterable[Mapping[str, Any]],
    metadata: Mapping[str, Any] | None,
    source: str | None,
    save: bool,
) -> tuple[str, Callable[[TurnMaker], Awaitable[SessionRecord]]]:
    """Check everything at once, in the caller's thread; what is left to do cannot fail for the caller's mistake."""
    key = checked_key(session_key)
    taken = messages_from_transcript(messages, source=source)
    checked = None if metadata is None else session_metadata(metadata)
    return key, lambda maker: maker.ingest(key, taken, checked, save=save)
