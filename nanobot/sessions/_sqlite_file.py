"""The database file: how it is made, what is in it, how it is opened, and how an older one is brought up to date."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

from nanobot._regular_file import is_new_file
from nanobot.errors import StoreError

from ._sqlite_errors import is_busy

__all__ = [
    "LOCK_TIMEOUT_S",
    "Inode",
    "has_fts5",
    "inode_of",
    "open_for_reading",
    "open_for_writing",
]

Inode: TypeAlias = tuple[int, int]
"""Device and number: tells whether a path still leads to the file that was opened."""

# "nano", so that `file` and other programs can tell whose database it is.
_APPLICATION_ID: Final = 0x6E616E6F

# How long a file may be locked by somebody else. Our own processes hold it for milliseconds, a checkpoint of a large
# database on a slow disk for a second or two; what takes longer is a program that has it open and does not let go.
LOCK_TIMEOUT_S: Final = 10.0
_LOCK_POLL_S: Final = 0.02

# After a checkpoint the write-ahead log is reused, not shrunk. One large import shall not keep its size forever.
_LOG_BYTES_KEPT: Final = 16 * 1024 * 1024

_BESIDE: Final = ("-wal", "-shm", "-journal")  # the files that SQLite keeps beside a database

# One entry per version, applied in order, forward only. What is released is never changed, only followed by another.
#
# session: one small row for each; an append rewrites it. What is large or rarely changes is in `facts`.
# message: its id is the session's id and its own number in one integer, so that a session's messages lie together and no
#   second index is needed. A session's id is never used again (AUTOINCREMENT); another life of it has another id.
# unindexed: ranges of message ids that the search index does not have yet.
# owner: one row for each open store; it holds leases, and draws a ticket where it has to wait for one. `scope`, `pid` and
#   `started` name its process, `beat` grows while it lives. The id is random: it stays when the file is replaced.
# slip: what a turn leaves beside its session for whoever goes on with it.
# old_file: which files of the older format were read, and what became of them; `version` is that of the session.
_SCHEMA: Final = (
    """
    CREATE TABLE counter (value INTEGER NOT NULL);
    INSERT INTO counter VALUES (0);
    CREATE TABLE session (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL UNIQUE,
        epoch INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        version INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        title TEXT NOT NULL,
        preview TEXT NOT NULL
    );
    CREATE INDEX session_by_time ON session (updated_at, version);
    CREATE TABLE facts (
        session INTEGER PRIMARY KEY,
        metadata BLOB NOT NULL,
        through INTEGER,
        summary BLOB
    );
    CREATE TABLE message (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE unindexed (first INTEGER PRIMARY KEY, last INTEGER NOT NULL);
    CREATE TABLE owner (
        id INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started TEXT NOT NULL,
        beat INTEGER NOT NULL
    );
    CREATE TABLE lease (
        key BLOB PRIMARY KEY,
        token INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        owner INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE ticket (number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, owner INTEGER NOT NULL);
    CREATE UNIQUE INDEX ticket_by_key ON ticket (key, owner);
    CREATE TABLE old_file (
        path BLOB PRIMARY KEY,
        modified_ns INTEGER NOT NULL,
        size INTEGER NOT NULL,
        version INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE slip (
        session INTEGER NOT NULL,
        name TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (session, name)
    ) WITHOUT ROWID;
    CREATE INDEX slip_by_name ON slip (name);
    """,
)

# Contentless: the text is in the messages. Not part of the schema, for a build of SQLite without FTS5 could not read it.
_SEARCH_INDEX: Final = """
    CREATE VIRTUAL TABLE IF NOT EXISTS search
    USING fts5(text, content='', tokenize="unicode61 remove_diacritics 2")
"""


def inode_of(path: Path) -> Inode | None:
    """Which file is at the path; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - before each transaction, and in half the time of `path.stat()`
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def open_for_writing(path: Path, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> sqlite3.Connection:
    """Open the database, made and brought up to date as needed; mode 0600, in a folder with mode 0700.

    Args:
      path: The file.
      lock_timeout_s: How long another process may keep it locked.

    Raises:
      StoreError: It is no session database, or one of a later version than this.
      NotAFile: The database, or a file that SQLite keeps beside it, is something else.
      sqlite3.Error, OSError: It cannot be opened.
    """
    for suffix in _BESIDE:  # SQLite would say that the disk is broken
        is_new_file(f"{path}{suffix}")
    if is_new_file(path):
        _make_file(path)
    deadline = time.monotonic() + lock_timeout_s
    while True:
        connection = _connected(path, lock_timeout_s)
        try:
            _prepare(connection, path)
        except sqlite3.OperationalError as error:
            # Processes that open a new database at once: turning on the log is the one step that does not wait its turn.
            connection.close()
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(_LOCK_POLL_S)
        except BaseException:
            connection.close()
            raise
        else:
            return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a database that `open_for_writing` has prepared.

    Raises:
      sqlite3.Error: It cannot be opened, or is not there.
    """
    connection = _connected(path, LOCK_TIMEOUT_S)
    try:
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def has_fts5(connection: sqlite3.Connection) -> bool:
    """Whether this build of SQLite has full-text search."""
    try:
        rows = connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchall()
    except sqlite3.OperationalError:  # so old that it cannot say
        return False
    return bool(rows)


def _make_file(path: Path) -> None:
    """Put an empty file in place.

    Not by opening it: were another store of this process to have it open already, closing our own descriptor would take
    away its locks. Source: https://www.sqlite.org/howtocorrupt.html, section 2.2.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        os.link(beside, path)  # unlike a rename, never replaces
    except FileExistsError:
        pass  # another process was faster
    except OSError:  # a file system without links
        if inode_of(path) is None:
            beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)


def _connected(path: Path, lock_timeout_s: float) -> sqlite3.Connection:
    # mode=rw: a database that was deleted is not to be made anew by somebody who reads.
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode=rw",
        uri=True,
        timeout=lock_timeout_s,
        isolation_level=None,  # transactions begin where they are written
        check_same_thread=False,  # used by one thread at a time, also when it is closed before a fork
    )


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    _refuse_strangers(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(
            f"the session database {path} needs a write-ahead log, which its file system does not offer (it is {mode!r} there): "
            "keep sessions on a local disk"
        )
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES_KEPT}")
    # macOS: a plain fsync leaves the bytes in the drive's cache. Without effect elsewhere.
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for script in _SCHEMA[version:]:
        for statement in script.split(";"):  # `executescript` would commit first
            connection.execute(statement)
    if version < len(_SCHEMA):
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(_SCHEMA)}")
    if has_fts5(connection):
        connection.execute(_SEARCH_INDEX)
    connection.execute("COMMIT")


def _refuse_strangers(connection: sqlite3.Connection, path: Path) -> None:
    """Look before anything is changed."""
    # One transaction: a process that makes the same database right now is seen wholly or not at all.
    connection.execute("BEGIN")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.execute("COMMIT")
    if application != _APPLICATION_ID and (application or version or tables):
        raise StoreError(
            f"{path} is a database of another program: move it away, or keep sessions elsewhere"
        )
    if version > len(_SCHEMA):
        raise StoreError(
            f"the session database {path} was written by a newer nanobot (its version is {version}, this one knows "
            f"{len(_SCHEMA)}): update nanobot, or move the file away to begin a new one"
        )
