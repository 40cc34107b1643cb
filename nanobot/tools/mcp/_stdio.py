"""MCP over the pipes of a child process: a message per line.

The transport of the mcp package is not used. Closing it takes up to four seconds, two each for a server that ignores the
end of its stdin and then SIGTERM; it keeps a line of any length, copying it with each piece that comes; it logs each line
that is no message with a traceback; and what the server writes to stderr goes to a file, so that nobody knows why it ended.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import anyio
import trio
from anyio.streams.memory import MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage, jsonrpc_message_adapter

from nanobot.config import McpServer

from ._lines import Lines, LineTooLong
from ._outbox import Outbox
from ._process import ServerProcess, start_process
from ._session import ServerFailed
from ._wire import Wire

__all__ = ["open_stdio"]

_log = logging.getLogger("nanobot.tools.mcp")

_LONGEST_LINE: Final = 32 * 1024 * 1024
"""Bytes of one message. The largest image that a model may be shown has 20 MiB, which are 27 in base64."""

_LONG: Final = 256 * 1024
"""Bytes from which on a message is parsed in a thread: 1 ms in the loop is nothing, 100 ms would hold up a thousand runs."""

_MOST_RUBBISH: Final = 1000
"""Lines in a row that are no messages. Some servers greet on stdout, or log there; nobody does that a thousand times
between two messages."""

_AFTER_EXIT_S: Final = 0.2
"""How long after the process's end its stdout may go on, when a child of it holds it open."""


@asynccontextmanager
async def open_stdio(server: McpServer, env: Mapping[str, str]) -> AsyncIterator[Wire]:
    """Start a server and connect to it, for the length of a block.

    Raises:
      ServerFailed: It cannot be started, or, from inside the block, it ended or sends what is no MCP.
    """
    process = await start_process(server, env)
    try:
        inbox, messages = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outbox = Outbox()
        with inbox, messages:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.listen)
                nursery.start_soon(_receive, process, inbox)
                nursery.start_soon(_send, process, outbox)
                nursery.start_soon(_watch, process)
                yield Wire(messages, outbox)
                nursery.cancel_scope.cancel()
    finally:
        await process.aclose()


async def _receive(
    process: ServerProcess, inbox: MemoryObjectSendStream[SessionMessage | Exception]
) -> None:
    lines = Lines(_LONGEST_LINE)
    rubbish = 0
    try:
        while piece := bytes(await process.stdout.receive_some()):
            for line in lines.feed(piece):
                message = await _message_from_line(line)
                if message is not None:
                    rubbish = 0
                    await inbox.send(SessionMessage(message))
                elif line.strip():
                    rubbish += 1
                    _log.debug("no MCP message on stdout: %.200r", line)
                    if rubbish > _MOST_RUBBISH:
                        raise ServerFailed(f"it wrote {rubbish} lines to stdout that are no MCP")
    except LineTooLong:
        size = f"{_LONGEST_LINE // 1024 // 1024} MiB"
        raise ServerFailed(f"it sent a message of more than {size}") from None
    except trio.BrokenResourceError:
        pass  # as good as its end
    except anyio.BrokenResourceError:
        return  # the session has ended before us
    raise await process.ending()


async def _message_from_line(line: bytes) -> JSONRPCMessage | None:
    if len(line) < _LONG:
        return _parsed(line)
    return await trio.to_thread.run_sync(_parsed, line)


def _parsed(line: bytes) -> JSONRPCMessage | None:
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return None


async def _send(process: ServerProcess, outbox: Outbox) -> None:
    while (message := await outbox.next()) is not None:
        line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
        try:
            await process.stdin.send_all(line.encode("utf-8", "replace") + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise await process.ending() from None
    if outbox.overflowed:
        raise ServerFailed("it does not read what it is sent")


async def _watch(process: ServerProcess) -> None:
    await process.wait_ended()
    await trio.sleep(_AFTER_EXIT_S)
    raise await process.ending()
