"""The pool transport when hundreds of requests are cancelled at moments that nobody chose."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from nanobot.providers._transport import PoolTransport

REQUESTS = 500
LONGEST_S = 0.05


def sockets() -> int:
    """How many sockets this process has open."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found += str(descriptor.readlink()).startswith("socket:")
        except OSError:  # the one that listed the directory
            pass
    return found


async def answer_slowly(stream: trio.SocketStream) -> None:
    """Answer requests in five pieces, each after a moment; sometimes hang up after a whole answer."""
    try:
        while await stream.receive_some(65536):
            await trio.sleep(random.uniform(0, LONGEST_S / 5))
            await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(3):
                await trio.sleep(random.uniform(0, LONGEST_S / 5))
                await stream.send_all(b"6\r\n piece\r\n")
            await stream.send_all(b"0\r\n\r\n")
            if random.random() < 0.1:
                return
    except trio.BrokenResourceError:
        pass


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, answer_slowly, [listener]))
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="counts sockets in /proc")
@pytest.mark.parametrize("max_connections", [None, 20], ids=["unbounded", "bounded"])
async def test_cancelling_five_hundred_requests_anywhere_leaks_nothing(
    max_connections: int | None,
) -> None:
    before = sockets()
    outcomes = {"finished": 0, "cancelled": 0}
    pool = PoolTransport(max_connections=max_connections)

    async def one(url: str) -> None:
        await trio.sleep(random.uniform(0, LONGEST_S))
        with trio.move_on_after(random.uniform(0, LONGEST_S)) as scope:
            response = await pool.handle_async_request(httpx.Request("POST", url, content=b"{}"))
            try:
                body = await response.aread()
                assert body == b" piece piece piece"
            finally:
                await response.aclose()
        outcomes["cancelled" if scope.cancelled_caught else "finished"] += 1

    async with serving() as url:
        async with trio.open_nursery() as nursery:
            for _ in range(REQUESTS):
                nursery.start_soon(one, url)
        statistics = pool.statistics()
        assert statistics.open == statistics.idle
        assert statistics.waiting == 0
        assert max_connections is None or statistics.open <= max_connections
        assert outcomes["cancelled"] > 0
        for _ in range(3):  # and the pool is as good as new
            request = httpx.Request("POST", url, content=b"{}")
            assert await (await pool.handle_async_request(request)).aread() == b" piece piece piece"
        await pool.aclose()
        assert pool.statistics().open == 0
    await wait_all_tasks_blocked()
    assert sockets() == before
