"""What each write does to the tables, inside a transaction. Times are in microseconds, as in the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct

from nanobot.errors import UsageError
from nanobot.messages import Message, without_surrogates

from ._record import Compaction, Position, merged_metadata, session_metadata
from ._rows import (
    DamagedRow,
    body_from_message,
    json_bytes,
    message_id,
    metadata_from_row,
)
from ._snapshot import preview_of, title_of
from ._sqlite_search import unindex
from ._sqlite_transaction import Transaction

__all__ = [
    "Addition",
    "SessionRow",
    "add",
    "clear",
    "find",
    "position_of",
    "read_slips",
    "remove",
    "replace",
    "swap_slip",
    "write_slips",
]

_FIND: Final = """
    SELECT id, epoch, sequence, version, preview, EXISTS (SELECT 1 FROM slip WHERE session = session.id)
    FROM session WHERE key = ?
"""


class SessionRow(NamedTuple):
    """A session as far as a write has to know it. `has_slips`: 0 if nothing lies beside it."""

    id: int
    epoch: int
    sequence: int
    version: int
    preview: str
    has_slips: int


class Addition(Struct, frozen=True):
    """What a write adds to a session, ready for the tables: made by whoever asks, in their own thread.

    `metadata` is None if it stays as it is.
    """

    bodies: tuple[bytes, ...] = ()
    preview: str = ""
    metadata: dict[str, Any] | None = None
    compaction: Compaction | None = None

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
            tuple([body_from_message(message) for message in messages]),
            without_surrogates(preview_of(messages)),
            None if metadata is None else session_metadata(metadata),
            compaction,
        )

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not self.bodies and self.metadata is None and self.compaction is None


def find(transaction: Transaction, key: bytes) -> SessionRow | None:
    """The session, or None if there is none."""
    row = transaction.one(_FIND, (key,))
    return None if row is None else SessionRow(*row)


def position_of(row: SessionRow | None, epoch: int) -> Position:
    """Where a session stands; one that does not exist would begin with this epoch."""
    return Position(epoch, 0, 0) if row is None else Position(row.epoch, row.sequence, row.version)


def add(
    transaction: Transaction,
    key: bytes,
    row: SessionRow | None,
    epoch: int,
    addition: Addition,
    written_at: int,
) -> Position:
    """Add to the end of a session; of one that does not exist, this is the start, with this epoch.

    Raises:
      UsageError: The summary covers messages that do not exist.
    """
    if addition.empty:
        return position_of(row, epoch)
    start = 0 if row is None else row.sequence
    sequence = start + len(addition.bodies)
    _refuse_impossible(addition.compaction, sequence)
    merged = _merged(transaction, row, addition.metadata)
    # Decided; from here on it is written.
    version = transaction.number()
    if row is None:
        title = without_surrogates(title_of(merged))
        session = transaction.execute(
            "INSERT INTO session (key, epoch, sequence, version, created_at, updated_at, title, preview) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (key, epoch, sequence, version, written_at, written_at, title, addition.preview),
        ).lastrowid
        assert session is not None  # it was inserted
        transaction.execute(
            "INSERT INTO facts (session, metadata) VALUES (?, ?)", (session, json_bytes(merged))
        )
    else:
        session, epoch = row.id, row.epoch
        transaction.execute(
            "UPDATE session SET sequence = ?, version = ?, updated_at = ?, preview = ? WHERE id = ?",
            (sequence, version, written_at, row.preview or addition.preview, session),
        )
        if addition.metadata is not None:
            _write_metadata(transaction, session, merged)
    if addition.compaction is not None:
        _write_compaction(transaction, session, addition.compaction)
    _write_messages(transaction, message_id(session, start + 1), addition.bodies)
    return Position(epoch, sequence, version)


def replace(
    transaction: Transaction,
    key: bytes,
    row: SessionRow | None,
    addition: Addition,
    written_at: int,
    *,
    created_at: int | None,
) -> Position:
    """Make a session anew, out of this alone.

    Raises:
      UsageError: As from `add`.
    """
    _refuse_impossible(addition.compaction, len(addition.bodies))
    if row is not None:
        _remove_rows(transaction, row)
    epoch = _begin_epoch(transaction, key)
    whole = Addition(
        addition.bodies, addition.preview, addition.metadata or {}, addition.compaction
    )
    position = add(transaction, key, None, epoch, whole, written_at)
    if created_at is not None:
        transaction.execute("UPDATE session SET created_at = ? WHERE key = ?", (created_at, key))
    return position


def clear(transaction: Transaction, key: bytes, row: SessionRow | None, written_at: int) -> None:
    """Begin a session's next life, with its metadata and nothing else. There need be no session."""
    metadata = None if row is None else _facts(transaction, row)
    # A turn that has written nothing yet shall write nothing.
    epoch = _begin_epoch(transaction, key)
    if row is None:
        return
    kept = transaction.one("SELECT created_at, title FROM session WHERE id = ?", (row.id,))
    assert kept is not None  # it is the row that was found
    created_at, title = kept
    _remove_rows(transaction, row)
    cleared = transaction.execute(
        "INSERT INTO session (key, epoch, sequence, version, created_at, updated_at, title, preview) "
        "VALUES (?, ?, 0, ?, ?, ?, ?, '')",
        (key, epoch, transaction.number(), created_at, written_at, title),
    ).lastrowid
    transaction.execute("INSERT INTO facts (session, metadata) VALUES (?, ?)", (cleared, metadata))


