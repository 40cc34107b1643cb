"""The server's life: it listens, serves, and leaves nobody in the middle of a word if it can help it."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator
from typing import Final

import trio

from nanobot._http_connections import HttpConnections
from nanobot.sdk import Nanobot

from ._access import check_bind
from ._app import make_app
from ._limits import IDLE_CONNECTION_S, WRITE_WITHIN_S
from ._service import ServerSettings, Service

__all__ = ["serve"]

_log = logging.getLogger("nanobot.server")

_BACKLOG: Final = 2048
_FAREWELL_S: Final = 2.0
"""For telling clients that their run was ended, once there is no more time."""


async def serve(
    bot: Nanobot,
    settings: ServerSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 8900,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a bot over HTTP until SIGTERM or SIGINT, and compact its sessions while they are idle. Then drain: take nothing
    new, give the requests that are open `settings.drain_s` seconds, tell those that are left that they were ended, and close
    the bot, whose sessions are flushed. A second signal ends the draining.

    Args:
      bot: The bot. It is closed at the end. Its runs live in this Trio run.
      settings: How the server is to behave.
      host: Address to listen on; beyond loopback a key is required.
      port: Port to listen on; 0 takes a free one.
      task_status: Told the server's URLs when clients may come.

    Raises:
      BotClosed: The bot was closed before.
      ConfigError: The address is reachable from other machines, and there is no key.
      OSError: The address cannot be listened on.

    Cancellation: runs and connections are ended at once; sessions are flushed all the same.
    """
    check_bind(host, settings.api_key)
    service = Service(bot, settings)
    connections = HttpConnections(
        make_app(service), _log, write_within_s=WRITE_WITHIN_S, idle_s=IDLE_CONNECTION_S
    )
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    try:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as clients:
                try:
                    async with trio.open_nursery() as doors:
                        doors.start_soon(connections.serve, listeners, clients)
                        doors.start_soon(bot.runtime.compact_while_idle)
                        task_status.started([_url(listener) for listener in listeners])
                        await anext(signals)
                        doors.cancel_scope.cancel()
                    await _drain(service, connections, signals)
                    clients.cancel_scope.cancel()
                finally:
                    connections.close_all()  # before the nursery waits: see there for what would hold it up
    finally:
        with trio.CancelScope(shield=True):
            for listener in listeners:
                await listener.aclose()
            await bot.aclose()
            written = await trio.to_thread.run_sync(bot.sessions.flush)
            _log.info("sessions flushed: %d", written)


async def _drain(
    service: Service, connections: HttpConnections, signals: AsyncIterator[int]
) -> None:
    service.drain()
    await connections.stop_idle()
    _log.info("draining: %d requests are open", service.open_requests)
    async with trio.open_nursery() as nursery:

        async def end_at_second_signal() -> None:
            await anext(signals)
            nursery.cancel_scope.cancel()

        nursery.start_soon(end_at_second_signal)
        with trio.move_on_after(service.settings.drain_s):
            await service.wait_quiet()
            await connections.wait_closed()
        nursery.cancel_scope.cancel()
    if service.open_requests:
        _log.warning("ending %d requests", service.open_requests)
        service.hurry()
        with trio.move_on_after(_FAREWELL_S):
            await service.wait_quiet()


def _url(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
