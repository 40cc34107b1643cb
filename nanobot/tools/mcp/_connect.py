"""Sessions of the mcp package. Imports it, which takes a second or two: to be imported in a thread, when first needed."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import httpx2
import mcp_types as types
import msgspec
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError

from nanobot._version import __version__
from nanobot.config import McpServer

from .._execute import no_failure
from ._http import open_http
from ._session import (
    Answer,
    Blob,
    ConnectionLost,
    ListedTool,
    Refused,
    ServerFailed,
    Session,
    SessionForgotten,
    transport_of,
)
from ._stdio import open_stdio
from ._wire import Wire

__all__ = ["open_session"]

_log = logging.getLogger("nanobot.tools.mcp")

R = TypeVar("R", bound=BaseModel)

_MOST_TOOLS: Final = 512
"""Tools of one server. The services of models take 128 in all; who lists more wants to be filtered by `enabledTools`."""

_MOST_PAGES: Final = 64


@asynccontextmanager
async def open_session(
    server: McpServer, announce: Callable[[str], None]
) -> AsyncIterator[Session]:
    """Connect to a server, for the length of a block; see `OpenSession`."""
    try:
        status = _Status(announce)
        async with _open_wire(server, status) as wire:
            async with ClientSession(
                wire.messages,
                wire.outbox,
                message_handler=status.hear,
                client_info=types.Implementation(name="nanobot", version=__version__),
            ) as client:
                session = _ClientSession(client, status)
                await session.introduce()
                yield session
    except BaseException as raised:  # noqa: BLE001 - all of it is passed on, as itself or as `ServerFailed`
        if (passing := no_failure(raised)) is not None:
            # what else broke on the way out is nobody's concern
            raise passing from None  # noqa: ASYNC104 - the cancellation itself, out of its group
        failure, cause = _failure(raised)
        raise failure from cause  # noqa: ASYNC104 - there is no cancellation in it


def _open_wire(server: McpServer, status: _Status) -> AbstractAsyncContextManager[Wire]:
    if transport_of(server) == "stdio":
        return open_stdio(server, os.environ)
    return open_http(server, status.turned_down)


class _Status:
    """What the transport and the server tell of a session besides answers."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self.forgotten = False
        self.turned_down_count = 0

    def turned_down(self, status: int, in_session: bool) -> None:
        """A request was answered with an HTTP error."""
        self.turned_down_count += 1
        # Source: MCP 2025-11-25, Transports, Session Management: 404 is for sessions that are no more.
        self.forgotten = self.forgotten or (status == 404 and in_session)
        self._announce("trouble")

    async def hear(self, message: object) -> None:
        """Take a notification, or what the transport could not read."""
        if isinstance(message, types.ToolListChangedNotification):
            self._announce("tools")


class _ClientSession:
    """A session as the mcp package has it, behind `Session`."""

    def __init__(self, client: ClientSession, status: _Status) -> None:
        self._client = client
        self._status = status

    async def introduce(self) -> None:
        """Agree on a version of the protocol.

        The handshake of 2025 and before comes first: all servers know it but the very newest, and some of the others never
        answer a request that comes before it.
        """
        try:
            await self._client.initialize()
        except MCPError as error:
            if error.code not in (types.UNSUPPORTED_PROTOCOL_VERSION, types.METHOD_NOT_FOUND):
                raise
            await self._client.discover()

    async def list_tools(self) -> tuple[ListedTool, ...]:
        capabilities = self._client.server_capabilities
        if capabilities is None or capabilities.tools is None:
            return ()
        listed: dict[str, ListedTool] = {}
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor)
            with _translated(self._status):
                page = await self._client.list_tools(params=params)
            listed |= {tool.name: _listed(tool) for tool in page.tools}
            if page.next_cursor is None or page.next_cursor == cursor:
                break
            cursor = page.next_cursor
            if len(listed) > _MOST_TOOLS:
                break
        if len(listed) > _MOST_TOOLS:
            _log.warning(
                "an MCP server lists more than %d tools; the rest is not used", _MOST_TOOLS
            )
        return tuple(listed.values())[:_MOST_TOOLS]

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answer:
        # Not `client.call_tool`: it checks structured content against the tool's schema, which is for programs; a model
        # is better served by what there is, and the check would import jsonschema and may list all tools again.
        params = types.CallToolRequestParams(name=tool, arguments=arguments)
        request = types.CallToolRequest(params=params)
        with _translated(self._status):
            result = await self._client.send_request(request, types.CallToolResult)
        return Answer(not result.is_error, tuple(_content(result)))

    async def ping(self) -> None:
        turned_down = self._status.turned_down_count
        try:
            if self._client.protocol_version in MODERN_PROTOCOL_VERSIONS:
                await self._client.list_tools()  # they have no ping any more
            else:
                await self._client.send_ping()
        except MCPError as error:
            if error.code == types.METHOD_NOT_FOUND and not self._status.forgotten:
                return
            if error.code == types.CONNECTION_CLOSED:
                raise ConnectionLost from error
            if self._status.turned_down_count != turned_down:  # so HTTP said, not the server's MCP
                raise _translation(error, self._status) from error
        except ValidationError:
            pass  # odd, but an answer


