"""The full-text index over all messages, and searching with it or without.

Writing a message into the index costs several times what storing it does, so that is done behind: what is new is noted in the
table `unindexed`, in the transaction that stores it, and taken into the index when the writer has nothing else to do. A search
reads the index and, one by one, the messages that are not in it yet. So it finds everything that was committed. Where SQLite was
built without FTS5, nothing is ever in the index, and the same search reads everything.
"""

from __future__ import annotations

import re
import sqlite3
import time
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from nanobot.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)

from ._search import SearchHit
from ._sqlite_file import has_fts5
from ._sqlite_request import Request
from ._sqlite_rows import key_from_row, message_from_body, number_of
from ._sqlite_transaction import Transaction

__all__ = ["Indexer", "search", "unindex"]

# A pasted book is found by its first pages. Indexing takes about 10 us for 1,000 characters.
_INDEXED_CHARS: Final = 100_000

# What is indexed in one transaction; requests wait for it, some 10 ms.
_MESSAGES_AT_ONCE: Final = 300
# The writer counts as having nothing else to do after so long. A search is slowed down by about 3 us for each message that waits.
_QUIET_S: Final = 0.25
_MANY: Final = 2_000

_EXCERPT_CHARS: Final = 200
_EXCERPT_BEFORE: Final = 60

# Scripts that are written without spaces: Thai, Lao, Burmese, Khmer, kana, Han. Each character is a word of its own in the index,
# and a word of the query becomes the sequence of its characters.
_UNSPACED: Final = re.compile(
    "([\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)

# What the index takes for a word: letters and digits, without accents.
_WORD: Final = re.compile(r"[^\W_]+")

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
    words = text.split()
    phrases = [phrase for word in words if (phrase := _folded(word))]
    if not phrases or not limit:
        return ()
    hits: list[SearchHit] = []
    sql, parameters = (_NOT_INDEXED, []) if indexed else _all_that_are_like(phrases)
    for key, number, body in connection.execute(sql, parameters):
        message = message_from_body(body)
        if _has(_folded(_text_of(message)), phrases):
            hits.append(_hit(key, number, message, words))
            if len(hits) == limit:
                return tuple(hits)
    if indexed:
        found = connection.execute(_INDEXED, (_match_expression(phrases), limit - len(hits)))
        hits += [_hit(key, number, message_from_body(body), words) for key, number, body in found]
    return tuple(hits)


def unindex(transaction: Transaction, first: int, last: int) -> None:
    """Take messages out of the index, before they are deleted."""
    rows = transaction.execute(
        "SELECT id, body FROM message m WHERE id BETWEEN ? AND ? AND NOT EXISTS "
        "(SELECT 1 FROM unindexed u WHERE u.first BETWEEN ? AND m.id AND u.last >= m.id)",
        (first, last, first),
    ).fetchall()
    # Without FTS5 the entries of another build stay behind. They lead nowhere: an id is never used again.
    if rows and has_fts5(transaction.connection):
        transaction.connection.executemany(
            "INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)",
            [(number, _indexed_text(body)) for number, body in rows],
        )
    transaction.execute("DELETE FROM unindexed WHERE first BETWEEN ? AND ?", (first, last))


def _index_some(transaction: Transaction) -> bool:
    """Take some messages in; returns whether there are more."""
    ranges = transaction.execute(
        "SELECT first, last FROM unindexed LIMIT ?", (_MESSAGES_AT_ONCE,)
    ).fetchall()
    room = _MESSAGES_AT_ONCE
    for first, last in ranges:
        end = min(last, first + room - 1)
        rows = transaction.execute(
            "SELECT id, body FROM message WHERE id BETWEEN ? AND ?", (first, end)
        ).fetchall()
        transaction.connection.executemany(
            "INSERT INTO search (rowid, text) VALUES (?, ?)",
            [(number, _indexed_text(body)) for number, body in rows],
        )
        transaction.execute("DELETE FROM unindexed WHERE first = ?", (first,))
        if end < last:
            transaction.execute("INSERT INTO unindexed VALUES (?, ?)", (end + 1, last))
        room -= end - first + 1
        if not room:
            break
    return transaction.one("SELECT 1 FROM unindexed LIMIT 1") is not None


def _indexed_text(body: bytes) -> str:
    """What the index is given for a message. To take it out again the index has to be given the same.

    So this never changes for messages that are stored; a schema version that changes it makes the index anew.
    """
    return _spaced(_text_of(message_from_body(body)))


def _text_of(message: Message) -> str:
    match message:
        case SystemMessage(content=content) | AssistantMessage(content=content):
            text = content
        case UserMessage(content=content) | ToolMessage(content=content):
            if isinstance(content, str):
                text = content
            else:
                text = "\n".join(part.text for part in content if isinstance(part, TextPart))
    return text[:_INDEXED_CHARS]


def _spaced(text: str) -> str:
    return text if text.isascii() else _UNSPACED.sub(r" \1 ", text)


def _folded(text: str) -> str:
    """The words of a text as the index sees them, joined by spaces."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", _spaced(text))
        text = "".join([letter for letter in decomposed if not unicodedata.combining(letter)])
    return " ".join(_WORD.findall(text.lower()))


def _has(folded: str, phrases: Sequence[str]) -> bool:
    """Whether a folded text has all of the phrases, the last one maybe unfinished."""
    padded = f" {folded} "
    return f" {phrases[-1]}" in padded and all(f" {phrase} " in padded for phrase in phrases[:-1])


def _match_expression(phrases: Sequence[str]) -> str:
    """Every phrase, the last one maybe unfinished; quoted, so that none is an operator of FTS5."""
    return " ".join([f'"{phrase}"' for phrase in phrases]) + "*"


def _all_that_are_like(phrases: Sequence[str]) -> tuple[str, list[str]]:
    """Have SQLite pass over most of the messages that cannot have the words. It sees them as JSON, accents and all."""
    plain = [phrase for phrase in phrases if phrase.isascii() and phrase.isalnum()]
    condition = " AND CAST(m.body AS TEXT) LIKE ?" * len(plain)
    return _ALL.format(condition=condition), [f"%{phrase}%" for phrase in plain]


def _hit(key: bytes, number: int, message: Message, words: Sequence[str]) -> SearchHit:
    return SearchHit(
        key_from_row(key),
        number_of(number),
        _role_of(message),
        _excerpt(_text_of(message), words),
        message.timestamp,
    )


def _role_of(message: Message) -> str:
    tag = type(message).__struct_config__.tag
    assert isinstance(tag, str)  # the tag of a message is its role
    return tag


def _excerpt(text: str, words: Sequence[str]) -> str:
    lowered = text.lower()
    places = [place for word in words if (place := lowered.find(word.lower())) >= 0]
    start = max(0, min(places, default=0) - _EXCERPT_BEFORE)
    line = " ".join(text[start : start + 2 * _EXCERPT_CHARS].split())
    cut = len(line) > _EXCERPT_CHARS or len(text) > start + 2 * _EXCERPT_CHARS
    return ("…" if start else "") + line[:_EXCERPT_CHARS] + ("…" if cut else "")
