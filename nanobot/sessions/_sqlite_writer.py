"""The one thread of a store that writes: what is asked for at the same time is committed together."""

from __future__ import annotations

import atexit
import contextvars
import logging
import queue
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from nanobot.errors import NanobotError, StoreError

from ._rows import DamagedRow
from ._sqlite_errors import closed_error, is_busy, lost_file, may_be_one_request, store_error
from ._sqlite_file import LOCK_TIMEOUT_S, Inode, inode_of
from ._sqlite_request import NotYet, Request, wake
from ._sqlite_transaction import Transaction

__all__ = ["Chore", "Writer"]

_log = logging.getLogger("nanobot.sessions")

# How many requests share a commit at most: the first of them waits for the last, at about 20 us each.
_LARGEST_BATCH: Final = 512

# Where so many are at work, a commit waits for more to share it, until all have come, or nobody came for a moment: each commit
# writes some ten pages, and the engine is still posting when the writer wakes up. With 10 sessions at once 0.7 commits per turn
# become 0.2, and 100 have 0.09; with 4 nobody waits. After PostgreSQL's commit_siblings and commit_delay.
_CROWD: Final = 5
_MOMENT_S: Final = 0.0005
_MOST_MOMENTS: Final = 10

# Between attempts on a file that another process is writing. It is done in about a millisecond, or several with a slow disk.
_FIRST_PAUSE_S: Final = 0.0005
_LONGEST_PAUSE_S: Final = 0.01

# How long an exiting interpreter waits for what is in the queue.
_EXIT_WAIT_S: Final = 5.0


class Chore(Protocol):
    """Something that the writer does between requests, when its time has come. Called in the writer's thread only."""

    def due_in_s(self) -> float | None:
        """Seconds until it wants to be done; None if there is nothing to do."""
        ...

    def requests(self, connection: sqlite3.Connection) -> Sequence[Request[Any]]:
        """What is to be carried out now."""
        ...


