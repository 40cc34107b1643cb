"""The pool transport against real sockets: what is kept, what is closed, and who waits."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from nanobot.providers._address import address_from_url
from nanobot.providers._pool import PoolStatistics
from nanobot.providers._request_head import RequestHead
from nanobot.providers._transport import PoolTransport
from nanobot.providers._wire import PlainWire

PATIENCE_S = 20.0
"""How long a test waits for what must happen; reached only when it does not."""


class Peer:
    """One accepted connection, numbered in order of arrival, and what its server does with it."""

    def __init__(self, stream: trio.SocketStream, number: int) -> None:
        self.stream = stream
        self.number = number
        self._received = b""

    async def request(self) -> bytes:
        """Return the next whole request; b"" if the client hung up instead."""
        while b"\r\n\r\n" not in self._received:
            more = await self.stream.receive_some(65536)
            if not more:
                return b""
            self._received += more
        head, _, rest = self._received.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        while len(rest) < length:
            rest += await self.stream.receive_some(65536)
        self._received = rest[length:]
        return head + b"\r\n\r\n" + rest[:length]

    async def answer(self, body: bytes = b"ok", *, extra: bytes = b"", behind: bytes = b"") -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (len(body), extra)
        await self.stream.send_all(head + body + behind)

    async def client_hung_up(self) -> bool:
        try:
            return await self.stream.receive_some(1) == b""
        except trio.BrokenResourceError:  # a reset is a hang-up with unread bytes
            return True


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """A loopback server; `script` runs once per connection."""

    def __init__(self, script: Script, port: int) -> None:
        self._script = script
        self.url = f"http://127.0.0.1:{port}/"
        self.port = port
        self.connections = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            await self._script(Peer(stream, self.connections))
        except trio.BrokenResourceError:
            pass  # the client hung up, as some tests make it


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
    server = Server(script, listener.socket.getsockname()[1])
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, server.serve, [listener]))
            yield server
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def pooling(**settings: Any) -> AsyncIterator[PoolTransport]:
    pool = PoolTransport(**settings)
    try:
        yield pool
    finally:
        await pool.aclose()
        assert pool.statistics().open == 0


async def echo(peer: Peer) -> None:
    """Answer every request with the number of its connection."""
    while await peer.request():
        await peer.answer(str(peer.number).encode())


async def send(pool: PoolTransport, url: str, **settings: Any) -> httpx.Response:
    return await pool.handle_async_request(httpx.Request("POST", url, content=b"{}", **settings))


async def fetch(pool: PoolTransport, url: str, **settings: Any) -> bytes:
    return await (await send(pool, url, **settings)).aread()


# What is kept --------------------------------------------------------------------------------


async def test_requests_one_after_another_share_one_connection() -> None:
    async with serving(echo) as server, pooling() as pool:
        assert [await fetch(pool, server.url) for _ in range(5)] == [b"1"] * 5
        assert pool.statistics() == PoolStatistics(open=1, idle=1, created=1, waiting=0)


async def test_the_connection_given_back_last_is_taken_first() -> None:
    async with serving(echo) as server, pooling() as pool:
        first, second = await send(pool, server.url), await send(pool, server.url)
        assert pool.statistics() == PoolStatistics(open=2, idle=0, created=2, waiting=0)
        assert await first.aread() == b"1"
        assert await second.aread() == b"2"
        assert [await fetch(pool, server.url) for _ in range(3)] == [b"2"] * 3


async def test_fifty_requests_at_once_open_fifty_connections_and_keep_them() -> None:
    async with serving(echo) as server, pooling() as pool:
        for _ in range(2):
            responses = [await send(pool, server.url) for _ in range(50)]
            for response in responses:
                await response.aread()
        assert pool.statistics() == PoolStatistics(open=50, idle=50, created=50, waiting=0)


async def test_a_connection_goes_back_the_moment_its_body_ends_without_aclose() -> None:
    async with serving(echo) as server, pooling() as pool:
        response = await send(pool, server.url)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        assert [piece async for piece in response.stream] == [b"1"]
        assert pool.statistics().idle == 1
        await response.aclose()
        assert pool.statistics().idle == 1


async def test_small_writes_are_not_delayed() -> None:
    async with serving(echo) as server, pooling() as pool:
        exchange = await pool.exchange(RequestHead("POST", address_from_url(server.url)), b"{}")
        assert exchange.connection is not None
        wire = exchange.connection._wire
        assert isinstance(wire, PlainWire)
        assert wire._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert wire._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        exchange.discard()


# What is closed ------------------------------------------------------------------------------


async def test_a_body_read_only_halfway_closes_the_connection() -> None:
    hung_up = trio.Event()

    async def half_an_answer(peer: Peer) -> None:
        await peer.request()
        await peer.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        assert await peer.client_hung_up()
        hung_up.set()

    async with serving(half_an_answer) as server, pooling() as pool:
        response = await send(pool, server.url)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        assert await anext(aiter(response.stream)) == b"half"
        await response.aclose()
        await response.aclose()
        await hung_up.wait()
        assert pool.statistics().open == 0
        with pytest.raises(httpx.ReadError, match="closed before its end"):
            await anext(aiter(response.stream))


@pytest.mark.parametrize("extra", [b"Connection: close\r\n", b""], ids=["said so", "HTTP/1.0"])
async def test_a_server_that_will_hang_up_is_not_asked_again(extra: bytes) -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        if extra:
            await peer.answer(extra=extra)
        else:
            await peer.stream.send_all(b"HTTP/1.0 200 OK\r\n\r\nok")
        await peer.stream.send_eof()

    async with serving(once) as server, pooling() as pool:
        assert [await fetch(pool, server.url) for _ in range(2)] == [b"ok", b"ok"]
        assert pool.statistics().open == 0
        assert server.connections == 2


async def test_bytes_behind_a_response_are_not_taken_for_the_next_one() -> None:
    async def two_for_one(peer: Peer) -> None:
        while await peer.request():
            await peer.answer(behind=b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")

    async with serving(two_for_one) as server, pooling() as pool:
        assert await fetch(pool, server.url) == b"ok"
        assert pool.statistics().open == 0
        assert await fetch(pool, server.url) == b"ok"


async def test_bytes_that_come_while_idle_are_not_taken_for_the_next_response() -> None:
    forged = trio.Event()

    async def forge(peer: Peer) -> None:
        await peer.request()
        await peer.answer(str(peer.number).encode())
        await peer.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        forged.set()
        await trio.sleep_forever()

    async with serving(forge) as server, pooling() as pool:
        assert await fetch(pool, server.url) == b"1"
        await forged.wait()
        assert await fetch(pool, server.url) == b"2"


@pytest.mark.parametrize(
    "rubbish",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"\0" * 200_000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
    ],
    ids=["text", "upgrade", "no head", "endless head"],
)
async def test_what_is_not_http_is_an_error_and_closes(rubbish: bytes) -> None:
    async def speak(peer: Peer) -> None:
        await peer.request()
        await peer.stream.send_all(rubbish)
        await peer.client_hung_up()

    async with serving(speak) as server, pooling() as pool:
        with pytest.raises(httpx.RemoteProtocolError):
            await fetch(pool, server.url)
        assert pool.statistics().open == 0


async def test_a_body_cut_short_is_an_error_after_what_did_arrive() -> None:
    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.stream.send_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            + b"not a length\r\n"
        )
        await peer.stream.send_eof()

    async with serving(cut) as server, pooling() as pool:
        response = await send(pool, server.url)
        pieces = []
        with pytest.raises(httpx.RemoteProtocolError):
            async for piece in response.aiter_raw():
                pieces.append(piece)
        assert pieces == [b"hello"]
        assert pool.statistics().open == 0


async def test_interim_responses_are_skipped() -> None:
    async def hesitate(peer: Peer) -> None:
        await peer.request()
        await peer.stream.send_all(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await peer.answer()

    async with serving(hesitate) as server, pooling() as pool:
        assert await fetch(pool, server.url) == b"ok"


async def test_an_early_refusal_of_a_large_body_is_heard() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.stream.receive_some(10)
        await peer.stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await peer.stream.send_eof()
        while await peer.stream.receive_some(65536):  # drain, or the reset would destroy the answer
            pass

    async with serving(refuse) as server, pooling() as pool:
        request = httpx.Request("POST", server.url, content=b"x" * 3_000_000)
        response = await pool.handle_async_request(request)
        assert (response.status_code, await response.aread()) == (413, b"big")


# Connections that the server gave up ----------------------------------------------------------


async def test_a_connection_that_the_server_closed_while_idle_is_not_used() -> None:
    closed = trio.Event()

    async def answer_once(peer: Peer) -> None:
        await peer.request()
        await peer.answer(str(peer.number).encode())
        await peer.stream.aclose()
        closed.set()

    async with serving(answer_once) as server, pooling() as pool:
        assert await fetch(pool, server.url) == b"1"
        await closed.wait()
        assert await fetch(pool, server.url) == b"2"
        assert pool.statistics().created == 2


@pytest.mark.parametrize("reset", [False, True], ids=["end of input", "reset"])
async def test_a_request_that_crossed_with_the_servers_hanging_up_is_sent_again_once(
    reset: bool,
) -> None:
    requests = []

    async def hang_up_on_the_second(peer: Peer) -> None:
        requests.append(await peer.request())
        await peer.answer(str(peer.number).encode())
        requests.append(await peer.request())
        if peer.number == 1:
            if reset:
                linger = b"\x01\0\0\0\0\0\0\0"
                peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await peer.stream.aclose()

    async with serving(hang_up_on_the_second) as server, pooling() as pool:
        assert await fetch(pool, server.url) == b"1"
        assert await fetch(pool, server.url) == b"2"
        assert requests[0] == requests[1] == requests[2]
        assert pool.statistics() == PoolStatistics(open=1, idle=1, created=2, waiting=0)


async def test_a_request_is_not_sent_a_third_time() -> None:
    async def answer_the_first_connection_once(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.answer()
            await peer.request()

    async with serving(answer_the_first_connection_once) as server, pooling() as pool:
        await fetch(pool, server.url)
        with pytest.raises(httpx.RemoteProtocolError, match="without answering"):
            await fetch(pool, server.url)
        assert server.connections == 2


async def test_a_new_connection_that_hangs_up_is_not_tried_again() -> None:
    async def hang_up(peer: Peer) -> None:
        await peer.request()

    async with serving(hang_up) as server, pooling() as pool:
        with pytest.raises(httpx.RemoteProtocolError, match="without answering"):
            await fetch(pool, server.url)
        assert server.connections == 1


async def test_a_request_is_not_repeated_once_an_answer_began() -> None:
    async def begin_to_answer(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        await peer.request()
        await peer.stream.send_all(b"HTT")

    async with serving(begin_to_answer) as server, pooling() as pool:
        await fetch(pool, server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await fetch(pool, server.url)
        assert server.connections == 1


async def test_a_request_is_not_repeated_after_the_time_of_a_model(mock_clock: MockClock) -> None:
    async def die_at_work(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        await peer.request()
        mock_clock.jump(2.0)

    async with serving(die_at_work) as server, pooling() as pool:
        await fetch(pool, server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await fetch(pool, server.url)
        assert server.connections == 1


# Cancellation ---------------------------------------------------------------------------------


async def cancelled_while(
    pool: PoolTransport, url: str, reached: trio.Event, *, read: bool = True
) -> None:
    """Start a request, wait until the server got as far as `reached`, cancel, and wait for the task."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch if read else send, pool, url)
        await reached.wait()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert pool.statistics() == PoolStatistics(0, 0, pool.statistics().created, 0)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_cancelling_before_the_head_or_within_the_body_closes_the_connection(
    sent: bytes,
) -> None:
    reached, hung_up = trio.Event(), trio.Event()

    async def stall(peer: Peer) -> None:
        await peer.request()
        await peer.stream.send_all(sent)
        reached.set()
        assert await peer.client_hung_up()
        hung_up.set()

    async with serving(stall) as server, pooling() as pool:
        await cancelled_while(pool, server.url, reached)
        await hung_up.wait()


