"""One write transaction: the connection, and the numbers that are given out in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from ._rows import DamagedRow

__all__ = ["Transaction"]


class Transaction:
    """What a request's work is given. Nobody else, in any process, writes while it lasts."""

    __slots__ = ("_next", "_start", "connection", "execute")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.execute = connection.execute
        self._next: int | None = None
        self._start: int | None = None

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        row: tuple[Any, ...] | None = self.execute(sql, parameters).fetchone()
        return row

    def number(self) -> int:
        """A number that this database has never given out, larger than all before: an epoch, a token or a version."""
        if self._next is None:
            self._next = self._start = self._counted()
        self._next += 1
        return self._next

    def last_number(self) -> int:
        """The largest number that was given out."""
        return self._counted() if self._next is None else self._next

    def finish(self) -> None:
        """Write down what was given out; to be called before the commit."""
        if self._next != self._start:
            self.execute("UPDATE counter SET value = ?", (self._next,))

    def _counted(self) -> int:
        row = self.one("SELECT value FROM counter")
        if row is None:  # the schema puts it there
            raise DamagedRow("it has lost its counter")
        value: int = row[0]
        return value