class Writer:
    """Carries out requests in the order in which they were posted, many in one transaction, and answers after the commit.

    A request that fails by itself (it raises a `NanobotError` before it has written) does not touch the others. If the
    transaction fails, it is rolled back; where one request may be to blame, each is tried again alone. The connection is made
    when it is first needed, and anew after the file was damaged, moved or replaced.

    The thread starts with the first request and ends with `close`.
    """

    def __init__(
        self,
        path: Path,
        *,
        connect: Callable[[], sqlite3.Connection],
        durable: bool,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        chores: Sequence[Chore] = (),
        at_work: Callable[[], int],
        put_back: Callable[[Request[Any]], None],
        before_close: Callable[[], Request[Any]],
    ) -> None:
        """Start nothing yet.

        Args:
          path: The file.
          connect: Opens it, ready to be written.
          durable: Whether an answer to a durable request waits for the disk.
          lock_timeout_s: How long another process may keep the file locked.
          chores: Done between requests.
          at_work: How many may be about to ask for something.
          put_back: Told of each request that will have to be tried again; a chore brings it back.
          before_close: Called at the end, in the thread; returns what is to be carried out last.
        """
        self._path = path
        self._connect = connect
        self._durable = durable
        self._lock_timeout_s = lock_timeout_s
        self._chores = chores
        self._before_close = before_close
        self._put_back = put_back
        self._at_work = at_work
        self._lock = threading.RLock()  # posting against closing; reentrant for signal handlers
        self._queue: queue.SimpleQueue[Request[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._end_error: StoreError | None = None
        self._io = threading.Lock()  # held while the connection is in use
        self._connection: sqlite3.Connection | None = None
        self._inode: Inode | None = None
        self._syncs: bool | None = None  # as the connection was told; None if it was not
        self._synced = True
        self._last_batch = 0
        _living.add(self)

    @property
    def started(self) -> bool:
        """Whether anything was ever asked of it."""
        return self._thread is not None

    @property
    def closed(self) -> bool:
        """Whether it refuses requests."""
        return self._closed

    def post(self, request: Request[Any]) -> None:
        """Have a request carried out. From any thread; never blocks.

        Raises:
          StoreError: The store is closed, or the thread could not be started.
        """
        with self._lock:
            if self._closed:
                raise closed_error()
            if self._thread is None:
                self._thread = self._started()
            self._queue.put(request)

    def close(self) -> None:
        """Carry out what was posted before, close the file, and end the thread. Idempotent.

        Raises:
          StoreError: What was written could not be made durable.
        """
        self.close_soon()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        error, self._end_error = self._end_error, None
        if error is not None:
            raise error

    def close_soon(self) -> None:
        """`close`, but without waiting; also for finalizers, which may strike in the middle of anything."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)

    def drain(self, timeout_s: float) -> None:
        """Wait until what was posted before is done, but no longer than this."""
        nothing: Request[None] = Request(lambda transaction: None, durable=False)
        try:
            if self.started:
                nothing.answer_sync(self.post, timeout_s=timeout_s)
        except (StoreError, TimeoutError):
            pass  # closed, or out of order: there is nothing that waiting could save

    # --- fork

    def pause(self, timeout_s: float) -> bool:
        """Let go of the file, between two transactions, until `resume`; returns False if that took too long."""
        if not self._io.acquire(timeout=timeout_s):
            return False
        self._disconnect()
        return True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._io.release()

    def abandon(self) -> None:
        """In a forked child, where the thread does not exist: nothing is ever done again."""
        _living.discard(self)
        self._closed = True
        self._thread = None

    # --- the thread

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="nanobot-sessions", daemon=True)
        try:
            # A new thread starts in an empty context before 3.14 and in the starter's after; ours belongs to nobody.
            contextvars.Context().run(thread.start)
        except RuntimeError as error:  # no more threads, or the interpreter is on its way out
            raise StoreError(f"sessions cannot be written to {self._path}: {error}") from error
        return thread

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                if batch:
                    with self._io:
                        self._carry_out(batch)
                self._do_chores()
        finally:
            self._end()

    def _next_batch(self) -> list[Request[Any]] | None:
        """What is there, after waiting for something or for a chore; None at the end."""
        dues = [due for chore in self._chores if (due := chore.due_in_s()) is not None]
        try:
            request = self._queue.get(timeout=max(0.0, min(dues)) if dues else None)
        except queue.Empty:
            return []
        if request is None:
            return None
        self._let_more_come()
        batch = [request]
        while len(batch) < _LARGEST_BATCH:
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                break
            if request is None:  # first these; the end is met again
                self._queue.put(None)
                break
            batch.append(request)
        self._last_batch = len(batch)
        return batch

    def _let_more_come(self) -> None:
        """Wait for those who may share the commit of the request that has come."""
        # Whoever has just shared one may not be at work again yet, and will be in a moment.
        if (expected := max(self._at_work(), self._last_batch)) < _CROWD:
            return
        before = 0
        for _ in range(_MOST_MOMENTS):
            come = 1 + self._queue.qsize()
            if come == before or come >= expected:
                return
            before = come
            time.sleep(_MOMENT_S)

    def _do_chores(self) -> None:
        for chore in self._chores:
            due = chore.due_in_s()
            if due is None or due > 0:
                continue
            with self._io:
                try:
                    requests = chore.requests(self._connected())
                except (sqlite3.Error, OSError, StoreError) as error:
                    # Nobody waits for it, and it comes around again; whoever writes next is told.
                    _log.warning("sessions: %s", self._translated(error))
                    self._disconnect()
                    time.sleep(_LONGEST_PAUSE_S)  # in case that it is due again at once
                else:
                    if requests:
                        self._carry_out(requests)

    def _carry_out(self, batch: Sequence[Request[Any]]) -> None:
        durable = self._is_durable(batch)
        settled: list[Request[Any]] = []
        waiting: list[Request[Any]] = []
        try:
            connection = self._connected()
            self._begin(connection, durable=durable)
            for request in batch:
                if request.take():
                    settled.append(request)
            waiting = self._transact(connection, settled)
        except Exception as error:  # noqa: BLE001  # a bug in one request must not leave the others unanswered
            self._roll_back()
            if len(settled) > 1 and (
                not isinstance(error, sqlite3.Error) or may_be_one_request(error)
            ):
                for request in settled:
                    self._carry_out_alone(request)
                return
            if not isinstance(error, sqlite3.Error) or not may_be_one_request(error):
                self._disconnect()
            settled += [request for request in batch if request not in settled and request.take()]
            for request in settled:
                request.fail(self._translated(error))
        else:
            self._note_synced(settled, durable=durable)
        self._answer(settled, waiting)

    def _carry_out_alone(self, request: Request[Any]) -> None:
        """Carry out a request that was taken, in a transaction of its own."""
        durable = self._is_durable([request])
        waiting: list[Request[Any]] = []
        try:
            connection = self._connected()
            self._begin(connection, durable=durable)
            waiting = self._transact(connection, [request])
        except Exception as error:  # noqa: BLE001  # as above
            self._roll_back()
            request.fail(self._translated(error))
        else:
            self._note_synced([request], durable=durable)
        self._answer([request], waiting)

    def _is_durable(self, batch: Sequence[Request[Any]]) -> bool:
        return any(request.forced or (self._durable and request.durable) for request in batch)

    def _note_synced(self, settled: Sequence[Request[Any]], *, durable: bool) -> None:
        """Syncing one commit syncs those before it: they are in the same log."""
        self._synced = durable or (self._synced and not any(request.durable for request in settled))

    def _transact(
        self, connection: sqlite3.Connection, requests: Sequence[Request[Any]]
    ) -> list[Request[Any]]:
        """Do the work and commit; returns those that will have to be tried again."""
        transaction = Transaction(connection)
        waiting = []
        for request in requests:
            try:
                request.settle(request.work(transaction))
            except NotYet:
                waiting.append(request)
            except NanobotError as error:
                request.fail(self._translated(error))
        transaction.finish()
        connection.execute("COMMIT")
        return waiting

    def _answer(self, settled: Sequence[Request[Any]], waiting: Sequence[Request[Any]]) -> None:
        if waiting:
            for request in waiting:
                self._put_back(request)
            settled = [
                request for request in settled if request not in waiting or not request.put_back()
            ]
        for request in settled:
            request.committed()
        wake(settled)

    def _begin(self, connection: sqlite3.Connection, *, durable: bool) -> None:
        if durable is not self._syncs:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._syncs = durable
        deadline = time.monotonic() + self._lock_timeout_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
            # SQLite's own waiting sleeps for up to 0.1 s at a time.
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and inode_of(self._path) != self._inode:
            _log.warning("sessions: %s", lost_file(self._path))
            self._disconnect()
        if self._connection is None:
            connection = self._connect()
            connection.execute("PRAGMA busy_timeout = 0")  # see `_begin`
            self._inode = inode_of(self._path)
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection, self._syncs = self._connection, None, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                pass  # it is of no use any more either way

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                self._disconnect()  # which rolls back, too

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, (sqlite3.Error, OSError, DamagedRow)):
            return store_error(self._path, error)
        return error

    def _end(self) -> None:
        with self._lock:
            self._closed = True
        last = self._before_close()
        with self._io:
            if self._connection is not None:
                last.forced = unsynced = not self._synced
                self._carry_out([last])
                self._disconnect()
                if unsynced and isinstance(last.error, StoreError):
                    self._end_error = last.error
        left: list[Request[Any]] = []
        while not self._queue.empty():
            request = self._queue.get_nowait()
            if request is not None and request.take():
                request.fail(closed_error())
                left.append(request)
        wake(left)


_living: weakref.WeakSet[Writer] = weakref.WeakSet()


@atexit.register
def _drain_all() -> None:
    """Not `close`: runs that are cancelled by another exit hook still have their last words to write."""
    for writer in tuple(_living):
        writer.drain(_EXIT_WAIT_S)