def remove(transaction: Transaction, key: bytes, row: SessionRow | None) -> bool:
    """Delete a session; returns whether there was one."""
    _begin_epoch(transaction, key)
    if row is None:
        return False
    _remove_rows(transaction, row)
    return True


def read_slips(transaction: Transaction, row: SessionRow) -> dict[str, bytes]:
    """What lies beside a session."""
    if not row.has_slips:
        return {}
    return dict(
        transaction.connection.execute("SELECT name, body FROM slip WHERE session = ?", (row.id,))
    )


def write_slips(
    transaction: Transaction, row: SessionRow, slips: Mapping[str, bytes | None]
) -> None:
    """Put slips beside a session, or take them away."""
    for name, body in slips.items():
        if body is None:
            transaction.execute("DELETE FROM slip WHERE session = ? AND name = ?", (row.id, name))
        else:
            transaction.execute(
                "INSERT OR REPLACE INTO slip VALUES (?, ?, ?)", (row.id, name, body)
            )


def swap_slip(
    transaction: Transaction, key: bytes, name: str, old: bytes, new: bytes | None
) -> bool:
    """Put a slip in the place of another; returns whether that one was there."""
    row = find(transaction, key)
    if row is None or read_slips(transaction, row).get(name) != old:
        return False
    write_slips(transaction, row, {name: new})
    return True


def _begin_epoch(transaction: Transaction, key: bytes) -> int:
    """Whoever has the lease has it for the epoch before."""
    epoch = transaction.number()
    transaction.execute("UPDATE lease SET epoch = ? WHERE key = ?", (epoch, key))
    return epoch


def _write_messages(transaction: Transaction, first: int, bodies: Sequence[bytes]) -> None:
    if not bodies:
        return
    if len(bodies) == 1:
        transaction.execute("INSERT INTO message VALUES (?, ?)", (first, bodies[0]))
    else:
        transaction.connection.executemany(
            "INSERT INTO message VALUES (?, ?)", enumerate(bodies, first)
        )
    transaction.execute("INSERT INTO unindexed VALUES (?, ?)", (first, first + len(bodies) - 1))


def _write_compaction(transaction: Transaction, session: int, compaction: Compaction) -> None:
    transaction.execute(
        "UPDATE facts SET through = ?, summary = ? WHERE session = ?",
        (compaction.through, json_bytes(compaction.summary), session),
    )


def _merged(
    transaction: Transaction, row: SessionRow | None, patch: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the metadata will be; that which stays as it is, is not read."""
    if patch is None:
        return {}
    if row is None:
        return merged_metadata({}, patch)
    return merged_metadata(metadata_from_row(_facts(transaction, row)), patch)


def _write_metadata(transaction: Transaction, session: int, merged: Mapping[str, Any]) -> None:
    transaction.execute(
        "UPDATE facts SET metadata = ? WHERE session = ?", (json_bytes(merged), session)
    )
    transaction.execute(
        "UPDATE session SET title = ? WHERE id = ?",
        (without_surrogates(title_of(merged)), session),
    )


def _facts(transaction: Transaction, row: SessionRow) -> bytes:
    """A session's metadata as it is stored."""
    facts = transaction.one("SELECT metadata FROM facts WHERE session = ?", (row.id,))
    if facts is None:  # each session has some
        raise DamagedRow("a session has lost its metadata")
    return bytes(facts[0])


def _remove_rows(transaction: Transaction, row: SessionRow) -> None:
    first, last = message_id(row.id, 1), message_id(row.id, row.sequence)
    unindex(transaction, first, last)
    transaction.execute("DELETE FROM message WHERE id BETWEEN ? AND ?", (first, last))
    transaction.execute("DELETE FROM facts WHERE session = ?", (row.id,))
    transaction.execute("DELETE FROM slip WHERE session = ?", (row.id,))
    transaction.execute("DELETE FROM session WHERE id = ?", (row.id,))


def _refuse_impossible(compaction: Compaction | None, count: int) -> None:
    if compaction is not None and not 0 <= compaction.through <= count:
        raise UsageError(
            f"a summary through message {compaction.through} covers messages that do not exist"
        )
