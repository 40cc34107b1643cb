"""A chat server in Trio: each connection is a conversation, a line is a question, and hanging up stops the answer.

python examples/trio_server.py &
nc localhost 4242
"""

from __future__ import annotations

from functools import partial
from itertools import count

import trio

from nanobot import STREAM_EVENT_RUN_FAILED, STREAM_EVENT_TEXT_DELTA, Nanobot

CONNECTIONS = count(1)
LONGEST_LINE = 16_000


async def lines(stream: trio.SocketStream, send: trio.MemorySendChannel[str]) -> None:
    """Read questions, also while an answer is being given: so the end of the connection is seen at once."""
    rest = b""
    async with send:
        while received := await stream.receive_some():
            *whole, rest = (rest + received).split(b"\n")
            for line in whole:
                await send.send(line.decode(errors="replace").strip())
            if len(rest) > LONGEST_LINE:
                return


async def converse(
    bot: Nanobot, stream: trio.SocketStream, questions: trio.MemoryReceiveChannel[str]
) -> None:
    key = f"connection:{next(CONNECTIONS)}"
    async with questions:
        async for question in questions:
            async with bot.stream(question, session_key=key, channel="chat") as events:
                async for event in events:
                    if event.type == STREAM_EVENT_TEXT_DELTA:
                        await stream.send_all(event.delta.encode())
                    elif event.type == STREAM_EVENT_RUN_FAILED:
                        await stream.send_all(f"[{event.error}]".encode())
            await stream.send_all(b"\n")


async def serve_one(bot: Nanobot, stream: trio.SocketStream) -> None:
    send, receive = trio.open_memory_channel[str](10)
    try:
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                await lines(stream, send)
                await trio.sleep(0.1)  # for an answer that is just being sent
                nursery.cancel_scope.cancel()

            nursery.start_soon(read)
            await converse(bot, stream, receive)
            nursery.cancel_scope.cancel()
    except* trio.BrokenResourceError:
        pass  # they hung up


async def main(  # noqa: ASYNC128 - serve_tcp is the one that has started
    port: int = 4242,
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    async with Nanobot.from_config() as bot:
        await trio.serve_tcp(
            partial(serve_one, bot), port, host="127.0.0.1", task_status=task_status
        )


if __name__ == "__main__":
    trio.run(main)
