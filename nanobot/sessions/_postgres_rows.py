"""How a session, what is added to it and what can be searched of it are written in rows, and read back. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct

from nanobot.messages import Message, without_surrogates

from ._record import Compaction, Position, SessionRecord, merged_metadata, session_metadata
from ._rows import (
    body_from_message,
    json_bytes,
    record_from_row,
    row_from_key,
)
from ._search_text import folded, text_of
from ._snapshot import preview_of, title_of

__all__ = ["WORD_CHARS", "Addition", "KeyRow", "StoredSession", "utf8", "words_of"]

# PostgreSQL takes words of up to 2,046 bytes, and has no use for such.
WORD_CHARS: Final = 200


class KeyRow(NamedTuple):
    """What stands for a session's key.

    Attributes:
      digest: Its SHA-256: keys may be longer than an index takes.
      lock: The number of its advisory lock. Two sessions with the same one wait for each other, and nothing more.
      key: Itself, as bytes.
    """

    digest: bytes
    lock: int
    key: bytes

    @classmethod
    def of(cls, key: str) -> KeyRow:
        """The row of a key."""
        row = row_from_key(key)
        return cls.of_digest(hashlib.sha256(row).digest())._replace(key=row)

    @classmethod
    def of_digest(cls, digest: bytes) -> KeyRow:
        """The row of a key of which nothing but the digest is known."""
        return cls(digest, int.from_bytes(digest[:8], "big", signed=True), b"")


class StoredSession(NamedTuple):
    """A session as the database's functions return it."""

    epoch: int
    sequence: int
    version: int
    created_at: int
    updated_at: int
    metadata: bytes
    through: int | None
    summary: bytes | None
    bodies: Sequence[bytes]

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.epoch, self.sequence, self.version)

    def record(self, key: str) -> SessionRecord:
        """Decode it.

        Raises:
          StoreError: What is stored cannot be read.
        """
        return record_from_row(key, self)


class Addition(Struct, frozen=True):
    """What a write adds to a session, ready for the tables: made before anything is sent.

    `metadata` is None if it stays as it is.
    """

    bodies: list[bytes]
    words: list[str]
    preview: bytes
    metadata: dict[str, Any] | None = None
    through: int | None = None
    summary: bytes | None = None

    @classmethod
    def of(
        cls,
        messages: Sequence[Message],
        metadata: Mapping[str, Any] | None,
        compaction: Compaction | None,
    ) -> Addition:
        """Encode it.

        Raises:
          InvalidArgument: Something cannot be stored as JSON.
        """
        return cls(
            [body_from_message(message) for message in messages],
            [words_of(message) for message in messages],
            utf8(preview_of(messages)),
            None if metadata is None else session_metadata(metadata),
            None if compaction is None else compaction.through,
            None if compaction is None else json_bytes(compaction.summary),
        )

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not self.bodies and self.metadata is None and self.through is None

    def over(self, kept: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """The session's title and metadata, with what is added put over what is kept."""
        merged = merged_metadata(kept, self.metadata or {})
        return utf8(title_of(merged)), json_bytes(merged)


def words_of(message: Message) -> str:
    """The words that a message is found by, each once, joined by spaces."""
    words = dict.fromkeys(word[:WORD_CHARS] for word in folded(text_of(message)).split())
    return " ".join(words)


def utf8(text: str) -> bytes:
    """Text as bytes: PostgreSQL's own text cannot hold NUL."""
    return without_surrogates(text).encode()
