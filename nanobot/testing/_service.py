"""A scripted model service: takes connections, answers requests from a script, counts and records."""

from __future__ import annotations

import contextlib
import errno
import inspect
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import msgspec
import trio
from msgspec import Struct

from nanobot.errors import UsageError

from ._answer import Answer, HttpResponse, RawResponse, answer_from_text
from ._connection import Connection, HungUp
from ._fault import Raise
from ._http import BadRequest, HttpRequest
from ._openai_chat import models_object
from ._playback import Asked, Pause, Playback, Send, playback, response_bytes
from ._playback_cache import PlaybackCache
from ._recorded_request import RecordedRequest
from ._script import Script, function_from_script
from ._statistics import Statistics

__all__ = ["ServerItem", "Service", "listening_socket"]

ServerItem: TypeAlias = str | Answer | HttpResponse | RawResponse
"""One entry of a server's script."""

COMPLETIONS_PATH = "/v1/chat/completions"

ACCEPTS_PER_TURN = 128
"""Connections taken before others get their turn: empties a full backlog quickly, and delays nobody noticeably."""

BACKLOG = 65_535
"""Connections that may wait to be accepted; the kernel takes the lower of this and its own limit."""

OUT_OF_FILES_WAIT_S = 0.1
"""How long to wait for a file descriptor to become free before accepting is tried again."""

KEPT_SCRIPT_ERRORS = 100
"""Failures of the script that are kept: the first one tells, and a server under load must not grow."""


class _Message(Struct):
    role: str = ""


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Completion(Struct):
    """What of a request the server itself must understand; all else is the script's."""

    model: str
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


_COMPLETION: msgspec.json.Decoder[_Completion] = msgspec.json.Decoder(_Completion)


class Service:
    """Answers the requests on every connection from one script; `serve` runs it."""

    def __init__(
        self,
        script: Script[ServerItem, RecordedRequest],
        *,
        models: Sequence[str],
        record: bool,
        refuse_after: int | None,
    ) -> None:
        if refuse_after is not None and refuse_after < 1:
            raise UsageError(f"refuse_after is {refuse_after}; it must be at least 1 connection")
        self.requests: list[RecordedRequest] = []
        self.script_errors: list[Exception] = []
        self._record = record
        self._refuse_after = refuse_after
        self._next_item = function_from_script(
            script,
            owner="the script of scripted_server",
            check=_playable,
            user_texts=lambda request: request.user_texts,
        )
        self._playbacks = PlaybackCache()
        self._fixed = {
            "/v1/models": response_bytes(200, models_object(tuple(models))),
            "/health": response_bytes(200, b'{"status":"ok"}'),
        }
        self._connections = 0
        self._open_connections = 0
        self._peak_connections = 0
        self._requests = 0
        self._in_flight = 0
        self._peak_in_flight = 0
        self._hang_ups = 0
        self._changed: trio.Event | None = None

    def statistics(self) -> Statistics:
        """The counts of this moment."""
        return Statistics(
            connections=self._connections,
            open_connections=self._open_connections,
            peak_connections=self._peak_connections,
            requests=self._requests,
            requests_in_flight=self._in_flight,
            peak_requests_in_flight=self._peak_in_flight,
            hang_ups=self._hang_ups,
        )

    async def wait_until(
        self, condition: Callable[[Statistics], bool], *, timeout_s: float
    ) -> Statistics:
        """Wait until the counts meet a condition; they are looked at whenever one of them changes."""
        with trio.move_on_after(timeout_s):
            while not condition(self.statistics()):
                if self._changed is None:
                    self._changed = trio.Event()
                await self._changed.wait()
            return self.statistics()
        raise TimeoutError(
            f"the scripted server did not get there within {timeout_s} s; it is at {self.statistics()}"
        )

    async def serve(self, listener: socket.socket) -> None:
        """Take connections until cancelled; then close all of them. The listener is closed in any case."""
        with listener:
            async with trio.open_nursery() as nursery:
                await self._accept(listener, nursery)
                listener.close()  # from here on connections are refused

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(ACCEPTS_PER_TURN):
                try:
                    sock, _ = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno not in _ACCEPT_ERRORS:
                        raise
                    await trio.sleep(OUT_OF_FILES_WAIT_S)
                    break
                self._connections += 1
                nursery.start_soon(self._serve_connection, sock, self._connections)
                if self._connections == self._refuse_after:
                    return

    async def _serve_connection(self, sock: socket.socket, number: int) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock)
        self._open_connections += 1
        self._peak_connections = max(self._peak_connections, self._open_connections)
        self._notify()
        try:
            keep_alive = True
            while keep_alive:
                request = await connection.next_request()
                keep_alive = await self._respond(connection, number, request) and request.keep_alive
        except HungUp:
            pass
        except BadRequest as error:
            await _refuse(connection, error)
        finally:
            connection.close()
            self._open_connections -= 1
            self._notify()

    async def _respond(
        self, connection: Connection, connection_number: int, request: HttpRequest
    ) -> bool:
        """Answer one request; return whether the connection can take another one."""
        path = request.target.partition("?")[0]
        if path == COMPLETIONS_PATH and request.method == "POST":
            return await self._complete(connection, connection_number, request)
        await connection.send(self._plain_response(request.method, path))
        return True

    def _plain_response(self, method: str, path: str) -> bytes:
        if path == COMPLETIONS_PATH:
            return _error_response(405, f"use POST for {path}", {"allow": "POST"})
        if path != "/statistics" and path not in self._fixed:
            return _error_response(
                404,
                f"{path} does not exist; there are {COMPLETIONS_PATH}, {', '.join(self._fixed)}, /statistics",
            )
        if method != "GET":
            return _error_response(405, f"use GET for {path}", {"allow": "GET"})
        if path == "/statistics":
            return response_bytes(200, msgspec.json.encode(self.statistics()))
        return self._fixed[path]

    async def _complete(
        self, connection: Connection, connection_number: int, request: HttpRequest
    ) -> bool:
        try:
            completion = _COMPLETION.decode(request.body)
        except msgspec.DecodeError as error:  # ValidationError included
            await connection.send(_error_response(400, f"not a request for a completion: {error}"))
            return True
        self._requests += 1
        recorded = RecordedRequest(
            number=self._requests,
            connection=connection_number,
            path=request.target,
            headers=request.headers,
            body=request.body,
            model=completion.model,
            stream=bool(completion.stream),
            last_role=completion.messages[-1].role if completion.messages else "",
            arrived_at=time.monotonic(),
        )
        if self._record:
            self.requests.append(recorded)
        self._in_flight += 1
        self._peak_in_flight = max(self._peak_in_flight, self._in_flight)
        self._notify()
        options = completion.stream_options
        asked = Asked(
            recorded.model, recorded.stream, options is not None and bool(options.include_usage)
        )
        try:
            steps = await self._playback_for(connection, recorded, asked)
            reusable = await self._play(connection, steps, recorded.number)
            recorded.answered_at = time.monotonic()
        except HungUp:
            recorded.hung_up_at = time.monotonic()
            self._hang_ups += 1
            raise
        finally:
            self._in_flight -= 1
            self._notify()
        return reusable

    async def _playback_for(
        self, connection: Connection, recorded: RecordedRequest, asked: Asked
    ) -> Playback:
        """Ask the script. If it fails, the request is refused in a way that no client retries; the block raises it."""
        try:
            item = self._next_item(recorded)
            if inspect.isawaitable(item):
                item = await _unless_hung_up(connection, item)
            return self._playbacks.playback_for(_playable(item), asked, recorded.number)
        except HungUp:
            raise
        except Exception as error:  # noqa: BLE001 - strangers' code: its failure is the test's
            if len(self.script_errors) < KEPT_SCRIPT_ERRORS:
                self.script_errors.append(error)
            message = f"the script failed: {type(error).__name__}: {error}"
            return playback(HttpResponse(400, _error_object(message)), asked, "")

    async def _play(self, connection: Connection, steps: Playback, number: int) -> bool:
        """Do what the playback says; return whether the connection survives it."""
        for step in steps:
            if isinstance(step, Send):
                await connection.send(step.payload(b"%08x" % number))
            elif isinstance(step, Pause):
                await connection.pause(step.seconds)
            else:
                connection.close(reset=step.reset)
                return False
        return True

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that connections can be made to from now on; port 0 lets the system choose.

    Raises:
      OSError: The address is not ours, or taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener


