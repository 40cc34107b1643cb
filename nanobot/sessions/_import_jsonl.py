"""Session files of the format before the database: one JSON object a line. Reads them, and never changes one.

The first line is `{"_type": "metadata", "key", "created_at", "updated_at", "metadata", "last_consolidated"}`; each that follows
is a message in OpenAI's chat shape, or has a `_type` and is none. A file is named by its key in base64url without padding, or,
if it is older, by the key with the characters replaced that a file name cannot have. What the first line says counts.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from nanobot.errors import UsageError
from nanobot.messages import Message, UserMessage, message_from_openai, repair, without_surrogates

from ._record import Compaction, session_metadata

__all__ = ["OldFile", "OldSession", "find_old_files", "key_of", "read_old_session"]

_log = logging.getLogger("nanobot.sessions")

_SUFFIX: Final = ".jsonl"

# State of the older runtime, of no meaning to this one. The summary becomes the session's own.
_NOT_METADATA: Final = (
    "_last_summary",
    "_last_usage",
    "pending_user_turn",
    "runtime_checkpoint",
)
_COMMAND: Final = "_command"  # marks what was said to nanobot and not to the model


class OldFile(Struct, frozen=True):
    """A session file as it was found: path, and what changes when it is written."""

    path: Path
    modified_ns: int
    size: int


class OldSession(Struct, frozen=True):
    """What a session file holds, as this version keeps it.

    `problems` says, line by line, what could not be kept. `empty` means that there is no session in it.
    """

    key: str
    messages: tuple[Message, ...]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    compaction: Compaction | None = None
    problems: tuple[str, ...] = ()
    empty: bool = False


def find_old_files(folders: Sequence[Path]) -> Iterator[OldFile]:
    """The session files in the folders, in order of the folders; one that does not exist, or cannot be read, has none."""
    seen = set()
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                found = sorted(
                    (entry for entry in entries if entry.name.endswith(_SUFFIX)),
                    key=lambda entry: entry.name,
                )
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            _log.warning("old session files in %s cannot be read: %s", folder, error)
            continue
        for entry in found:
            try:
                about = entry.stat()
                is_file = entry.is_file()
            except (
                OSError
            ) as error:  # a link that leads nowhere; the others are sessions all the same
                _log.warning(
                    "the old session file %s cannot be read: %s",
                    entry.path,
                    error.strerror or error,
                )
                continue
            if is_file and (about.st_dev, about.st_ino) not in seen:
                seen.add((about.st_dev, about.st_ino))
                yield OldFile(Path(entry.path), about.st_mtime_ns, about.st_size)


def key_of(path: Path) -> str:
    """Whose file it is, by its first line, or by its name if that does not say.

    Raises:
      OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = _object(file.readline())
    return _key_in(head) or _key_in_name(path.stem)


def read_old_session(path: Path) -> OldSession:
    """Read a session file, as much of it as can be read.

    A line that is no JSON, or no message that can be kept, is left out, and so are commands and their answers, which no model was
    ever shown. The rest is made a legal history. A summary that stood for the start stands for it again.

    Raises:
      OSError: It cannot be read.
    """
    with path.open("rb") as file:
        lines = file.readlines()
        modified = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime).astimezone()
    head = _object(lines[0]) if lines else None
    if head is None or head.get("_type") != "metadata":
        head = {}
    said, problems, consolidated = _messages(lines, head.get("last_consolidated"))
    messages, through = _legal(said, consolidated)
    summary = _summary(head)
    return OldSession(
        key=_key_in(head) or _key_in_name(path.stem),
        messages=messages,
        metadata=_metadata(head),
        created_at=_moment(head.get("created_at")) or modified,
        updated_at=_moment(head.get("updated_at")) or modified,
        compaction=Compaction(through, summary) if through and summary else None,
        problems=tuple(problems),
        empty=not head and not messages,
    )


def _messages(
    lines: Sequence[bytes], last_consolidated: object
) -> tuple[list[Message], list[str], int]:
    """The messages that can be kept, what is wrong with the others, and how many of those kept were consolidated."""
    said: list[Message] = []
    problems: list[str] = []
    before = last_consolidated if isinstance(last_consolidated, int) else 0
    count = consolidated = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        value = _object(line)
        if value is None:
            problems.append(f"line {number} is no JSON object")
            continue
        if "_type" in value:
            continue
        count += 1
        if not value.get(_COMMAND):
            try:
                said.append(message_from_openai(value))
            except UsageError as error:
                problems.append(f"line {number}: {error}")
        if count == before:
            consolidated = len(said)
    return said, problems, consolidated


def _legal(said: Sequence[Message], consolidated: int) -> tuple[tuple[Message, ...], int]:
    """The messages as a legal history, and how many of them the first `consolidated` have become.

    Only whole turns count: a call and its result are not mended apart.
    """
    while 0 < consolidated < len(said) and not isinstance(said[consolidated], UserMessage):
        consolidated -= 1
    front = repair(said[:consolidated]).history
    back = repair(said[consolidated:], continues=bool(front)).history
    return (*front, *back), len(front)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(
            line.removeprefix(BOM_UTF8)
        )  # some editors put it before the first
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _key_in(head: Mapping[str, Any] | None) -> str | None:
    key = None if head is None or head.get("_type") != "metadata" else head.get("key")
    return key if isinstance(key, str) and key else None


def _key_in_name(stem: str) -> str:
    try:
        decoded = base64.b64decode(stem + "=" * (-len(stem) % 4), altchars=b"-_", validate=True)
        key = decoded.decode()
        if base64.urlsafe_b64encode(decoded).decode().rstrip("=") == stem:
            return key
    except (binascii.Error, ValueError):  # also bytes that are no UTF-8
        pass
    # The oldest names: `channel:chat` was written `channel_chat`.
    return without_surrogates(stem).replace("_", ":", 1)


def _metadata(head: Mapping[str, Any]) -> dict[str, Any]:
    kept = head.get("metadata")
    if not isinstance(kept, dict):
        return {}
    return session_metadata(
        {name: value for name, value in kept.items() if name not in _NOT_METADATA}
    )


def _summary(head: Mapping[str, Any]) -> str:
    match head.get("metadata"):
        case {"_last_summary": {"text": str(text)}}:
            return text
        case {"_last_summary": str(text)}:
            return text
        case _:
            return ""


def _moment(text: object) -> datetime | None:
    """A time as it was written, in UTC: without a zone, it is in that of the machine."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).astimezone().astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
