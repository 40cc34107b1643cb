"""The MCP servers of one runtime."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import trio

from actors import Home
from nanobot.config import McpServer

from .._tool import Tool
from ._mcp_tool import McpTool
from ._names import tool_names
from ._server import McpMissing, Server
from ._session import OpenSession

__all__ = ["McpServers"]

_log = logging.getLogger("nanobot.tools.mcp")

_CLOSE_S: Final = 0.5
"""How long servers may take to end in an orderly way before they are cut off; what is killed then takes as long again."""


class McpServers:
    """All servers of a bot in one runtime, started when their tools are first asked for. Each has a task of its own, so that
    one which hangs or dies is nothing to the others.

    All methods belong to the runtime's home; `known` may be read anywhere.

    Args:
      settings: The servers by name. Those that may offer nothing (`enabledTools` is empty) are left alone.
      home: Where they live.
      taken: Names of tools that the bot has besides.
      load: Gives the function that opens sessions; for tests.
    """

    def __init__(
        self,
        settings: Mapping[str, McpServer],
        *,
        home: Home,
        taken: Collection[str] = (),
        load: Callable[[], Awaitable[OpenSession]] | None = None,
    ) -> None:
        self._home = home
        self._taken = frozenset(taken)
        self._load = load or _load
        self._missing_told = False
        self._servers = [
            Server(name, each, self._loaded)
            for name, each in settings.items()
            if each.enabled_tools
        ]
        self._versions: tuple[int, ...] = ()
        self._known: tuple[Tool, ...] = ()
        self._ended: trio.Event | None = None
        self._closed = False

    @property
    def known(self) -> tuple[Tool, ...]:
        """The tools that are known by now; the same tuple until one of the servers changes them."""
        versions = tuple(server.version for server in self._servers)
        if versions != self._versions:
            self._known, self._versions = self._named(), versions
        return self._known

    def __len__(self) -> int:
        """How many servers there are."""
        return len(self._servers)

    async def ready(self) -> None:
        """Start the servers if nobody has, and wait for each until it has listed its tools or failed to.

        The wait ends `toolTimeout` seconds after the server was started, once and for all: who comes later does not wait
        again for one that is slow.
        """
        if not self._servers or self._closed:
            return
        if self._ended is None:
            self._ended = trio.Event()
            self._home.start(self._keep_all, name="MCP servers")
        for server in self._servers:
            await server.ready()

    async def aclose(self) -> None:
        """End all servers, and return when nothing of them is alive, which takes less than a second."""
        self._closed = True
        for server in self._servers:
            server.stop()
        if self._ended is not None:
            await self._ended.wait()

    async def _keep_all(self) -> None:
        ended = self._ended
        assert ended is not None  # set by who started us
        try:
            async with trio.open_nursery() as nursery:
                for server in self._servers:
                    nursery.start_soon(server.keep, name=f"MCP server {server.name}")
                await self._servers[0].stopped()
                nursery.cancel_scope.deadline = trio.current_time() + _CLOSE_S
        finally:
            ended.set()

    async def _loaded(self) -> OpenSession:
        try:
            return await self._load()
        except McpMissing:
            if not self._missing_told:
                self._missing_told = True
                _log.warning(
                    "MCP servers are configured, but the package mcp is not installed:"
                    " pip install 'nanobot-ai[mcp]'"
                )
            raise

    def _named(self) -> tuple[Tool, ...]:
        listed = {
            (server.name, tool.name): (server, tool)
            for server in self._servers
            for tool in server.listed
        }
        names = tool_names(listed, self._taken)
        for server, tool in (listed[pair] for pair in listed.keys() - names.keys()):
            _log.warning(
                "tool %r of MCP server %s is left out: another tool has its name",
                tool.name,
                server.name,
            )
        return tuple(McpTool(name, *listed[pair]) for pair, name in names.items())


async def _load() -> OpenSession:
    """Import what needs the mcp package, in a thread: it takes a second or two, and others want to run
    meanwhile, or to close."""

    def load() -> OpenSession:
        try:
            module = importlib.import_module("nanobot.tools.mcp._connect")
        except ModuleNotFoundError as error:
            raise McpMissing from error
        open_session: OpenSession = module.open_session
        return open_session

    return await trio.to_thread.run_sync(load, abandon_on_cancel=True)