async def test_cancelling_while_connecting_leaves_no_socket() -> None:
    reached, hung_up = trio.Event(), trio.Event()

    async def never_speak_tls(peer: Peer) -> None:
        assert await peer.stream.receive_some(1)
        reached.set()
        while await peer.stream.receive_some(65536):
            pass
        hung_up.set()

    async with serving(never_speak_tls) as server, pooling() as pool:
        await cancelled_while(pool, server.url.replace("http:", "https:"), reached)
        await hung_up.wait()


async def test_closing_a_response_under_cancellation_still_closes_the_connection() -> None:
    hung_up = trio.Event()

    async def stall(peer: Peer) -> None:
        await peer.request()
        await peer.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        assert await peer.client_hung_up()
        hung_up.set()

    async with serving(stall) as server, pooling() as pool:
        response = await send(pool, server.url)
        with trio.CancelScope() as scope:
            scope.cancel()
            await response.aclose()
        await hung_up.wait()
        assert pool.statistics().open == 0


@pytest.mark.parametrize("phase", ["connect", "read", "write"])
async def test_each_limit_of_the_timeout_extension_has_its_error(phase: str) -> None:
    async def stall(peer: Peer) -> None:
        await trio.sleep_forever()

    errors = {
        "connect": httpx.ConnectTimeout,
        "read": httpx.ReadTimeout,
        "write": httpx.WriteTimeout,
    }
    async with serving(stall) as server, pooling() as pool:
        url = server.url.replace("http:", "https:") if phase == "connect" else server.url
        content = b"x" * 20_000_000 if phase == "write" else b""
        limits = dict.fromkeys(["connect", "read", "write"]) | {phase: 0.05}
        request = httpx.Request("POST", url, content=content, extensions={"timeout": limits})
        with pytest.raises(errors[phase]):
            await pool.handle_async_request(request)
        assert pool.statistics().open == 0


