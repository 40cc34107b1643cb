"""A scripted service over real HTTP: what clients see of it, and what it sees of them."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import trio
import trio.testing

from nanobot.errors import UsageError
from nanobot.testing import (
    GZIP_RUBBISH,
    HTML_PAGE,
    Answer,
    Cut,
    HttpResponse,
    HugeLine,
    MalformedEvent,
    Raise,
    RawResponse,
    RecordedRequest,
    ScriptedServer,
    ScriptExhausted,
    ServerItem,
    SlowDrip,
    Stall,
    Statistics,
    by_session,
    scripted_server,
)

HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
HI_STREAMED: dict[str, Any] = HI | {"stream": True}


def request_bytes(asked: dict[str, Any] = HI_STREAMED, *more: bytes) -> bytes:
    body = msgspec.json.encode(asked)
    head = [
        b"POST /v1/chat/completions HTTP/1.1",
        b"host: test",
        b"content-length: %d" % len(body),
        *more,
    ]
    return b"\r\n".join([*head, b"", body])


@asynccontextmanager
async def connected(server: ScriptedServer) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_tcp_stream(server.host, server.port) as stream:
        yield stream


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        more = await stream.receive_some()
        assert more, f"closed after {received!r}"
        received += bytes(more)
    return received


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([bytes(received) async for received in stream])


async def response_to(item: ServerItem, asked: dict[str, Any] = HI_STREAMED) -> bytes:
    """Everything that a client receives for an item after which the server hangs up."""
    async with scripted_server([item]) as server, connected(server) as stream:
        await stream.send_all(request_bytes(asked))
        return await read_all(stream)


def contents(lines: list[str]) -> str:
    """The text of a stream of server-sent events."""
    events = [msgspec.json.decode(line[6:]) for line in lines if line.startswith("data: {")]
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)


async def test_a_client_gets_the_answers_in_order_streamed_or_not() -> None:
    async with scripted_server(["Hello there", Answer("Good bye")]) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            async with client.stream("POST", "/chat/completions", json=HI_STREAMED) as response:
                lines = [line async for line in response.aiter_lines()]
            whole = await client.post("/chat/completions", json=HI)
    assert response.headers["content-type"] == "text/event-stream"
    assert contents(lines) == "Hello there"
    assert lines[-2:] == ["data: [DONE]", ""]
    assert whole.json()["choices"][0]["message"]["content"] == "Good bye"


async def test_usage_is_streamed_to_those_who_ask_for_it() -> None:
    texts = []
    async with scripted_server(itertools.repeat("Hello")) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            for options in (None, {}, {"include_usage": False}, {"include_usage": True}):
                asked = HI_STREAMED | {"stream_options": options}
                texts.append((await client.post("/chat/completions", json=asked)).text)
    assert ['"usage"' in text for text in texts] == [False, False, False, True]


async def test_a_request_is_recorded_as_it_came() -> None:
    async with scripted_server(["one", "two"]) as server:
        headers = {"Authorization": "Bearer key", "X-Two": "two"}
        before = time.monotonic()
        async with httpx.AsyncClient(base_url=server.base_url, headers=headers) as client:
            await client.post("/chat/completions", json=HI)
            await client.post("/chat/completions?a=b", json=HI_STREAMED)
        first, second = server.requests
        assert (first.number, first.connection, first.path) == (1, 1, "/v1/chat/completions")
        assert (second.number, second.connection, second.path) == (
            2,
            1,
            "/v1/chat/completions?a=b",
        )
        assert first.headers["authorization"] == "Bearer key"
        assert first.headers["x-two"] == "two"
        assert first.json == HI
        assert first.json is first.json
        assert msgspec.json.decode(first.body) == HI
        assert first.user_texts == ["Hi"]
        assert (first.model, first.stream, first.last_role) == ("m", False, "user")
        assert second.stream
        assert first.answered_at is not None
        assert before <= first.arrived_at <= first.answered_at <= second.arrived_at
        assert first.hung_up_at is None
        assert repr(first) == "<RecordedRequest 1 on connection 1: answered>"


async def test_a_second_connection_has_a_number_of_its_own() -> None:
    async with scripted_server(["one", "two"]) as server:
        for _ in range(2):
            async with httpx.AsyncClient(base_url=server.base_url) as client:
                await client.post("/chat/completions", json=HI)
        assert [request.connection for request in server.requests] == [1, 2]


async def test_without_recording_requests_are_only_counted() -> None:
    async with scripted_server(itertools.repeat("ok"), record=False) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            for _ in range(3):
                await client.post("/chat/completions", json=HI)
        assert server.requests == ()
        assert server.statistics().requests == 3


async def test_pauses_are_real_time() -> None:
    async with scripted_server(
        [Answer("a b", before_first_delta_s=0.05, between_deltas_s=0.05)]
    ) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            await client.post("/chat/completions", json=HI_STREAMED)
        (request,) = server.requests
        assert request.answered_at is not None
        assert request.answered_at - request.arrived_at >= 0.1


async def test_a_function_sees_the_request_that_it_answers() -> None:
    def script(request: RecordedRequest) -> ServerItem:
        if request.last_role == "tool":
            return "There are two files."
        return Answer(tool_calls=[("list_dir", {"path": "."})])

    async with scripted_server(script) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            call = (await client.post("/chat/completions", json=HI)).json()["choices"][0]
            history = [*HI["messages"], call["message"], {"role": "tool", "content": "a\nb"}]
            after = await client.post("/chat/completions", json=HI | {"messages": history})
    assert call["finish_reason"] == "tool_calls"
    assert after.json()["choices"][0]["message"]["content"] == "There are two files."


async def test_an_async_function_may_wait_for_the_test() -> None:
    gate = trio.Event()

    async def script(request: RecordedRequest) -> ServerItem:
        await gate.wait()
        return "at last"

    async with scripted_server(script) as server, connected(server) as stream:
        await stream.send_all(request_bytes(HI))
        await server.wait_until(lambda counts: counts.requests_in_flight == 1)
        assert repr(server.requests[0]) == "<RecordedRequest 1 on connection 1: being answered>"
        gate.set()
        assert b'"content":"at last"' in await read_until(stream, b"}}")


async def test_sessions_get_their_own_answers() -> None:
    script = by_session({"Alice": ["A"], "Bob": ["B"]})
    parts = [{"type": "text", "text": "I am Bob"}, {"type": "image_url", "image_url": {"url": "x"}}]
    bob = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    alice = {"model": "m", "messages": [{"role": "user", "content": "I am Alice"}]}
    async with scripted_server(script) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            answers = [
                (await client.post("/chat/completions", json=asked)).json()["choices"][0]["message"]
                for asked in (bob, alice)
            ]
    assert [answer["content"] for answer in answers] == ["B", "A"]


async def test_a_client_that_goes_away_in_mid_stream_is_seen_to() -> None:
    async with scripted_server([Answer("a b", between_deltas_s=3600)]) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            with trio.CancelScope() as scope:
                async with client.stream("POST", "/chat/completions", json=HI_STREAMED) as response:
                    async for _ in response.aiter_lines():
                        scope.cancel()
        counts = await server.wait_until(lambda counts: counts.open_connections == 0)
        assert counts == Statistics(
            connections=1,
            open_connections=0,
            peak_connections=1,
            requests=1,
            requests_in_flight=0,
            peak_requests_in_flight=1,
            hang_ups=1,
        )
        (request,) = server.requests
        assert request.hung_up_at is not None
        assert request.answered_at is None
        assert repr(request) == "<RecordedRequest 1 on connection 1: client hung up>"


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_gives_up_on_a_stalled_answer_is_seen_to(how: str) -> None:
    async with scripted_server([Answer("a", fault=Stall())]) as server:
        async with connected(server) as stream:
            await stream.send_all(request_bytes())
            await server.wait_until(lambda counts: counts.requests_in_flight == 1)
            if how == "reset":
                linger = b"\1\0\0\0\0\0\0\0"
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await server.wait_until(lambda counts: counts.hang_ups == 1)


async def test_a_client_that_gives_up_while_the_script_thinks_is_seen_to() -> None:
    ended = trio.Event()

    async def script(request: RecordedRequest) -> ServerItem:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with scripted_server(script) as server:
        async with connected(server) as stream:
            await stream.send_all(request_bytes())
            await server.wait_until(lambda counts: counts.requests_in_flight == 1)
        await server.wait_until(lambda counts: counts.hang_ups == 1)
        assert ended.is_set()


async def test_a_client_that_does_not_read_and_goes_away_is_seen_to() -> None:
    async with scripted_server([Answer("a b", fault=HugeLine(50_000_000))]) as server:
        async with connected(server) as stream:
            await stream.send_all(request_bytes())
            await stream.receive_some()
        await server.wait_until(lambda counts: counts.hang_ups == 1)


async def test_a_connection_closed_between_requests_is_no_hang_up() -> None:
    async with scripted_server(["Hello"]) as server:
        async with connected(server) as stream:
            await stream.send_all(request_bytes())
            await read_until(stream, b"0\r\n\r\n")
        counts = await server.wait_until(lambda counts: counts.open_connections == 0)
        assert counts.hang_ups == 0


async def test_a_huge_line_arrives_whole() -> None:
    async with (
        scripted_server([Answer("a b", fault=HugeLine())]) as server,
        connected(server) as stream,
    ):
        await stream.send_all(request_bytes())
        received = await read_until(stream, b"0\r\n\r\n")
    assert max(map(len, received.split(b"\n"))) == 10_000_000


async def test_a_cut_answer_ends_the_connection_where_the_script_says() -> None:
    received = await response_to(Answer("one two", fault=Cut(after_deltas=1, at="mid_token")))
    assert received.endswith(b'"delta":{"content":"t')


async def test_a_reset_answer_resets_the_connection() -> None:
    script: list[ServerItem] = [Answer("one two", fault=Cut(after_deltas=1, by="reset"))]
    async with scripted_server(script) as server, connected(server) as stream:
        await stream.send_all(request_bytes())
        with pytest.raises(trio.BrokenResourceError) as caught:
            await read_all(stream)
        assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_an_answer_cut_at_the_end_of_its_body_leaves_the_connection_usable() -> None:
    script: list[ServerItem] = [
        Answer("one two", fault=Cut(1, at="mid_line", by="end_of_body")),
        "whole",
    ]
    async with scripted_server(script) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            cut = await client.post("/chat/completions", json=HI_STREAMED)
            whole = await client.post("/chat/completions", json=HI_STREAMED)
        assert [request.connection for request in server.requests] == [1, 1]
    assert not cut.text.endswith("\n")
    assert whole.text.endswith("data: [DONE]\n\n")


async def test_an_empty_response_is_an_end_without_a_beginning() -> None:
    assert await response_to(Answer("one", fault=Cut(None))) == b""


async def test_raw_bytes_arrive_as_they_are() -> None:
    assert await response_to(RawResponse(b"\x16\x03\x01 not HTTP")) == b"\x16\x03\x01 not HTTP"


async def test_a_slow_drip_arrives_in_the_end() -> None:
    drip = SlowDrip(write_size=200, every_s=0.001)
    async with scripted_server([Answer("one two", fault=drip)]) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            response = await client.post("/chat/completions", json=HI_STREAMED)
    assert contents(response.text.split("\n")) == "one two"


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (Answer("one two", fault=Cut(1)), httpx.RemoteProtocolError),
        (Answer("one two", fault=Cut(None)), httpx.RemoteProtocolError),
        (Answer("one two", fault=Cut(1, by="reset")), httpx.ReadError),
        (RawResponse(b"garbage\r\n\r\n"), httpx.RemoteProtocolError),
    ],
    ids=["cut", "empty", "reset", "garbage"],
)
async def test_a_client_of_others_makes_an_error_of_each_fault(
    item: ServerItem, error: type[Exception]
) -> None:
    async with scripted_server([item]) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            with pytest.raises(error):
                await client.post("/chat/completions", json=HI_STREAMED)


def test_a_client_of_others_notices_a_wrong_encoding() -> None:
    with scripted_server([GZIP_RUBBISH]) as server, pytest.raises(httpx.DecodingError):
        httpx.post(f"{server.base_url}/chat/completions", json=HI_STREAMED)


async def test_a_response_in_place_of_an_answer_keeps_the_connection() -> None:
    script: list[ServerItem] = [
        HttpResponse(429, headers={"Retry-After": "7"}),
        HTML_PAGE,
        HttpResponse(500),
    ]
    async with scripted_server(script) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            limited, page, broken = [
                await client.post("/chat/completions", json=HI_STREAMED) for _ in range(3)
            ]
        assert server.statistics().connections == 1
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (broken.status_code, broken.json()["error"]["type"]) == (500, "server_error")


async def test_after_so_many_connections_further_ones_are_refused() -> None:
    async with scripted_server(["one", "two"], refuse_after=1) as server:
        async with connected(server) as stream:
            await stream.send_all(request_bytes())
            await read_until(stream, b"0\r\n\r\n")
            with pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream(server.host, server.port)
            await stream.send_all(request_bytes())  # the first connection goes on
            await read_until(stream, b"0\r\n\r\n")


async def test_other_paths_tell_about_the_service() -> None:
    async with scripted_server([], models=("a", "b")) as server:
        async with httpx.AsyncClient(base_url=server.base_url.removesuffix("/v1")) as client:
            models = (await client.get("/v1/models")).json()
            health = (await client.get("/health")).json()
            counts = (await client.get("/statistics")).json()
            unknown = await client.get("/v1/embeddings")
            wrong_method = await client.get("/v1/chat/completions")
            also_wrong = await client.post("/health")
    assert [model["id"] for model in models["data"]] == ["a", "b"]
    assert health == {"status": "ok"}
    assert (counts["connections"], counts["requests"]) == (1, 0)
    assert (unknown.status_code, wrong_method.status_code, also_wrong.status_code) == (
        404,
        405,
        405,
    )
    assert (wrong_method.headers["allow"], also_wrong.headers["allow"]) == ("POST", "GET")
    assert "/v1/embeddings does not exist" in unknown.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model": "m"}', b'{"messages": []}', b"\xff"]
)
async def test_what_is_no_request_for_a_completion_is_refused_and_takes_no_answer(
    body: bytes,
) -> None:
    async with scripted_server(["good"]) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            bad = await client.post("/chat/completions", content=body)
            good = await client.post("/chat/completions", json={"model": "m", "messages": []})
        assert [request.last_role for request in server.requests] == [""]
    assert bad.status_code == 400
    assert bad.json()["error"]["message"].startswith("not a request for a completion")
    assert good.status_code == 200


async def test_what_is_not_http_is_told_so_and_hung_up_on() -> None:
    async with scripted_server([]) as server, connected(server) as stream:
        await stream.send_all(b"\x16\x03\x01 hello\r\n\r\n")
        response = await read_all(stream)
    assert response.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close\r\n" in response


async def test_a_client_that_wants_to_close_is_hung_up_on_after_its_answer() -> None:
    async with scripted_server(["Hello"]) as server, connected(server) as stream:
        await stream.send_all(request_bytes(HI_STREAMED, b"connection: close"))
        assert (await read_all(stream)).endswith(b"0\r\n\r\n")


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on() -> None:
    async with scripted_server(["Hello"]) as server, connected(server) as stream:
        head, _, body = request_bytes(HI_STREAMED, b"expect: 100-continue").partition(b"\r\n\r\n")
        await stream.send_all(head + b"\r\n\r\n")
        assert await read_until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(body)
        assert (await read_until(stream, b"0\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")


async def test_requests_sent_ahead_are_answered_one_after_the_other() -> None:
    script: list[ServerItem] = [Answer("first", before_first_delta_s=0.02), "second", "third"]
    async with scripted_server(script) as server, connected(server) as stream:
        await stream.send_all(request_bytes())
        await server.wait_until(lambda counts: counts.requests_in_flight == 1)
        await stream.send_all(request_bytes() * 2)
        received = b""
        while received.count(b"[DONE]") < 3:
            received += await stream.receive_some()
        counts = server.statistics()
        assert (counts.requests, counts.peak_requests_in_flight) == (3, 1)
    assert received.index(b"first") < received.index(b"second") < received.index(b"third")


async def test_a_client_that_floods_the_server_during_its_answer_is_hung_up_on() -> None:
    async with scripted_server([Answer("a", fault=Stall())]) as server, connected(server) as stream:
        await stream.send_all(request_bytes())
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(200):
                await stream.send_all(bytes(1_000_000))
        await server.wait_until(lambda counts: counts.open_connections == 0)


async def test_a_script_that_runs_out_fails_the_request_and_the_block() -> None:
    with pytest.raises(ScriptExhausted, match="has 1 answers"):
        async with scripted_server(["only"]) as server:
            async with httpx.AsyncClient(base_url=server.base_url) as client:
                assert (await client.post("/chat/completions", json=HI)).status_code == 200
                refused = await client.post("/chat/completions", json=HI)
    assert refused.status_code == 400
    assert "all given" in refused.json()["error"]["message"]


def failing(request: RecordedRequest) -> ServerItem:
    raise ZeroDivisionError("the script is wrong")


async def failing_later(request: RecordedRequest) -> ServerItem:
    await trio.lowlevel.checkpoint()
    raise ZeroDivisionError("the script is wrong")


@pytest.mark.parametrize("script", [failing, failing_later])
async def test_a_script_that_raises_fails_the_request_and_the_block(
    script: Callable[[RecordedRequest], ServerItem | Awaitable[ServerItem]],
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with scripted_server(script) as server:
            async with httpx.AsyncClient(base_url=server.base_url) as client:
                refused = await client.post("/chat/completions", json=HI)
    assert refused.json()["error"]["message"] == (
        "the script failed: ZeroDivisionError: the script is wrong"
    )


async def test_an_answer_that_no_wire_can_carry_fails_the_request_and_the_block() -> None:
    with pytest.raises(UnicodeEncodeError):
        async with scripted_server(["half a \ud83d"]) as server:
            async with httpx.AsyncClient(base_url=server.base_url) as client:
                refused = await client.post("/chat/completions", json=HI_STREAMED)
    assert refused.status_code == 400


async def test_an_error_of_the_block_is_not_hidden_by_one_of_the_script() -> None:
    with pytest.raises(KeyError) as caught:
        async with scripted_server(failing) as server:
            async with httpx.AsyncClient(base_url=server.base_url) as client:
                await client.post("/chat/completions", json=HI)
            raise KeyError("mine")
    assert caught.value.__notes__ == [
        "The scripted server failed, too: ZeroDivisionError('the script is wrong')"
    ]


async def test_what_a_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with scripted_server([]):
            raise KeyError("not wrapped in a group")


def test_what_a_server_cannot_do_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="cannot raise in its client"):
        scripted_server([Answer("x", fault=Raise(ValueError("x")))])
    with pytest.raises(UsageError, match="use HttpResponse"):
        scripted_server([ValueError("x")])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="refuse_after is 0"):
        scripted_server([], refuse_after=0)


async def test_leaving_the_block_closes_every_connection_and_the_door() -> None:
    async with scripted_server([Answer("a", fault=Stall(1))]) as server:
        idle = await trio.open_tcp_stream(server.host, server.port)
        stalled = await trio.open_tcp_stream(server.host, server.port)
        await stalled.send_all(request_bytes())
        await server.wait_until(lambda counts: counts.requests_in_flight == 1)
    assert await read_all(idle) == b""
    assert (await read_all(stalled)).startswith(b"HTTP/1.1 200 OK")
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream(server.host, server.port)
    assert server.statistics().open_connections == 0
    await idle.aclose()
    await stalled.aclose()


async def test_a_cancelled_block_leaves_no_server_behind() -> None:
    with trio.move_on_after(0.01):
        async with (
            scripted_server([Answer("a", fault=Stall())]) as server,
            connected(server) as stream,
        ):
            await stream.send_all(request_bytes())
            await trio.sleep_forever()
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream(server.host, server.port)


async def test_waiting_for_what_does_not_happen_ends_with_what_did() -> None:
    async with scripted_server([]) as server:
        with pytest.raises(
            TimeoutError, match=r"within 0.01 s; it is at Statistics\(connections=0"
        ):
            await server.wait_until(lambda counts: counts.requests == 1, timeout_s=0.01)


async def test_who_waits_hears_of_a_client_that_goes_away_later() -> None:
    async with scripted_server([]) as server, trio.open_nursery() as nursery:
        async with connected(server):
            await server.wait_until(lambda counts: counts.open_connections == 1)
            nursery.start_soon(server.wait_until, lambda counts: counts.open_connections == 0)
            await trio.testing.wait_all_tasks_blocked()


async def test_its_address_can_be_chosen() -> None:
    async with scripted_server([]) as first:
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            async with scripted_server([], port=first.port):
                pass
    async with scripted_server([], port=first.port, host="127.0.0.1") as second:
        assert second.port == first.port
        assert second.base_url == f"http://127.0.0.1:{first.port}/v1"
        assert repr(second).startswith(f"<ScriptedServer at {second.base_url}: Statistics(")


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
async def test_it_speaks_ipv6() -> None:
    try:
        async with scripted_server(["Hello"], host="::1") as server:
            assert server.base_url == f"http://[::1]:{server.port}/v1"
            async with httpx.AsyncClient(base_url=server.base_url) as client:
                assert (await client.post("/chat/completions", json=HI)).status_code == 200
    except OSError:
        pytest.skip("this machine has no IPv6")


async def test_a_server_lives_for_one_block() -> None:
    once = scripted_server([])
    async with once:
        pass
    with pytest.raises(UsageError, match="one block"):
        async with once:
            pass


async def test_a_thousand_connections_are_served_at_once() -> None:
    answered = 0

    async def ask(server: ScriptedServer) -> None:
        nonlocal answered
        async with connected(server) as stream:
            await stream.send_all(request_bytes())
            received = await read_until(stream, b"0\r\n\r\n")
            answered += received.endswith(b"[DONE]\n\n\r\n0\r\n\r\n")

    everybody = trio.Event()

    async def script(request: RecordedRequest) -> ServerItem:
        if request.number == 1000:
            everybody.set()
        await everybody.wait()
        return "Hello"

    async with scripted_server(script) as server:
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(ask, server)
        counts = await server.wait_until(lambda counts: counts.open_connections == 0)
    assert answered == 1000
    assert counts.peak_connections == counts.peak_requests_in_flight == counts.requests == 1000
    assert counts.hang_ups == 0


# In a thread of its own, for asyncio and for code without a loop


def test_in_a_thread_it_serves_code_without_a_loop() -> None:
    with scripted_server(["Hello there"]) as server:
        response = httpx.post(f"{server.base_url}/chat/completions", json=HI)
        server.wait_until(lambda counts: counts.open_connections == 0)
        assert server.requests[0].json == HI
        assert repr(server).startswith("<ScriptedServerThread at http://127.0.0.1:")
    assert response.json()["choices"][0]["message"]["content"] == "Hello there"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port))


def test_in_a_thread_it_serves_asyncio() -> None:
    async def main() -> None:
        with scripted_server([Answer("a", fault=Stall(1))]) as server:
            async with httpx.AsyncClient(base_url=server.base_url) as client:
                with pytest.raises(httpx.ReadTimeout):
                    await client.post(
                        "/chat/completions", json=HI_STREAMED, timeout=httpx.Timeout(30, read=0.05)
                    )
            counts = await asyncio.to_thread(server.wait_until, lambda counts: counts.hang_ups == 1)
            assert counts.requests == 1
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(server.wait_until, lambda counts: False, timeout_s=0.01)

    asyncio.run(main())


def test_a_failed_script_in_a_thread_fails_the_block() -> None:
    with pytest.raises(ZeroDivisionError):
        with scripted_server(failing) as server:
            assert httpx.post(f"{server.base_url}/chat/completions", json=HI).status_code == 400


flavor: contextvars.ContextVar[str] = contextvars.ContextVar("flavor")


def flavored(request: RecordedRequest) -> ServerItem:
    return flavor.get()


def test_a_script_in_a_thread_runs_in_the_context_of_its_test() -> None:
    def main() -> None:
        flavor.set("vanilla")
        with scripted_server(flavored) as server:
            response = httpx.post(f"{server.base_url}/chat/completions", json=HI)
        assert response.json()["choices"][0]["message"]["content"] == "vanilla"

    contextvars.copy_context().run(main)


async def test_a_script_in_the_same_run_runs_in_the_context_of_its_test() -> None:
    flavor.set("vanilla")
    async with scripted_server(flavored) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            response = await client.post("/chat/completions", json=HI)
    assert response.json()["choices"][0]["message"]["content"] == "vanilla"


def test_without_a_trio_run_async_with_says_what_to_use() -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="use `with scripted_server"):
            async with scripted_server([]):
                pass

    asyncio.run(main())


def test_the_same_script_gives_every_client_the_same_bytes() -> None:
    script: list[ServerItem] = [
        "Hello",
        Answer("Let me see", reasoning="Hm", tool_calls=[("f", {"a": 1})]),
        Answer("one two", fault=MalformedEvent()),
    ]
    bodies = []
    for _ in range(2):
        with scripted_server(script) as server, httpx.Client(base_url=server.base_url) as client:
            bodies.append(
                [client.post("/chat/completions", json=HI_STREAMED).content for _ in script]
            )
    assert bodies[0] == bodies[1]
