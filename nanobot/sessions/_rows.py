"""How keys, messages, metadata and times are written in a row, and read back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import msgspec

from nanobot.errors import InvalidArgument, StoreError
from nanobot.messages import Message, without_surrogates

from ._record import Compaction, Position, SessionRecord

__all__ = [
    "DamagedRow",
    "body_from_message",
    "json_bytes",
    "key_from_row",
    "message_from_body",
    "message_id",
    "metadata_from_row",
    "microseconds",
    "moment",
    "number_of",
    "record_from_row",
    "row_from_key",
    "text_from_row",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# A message's id is its session's id and its own number in one integer of 63 bits: four billion messages in a session, and
# two billion sessions in a database. SQL that does the same counts on it: see `_sqlite_search`.
_NUMBER_BITS: Final = 32
_NUMBER_MASK: Final = (1 << _NUMBER_BITS) - 1

_ENCODER: Final = msgspec.json.Encoder()
_MESSAGE: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(Message)
_TEXT: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)
_METADATA: Final[msgspec.json.Decoder[dict[str, Any]]] = msgspec.json.Decoder(dict[str, Any])


class DamagedRow(StoreError):
    """What is stored cannot be read. Whoever knows where it is kept says that, too."""


def row_from_key(key: str) -> bytes:
    """Any string as bytes, no two the same: SQLite's own text can hold neither lone surrogates nor, everywhere, NUL."""
    return key.encode("utf-8", "surrogatepass")


def key_from_row(row: bytes) -> str:
    """The inverse of `row_from_key`."""
    return row.decode("utf-8", "surrogatepass")


def message_id(session: int, number: int) -> int:
    """The id of a session's message; grows with the number, which counts from 1."""
    return session << _NUMBER_BITS | number


def number_of(message: int) -> int:
    """A message's number in its session, from its id."""
    return message & _NUMBER_MASK


def body_from_message(message: Message) -> bytes:
    """A message as JSON; lone surrogates, which JSON cannot carry, are replaced.

    Raises:
      InvalidArgument: Something in it cannot be stored as JSON.
    """
    try:
        return json_bytes(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"a message cannot be stored as JSON: {error}") from error


def message_from_body(body: bytes) -> Message:
    """The inverse of `body_from_message`.

    Raises:
      DamagedRow: It is no message.
    """
    try:
        return _MESSAGE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedRow(f"a stored message cannot be read: {error}") from error


def json_bytes(value: Any) -> bytes:
    """Anything that JSON can carry, as JSON; lone surrogates are replaced."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _ENCODER.encode(_scrubbed(msgspec.to_builtins(value, str_keys=True)))


def metadata_from_row(row: bytes) -> dict[str, Any]:
    """A session's metadata.

    Raises:
      DamagedRow: It is no JSON object.
    """
    try:
        return _METADATA.decode(row)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedRow(f"a session's stored metadata cannot be read: {error}") from error


def text_from_row(row: bytes) -> str:
    """A text that was written as JSON, which holds any character.

    Raises:
      DamagedRow: It is none.
    """
    try:
        return _TEXT.decode(row)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedRow(f"a stored summary cannot be read: {error}") from error


def microseconds(when: datetime) -> int:
    """A timezone-aware time as whole microseconds since 1970: what sorts, and loses nothing."""
    return (when - _EPOCH) // _MICROSECOND


def moment(since_1970: int) -> datetime:
    """The inverse of `microseconds`, in UTC.

    Raises:
      DamagedRow: There is no such time.
    """
    try:
        return _EPOCH + timedelta(microseconds=since_1970)
    except OverflowError as error:
        raise DamagedRow("a session's time cannot be read") from error


def _scrubbed(value: Any) -> Any:
    match value:
        case str():
            return without_surrogates(value)
        case Mapping():
            return {without_surrogates(key): _scrubbed(entry) for key, entry in value.items()}
        case Iterable():
            return [_scrubbed(entry) for entry in value]
        case _:
            return value


class _Row(Protocol):
    """A session as its rows are; times in microseconds, texts encoded."""

    @property
    def position(self) -> Position: ...
    @property
    def created_at(self) -> int: ...
    @property
    def updated_at(self) -> int: ...
    @property
    def metadata(self) -> bytes: ...
    @property
    def through(self) -> int | None: ...
    @property
    def summary(self) -> bytes | None: ...
    @property
    def bodies(self) -> Sequence[bytes]: ...


def record_from_row(key: str, row: _Row) -> SessionRecord:
    """Decode a session.

    Raises:
      DamagedRow: Some of it cannot be read; says of which session it is.
    """
    compaction = None
    try:
        if row.through is not None and row.summary is not None:
            compaction = Compaction(row.through, text_from_row(row.summary))
        messages = tuple([message_from_body(body) for body in row.bodies])
        metadata = metadata_from_row(row.metadata)
        created_at, updated_at = moment(row.created_at), moment(row.updated_at)
    except DamagedRow as error:
        raise DamagedRow(f"in session {key!r:.200}, {error}") from error
    return SessionRecord(
        key=key,
        position=row.position,
        messages=messages,
        metadata=metadata,
        created_at=created_at,
        updated_at=updated_at,
        compaction=compaction,
    )
