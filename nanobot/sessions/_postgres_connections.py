"""Connections to the server: lent to one statement at a time, in whatever thread, and tried again when they break."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

import psycopg
from psycopg.waiting import Ready

from nanobot.errors import StoreError

from ._postgres_address import Address
from ._postgres_errors import is_lost, may_work_again, store_error, uncertain_error
from ._postgres_schema import migrate

__all__ = ["ANSWER_TIMEOUT_S", "MAX_CONNECTIONS", "Connection", "Connections", "connect"]

T = TypeVar("T")

MAX_CONNECTIONS: Final = 10
"""Statements of a turn take a millisecond, so ten connections carry thousands of turns a second; a server has 100 in all."""

# How long a broken connection is tried again: a server that is restarted is back after a few seconds, a standby that takes
# over after some more. Who waits is a turn that has nothing better to do.
PATIENCE_S: Final = 15.0
_FIRST_PAUSE_S: Final = 0.02
_LAST_PAUSE_S: Final = 0.5

ANSWER_TIMEOUT_S: Final = 10.0
"""How long the server may take to answer one statement of a turn. Then the connection counts as cut."""

_SETTINGS: Final = "SET default_transaction_isolation = 'read committed'; SET idle_in_transaction_session_timeout = '15s'"


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose statements have a deadline: a network that swallows everything answers nothing, for ever."""

    answer_by: float | None = None

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Wait for the server; see psycopg."""
        if self.answer_by is None:
            return super().wait(gen, *args, **kwargs)
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                late = self.answer_by is not None and time.monotonic() > self.answer_by
                if ready == Ready.NONE and late:
                    gen.close()
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the server did not answer in time")
                wanted = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer


def connect(address: Address) -> Connection:
    """Open a connection of one's own, with autocommit.

    Raises:
      psycopg.Error: There is none to be had.
    """
    connection = Connection.connect(**address.parameters, autocommit=True, prepare_threshold=None)
    try:
        connection.answer_by = time.monotonic() + ANSWER_TIMEOUT_S
        connection.execute(_SETTINGS)
    except BaseException:
        connection.close()
        raise
    return connection


class Connections:
    """At most so many connections of one process, made when they are needed, the one used last lent first.

    Makes the tables before anything else is done. May be used from any thread. A forked child makes its own.
    """

    def __init__(
        self, address: Address, *, most: int = MAX_CONNECTIONS, patience_s: float = PATIENCE_S
    ) -> None:
        """Connect to nothing yet.

        Args:
          address: The database.
          most: How many at once.
          patience_s: How long a server that cannot be reached is tried again, and a free connection waited for.
        """
        self.address = address
        self.most = most
        self._patience_s = patience_s
        self._free = threading.Semaphore(most)
        self._idle: list[Connection] = []
        self._migrated = False
        self._migrating = threading.Lock()
        self._closed = False

    def run(
        self,
        work: Callable[[Connection, bool], T],
        *,
        repeatable: bool = True,
        answer_s: float = ANSWER_TIMEOUT_S,
    ) -> T:
        """Do something with a connection, again if it breaks. Blocks.

        Args:
          work: One statement, or a transaction. Is told whether it was sent before, with what result nobody knows.
          repeatable: Whether it may be sent again when the answer to the first time was lost.
          answer_s: How long each statement may take.

        Raises:
          StoreError: It could not be done, or nobody knows whether it was.
        """
        deadline = time.monotonic() + self._patience_s
        if not self._free.acquire(timeout=self._patience_s):
            raise StoreError(
                f"no connection to the session database {self.address.shown} was free for {self._patience_s:g} s: all "
                f"{self.most} of this process are in use (sessions.maxConnections)"
            )
        try:
            return self._tried(work, repeatable, answer_s, deadline)
        finally:
            self._free.release()

    def prepare(self, connection: Connection) -> None:
        """See that the tables are there, and up to date.

        Raises:
          StoreError, psycopg.Error: As from `migrate`.
        """
        if not self._migrated:
            with self._migrating:
                connection.answer_by = None  # an index over a large table takes its time
                migrate(connection, self.address.shown)
                self._migrated = True

    def close(self) -> None:
        """Keep no connection between statements from now on."""
        self._closed = True
        self._close_idle()

    def __del__(self) -> None:
        self._close_idle()

    def _tried(
        self,
        work: Callable[[Connection, bool], T],
        repeatable: bool,
        answer_s: float,
        deadline: float,
    ) -> T:
        sent = False
        pause_s = _FIRST_PAUSE_S
        while True:
            connection = None
            sending = False
            try:
                connection = self._take(probe=not repeatable)
                connection.answer_by = time.monotonic() + answer_s
                sending = True
                return work(connection, sent)
            except psycopg.Error as error:
                lost = is_lost(error)
                if lost:
                    self._close_idle()  # they are as old as this one
                    if sending:
                        sent = True
                    if sent and not repeatable:
                        raise uncertain_error(self.address.shown, error) from error
                if not (lost or may_work_again(error)) or time.monotonic() > deadline:
                    told = uncertain_error if sent else store_error
                    raise told(self.address.shown, error) from error
            finally:
                self._give_back(connection)
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    def _take(self, *, probe: bool) -> Connection:
        connection = None
        try:
            connection = self._idle.pop()
        except IndexError:
            pass
        else:
            if probe:
                try:
                    connection.answer_by = time.monotonic() + ANSWER_TIMEOUT_S
                    connection.execute("SELECT 1")
                except psycopg.Error:
                    connection.close()
                    connection = None
        if connection is None:
            connection = connect(self.address)
        try:
            self.prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: Connection | None) -> None:
        if connection is None:
            return
        idle = psycopg.pq.TransactionStatus.IDLE
        if self._closed or connection.closed or connection.info.transaction_status != idle:
            connection.close()
        else:
            self._idle.append(connection)

    def _close_idle(self) -> None:
        idle = getattr(self, "_idle", None)  # half made, if the constructor was refused
        while idle:
            try:
                idle.pop().close()
            except IndexError:
                return
