"""The full-text index over all messages, and searching with it or without.

Writing a message into the index costs several times what storing it does, so that is done behind: what is new is noted in the
table `unindexed`, in the transaction that stores it, and taken into the index when the writer has nothing else to do. A search
reads the index and, one by one, the messages that are not in it yet. So it finds everything that was committed. Where SQLite was
built without FTS5, nothing is ever in the index, and the same search reads everything.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any, Final

from nanobot.messages import Message

from ._rows import DamagedRow, key_from_row, message_from_body, number_of
from ._search import SearchHit
from ._search_text import folded, has_phrases, hit_of, phrases_of, spaced, text_of
from ._sqlite_file import has_fts5
from ._sqlite_request import Request
from ._sqlite_transaction import Transaction

__all__ = ["Indexer", "search", "unindex"]

# What is indexed in one transaction; requests wait for it, some 10 ms.
_MESSAGES_AT_ONCE: Final = 300
# The writer counts as having nothing else to do after so long. A search is slowed down by about 3 us for each message that waits.
_QUIET_S: Final = 0.25
_MANY: Final = 2_000

_NEXT: Final = """
    SELECT m.id, m.body FROM unindexed u JOIN message m ON m.id BETWEEN u.first AND u.last
    ORDER BY u.first, m.id LIMIT ?
"""
_INDEXED: Final = """
    SELECT s.key, m.id, m.body FROM search
    JOIN message m ON m.id = search.rowid JOIN session s ON s.id = m.id >> 32
    WHERE search MATCH ? ORDER BY search.rank LIMIT ?
"""
_NOT_INDEXED: Final = """
    SELECT s.key, m.id, m.body FROM unindexed u
    JOIN message m ON m.id BETWEEN u.first AND u.last JOIN session s ON s.id = m.id >> 32
    ORDER BY s.version DESC, m.id DESC
"""
# In the order of the index over sessions, so that nothing is sorted and the search may end early.
_ALL: Final = """
    SELECT s.key, m.id, m.body FROM session s
    CROSS JOIN message m ON m.id BETWEEN s.id << 32 AND (s.id << 32) + s.sequence {condition}
    ORDER BY s.updated_at DESC, s.version DESC, m.id DESC
"""
_MAY_HAVE: Final = """
    AND (CAST(m.body AS TEXT) LIKE ? OR length(CAST(m.body AS TEXT)) <> length(m.body))
