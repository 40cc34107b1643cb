"""The tools that a bot's runs may offer: those it was given, and those of its MCP servers."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from nanobot.context import TextCounter, tool_tokens
from nanobot.tools import Tool, Toolset
from nanobot.tools.mcp import McpServers

__all__ = ["OfferedTools"]


class OfferedTools:
    """The tools of one runtime, which change only when an MCP server says so.

    Args:
      given: The tools that the bot always has.
      servers: The servers that have more.
    """

    def __init__(self, given: Toolset, servers: McpServers) -> None:
        self._given = given
        self._servers = servers
        self._found: tuple[Tool, ...] = ()
        self._now = given
        self._tokens: tuple[Toolset, int] | None = None

    @property
    def now(self) -> Toolset:
        """The tools that are known by now. The same object until they change; may be read in any thread."""
        found = self._servers.known
        if found is not self._found:
            self._now, self._found = self._given.with_tools(found), found
        return self._now

    async def ready(self, more: Sequence[Tool], within_s: float) -> Toolset:
        """Wait for servers that are just being started, but no longer than `within_s`; return the tools, and `more`.

        Raises:
          UsageError: Two tools have one name.
        """
        if self._servers:
            with trio.move_on_after(within_s):
                await self._servers.ready()
        return self.now.with_tools(more) if more else self.now

    def tokens_of(self, toolset: Toolset, count: TextCounter) -> int:
        """About how many tokens some tools take in a prompt; counted once for those of every run."""
        if toolset is not self._now:
            return tool_tokens(toolset.specs, count)
        if self._tokens is None or self._tokens[0] is not toolset:
            self._tokens = toolset, tool_tokens(toolset.specs, count)
        return self._tokens[1]