def _translation(error: MCPError, status: _Status) -> Exception:
    if status.forgotten or error.message == "Session terminated":  # the package's words for 404
        return SessionForgotten()
    if error.code == types.CONNECTION_CLOSED:
        return ConnectionLost()
    return Refused(error.message or f"error {error.code}")


@contextmanager
def _translated(status: _Status) -> Iterator[None]:
    try:
        yield
    except MCPError as error:
        raise _translation(error, status) from error
    except ValidationError as error:
        raise Refused("its answer is none that MCP knows") from error


def _listed(tool: types.Tool) -> ListedTool:
    hints = tool.annotations
    return ListedTool(
        tool.name,
        (tool.description or tool.title or "").strip(),
        tool.input_schema,
        bool(hints is not None and hints.read_only_hint),
        bool(hints is not None and hints.idempotent_hint),
    )


def _content(result: types.CallToolResult) -> Iterator[str | Blob]:
    """What the model is to see. Structured content repeats the text, so it counts only where there is none."""
    for block in result.content:
        match block:
            case types.TextContent():
                yield block.text
            case types.ImageContent():
                yield Blob(block.data, block.mime_type, "image")
            case types.AudioContent():
                yield Blob(block.data, block.mime_type, "sound")
            case types.ResourceLink():
                yield _link(block)
            case types.EmbeddedResource():
                resource = block.resource
                if isinstance(resource, types.TextResourceContents):
                    yield f"[resource {resource.uri}]\n{resource.text}"
                else:
                    media_type = resource.mime_type or "application/octet-stream"
                    yield Blob(resource.blob, media_type, f"resource {resource.uri}")
    structured = result.structured_content
    if structured is not None and not any(
        isinstance(block, types.TextContent) for block in result.content
    ):
        yield msgspec.json.encode(structured).decode()


def _link(link: types.ResourceLink) -> str:
    size = None if link.size is None else f"{link.size:,} bytes"
    told = (link.title or link.name, link.description, link.mime_type, size)
    return f"[resource {link.uri}: {', '.join(text for text in told if text)}]"


def _failure(error: BaseException) -> tuple[ServerFailed, BaseException | None]:
    """What to say of whatever came out of a session's block, and what it came from unless that is said in full; of several
    errors, the one that knows most.
    """
    leaves = [*_leaves(error)]
    for leaf in leaves:
        if isinstance(leaf, ServerFailed):
            return leaf, None
    reason = _reason(leaves[0])
    if reason is None:
        return ServerFailed(f"{type(leaves[0]).__name__}: {leaves[0]}"), leaves[0]
    return ServerFailed(reason), None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _reason(error: BaseException) -> str | None:
    match error:
        case httpx2.HTTPStatusError():  # its text has the address, which may have a key in it
            return f"it answered with HTTP status {error.response.status_code}"
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return "it cannot be reached"
        case httpx2.SSEError():
            return f"it sent events that cannot be read ({error})"
        case httpx2.HTTPError():
            return f"the connection to it failed ({type(error).__name__})"
        case MCPError():
            return f"it refuses to begin: {error.message}"
        case Refused():
            return f"it does not list its tools: {error}"
        case ConnectionLost() | SessionForgotten():
            return "it ended the connection"
        case ValidationError():
            return "it answers with what is no MCP"
        case RuntimeError():
            return str(error)
    return None
