"""Real servers for tests: the small one of this folder, as a child process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from actors import trio_home
from nanobot.config import McpServer
from nanobot.messages import TextPart, ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, Workspace, execute
from nanobot.tools.mcp import McpServers

PROGRAM = Path(__file__).with_name("stdio_server.py")


def small(misbehaves: str = "", **settings: Any) -> McpServer:
    """The settings of the small server."""
    return McpServer(command=sys.executable, args=("-S", str(PROGRAM), misbehaves), **settings)


@asynccontextmanager
async def opened(**settings: McpServer) -> AsyncIterator[McpServers]:
    """The servers of a runtime, for the length of a block."""
    servers = McpServers(settings, home=trio_home())
    try:
        yield servers
    finally:
        await servers.aclose()


class Caller:
    """Calls tools of servers as a turn does.

    Args:
      servers: The servers.
      folder: The workspace.
    """

    def __init__(self, servers: McpServers, folder: Path) -> None:
        self._servers = servers
        self._context = RunContext(confined=Workspace(folder))

    async def call(self, name: str, arguments: str = "{}") -> ToolResult:
        toolset = Toolset(self._servers.known)
        return await execute(ToolCall(f"call-{name}", name, arguments), toolset, self._context)


async def texts(servers: McpServers, folder: Path, name: str, arguments: str = "{}") -> str:
    """Call a tool, and return the text of what the model is told."""
    result = await Caller(servers, folder).call(name, arguments)
    content = result.message.content
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if isinstance(part, TextPart))
