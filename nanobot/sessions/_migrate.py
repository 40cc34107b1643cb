"""Taking all sessions from one store to another: what is there already is left, and all of it is compared at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from ._record import SessionRecord
from ._rows import json_bytes, microseconds, row_from_key
from ._store import SessionStore

__all__ = ["Migrated", "MigrationPhase", "Totals", "digest_of", "migrate_sessions"]

MigrationPhase: TypeAlias = Literal["copying", "comparing"]


class Totals(Struct, frozen=True):
    """What a store holds of the sessions that are taken over.

    Attributes:
      sessions: How many sessions.
      messages: How many messages in them.
      digest: SHA-256 over the digests of all sessions, in hex; equal for stores with the same sessions.
    """

    sessions: int
    messages: int
    digest: str


class Migrated(Struct, frozen=True):
    """What came of a migration.

    Attributes:
      copied: Sessions that were written.
      found: Sessions that were there already, just as they are.
      refused: Keys of sessions that are in both stores and have gone different ways; those of the target stay as they are.
      differing: Keys of sessions that are not the same at the end, `refused` apart: somebody wrote meanwhile.
      source: What the source holds, `refused` apart.
      target: What the target holds of that.
    """

    copied: int
    found: int
    refused: tuple[str, ...]
    differing: tuple[str, ...]
    source: Totals
    target: Totals

    @property
    def complete(self) -> bool:
        """Whether the target has everything that the source has."""
        return not self.refused and not self.differing and self.source == self.target


def migrate_sessions(
    source: SessionStore,
    target: SessionStore,
    *,
    on_progress: Callable[[MigrationPhase, int, int], object] = lambda phase, done, of: None,
) -> Migrated:
    """Copy every session, oldest first, so that the list keeps its order. Blocks.

    Each session is written whole or not at all, so this may be killed at any moment, and goes on when it is called again. A
    session that the target has in an earlier state of the same conversation is brought up to date. Nothing is deleted anywhere.

    Args:
      source: Where they are. Nobody should write to it meanwhile; what is written all the same is reported.
      target: Where they go.
      on_progress: Is told the phase, and how many of how many sessions are done in it.

    Raises:
      StoreError: One of the stores cannot do its work.
    """
    keys = [info.key for info in reversed(source.list_sessions())]
    copied = found = 0
    refused: list[str] = []
    for done, key in enumerate(keys, start=1):
        record, there = source.read(key), target.read(key)
        if record is not None and there is not None and digest_of(record) == digest_of(there):
            found += 1
        elif record is not None and there is not None and not _is_earlier(there, record):
            refused.append(key)
        elif record is not None:
            target.replace(
                key,
                record.messages,
                metadata=record.metadata,
                created_at=record.created_at,
                compaction=record.compaction,
            )
            copied += 1
        on_progress("copying", done, len(keys))
    target.flush()
    left_out = set(refused)
    compared = [key for key in keys if key not in left_out]
    differing: list[str] = []
    at_source, at_target = _Sum(), _Sum()
    for done, key in enumerate(compared, start=1):
        if at_source.add(source.read(key)) != at_target.add(target.read(key)):
            differing.append(key)
        on_progress("comparing", done, len(compared))
    return Migrated(
        copied, found, tuple(refused), tuple(differing), at_source.totals(), at_target.totals()
    )


def digest_of(record: SessionRecord) -> bytes:
    """What tells two sessions apart: key, messages, metadata, summary, and the time when it was made."""
    digest = hashlib.sha256()
    compaction = record.compaction
    parts: Iterable[bytes] = (
        row_from_key(record.key),
        str(microseconds(record.created_at)).encode(),
        msgspec.json.encode(record.metadata, order="deterministic"),
        b"" if compaction is None else json_bytes([compaction.through, compaction.summary]),
        *[json_bytes(message) for message in record.messages],
    )
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


class _Sum:
    def __init__(self) -> None:
        self._sessions = 0
        self._messages = 0
        self._digest = hashlib.sha256()

    def add(self, record: SessionRecord | None) -> bytes:
        if record is None:
            return b""
        self._sessions += 1
        self._messages += len(record.messages)
        digest = digest_of(record)
        self._digest.update(digest)
        return digest

    def totals(self) -> Totals:
        return Totals(self._sessions, self._messages, self._digest.hexdigest())


def _is_earlier(there: SessionRecord, record: SessionRecord) -> bool:
    """Whether a session is the same conversation at an earlier time."""
    return (
        there.created_at == record.created_at
        and there.messages == record.messages[: len(there.messages)]
    )