_ACCEPT_ERRORS = frozenset(
    {
        errno.ECONNABORTED,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
    }
)
"""What accept() says when this connection or this moment is bad, and the listener is not."""


async def _unless_hung_up(connection: Connection, awaitable: Awaitable[ServerItem]) -> ServerItem:
    """Await what the script promises, as long as the client does."""
    items: list[ServerItem] = []
    errors: list[Exception] = []

    async def ask() -> None:
        try:
            items.append(await awaitable)
        except Exception as error:  # noqa: BLE001 - carried past the nursery, which would wrap it
            errors.append(error)
        nursery.cancel_scope.cancel()

    hung_up = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        try:
            await connection.pause(float("inf"))
        except HungUp:
            hung_up = True
            nursery.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if items:
        return items[0]
    assert hung_up
    raise HungUp


async def _refuse(connection: Connection, error: BadRequest) -> None:
    with contextlib.suppress(HungUp):
        await connection.send(_error_response(error.status, str(error), {"connection": "close"}))


def _playable(item: ServerItem) -> Answer | HttpResponse | RawResponse:
    if isinstance(item, str):
        return answer_from_text(item)
    if isinstance(item, HttpResponse | RawResponse):
        return item
    if isinstance(item, Answer) and not isinstance(item.fault, Raise):
        return item
    raise UsageError(
        f"a scripted server answers with a str, Answer, HttpResponse or RawResponse; got {item!r}"
        " (it cannot raise in its client: use HttpResponse(429), Cut and the like)"
    )


def _error_object(message: str) -> dict[str, Any]:
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    }


def _error_response(status: int, message: str, headers: dict[str, str] | None = None) -> bytes:
    return response_bytes(status, msgspec.json.encode(_error_object(message)), headers=headers)
