"""Taking old session files into the database: each once, in a thread of its own, and the ones that are asked for first."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from nanobot.errors import StoreError

from ._import_jsonl import OldFile, OldSession, find_old_files, key_of, read_old_session
from ._rows import microseconds, row_from_key
from ._sqlite_leases import LeaseDesk
from ._sqlite_request import Request
from ._sqlite_transaction import Transaction
from ._sqlite_writer import Writer
from ._sqlite_writes import Addition, find, replace

__all__ = ["Importer"]

_NEVER_BROUGHT: Final = 0  # no session has this version

_log = logging.getLogger("nanobot.sessions")


class Importer:
    """Brings sessions over from files of the older format. May be used from any thread.

    It begins when it is first asked for something. A session that somebody asks for is brought at once; the others follow in the
    background, half of the time resting, for what it does keeps the event loop from running.

    A file that was read is remembered with its size and time. If it changes later, because the older version is still in use,
    it is read again; but a session that was written, cleared or deleted here since then stays as it is.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        writer: Writer,
        desk: LeaseDesk,
        note_messages: Callable[[int], None],
    ) -> None:
        """Look for nothing yet. `note_messages` is told, in the writer's thread, how many messages were written."""
        self._folders = folders
        self._writer = writer
        self._desk = desk
        self._note_messages = note_messages
        self._lock = threading.RLock()
        self._files: dict[str, deque[OldFile]] | None = None  # by key; None before the first look
        self._thread: threading.Thread | None = None
        self._finished = not folders
        self._hurried = 0
        self._stopping = threading.Event()

    @property
    def finished(self) -> bool:
        """Whether there is nothing to be brought any more."""
        return self._finished

    def bring(self, key: str) -> None:
        """Bring one session, if there is an old file for it. Blocks.

        Raises:
          StoreError: It could not be written.
        """
        if self._finished:
            return
        with self._lock:
            files = self._found().get(key)
            while files:
                self._take_in(files[0], key)
                files.popleft()
            self._found().pop(key, None)

    def bring_all(self) -> None:
        """Bring every session. Blocks.

        Raises:
          StoreError: One could not be written.
        """
        if self._finished:
            return
        with self._lock:
            self._hurried += 1
        try:
            while not self._finished:
                with self._lock:
                    key = next(iter(self._found()), None)
                    if key is None:
                        self._finished = True
                    else:
                        self.bring(key)
        finally:
            with self._lock:
                self._hurried -= 1

    def stop(self) -> None:
        """Leave the rest for the next time."""
        self._stopping.set()
        thread = self._thread
        if thread is not None:
            thread.join()
        self._finished = True

    def _found(self) -> dict[str, deque[OldFile]]:
        """What is to be brought, by key; looked for at the first call, under the lock."""
        if self._files is None:
            files: dict[str, deque[OldFile]] = {}
            old = list(find_old_files(self._folders))
            new = self._those_not_read(old) if old else []
            # The latest first: it is asked for first, and it is the one that counts if a session has two files.
            for file in sorted(new, key=lambda file: file.modified_ns, reverse=True):
                try:
                    files.setdefault(key_of(file.path), deque()).append(file)
                except OSError as error:
                    _log.warning("an old session file cannot be read: %s", error)
            self._files = files
            if not files:
                self._finished = True
            elif self._thread is None:
                self._thread = threading.Thread(
                    target=self._bring_the_rest, name="nanobot-sessions-import", daemon=True
                )
                contextvars.Context().run(self._thread.start)
        return self._files

    def _bring_the_rest(self) -> None:
        while not self._finished and not self._stopping.is_set():
            began = time.monotonic()
            try:
                with self._lock:
                    key = next(iter(self._found()), None)
                    if key is None:
                        self._finished = True
                        return
                    self.bring(key)
            except StoreError as error:
                _log.warning("old session files are not brought over now: %s", error)
                return
            if not self._hurried:
                self._stopping.wait(time.monotonic() - began)

    def _those_not_read(self, files: Sequence[OldFile]) -> list[OldFile]:
        read = Request(_read_marks, durable=False).answer_sync(self._writer.post)
        return [
            file
            for file in files
            if read.get(os.fsencode(file.path)) != (file.modified_ns, file.size)
        ]

    def _take_in(self, file: OldFile, key: str) -> None:
        try:
            old = read_old_session(file.path)
        except OSError as error:
            _log.warning("an old session file cannot be read: %s", error)
            return
        if old.problems:
            _log.warning(
                "the old session file %s was read without %d of its lines: %s",
                file.path,
                len(old.problems),
                "; ".join(old.problems[:5]),
            )
        addition = Addition.of(old.messages, old.metadata, old.compaction)
        Request(
            partial(self._write, file, key, old, addition),
            after=lambda _: self._note_messages(len(addition.bodies)),
        ).answer_sync(self._writer.post)

    def _write(
        self, file: OldFile, key: str, old: OldSession, addition: Addition, transaction: Transaction
    ) -> None:
        path, key_row = os.fsencode(file.path), row_from_key(key)
        mark = transaction.one(
            "SELECT modified_ns, size, version FROM old_file WHERE path = ?", (path,)
        )
        if mark is not None and mark[:2] == (file.modified_ns, file.size):
            return  # another process was faster
        row = find(transaction, key_row)
        if mark is None:
            version, untouched = _NEVER_BROUGHT, row is None
        else:
            version, untouched = mark[2], row is not None and row.version == mark[2]
        if untouched and not old.empty and not self._desk.is_held(transaction, key_row):
            version = replace(
                transaction,
                key_row,
                row,
                addition,
                microseconds(old.updated_at),
                created_at=microseconds(old.created_at),
            ).version
        transaction.execute(
            "INSERT OR REPLACE INTO old_file VALUES (?, ?, ?, ?)",
            (path, file.modified_ns, file.size, version),
        )


def _read_marks(transaction: Transaction) -> dict[bytes, tuple[int, int]]:
    rows = transaction.execute("SELECT path, modified_ns, size FROM old_file").fetchall()
    return {path: (modified_ns, size) for path, modified_ns, size in rows}