# Limits ---------------------------------------------------------------------------------------


async def test_requests_beyond_the_bound_wait_in_order_of_arrival() -> None:
    async with serving(echo) as server, pooling(max_connections=1) as pool:
        held = await send(pool, server.url)
        order: list[int] = []

        async def one(number: int) -> None:
            await fetch(pool, server.url)
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, number)
                await wait_all_tasks_blocked()
            assert pool.statistics() == PoolStatistics(open=1, idle=0, created=1, waiting=5)
            await held.aclose()
        assert order == [0, 1, 2, 3, 4]
        assert pool.statistics().open == 1


async def test_one_who_gives_up_waiting_does_not_take_the_place_of_another() -> None:
    async with serving(echo) as server, pooling(max_connections=1) as pool:
        held = await send(pool, server.url)
        with trio.move_on_after(0.01) as scope:
            await send(pool, server.url)
        assert scope.cancelled_caught
        assert pool.statistics().waiting == 0
        await held.aread()
        assert await fetch(pool, server.url) == b"1"


async def test_an_idle_connection_elsewhere_makes_room_within_the_bound() -> None:
    async with serving(echo) as one, serving(echo) as other, pooling(max_connections=2) as pool:
        responses = [await send(pool, one.url), await send(pool, one.url)]
        for response in responses:
            await response.aread()
        assert pool.statistics().idle == 2
        await fetch(pool, other.url)
        assert pool.statistics() == PoolStatistics(open=2, idle=2, created=3, waiting=0)


