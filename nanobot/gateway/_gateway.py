"""The gateway as a whole: its parts, their beginning and their end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve as serve_http
from trio_websocket import WebSocketConnection

from actors import TrioNotify
from nanobot import Nanobot
from nanobot.runtime import LATENCY_BOUNDS_S

from ._admission import Admission, Handshake
from ._chats import Chats
from ._connection import GOING_AWAY, Connection, new_chat_id
from ._http import PageFile, make_app, read_page
from ._runtime_view import shown_statistics
from ._server_frames import RuntimeSeen
from ._settings import GatewaySettings
from ._tokens import Tokens
from ._websocket import WebSocketDoor

__all__ = ["Gateway"]

_log = logging.getLogger("nanobot.gateway")

_LOOK_EVERY_S: Final = 1.0
_BACKLOG: Final = 1_024
_LEAVE_S: Final = 3.0
"""How long clients have at the end to take what is under way to them and the reason why they are closed."""


class Gateway:
    """Serves one bot over WebSocket and HTTP, and compacts its sessions while they are idle. Lives in one Trio run, in `serve`.

    Args:
      bot: Who answers. It is not closed at the end.
      settings: Addresses, tokens and limits.

    Raises:
      ConfigError: Others than this machine could connect without a token.
    """

    def __init__(self, bot: Nanobot, settings: GatewaySettings) -> None:
        self.bot = bot
        self.settings = settings.checked()
        self.draining = False
        self._tokens = Tokens(settings.token_ttl_s)
        self._connections: dict[Connection, None] = {}
        self._watchers: dict[Connection, None] = {}
        self._dropped = 0
        self._stop = trio.Event()
        self._left = TrioNotify()
        self._turns: trio.Nursery | None = None
        self.chats = Chats(bot, settings, self._spawn)

    def stop(self) -> None:
        """Begin to end: take no new messages and connections, let turns go on for `drain_s`, then leave."""
        self.draining = True
        self._stop.set()

    async def serve(  # noqa: ASYNC128 - `_serve_turns` says it, once everything listens
        self, *, task_status: trio.TaskStatus[GatewaySettings] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until `stop` was called and everything has ended. Started with the settings that have the real ports.

        Raises:
          OSError: An address cannot be listened on.

        Cancellation: turns are cancelled, connections are cut.
        """
        page = await trio.to_thread.run_sync(read_page)
        http_socket = await _bound(self.settings.http_host, self.settings.http_port)
        with http_socket:
            listeners = await trio.open_tcp_listeners(
                self.settings.websocket_port, host=self.settings.websocket_host, backlog=_BACKLOG
            )
            self.settings = self.settings.with_ports(
                websocket_port=listeners[0].socket.getsockname()[1],
                http_port=http_socket.getsockname()[1],
            )
            async with trio.open_nursery() as everything:
                await everything.start(self._serve_http, http_socket.detach(), page)
                everything.start_soon(self._look_at_runtime)
                await self._serve_turns(everything, listeners, task_status)
                await self._send_clients_away()
                everything.cancel_scope.cancel()

    async def _serve_turns(
        self,
        everything: trio.Nursery,
        listeners: list[trio.SocketListener],
        task_status: trio.TaskStatus[GatewaySettings],
    ) -> None:
        """Let clients in and run turns until `stop`; then let turns go on for their time."""
        async with trio.open_nursery() as turns:
            self._turns = turns
            async with trio.open_nursery() as listening:
                await listening.start(
                    partial(
                        trio.serve_listeners,
                        self._door().take,
                        listeners,
                        handler_nursery=everything,
                    )
                )
                listening.start_soon(self.bot.runtime.compact_while_idle)
                task_status.started(self.settings)
                await self._stop.wait()
                listening.cancel_scope.cancel()
            turns.cancel_scope.deadline = trio.current_time() + self.settings.drain_s

    async def _send_clients_away(self) -> None:
        for connection in self._connections:
            connection.leave(GOING_AWAY, "the server is shutting down")
        with trio.move_on_after(_LEAVE_S):
            while self._connections:
                await self._left.notified()

    async def _serve_http(  # noqa: ASYNC128 - hypercorn says it, which is handed the status
        self,
        descriptor: int,
        page: dict[str, PageFile],
        *,
        task_status: trio.TaskStatus[list[str]],
    ) -> None:
        app = make_app(
            self.settings,
            self._tokens,
            page,
            draining=lambda: self.draining,
            now=trio.current_time,
        )
        config = HypercornConfig()
        config.bind = [f"fd://{descriptor}"]
        config.accesslog = None
        config.errorlog = _log
        config.loglevel = "WARNING"
        config.graceful_timeout = 0.0
        config.include_server_header = False
        await serve_http(app, config, mode="asgi", task_status=task_status)  # type: ignore[arg-type]  # ASGI, typed apart

    def _door(self) -> WebSocketDoor:
        settings = self.settings
        return WebSocketDoor(
            Admission(
                path=settings.path,
                token=settings.token,
                hosts=settings.hosts,
                origins=settings.origins(),
                redeem=lambda token: self._tokens.redeem(token, trio.current_time()),
            ),
            max_connections=settings.max_connections,
            max_frame_chars=settings.max_frame_chars,
            serve=self._serve_client,
        )

    async def _serve_client(
        self, websocket: WebSocketConnection, stream: trio.abc.Stream, handshake: Handshake
    ) -> None:
        connection = Connection(
            websocket, stream, self, handshake.client_id, now=trio.current_time()
        )
        self._connections[connection] = None
        try:
            if self.draining:
                connection.leave(GOING_AWAY, "the server is shutting down")
            await connection.serve(new_chat_id())
        finally:
            del self._connections[connection]
            self._left.notify()

    def watch_runtime(self, connection: Connection) -> None:
        """Show a connection the runtime, now and from now on."""
        self._watchers[connection] = None
        connection.show_runtime(self._look())

    def unwatch_runtime(self, connection: Connection) -> None:
        """Show it no more. Idempotent."""
        self._watchers.pop(connection, None)

    def note_dropped(self) -> None:
        """Count a client that did not keep up."""
        self._dropped += 1

    async def _look_at_runtime(self) -> None:
        while True:
            await trio.sleep(_LOOK_EVERY_S)
            if self._watchers:
                seen = self._look()
                for connection in self._watchers:
                    connection.show_runtime(seen)

    def _look(self) -> RuntimeSeen:
        return RuntimeSeen(
            trio.current_time(),
            shown_statistics(self.bot.runtime.statistics()),
            LATENCY_BOUNDS_S,
            connections=len(self._connections),
            dropped=self._dropped,
        )

    def _spawn(self, task: Callable[[], Awaitable[None]]) -> None:
        assert self._turns is not None  # connections, which ask for it, come after it
        self._turns.start_soon(task)


async def _bound(host: str, port: int) -> socket.socket:
    """A TCP socket that has its address and does not listen yet.

    Raises:
      OSError: The address is taken, or none of this machine.
    """
    family, _, _, _, address = (await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))[
        0
    ]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound
