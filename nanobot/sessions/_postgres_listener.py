"""One thread and one connection per process: hears notifications, says that the process lives, gives leases back."""

from __future__ import annotations

import contextvars
import logging
import os
import selectors
import threading
import time
from typing import Any, Final

import psycopg

from nanobot.errors import StoreError

from ._postgres_connections import ANSWER_TIMEOUT_S, Connection, Connections, connect
from ._postgres_desk import Desk, Held
from ._postgres_rows import KeyRow

__all__ = ["FOLLOW", "LEASE_TIMEOUT_S", "Listener"]

LEASE_TIMEOUT_S: Final = 15.0
"""How long nothing may be heard of a process before it loses its leases: five beats. It covers a machine that swaps, a server
that is restarted, a network that is cut for some seconds. A turn that waits for a dead process waits this long."""
_BEATS: Final = 5

_HELLO_TIMEOUT_S: Final = 2.0

_FIRST_PAUSE_S: Final = 0.05
_LAST_PAUSE_S: Final = 1.0

_BEAT: Final = (
    "SELECT o_kind, o_digest FROM nanobot_beat(%b, %b::bigint * interval '1 ms', %b::bigint[], %b::bytea[], %b::bytea[], "
    "%b::bigint)"
)
FOLLOW: Final = "SELECT nanobot_follow(%b, %b, %b, %b::bigint, %b::bigint * interval '1 ms')::text"
"""Has the database tell of a session: its digest, its lock; the owner, a number of the desk's, the timeout in ms."""

_log = logging.getLogger("nanobot.sessions")