async def test_idle_connections_close_by_themselves_when_nothing_happens() -> None:
    hung_up = trio.Event()

    async def answer_and_watch(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        assert await peer.client_hung_up()
        hung_up.set()

    async with serving(answer_and_watch) as server, pooling(idle_timeout_s=0.05) as pool:
        await fetch(pool, server.url)
        await hung_up.wait()
        assert pool.statistics() == PoolStatistics(open=0, idle=0, created=1, waiting=0)


async def test_an_idle_connection_is_not_used_past_its_time(mock_clock: MockClock) -> None:
    async with serving(echo) as server, pooling(idle_timeout_s=3.0) as pool:
        assert await fetch(pool, server.url) == b"1"
        mock_clock.jump(2.9)
        assert await fetch(pool, server.url) == b"1"
        mock_clock.jump(3.1)
        assert await fetch(pool, server.url) == b"2"
        assert pool.statistics().open == 1
        mock_clock.jump(3.4)
        await wait_all_tasks_blocked()
        assert pool.statistics().open == 0
        assert await fetch(pool, server.url) == b"3"  # and the sweep starts over
        mock_clock.jump(3.4)
        await wait_all_tasks_blocked()
        assert pool.statistics().open == 0


# The end --------------------------------------------------------------------------------------


async def test_closing_the_pool_ends_requests_that_read_connect_and_wait() -> None:
    stalled, connecting = trio.Event(), trio.Event()

    async def stall(peer: Peer) -> None:
        await peer.request()
        await peer.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        stalled.set()
        await trio.sleep_forever()

    async def never_speak_tls(peer: Peer) -> None:
        await peer.stream.receive_some(1)
        connecting.set()
        await trio.sleep_forever()

    async with serving(stall) as server, serving(never_speak_tls) as mute:
        pool = PoolTransport(max_connections=3)
        held = await send(pool, server.url)
        failures: list[httpx.TransportError] = []

        async def fail(url: str) -> None:
            with pytest.raises(httpx.TransportError, match="is closed") as caught:
                await fetch(pool, url)
            failures.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, server.url)
            nursery.start_soon(fail, mute.url.replace("http:", "https:"))
            await stalled.wait()
            await connecting.wait()
            for _ in range(5):  # more than there are places to be given back
                nursery.start_soon(fail, server.url)
            await wait_all_tasks_blocked()
            assert pool.statistics().waiting == 5
            await pool.aclose()
            await pool.aclose()
        assert len(failures) == 7
        with pytest.raises(httpx.TransportError, match="is closed"):
            await held.aread()
        with pytest.raises(httpx.TransportError, match="make a new"):
            await send(pool, server.url)
        assert pool.statistics() == PoolStatistics(0, 0, pool.statistics().created, 0)


