"""What went wrong with the database file, in words that say which file and what to do. Pure."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from nanobot._regular_file import NotAFile
from nanobot.errors import StoreError

from ._rows import DamagedRow

__all__ = ["closed_error", "is_busy", "lost_file", "may_be_one_request", "store_error"]

# A result code's low byte is what SQLite calls primary; the rest only says where it happened.
_PRIMARY: Final = 0xFF
_BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else has the file, and trying again may help."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def may_be_one_request(error: sqlite3.Error) -> bool:
    """Whether a transaction may have failed by the size or content of one request, so that the others would not."""
    return _code(error) in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_ERROR,
    )


def store_error(path: Path, error: Exception) -> StoreError:
    """Say what happened to the file, what became of the write, and the way out."""
    if isinstance(error, sqlite3.Error):
        text = _explained(path, _code(error), error)
    elif isinstance(error, DamagedRow):
        text = f"the session database {path} is damaged: {error}. Clear or delete that session, or restore a backup"
    elif isinstance(error, NotAFile):
        text = (
            f"sessions cannot be kept in {path}: {error.filename} is {error.strerror}; "
            "move it away, or keep sessions elsewhere"
        )
    else:
        text = f"sessions cannot be kept in {path}: {error}; check that its folder exists and is writable"
    told = StoreError(text)
    told.__cause__ = error
    return told


def closed_error() -> StoreError:
    """For a write to a store that was closed."""
    return StoreError("the session store is closed: sessions can be read, not written")


def lost_file(path: Path) -> StoreError:
    """For a database that is no longer where it was."""
    return StoreError(f"the session database {path} was moved or deleted while it was in use")


def _explained(path: Path, code: int, error: sqlite3.Error) -> str:
    match code:
        case sqlite3.SQLITE_FULL:
            return (
                f"no space is left for the session database {path}: nothing of this write was stored; "
                "free some space on that disk, or raise its quota"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return (
                f"the session database {path} cannot be written: make the file, its folder, and the files beside it that end in "
                "-wal and -shm writable for this user"
            )
        case sqlite3.SQLITE_CANTOPEN:
            return (
                f"the session database {path} cannot be opened: check that its folder exists, that this user may write to it, "
                "and that this process may open more files"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return (
                f"the session database {path} is locked by another program: close the database browser or the backup that has it "
                "open, and try again"
            )
        case sqlite3.SQLITE_NOTADB:
            return f"{path} is not a SQLite database: move it away, and a new one is begun; or put the right file in its place"
        case sqlite3.SQLITE_CORRUPT:
            return (
                f"the session database {path} is damaged ({error}): restore a backup, or move it away together with the files "
                "beside it that end in -wal and -shm, and a new one is begun. What can be saved is saved by: "
                f"sqlite3 {path.name} .recover"
            )
        case sqlite3.SQLITE_IOERR:
            name = getattr(error, "sqlite_errorname", "SQLITE_IOERR")
            return (
                f"the disk refused to read or write the session database {path} ({name}): nothing of this write was stored; "
                "check the disk, its quota, and the limit on file sizes"
            )
        case _:
            return f"the session database {path} could not do this: {error}"


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
