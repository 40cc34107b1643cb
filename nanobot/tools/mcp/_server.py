"""One MCP server of a bot: connected, watched, started again."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import trio

from actors import RestartPolicy, TrioNotify, supervise
from nanobot.config import McpServer
from nanobot.errors import ToolError

from ._names import is_enabled, plain_name
from ._session import (
    Answer,
    ConnectionLost,
    ListedTool,
    OpenSession,
    Refused,
    ServerFailed,
    Session,
    SessionForgotten,
)

__all__ = ["McpMissing", "Server"]

T = TypeVar("T")

_log = logging.getLogger("nanobot.tools.mcp")

_POLICY: Final = RestartPolicy(
    max_failures=10**6, window_s=600.0, first_delay_s=0.2, max_delay_s=60.0
)
"""Never gives up: what is down now may be up tomorrow, and one attempt a minute costs nothing. A server that held for ten
minutes is forgiven all before that."""

_OPENING_S: Final = 60.0
"""How long a server may take to start and list its tools: `npx` downloads it first. Turns wait less; see `Server.ready`."""

_PONG_S: Final = 5.0
"""How long a server may take to answer when it is in doubt whether it is alive."""

_PATIENCE_S: Final = 5.0
"""How long a call waits for a server that was there a moment ago: it is started again within a second, mostly."""

_PAUSE_S: Final = 1.0
"""The least time between two listings, whatever the server announces."""

_NEARLY: Final = 0.9
"""The share of its time after which a call that is cancelled counts as one that ran out of it."""


class McpMissing(Exception):
    """The package mcp is not installed."""


class Server:
    """One configured server. Its task, `keep`, owns the connection; everything else may be used by any task of its home.

    Args:
      name: Its name in the configuration.
      settings: Its settings.
      load: Gives the function that opens sessions, or raises `McpMissing`.

    Attributes:
      listed: The tools that it has listed and `enabledTools` lets through; those of before while it is away.
      version: Grows whenever `listed` changes.
    """

    def __init__(
        self, name: str, settings: McpServer, load: Callable[[], Awaitable[OpenSession]]
    ) -> None:
        self.name = name
        self.settings = settings
        self.listed: tuple[ListedTool, ...] = ()
        self.version = 0
        self._load = load
        self._session: Session | None = None
        self._failure: ServerFailed | None = None  # of the newest attempt to connect
        self._loss: ServerFailed | None = None  # of the newest connection
        self._settled = trio.Event()  # the first attempt has come to something
        self._moved = trio.Event()  # replaced whenever one of the above changes
        self._ready_by: float | None = None
        self._scope = trio.CancelScope()
        self._attending = trio.CancelScope()
        self._stop = trio.Event()
        self._wanted = TrioNotify()
        self._changed = False
        self._in_doubt = False

    async def keep(self) -> None:
        """Keep the connection until `stop`, starting the server again whenever it fails."""
        with self._scope:
            try:
                await supervise(self._live, policy=_POLICY, name=f"MCP server {self.name}")
            finally:
                self._settled.set()

    def stop(self) -> None:
        """Let `keep` end: with a word to a server that is there, at once otherwise."""
        self._stop.set()
        (self._scope if self._session is None else self._attending).cancel()

    async def stopped(self) -> None:
        """Wait until somebody called `stop`."""
        await self._stop.wait()

    async def ready(self) -> None:
        """Wait until the tools are listed or the first attempt has failed, but not past `toolTimeout` from the first wait,
        with which the server is started.
        """
        if self._ready_by is None:
            self._ready_by = trio.current_time() + self.settings.tool_timeout
        with trio.move_on_at(self._ready_by):
            await self._settled.wait()

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answer:
        """Call a tool, by the server's name for it.

        Raises:
          ToolError: The server is not there, did not do it, or was lost meanwhile.
        """
        started = trio.current_time()
        session = await self._connected()
        try:
            try:
                return await session.call(tool, arguments)
            except SessionForgotten:
                self._doubt(session)
                session = await self._connected(other_than=session)
                return await session.call(tool, arguments)
        except Refused as refused:
            raise ToolError(f"The MCP server {self.name!r} refuses this: {refused}") from refused
        except (ConnectionLost, SessionForgotten) as lost:
            self._doubt(session)
            raise ToolError(await self._told_of(session)) from lost
        except trio.Cancelled:
            if trio.current_time() - started > _NEARLY * self.settings.tool_timeout:
                self._doubt(session)
            raise

    async def _connected(self, other_than: Session | None = None) -> Session:
        """The session, once there is one.

        Raises:
          ToolError: It cannot be connected to now.
        """
        with trio.move_on_after(_PATIENCE_S):
            while self._failure is None:
                if self._session is not None and self._session is not other_than:
                    return self._session
                await self._moved.wait()
        failure = self._failure or self._loss
        reason = f": {failure.reason}" if failure else ""
        raise ToolError(
            f"The MCP server {self.name!r} is not available{reason}. It is started again from time to time; go on"
            " without it, or try again later."
        )

    async def _told_of(self, session: Session) -> str:
        """What the model is told of a call whose connection was lost."""
        with trio.move_on_after(_PAUSE_S):  # it takes a moment to learn how a process ended
            while self._session is session or self._loss is None:
                await self._moved.wait()
        known = self._session is not session and self._loss is not None
        reason = f": {self._loss.reason}" if known and self._loss else ""
        return (
            f"The MCP server {self.name!r} was lost during this call{reason}. The call may have run in part or in full:"
            " check before you repeat it."
        )

    async def _live(self) -> None:
        """One connection, from its beginning to its end; returns when the server is to stop.

        Raises:
          ServerFailed: It failed.
        """
        try:
            open_session = await self._load()
        except McpMissing:
            self._come_down(ServerFailed("the package `mcp` is not installed"), was_up=False)
            return
        was_up = False
        try:
            with trio.move_on_after(max(_OPENING_S, self.settings.tool_timeout)) as opening:
                async with open_session(self.settings, self._hear) as session:
                    listed = await _asked(session.list_tools())
                    opening.deadline = math.inf
                    was_up = True
                    self._come_up(session, listed)
                    try:
                        with self._attending:
                            await self._attend(session)
                    finally:
                        self._session = None
                        self._move()
            if opening.cancelled_caught:
                raise ServerFailed(f"it was not ready within {_OPENING_S:g} s")
        except ServerFailed as failure:
            self._come_down(failure, was_up=was_up)
            raise

    async def _attend(self, session: Session) -> None:
        """Look after a living session: for ever, unless it fails."""
        while True:
            await self._wanted.notified()
            if self._in_doubt:
                self._in_doubt = False
                with trio.move_on_after(_PONG_S) as patience:
                    await _asked(session.ping())
                if patience.cancelled_caught:
                    raise ServerFailed("it does not answer")
            if self._changed:
                self._changed = False
                with trio.move_on_after(self.settings.tool_timeout) as patience:
                    self._publish(await _asked(session.list_tools()))
                if patience.cancelled_caught:
                    raise ServerFailed("it does not list its tools")
                await trio.sleep(_PAUSE_S)

    def _hear(self, what: str) -> None:
        if what == "tools":
            self._changed = True
        else:
            self._in_doubt = True
        self._wanted.notify()

    def _doubt(self, session: Session) -> None:
        if self._session is session:
            self._hear("trouble")

    def _come_up(self, session: Session, listed: tuple[ListedTool, ...]) -> None:
        self._session = session
        self._attending = trio.CancelScope()
        self._failure = self._loss = None
        self._changed = self._in_doubt = False
        self._publish(listed)
        self._settled.set()
        self._move()

    def _come_down(self, failure: ServerFailed, *, was_up: bool) -> None:
        if was_up:
            self._loss = failure
        else:
            self._failure = failure
        self._settled.set()
        self._move()

    def _move(self) -> None:
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def _publish(self, listed: tuple[ListedTool, ...]) -> None:
        enabled = self.settings.enabled_tools
        known = {tool.name for tool in listed} | {
            plain_name(self.name, tool.name) for tool in listed
        }
        if missing := sorted({*enabled} - known - {"*"}):
            _log.warning("MCP server %s has no tool %s", self.name, ", ".join(missing))
        self.listed = tuple(tool for tool in listed if is_enabled(self.name, tool.name, enabled))
        self.version += 1


async def _asked(answer: Awaitable[T]) -> T:
    """Await an answer without which the connection is of no use.

    Raises:
      ServerFailed: There is none.
    """
    try:
        return await answer
    except Refused as refused:
        raise ServerFailed(f"it does not list its tools: {refused}") from refused
    except SessionForgotten as forgotten:
        raise ServerFailed("it has forgotten the session") from forgotten
    except ConnectionLost as lost:
        raise ServerFailed("it ended the connection") from lost
