"""A connection to an MCP server, as the rest of this package sees it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeAlias

from msgspec import Struct

from nanobot.config import McpServer

__all__ = [
    "Answer",
    "Blob",
    "ConnectionLost",
    "ListedTool",
    "OpenSession",
    "Refused",
    "ServerFailed",
    "Session",
    "SessionForgotten",
    "transport_of",
]


class ServerFailed(Exception):
    """A server cannot be used as it is; a new start may help.

    Attributes:
      reason: What happened, in words that the model may read.
      said: The end of what the server wrote to stderr, for logs only: it may hold secrets.
    """

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(f"{reason}; it wrote: {said}" if said else reason)
        self.reason = reason
        self.said = said


class ConnectionLost(Exception):
    """The connection ended during a call, which may have run."""


class SessionForgotten(Exception):
    """The server does not know the session any more, and has done nothing; in a new one the call can be repeated."""


class Refused(Exception):
    """The server answered with an error of the protocol; the text is the server's."""


class ListedTool(Struct, frozen=True, eq=False):
    """One tool as its server lists it.

    Attributes:
      name: What the server calls it.
      description: What it is for, "" if the server does not say.
      schema: JSON schema of its arguments, an object.
      read_only: Whether the server says that a call changes nothing.
      idempotent: Whether it says that a second call with the same arguments does.
    """

    name: str
    description: str
    schema: dict[str, Any]
    read_only: bool
    idempotent: bool = False


class Blob(Struct, frozen=True):
    """Bytes in a result, as base64; `origin` names what they are in words, for the model."""

    base64: str
    media_type: str
    origin: str


class Answer(Struct, frozen=True):
    """The result of a call: texts and bytes in the server's order.

    Attributes:
      ok: Whether the tool did what it was asked.
      content: What it returned.
    """

    ok: bool
    content: tuple[str | Blob, ...]


class Session(Protocol):
    """A connection on which both sides have introduced themselves. Any task may use it; each call stands alone."""

    async def list_tools(self) -> tuple[ListedTool, ...]:
        """All tools of the server.

        Raises:
          Refused, ConnectionLost, SessionForgotten: There is no list.
        """
        ...

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answer:
        """Call a tool. Cancelled, it tells the server so, without waiting for anything.

        Raises:
          Refused: The server did not carry it out.
          SessionForgotten: Nor did it, and a new session might help.
          ConnectionLost: The call may have run.
        """
        ...

    async def ping(self) -> None:
        """Return when the server has answered anything at all.

        Raises:
          ConnectionLost, SessionForgotten: It never will.
        """
        ...


OpenSession: TypeAlias = Callable[
    [McpServer, Callable[[str], None]], AbstractAsyncContextManager[Session]
]
"""Opens a session for the length of a block, and tells the second argument of what the server announces: "tools" when
they have changed, "trouble" when it is in doubt whether the session is still good.

Leaving the block takes less than a second, cancelled or not, and nothing is alive after it. If the connection ends by
itself the block is cancelled, and raises `ServerFailed`; as does opening, if nothing else happens.
"""


def transport_of(server: McpServer) -> Literal["stdio", "sse", "streamableHttp"]:
    """How to reach a server: as its settings say, or as its `command` or `url` implies.

    Raises:
      ServerFailed: What that needs is not set.
    """
    kind = server.type
    if kind is None:
        if server.command:
            kind = "stdio"
        else:
            kind = "sse" if server.url.rstrip("/").endswith("/sse") else "streamableHttp"
    if not (server.command if kind == "stdio" else server.url):
        missing = "`command`" if kind == "stdio" else "`url`"
        also = " (or `command`)" if server.type is None else ""
        raise ServerFailed(f"its configuration lacks {missing}{also}")
    return kind