class Listener:
    """Keeps the database informed of a `Desk`, and the desk of the database. Started when it is first needed.

    A connection that breaks is made anew; whoever waits looks again then, for what may have been missed. Everything it does is
    repeated by the next beat if it was lost.
    """

    def __init__(
        self, connections: Connections, desk: Desk, *, timeout_s: float = LEASE_TIMEOUT_S
    ) -> None:
        """Do nothing yet.

        Args:
          connections: Those to the database; this one has another of its own. No pooler that lends connections for one
            transaction: on such a connection nothing is heard, and sessions are handed on with the next beat only.
          desk: What this process has and wants.
          timeout_s: How long nothing may be heard of this process.
        """
        self._connections = connections
        self._address = connections.address
        self._desk = desk
        self.timeout_s = timeout_s
        self._beat_s = timeout_s / _BEATS
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._given_back: list[Held] = []
        self._left: list[KeyRow] = []
        self._wake_out, self._wake_in = -1, -1
        self._next_beat = 0.0
        self._asleep = False
        self._deaf = False
        self._heard = False
        self._hello_by = 0.0

    def start(self) -> None:
        """Begin to listen, unless that was done before."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._stopping:
                self._wake_out, self._wake_in = os.pipe()
                os.set_blocking(self._wake_out, False)
                os.set_blocking(self._wake_in, False)
                thread = threading.Thread(
                    target=self._run, name="nanobot-postgres-listener", daemon=True
                )
                contextvars.Context().run(thread.start)
                self._thread = thread

    def attend(self) -> None:
        """See that it beats: the desk has become busy, so there will be something in the database that expires."""
        self.start()
        if self._asleep:
            self._wake()

    def give_back(self, held: Held) -> None:
        """Give a lease back soon, together with others; whoever waits for it is told."""
        with self._lock:
            self._given_back.append(held)
        self._wake()

    def leave(self, row: KeyRow) -> None:
        """Take this process out of a session's queue, soon."""
        with self._lock:
            self._left.append(row)
        self._wake()

    def stop_soon(self) -> None:
        """Have the database forget this process, and end; without waiting."""
        self._stopping = True
        self._wake()

    def stop(self) -> None:
        """`stop_soon`, and wait for the end: a few seconds at most, if the server cannot be reached."""
        with self._lock:
            self._stopping = True
        self._wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # --- in the thread

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        told = False
        try:
            while not self._stopping:
                try:
                    with connect(self._address) as connection:
                        self._connections.prepare(connection)
                        pause_s = _FIRST_PAUSE_S
                        told = False
                        self._serve(connection)
                except (psycopg.Error, StoreError) as error:
                    if not self._stopping and not told:  # once, however long it lasts
                        told = True
                        _log.warning(
                            "the session database %s cannot be listened to: %s",
                            self._address.shown,
                            error,
                        )
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        finally:
            with self._lock:
                wake_out, self._wake_out = self._wake_out, -1
                wake_in, self._wake_in = self._wake_in, -1
            os.close(wake_out)
            os.close(wake_in)

    def _serve(self, connection: Connection) -> None:
        connection.add_notify_handler(self._hear)
        self._execute(connection, f"LISTEN nanobot_{self._desk.owner}")
        self._heard = self._is_direct(connection)
        self._deaf = False
        if not self._heard:
            self._hello_by = time.monotonic() + _HELLO_TIMEOUT_S
            self._say_hello()
        self._desk.ring_all()
        self._next_beat = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._wake_out, selectors.EVENT_READ)
            while not self._stopping:
                self._do_chores(connection)
                self._asleep = True  # before it looks whether there is anything: see `attend`
                if self._desk.busy:
                    self._asleep = False
                    selector.select(max(0.0, self._next_beat - time.monotonic()))
                else:
                    selector.select()
                    self._asleep = False
                    self._next_beat = time.monotonic() + self._beat_s  # nothing new expires so soon
                self._drain()
                connection.pgconn.consume_input()
                while notification := connection.pgconn.notifies():
                    self._hear_payload(notification.extra.decode())
        self._do_chores(connection)
        self._execute(connection, "SELECT nanobot_bury(%b)", self._desk.owner)

    def _do_chores(self, connection: Connection) -> None:
        with self._lock:
            given_back, self._given_back = self._given_back, []
            left, self._left = self._left, []
        if given_back:
            given_back.sort(key=lambda held: held.row.lock)
            self._execute(
                connection,
                "SELECT nanobot_release(%b, %b, %b, %b)",
                [held.row.digest for held in given_back],
                [held.row.lock for held in given_back],
                [held.lease.token for held in given_back],
                self._desk.owner,
            )
        waiting = set(self._desk.waiting())
        for row in left:
            if row.digest not in waiting:
                self._execute(
                    connection,
                    "SELECT nanobot_leave(%b, %b, %b)",
                    row.digest,
                    row.lock,
                    self._desk.owner,
                )
        if self._desk.busy and time.monotonic() >= self._next_beat:
            self._beat(connection)

    def _beat(self, connection: Connection) -> None:
        self._next_beat = time.monotonic() + self._beat_s
        owner, timeout_ms = self._desk.owner, round(self.timeout_s * 1000)
        tokens = self._desk.tokens()
        waiting = self._desk.waiting()
        followed, attempt = self._desk.followed()
        told = self._execute(
            connection, _BEAT, owner, timeout_ms, tokens, waiting, followed, attempt
        )
        for kind, digest in told:
            if kind == "u":
                lock = KeyRow.of_digest(digest).lock
                attempt = next(self._desk.attempts)
                self._execute(connection, FOLLOW, digest, lock, owner, attempt, timeout_ms)
            self._take("m" if kind == "u" else kind, digest)
        if self._deaf:
            self._desk.ring_all()
        elif not self._heard and time.monotonic() > self._hello_by:
            self._deaf = True
            _log.error(
                "notifications of the session database %s do not come through, so sessions are handed on with delay: "
                "name the server itself in sessions.url, or a pooler in session mode",
                self._address.shown,
            )

    def _execute(
        self, connection: Connection, statement: str, *values: Any
    ) -> list[tuple[Any, ...]]:
        connection.answer_by = time.monotonic() + ANSWER_TIMEOUT_S
        cursor = connection.cursor(binary=True)
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description is not None else []

    def _is_direct(self, connection: Connection) -> bool:
        ((pid,),) = self._execute(connection, "SELECT pg_backend_pid()")
        return bool(pid == connection.info.backend_pid)

    def _say_hello(self) -> None:
        """Find out whether notifications come through whatever is between."""
        with connect(self._address) as another:
            self._execute(another, "SELECT pg_notify(%s, 'h')", f"nanobot_{self._desk.owner}")

    def _hear(self, notification: psycopg.Notify) -> None:
        self._hear_payload(notification.payload)

    def _hear_payload(self, payload: str) -> None:
        if payload == "h":
            self._heard = True
            return
        try:
            digest = bytes.fromhex(payload[1:])
        except ValueError:
            return  # whoever else uses this channel, it is not for us
        self._take(payload[:1], digest)

    def _take(self, kind: str, digest: bytes) -> None:
        if not self._desk.take(kind, digest):
            with self._lock:  # let the next one have it
                self._left.append(KeyRow.of_digest(digest))

    # --- waking the thread

    def _wake(self) -> None:
        with self._lock:
            if self._wake_in >= 0:
                try:
                    os.write(self._wake_in, b"x")
                except BlockingIOError:
                    pass  # it has more than enough to wake up for

    def _drain(self) -> None:
        try:
            os.read(self._wake_out, 4096)
        except BlockingIOError:
            pass

    def _sleep(self, seconds: float) -> None:
        """Pause; a stop ends it early."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_out, selectors.EVENT_READ)
            if not self._stopping:
                selector.select(seconds)
        self._drain()
