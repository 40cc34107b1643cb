"""The gateway as a whole: its parts, their beginning and their end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio
from trio_websocket import WebSocketConnection

from actors import TrioNotify
from nanobot import Nanobot
from nanobot._http_connections import HttpConnections
from nanobot.runtime import LATENCY_BOUNDS_S

from ._admission import Admission, Handshake
from ._chats import Chats
from ._connection import GOING_AWAY, Connection, new_chat_id
from ._http import make_app
from ._media import MediaFolder
from ._page_files import PageFile, read_page
from ._runtime_view import shown_statistics
from ._server_frames import RuntimeSeen, ServerFrame
from ._settings import GatewaySettings
from ._sidebar import Sidebar
from ._tokens import Tokens
from ._websocket import WebSocketDoor
from ._wire import Wire

__all__ = ["Gateway"]

_log = logging.getLogger("nanobot.gateway")

_LOOK_EVERY_S: Final = 1.0
_BACKLOG: Final = 1_024
_LEAVE_S: Final = 3.0
"""How long clients have at the end to take what is under way to them and the reason why they are closed."""

_IDLE_HTTP_S: Final = 30.0
"""How long an HTTP connection may be without a complete request head: browsers keep theirs, and open them anew."""

_WRITE_WITHIN_S: Final = 20.0
"""How long an HTTP client may take to accept the next piece of a file."""

_MOST_HTTP: Final = 1_000
"""HTTP connections at once."""


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
        self._websocket_door: WebSocketDoor | None = None
        self.chats = Chats(bot, settings, self._spawn)
        self.media = MediaFolder(bot.runtime.workspace)
        self.sidebar = Sidebar(bot.runtime.workspace)

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
        await trio.to_thread.run_sync(self.sidebar.read)
        settings = self.settings
        async with (
            _listening(settings.http_host, settings.http_port) as http,
            _listening(settings.websocket_host, settings.websocket_port) as websocket,
        ):
            self.settings = settings.with_ports(
                websocket_port=_port(websocket), http_port=_port(http)
            )
            pages = self._http(page)
            async with trio.open_nursery() as everything:
                try:
                    everything.start_soon(self._look_at_runtime)
                    async with (
                        trio.open_nursery() as door
                    ):  # open to the end, for whoever asks whether we are ready
                        door.start_soon(pages.serve, http, everything)
                        await self._serve_turns(everything, websocket, task_status)
                        door.cancel_scope.cancel()
                    await pages.stop_idle()
                    with trio.move_on_after(_LEAVE_S):
                        async with trio.open_nursery() as leaving:
                            leaving.start_soon(self._send_clients_away)
                            leaving.start_soon(pages.wait_closed)
                    everything.cancel_scope.cancel()
                finally:
                    pages.close_all()  # before the nursery waits: hypercorn shields its writes

    async def _serve_turns(
        self,
        everything: trio.Nursery,
        listeners: list[trio.SocketListener],
        task_status: trio.TaskStatus[GatewaySettings],
    ) -> None:
        """Let clients in and run turns until `stop`; then let turns go on for their time."""
        door = self._websocket_door = self._door()
        async with trio.open_nursery() as turns:
            self._turns = turns
            async with trio.open_nursery() as listening:
                await listening.start(
                    partial(
                        trio.serve_listeners,
                        door.take,
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
        while self._connections:
            await self._left.notified()

    def _http(self, page: dict[str, PageFile]) -> HttpConnections:
        app = make_app(
            self.settings,
            self._tokens,
            page,
            draining=lambda: self.draining,
            problem=self.bot.runtime.problem,
            now=trio.current_time,
        )
        return HttpConnections(
            app, _log, write_within_s=_WRITE_WITHIN_S, idle_s=_IDLE_HTTP_S, most=_MOST_HTTP
        )

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
        self, websocket: WebSocketConnection, wire: Wire, handshake: Handshake
    ) -> None:
        connection = Connection(websocket, wire, self, handshake.client_id, now=trio.current_time())
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

    def tell_everyone(self, frame: ServerFrame) -> None:
        """Send a frame to all clients."""
        for connection in self._connections:
            connection.tell(frame)

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


@asynccontextmanager
async def _listening(host: str, port: int) -> AsyncIterator[list[trio.SocketListener]]:
    """Listeners on an address, closed at the end of the block.

    Raises:
      OSError: The address is taken, or none of this machine.
    """
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.socket.close()


def _port(listeners: list[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port