"""


class Indexer:
    """Takes messages into the index behind the writes. A `Chore` of the writer, whose thread alone uses it.

    Attributes:
      enabled: Whether there is an index.
    """

    def __init__(self) -> None:
        self.enabled = False
        self._waiting = 0
        self._last_written = 0.0

    def start(self, connection: sqlite3.Connection, *, enabled: bool) -> None:
        """Look what an earlier process has left."""
        self.enabled = enabled
        left = connection.execute("SELECT 1 FROM unindexed LIMIT 1").fetchone()
        self.note(0 if left is None else 1)

    def note(self, messages: int) -> None:
        """Messages were stored that the index does not have."""
        self._waiting += messages
        self._last_written = time.monotonic()

    def due_in_s(self) -> float | None:
        """See `Chore`."""
        if not self.enabled or not self._waiting:
            return None
        if self._waiting >= _MANY:
            return 0.0
        return self._last_written + _QUIET_S - time.monotonic()

    def requests(self, connection: sqlite3.Connection) -> Sequence[Request[Any]]:
        """See `Chore`."""
        self._waiting = 0
        return [Request(_index_some, durable=False, after=self._go_on)]

    def _go_on(self, more: bool) -> None:
        if more:  # the writer looks after its requests first, and then comes back
            self._waiting = max(self._waiting, _MANY)


def search(
    connection: sqlite3.Connection, text: str, limit: int, *, indexed: bool
) -> tuple[SearchHit, ...]:
    """Find messages, those first that are not in the index yet: they are the latest.

    Args:
      connection: In a read transaction.
      text: Words.
      limit: How many at most.
      indexed: Whether there is an index that can be read.
    """
    words, phrases = text.split(), phrases_of(text)
    if not phrases or not limit:
        return ()
    hits: list[SearchHit] = []
    sql, parameters = (_NOT_INDEXED, []) if indexed else _all_that_are_like(phrases)
    for key, number, body in connection.execute(sql, parameters):
        message = _readable(body)
        if message is not None and has_phrases(folded(text_of(message)), phrases):
            hits.append(_hit(key, number, message, words))
            if len(hits) == limit:
                return tuple(hits)
    if indexed:
        found = connection.execute(_INDEXED, (_match_expression(phrases), limit - len(hits)))
        for key, number, body in found:
            message = _readable(body)
            if message is not None:
                hits.append(_hit(key, number, message, words))
    return tuple(hits)


def unindex(transaction: Transaction, first: int, last: int) -> None:
    """Take messages out of the index, before they are deleted."""
    rows = transaction.execute(
        "SELECT id, body FROM message m WHERE id BETWEEN ? AND ? AND NOT EXISTS "
        "(SELECT 1 FROM unindexed u WHERE u.first BETWEEN ? AND m.id AND u.last >= m.id)",
        (first, last, first),
    ).fetchall()
    # Without FTS5 the entries of another build stay behind, and always those of messages that were damaged since, for an index
    # that is given another text is spoiled. They lead nowhere: an id is never used again.
    known = [(number, text) for number, body in rows if (text := _indexed_text(body)) is not None]
    if known and has_fts5(transaction.connection):
        transaction.connection.executemany(
            "INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)", known
        )
    transaction.execute("DELETE FROM unindexed WHERE first BETWEEN ? AND ?", (first, last))


def _index_some(transaction: Transaction) -> bool:
    """Take some messages in; returns whether there may be more."""
    rows = transaction.execute(_NEXT, (_MESSAGES_AT_ONCE,)).fetchall()
    transaction.connection.executemany(
        "INSERT INTO search (rowid, text) VALUES (?, ?)",
        [(number, _indexed_text(body) or "") for number, body in rows],
    )
    if len(rows) < _MESSAGES_AT_ONCE:
        transaction.execute("DELETE FROM unindexed")
        return False
    last, _ = rows[-1]
    transaction.execute("DELETE FROM unindexed WHERE first <= ?1 AND last <= ?1", (last,))
    transaction.execute("UPDATE unindexed SET first = ?1 + 1 WHERE first <= ?1", (last,))
    return True


def _indexed_text(body: bytes) -> str | None:
    """What the index is given for a message. To take it out again the index has to be given the same.

    So this never changes for messages that are stored; a schema version that changes it makes the index anew. None if the
    message is damaged.
    """
    message = _readable(body)
    return None if message is None else spaced(text_of(message))


def _readable(body: bytes) -> Message | None:
    """A message, or None if it is damaged: that is no reason not to find, index or delete the others."""
    try:
        return message_from_body(body)
    except DamagedRow:
        return None


def _match_expression(phrases: Sequence[str]) -> str:
    """Every phrase, the last one maybe unfinished; quoted, so that none is an operator of FTS5."""
    return " ".join([f'"{phrase}"' for phrase in phrases]) + "*"


def _all_that_are_like(phrases: Sequence[str]) -> tuple[str, list[str]]:
    """Have SQLite pass over most of the messages that cannot have the words.

    It sees them as they are, accents and all: so only those that have nothing but ASCII, which have as many bytes as characters.
    """
    plain = [phrase for phrase in phrases if phrase.isascii() and phrase.isalnum()]
    condition = _MAY_HAVE * len(plain)
    return _ALL.format(condition=condition), [f"%{phrase}%" for phrase in plain]


def _hit(key: bytes, number: int, message: Message, words: Sequence[str]) -> SearchHit:
    return hit_of(key_from_row(key), number_of(number), message, words)