async def test_closing_the_pool_under_cancellation_closes_all_the_same() -> None:
    async with serving(echo) as server:
        pool = PoolTransport()
        await fetch(pool, server.url)
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.aclose()
        assert scope.cancelled_caught
        assert pool.statistics().open == 0


async def test_a_run_that_ends_without_aclose_closes_what_is_idle() -> None:
    hung_up = trio.Event()

    async def answer_and_watch(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        if await peer.client_hung_up():
            hung_up.set()

    def another_run(url: str) -> int:
        async def main() -> PoolTransport:
            pool = PoolTransport()
            await fetch(pool, url)
            return pool

        return trio.run(main).statistics().open

    async with serving(answer_and_watch) as server:
        assert await trio.to_thread.run_sync(another_run, server.url) == 0
        await hung_up.wait()


# Under httpx's client, and through proxies ----------------------------------------------------


async def test_it_works_under_async_client() -> None:
    async def various(peer: Peer) -> None:
        while request := await peer.request():
            if b"GET /redirect" in request:
                head = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
                await peer.stream.send_all(head)
            elif request.startswith(b"HEAD"):
                await peer.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
            elif b"GET /empty" in request:
                await peer.stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            else:
                await peer.answer(request.rpartition(b"\r\n\r\n")[2] or b"there")

    async def streamed() -> AsyncIterator[bytes]:  # noqa: ASYNC900 - what httpx takes as a body
        yield b"pie"
        yield b"ces"

    async with serving(various) as server:
        async with httpx.AsyncClient(transport=PoolTransport(), base_url=server.url) as client:
            assert (await client.get("/redirect", follow_redirects=True)).text == "there"
            assert (await client.post("/", json={"a": 1})).json() == {"a": 1}
            assert (await client.head("/")).headers["content-length"] == "999"
            assert (await client.get("/empty")).status_code == 204
            async with client.stream("GET", "/x") as response:
                assert [piece async for piece in response.aiter_text()] == ["there"]
                assert response.http_version == "HTTP/1.1"
                assert response.reason_phrase == "OK"
            assert server.connections == 1
            assert (await client.post("/", content=streamed())).content == b"pieces"


async def test_async_clients_read_timeout_is_kept() -> None:
    async def stall(peer: Peer) -> None:
        await trio.sleep_forever()

    async with serving(stall) as server:
        async with httpx.AsyncClient(
            transport=PoolTransport(), timeout=httpx.Timeout(None, read=0.05)
        ) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(server.url)


async def test_a_forward_proxy_gets_the_whole_address_and_its_credentials() -> None:
    seen = []

    async def proxy(peer: Peer) -> None:
        while request := await peer.request():
            seen.append(request)
            await peer.answer(b"proxied")

    async with serving(proxy) as server:
        with_password = server.url.replace("//", "//user:pass@")
        async with pooling(proxy=with_password) as pool:
            for _ in range(2):
                assert await fetch(pool, "http://model.example:8080/v1?x=1") == b"proxied"
        assert server.connections == 1
        head = seen[0].lower()
        assert head.startswith(b"post http://model.example:8080/v1?x=1 http/1.1\r\n")
        assert b"host: model.example:8080\r\n" in head
        assert b"proxy-authorization: basic dxnlcjpwyxnz\r\n" in head


async def test_a_proxy_that_refuses_a_tunnel_is_named_with_its_status() -> None:
    async def refuse(peer: Peer) -> None:
        request = await peer.request()
        assert request.startswith(b"CONNECT model.example:443 HTTP/1.1\r\n")
        await peer.stream.send_all(b"HTTP/1.1 407 Who Are You\r\nContent-Length: 0\r\n\r\n")

    async with serving(refuse) as server, pooling(proxy=server.url) as pool:
        with pytest.raises(httpx.ProxyError, match="407 Who Are You"):
            await fetch(pool, "https://model.example/v1")
        assert pool.statistics().open == 0


# Caller's mistakes ----------------------------------------------------------------------------


async def test_a_port_where_nobody_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with pooling() as pool:
        with pytest.raises(httpx.ConnectError, match=f"127.0.0.1 port {port}: Connection refused"):
            await fetch(pool, f"http://127.0.0.1:{port}/")


async def test_only_http_can_be_requested() -> None:
    async with pooling() as pool:
        for url in ("ftp://example.com/", "/relative", "https:///nobody"):
            with pytest.raises(httpx.UnsupportedProtocol):
                await fetch(pool, url)


async def test_an_illegal_header_is_refused_before_anything_is_sent() -> None:
    async with serving(echo) as server, pooling() as pool:
        request = httpx.Request("GET", server.url, headers={"x-broken": "a\nb"})
        with pytest.raises(httpx.LocalProtocolError):
            await pool.handle_async_request(request)
        assert pool.statistics().open == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"verify": False}, "CA file"),
        ({"max_connections": 0}, "at least 1"),
        ({"proxy": "socks5://127.0.0.1:1"}, "socks5:// proxies are not supported"),
        ({"proxy": "http://user:hunter22@"}, "proxy"),
        ({"proxy": "no url"}, "proxy"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        PoolTransport(**settings)
    assert "hunter22" not in str(caught.value)


def test_verification_is_on_unless_a_context_says_otherwise() -> None:
    context = PoolTransport()._tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
